"""The folder of a run: what is in it, and how it is written.

config.json     dataset, model and settings; written first
metrics.jsonl   one line an epoch
events.*        the same scalars for TensorBoard
checkpoints/    Orbax, see `recjax.checkpoint`
summary.json    the outcome; written last
"""

import importlib.metadata
import json
import os
import platform
import resource
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
from tensorboardX import SummaryWriter

import recjax
from recjax.training import Record


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
    elif path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(
            f"{path} exists already: go on with --resume, or choose another --out"
        )
    path.mkdir(parents=True, exist_ok=True)
    if not resume:
        write_json(path / "config.json", config)
    return path


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
    try:
        return json.loads((path / "config.json").read_text())
    except FileNotFoundError:
        beside = sorted(p.parent.name for p in path.parent.glob("*/config.json"))
        hint = f"; beside it: {', '.join(beside)}" if beside else ""
        raise ValueError(f"{path} is no run folder{hint}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path / 'config.json'} is damaged: {error}") from None


def write_json(path: Path, value: Any) -> None:
    """Writes JSON beside the target and renames it, so that no half is ever read."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    os.replace(partial, path)


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
        self._events: SummaryWriter | None = None

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
        if self._events is not None:
            self._events.close()

    def write(self, record: Record) -> None:
        """Adds an epoch."""
        if self._events is None:
            for old in self._path.glob("events.out.tfevents.*"):
                old.unlink()
            self._file.write_text("")
            self._events = SummaryWriter(str(self._path))
        line = {"epoch": record.epoch} | record.losses
        line |= {f"valid/{name}": value for name, value in record.valid.items()}
        with self._file.open("a") as file:
            file.write(json.dumps(line) + "\n")
        for name, value in line.items():
            if name != "epoch":
                self._events.add_scalar(name, value, record.epoch)


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
