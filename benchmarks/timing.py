"""Timing side by side: every case once a round, in an order that rotates."""

import ctypes
import math
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from recjax.phases import Phases

# One timing takes at least this long; short calls are repeated for it.
_LEAST_SECONDS = 0.02
# The threads of one library spin for a while after their work is done, on the cores
# that the next one needs.
_PAUSE_SECONDS = 0.05
# What is slower than this is not called once more before it is timed.
_WARM_SECONDS = 5.0

RTOL = {"float32": 1e-5, "bfloat16": 2e-2, "float16": 2e-3}
"""How far results in a type may differ, relative to the largest entry."""


class Times(NamedTuple):
    """What one case took.

    Attributes:
      seconds: of a call, one value a round.
      first: seconds of the very first call, with compilation.
      compiled: seconds of compilation in it.
      memory: bytes by which a later call raised the memory of the process at its peak;
        None where the system does not tell.
    """

    seconds: tuple[float, ...]
    first: float
    compiled: float
    memory: int | None


def interleave(
    cases: Mapping[str, Callable[[], Any]], *, repeats: int, rtol: float | None = None
) -> dict[str, Times]:
    """Times several ways to do the same, so that drifts of the machine hit them alike.

    Args:
      cases: functions by name, ours first; a result that is still on its way to a JAX
        device is waited for.
      repeats: rounds; a round calls every case, and each starts with another one.
      rtol: how far the results of others may be from ours, see `must_agree`; None
        where they are not to be compared.

    Returns:
      Times by name.

    Raises:
      ValueError: the results differ, or there is no round.
    """
    if repeats < 1:
        raise ValueError(f"repeats {repeats} must be at least 1")
    names = list(cases)
    first, compiled, memory, number, quick = {}, {}, {}, {}, {}
    ours: Any = None
    for name, call in cases.items():
        with Phases() as phases:
            start = time.perf_counter()
            result = jax.block_until_ready(call())
            first[name] = time.perf_counter() - start
        compiled[name] = phases.seconds["compile"]
        if rtol is not None:
            ours = result if name == names[0] else ours
            must_agree(name, ours, result, rtol=rtol)
        del result
        memory[name], seconds = _watched(call)
        number[name] = max(1, math.ceil(_LEAST_SECONDS / max(seconds, 1e-6)))
        quick[name] = seconds < _WARM_SECONDS
    del ours
    seconds = {name: [] for name in names}
    for turn in range(repeats):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            time.sleep(_PAUSE_SECONDS)
            if quick[name]:
                # While a slow peer ran, the system may have taken its memory away.
                jax.block_until_ready(cases[name]())
            seconds[name].append(_clock(cases[name], number[name]))
    return {
        name: Times(tuple(seconds[name]), first[name], compiled[name], memory[name])
        for name in names
    }


def rows(
    group: str,
    times: Mapping[str, Times],
    *,
    work: Mapping[str, float],
    moved: float | None = None,
    copy: float | None = None,
    calls: Mapping[str, float] | None = None,
) -> list[dict]:
    """The rows of a table, for JSON.

    Args:
      group: what all cases do.
      times: of each case; the first is ours.
      work: what one call gets done, by unit: ``{"edges": E}`` gives
        ``edges_per_second``.
      moved: bytes that a call must read and write.
      copy: bytes that the machine copies a second.
      calls: calls that one timed call stands for, by name; 1 where not given.

    Returns:
      One row a case: the median and the quartiles of the seconds, and ``over_ours``,
      the median over rounds of the ratio to our seconds in the same round.
    """
    per_call = {
        name: [s / (calls or {}).get(name, 1) for s in case.seconds]
        for name, case in times.items()
    }
    ours = next(iter(per_call.values()))
    table = []
    for name, case in times.items():
        seconds = per_call[name]
        median = statistics.median(seconds)
        row = {
            "group": group,
            "name": name,
            "is_ours": name == next(iter(times)),
            "seconds": median,
            "quartiles": quartiles(seconds),
            "seconds_all": seconds,
            "first_call_seconds": case.first,
            "compile_seconds": case.compiled,
            "over_ours": statistics.median(
                s / o for s, o in zip(seconds, ours, strict=True)
            ),
        }
        row |= {f"{unit}_per_second": amount / median for unit, amount in work.items()}
        if moved is not None:
            row["bytes_per_second"] = moved / median
            if copy is not None:
                row["share_of_copy"] = moved / median / copy
        if case.memory is not None:
            row["memory_bytes"] = case.memory
        table.append(row)
    return table


def quartiles(values: list[float]) -> list[float]:
    """The first and the third quartile."""
    return [float(q) for q in np.quantile(values, [0.25, 0.75])]


def must_agree(what: str, ours: Any, theirs: Any, *, rtol: float) -> None:
    """Refuses to go on where two results differ: their times would mean nothing.

    Args:
      what: for the message.
      ours: a tree of arrays.
      theirs: one with as many leaves, of any library.
      rtol: largest difference, relative to the largest entry of ours.

    Raises:
      ValueError: they differ.
    """
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    worst = max(difference(a, b) for a, b in pairs)
    if not worst <= rtol:
        raise ValueError(
            f"{what} differs from ours by {worst:.1e} of its largest entry, more than "
            f"{rtol:.0e}: times are compared at equal results only"
        )


def difference(ours: Any, theirs: Any) -> float:
    """Largest difference of two arrays, relative to the largest entry of the first.

    Args:
      ours: an array of any library.
      theirs: another.

    Returns:
      The difference; infinity where shapes differ or something is not finite.
    """
    a, b = to_numpy(ours), to_numpy(theirs)
    if a.shape != b.shape or not np.isfinite(a - b).all():
        return math.inf
    scale = max(float(np.max(np.abs(a), initial=0)), 1e-30)
    return float(np.max(np.abs(a - b), initial=0)) / scale


def to_numpy(array: Any) -> np.ndarray:
    """An array of JAX, NumPy or torch, as float64."""
    if hasattr(array, "detach"):
        array = array.detach().double().cpu().numpy()
    return np.asarray(array).astype(np.float64)


def _clock(call: Callable[[], Any], number: int) -> float:
    """Seconds of a call, over so many."""
    start = time.perf_counter()
    for _ in range(number):
        jax.block_until_ready(call())
    return (time.perf_counter() - start) / number


def _watched(call: Callable[[], Any]) -> tuple[int | None, float]:
    """Growth of resident memory at the peak of a call, and its seconds."""
    reset = Path("/proc/self/clear_refs")
    if jax.default_backend() != "cpu" or not reset.exists():
        return None, _clock(call, 1)
    # What was freed goes back to the system first, or the call would grow into it.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    # 5 resets the mark of the highest resident size (man 5 proc).
    reset.write_text("5")
    before = _status("VmRSS")
    seconds = _clock(call, 1)
    return max(_status("VmHWM") - before, 0), seconds


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return 1024 * int(line.split()[1])
    return 0
