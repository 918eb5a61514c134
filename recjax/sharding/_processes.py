"""Several processes, one run: how they meet, agree and share what they read."""

import contextlib
import os
from collections.abc import Generator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from recjax.types import Interactions

# A process that died is missed after the first, and after the second nobody waits for
# it any more: whoever is left ends within a minute.
_HEARTBEAT_SECONDS, _SHUTDOWN_SECONDS = 40, 15


def join(
    coordinator: str | None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Joins the processes of a run; before anything else asks for a device.

    Args:
      coordinator: host and port of process 0; ``"auto"`` where SLURM, Open MPI or a
        cloud TPU says all of it by its environment variables; None stays alone.
      num_processes: P; None with ``"auto"``.
      process_id: number of this process, from 0; None with ``"auto"``.

    Raises:
      ValueError: the words do not fit together, or nobody answers.
    """
    given = (num_processes, process_id)
    if coordinator is None:
        if given != (None, None):
            raise ValueError("the numbers of processes need a coordinator")
        return
    if coordinator == "auto":
        if given != (None, None):
            raise ValueError("coordinator auto finds the numbers of processes itself")
        address = None
    else:
        host, _, port = coordinator.rpartition(":")
        if not host or not port.isdecimal() or None in given:
            raise ValueError(
                f"coordinator {coordinator!r} must be HOST:PORT of process 0, together "
                "with the number of processes and the number of this one"
            )
        assert num_processes is not None and process_id is not None
        if not 0 <= process_id < num_processes:
            raise ValueError(
                f"process_id {process_id} must be at least 0 and below num_processes "
                f"{num_processes}"
            )
        address = coordinator
    try:
        jax.distributed.initialize(
            address,
            num_processes,
            process_id,
            initialization_timeout=120,
            heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        said = str(error).splitlines()[0]
        raise ValueError(f"coordinator {coordinator!r}: {said}") from None


@contextlib.contextmanager
def leave_if_alone(out: str | os.PathLike) -> Generator[None]:
    """Ends one of several processes that fails, at once and with one line.

    Its peers may be gone, and the ordinary way out would wait for them.

    Args:
      out: the run folder, to be resumed.
    """
    try:
        yield
    except Exception as error:
        count = jax.process_count()
        if count == 1:
            raise
        what = " ".join(str(error).splitlines()[:1])[:300]
        said = f"recjax: process {jax.process_index()} stops: {what}"
        if isinstance(error, jax.errors.JaxRuntimeError):
            again = f"start all {count} again with --resume --out {out}"
            said += f"; another one may be gone: {again}"
        os.write(2, f"{said}\n".encode())
        os._exit(1)


def wait_for_all(name: str) -> None:
    """Waits until all processes have come here; at once where there is only one."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def any_process(flag: bool) -> bool:
    """Whether the flag is set in any process; all must ask."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.array(flag))))


def gather_rows(rows: Interactions) -> Interactions:
    """The rows of all processes, in their order, from the share that each has read.

    Times stay behind: nothing that trains asks for them.

    Args:
      rows: of this process.

    Returns:
      All rows; the given ones where there is only one process.

    Examples:
      >>> gather_rows(Interactions(np.array([0]), np.array([1]))).num_rows
      1
    """
    if jax.process_count() == 1:
        return rows
    sizes = multihost_utils.process_allgather(np.array(rows.num_rows))
    longest = int(sizes.max())

    def gather(x: Any) -> Any:
        if x is None:
            return None
        all_of = multihost_utils.process_allgather(
            np.pad(np.asarray(x), (0, longest - len(x)))
        )
        return np.concatenate(
            [np.asarray(one[:n]) for one, n in zip(all_of, sizes, strict=True)]
        )

    users, items = gather(rows.users), gather(rows.items)
    return Interactions(
        users, items, gather(rows.values), relations=gather(rows.relations)
    )
