"""The folder of a run: what is in it, and how it is written.

config.json     dataset, model and settings; written first
metrics.jsonl   one line an epoch
events.*        the same scalars for TensorBoard
checkpoints/    Orbax, see `recjax.checkpoint`
summary.json    the outcome; written last
"""

import contextlib
import importlib.metadata
import json
import os
import platform
import resource
import socket
import time
from collections.abc import Generator
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import RecordWriter
from tensorboardX.summary import scalar

import recjax
from recjax.training import Record

_Event: Any = vars(event_pb2)["Event"]
_FLUSH_SECONDS = 10
_KEYS = {
    "dataset": str,
    "split_hash": str,
    "model": dict,
    "training": dict,
    "attributes": list,
}


def create(path: str | Path, config: dict[str, Any], *, resume: bool) -> Path:
    """Makes the folder of a run, or enters one again.

    Args:
      path: the folder.
      config: written to ``config.json``.
      resume: go on with what is there; without it the folder must be new or empty.

    Returns:
      The folder.

    Raises:
      ValueError: there is a run already, or there is none to resume.
    """
    path = Path(path)
    if resume:
        if not (path / "config.json").is_file():
            raise ValueError(f"{path}: there is no run to resume")
        return path
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file: choose another --out")
    # Killed while it made the folder, a process leaves no more than this one.
    there = {p.name for p in path.glob("*")} - {".config.json.partial"}
    if (path / "config.json").is_file():
        raise ValueError(
            f"{path} exists already: go on with --resume, or choose another --out"
        )
    if there:
        some = ", ".join(sorted(there)[:3])
        raise ValueError(f"{path} holds other files ({some}): choose another --out")
    path.mkdir(parents=True, exist_ok=True)
    try:
        write_json(path / "config.json", config)
    except OSError:
        discard_unused(path)
        raise
    return path


def discard_unused(path: Path) -> None:
    """Removes the folder of a run that failed before it had anything to keep."""
    (path / ".config.json.partial").unlink(missing_ok=True)
    there = {p.name for p in path.iterdir()}
    checkpoints = path / "checkpoints"
    if there <= {"config.json", "checkpoints"} and not any(checkpoints.glob("*")):
        (path / "config.json").unlink(missing_ok=True)
        if checkpoints.is_dir():
            checkpoints.rmdir()
        path.rmdir()


@contextlib.contextmanager
def tidy(folder: Path, keep: bool) -> Generator[None]:
    """Leaves no folder behind where a new run fails before its first epoch is done.

    The next try would otherwise find the folder taken.

    Args:
      folder: of the run.
      keep: leave it in any case.
    """
    try:
        yield
    except BaseException:
        if not keep:
            discard_unused(folder)
        raise


def read_config(path: str | Path) -> dict[str, Any]:
    """The configuration of a run.

    Args:
      path: the folder.

    Returns:
      What `create` wrote.

    Raises:
      ValueError: the folder holds no run; names those beside it.
    """
    path = Path(path)
    file = path / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        beside = sorted(p.parent.name for p in path.parent.glob("*/config.json"))
        hint = f"; beside it: {', '.join(beside)}" if beside else ""
        raise ValueError(f"{path} is no run folder{hint}") from None
    except ValueError as error:
        raise damaged(file, str(error)) from None
    for key, kind in _KEYS.items():
        if not isinstance(config, dict) or not isinstance(config.get(key), kind):
            raise damaged(file, f"it has no {key}")
    return config


def damaged(file: Path, why: str) -> ValueError:
    """The error for a ``config.json`` that cannot be used."""
    return ValueError(
        f"{file} cannot be used ({why}): put the original back, or train again into "
        "another --out"
    )


def write_json(path: Path, value: Any) -> None:
    """Writes JSON beside the target and renames it, so that no half is ever read."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


class MetricsLog:
    """Scalars of each epoch, as JSON lines and as TensorBoard events.

    A resumed run writes its earlier epochs again, so that the file holds every epoch
    once, whatever was written after the last checkpoint.  What was there before is
    replaced by the first write, and not before: a run that cannot be resumed after
    all loses nothing.
    """

    def __init__(self, path: Path) -> None:
        """For the folder of a run."""
        self._path = path
        self._file = path / "metrics.jsonl"
        self._events: RecordWriter | None = None
        self._flushed = 0.0

    def __enter__(self) -> "MetricsLog":
        """For use in a with statement."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes both."""
        if self._events is None:
            return
        # On a full disk the run has failed already, and says so better.
        with contextlib.suppress(OSError) if error else contextlib.nullcontext():
            self._events.close()

    def write(self, record: Record) -> None:
        """Adds an epoch."""
        now = time.time()
        if self._events is None:
            for old in self._path.glob("events.out.tfevents.*"):
                old.unlink()
            self._file.write_text("")
            # Not tensorboardX's SummaryWriter: on a full disk its thread and its
            # callback at exit print tracebacks that nobody can catch.
            name = f"events.out.tfevents.{int(now)}.{socket.gethostname()}"
            self._events = RecordWriter(str(self._path / name))
            first = _Event(wall_time=now, file_version="brain.Event:2")
            self._events.write(first.SerializeToString())
        line = {"epoch": record.epoch} | record.losses
        line |= {f"valid/{name}": value for name, value in record.valid.items()}
        with self._file.open("a") as file:
            file.write(json.dumps(line) + "\n")
        for name, value in line.items():
            if name != "epoch":
                event = _Event(
                    wall_time=now, step=record.epoch, summary=scalar(name, value)
                )
                self._events.write(event.SerializeToString())
        # It waits for the disk: not every epoch, but TensorBoard may be watching.
        if now - self._flushed > _FLUSH_SECONDS:
            self._events.flush()
            self._flushed = now


def environment() -> dict[str, Any]:
    """Versions, device and peak memory of this process, for the summary."""
    packages = ("jax", "jaxlib", "flax", "optax", "jraph", "orbax-checkpoint", "numpy")
    device = jax.devices()[0]
    return {
        "peak_memory_bytes": peak_memory_bytes(),
        "device": f"{device.device_kind} x {jax.device_count()}",
        "versions": {
            "recjax": recjax.__version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in packages},
        },
    }


def peak_memory_bytes() -> int:
    """Most host memory that this process ever held, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024
