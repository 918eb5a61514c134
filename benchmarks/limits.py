"""What the machine can do at best, measured: bytes copied a second."""

import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

# What an accelerator copies in no time would be the time of the call.
_SIZE, _SIZE_APART = 2**29, 2**31
_REPEATS = 8


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def host() -> str:
    """The processor of this machine, and the cores that there are for us."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    return f"{name}, {num_cores()} cores"


def free_memory() -> int:
    """Bytes that the device has to spare; on CPU, those of the host."""
    stats = jax.devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    info = Path("/proc/meminfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("MemAvailable"):
                return 1024 * int(line.split()[1])
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def busy_cores(seconds: float = 1.0) -> float | None:
    """Cores that something else keeps busy, while this process sleeps.

    Args:
      seconds: to watch for.

    Returns:
      Their number, in parts; None where the system does not tell.
    """
    before = _core_ticks()
    time.sleep(seconds)
    after = _core_ticks()
    if before is None or after is None:
        return None
    busy, total = (b - a for a, b in zip(before, after, strict=True))
    return (os.cpu_count() or 1) * busy / max(total, 1)


def _core_ticks() -> tuple[int, int] | None:
    """Ticks that all cores were busy, and all ticks (man 5 proc)."""
    path = Path("/proc/stat")
    if not path.is_file():
        return None
    ticks = [int(word) for word in path.read_text().splitlines()[0].split()[1:9]]
    idle = ticks[3] + ticks[4]
    return sum(ticks) - idle, sum(ticks)


def copy_bandwidth(size: int | None = None) -> float:
    """Bytes a second that copying a large array reads and writes, at best.

    On CPU all cores copy between two buffers that are in memory already; elsewhere the
    device adds 1 to an array, which it must read and write whole.

    Args:
      size: of the array, in bytes; None for far more than any cache holds.

    Returns:
      Bytes read and bytes written, a second; the best of eight.
    """
    if jax.default_backend() == "cpu":
        size = size or _SIZE
        return _best(2 * size, _host_copy(size))
    size = size or _SIZE_APART
    array = jnp.zeros(size // 4, jnp.float32)
    add = jax.jit(lambda x: x + 1)
    return _best(2 * size, lambda: add(array).block_until_ready())


def _host_copy(size: int):
    parts = num_cores()
    old = np.ones((parts, max(size // parts, 1)), np.uint8)
    new = np.ones_like(old)
    pool = ThreadPoolExecutor(parts)
    return lambda: list(pool.map(np.copyto, new, old))


def _best(moved: int, call) -> float:
    call()
    seconds = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return moved / min(seconds)
