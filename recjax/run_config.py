"""How a run was made, as its folder says, and whether it may go on."""

import contextlib
import dataclasses
from collections.abc import Generator
from pathlib import Path
from typing import Any

from recjax.alignments import ALIGNMENTS
from recjax.config import from_dict
from recjax.joint import Encoder
from recjax.models import MODELS, Diffusion, Tuned
from recjax.objectives import OBJECTIVES
from recjax.run_folder import (
    create,
    damaged,
    discard_unused,
    read_config,
    write_json,
)
from recjax.training import Training

CONFIG_TYPES = (
    *MODELS.values(),
    *OBJECTIVES.values(),
    *ALIGNMENTS.values(),
    Diffusion,
    Encoder,
    Training,
    Tuned,
)


def read_run(run: str | Path) -> tuple[dict[str, Any], Any, Training]:
    """How a run was made.

    Args:
      run: its folder.

    Returns:
      The content of ``config.json``, and the model and the settings that it means.

    Raises:
      ValueError: there is no run, or its ``config.json`` was altered.
    """
    config = read_config(run)
    file = Path(run) / "config.json"
    try:
        model = from_dict(config["model"], CONFIG_TYPES)
        training = from_dict(config["training"], CONFIG_TYPES)
        encoder = read_encoder(config)
    except (ValueError, TypeError) as error:
        raise damaged(file, str(error)) from None
    for key, value, kinds in (
        ("model", model, tuple(MODELS.values())),
        ("training", training, (Training,)),
        ("encoder", encoder or Encoder(""), (Encoder,)),
    ):
        if not isinstance(value, kinds):
            raise damaged(file, f"{key} is a {type(value).__name__}")
        if (wrong := _wrong_kind(value)) is not None:
            raise damaged(file, wrong)
    return config, model, training


def read_encoder(config: dict[str, Any]) -> Encoder | None:
    """The language model that a run trained along; None without one.

    Args:
      config: the content of ``config.json``.

    Returns:
      Where it is, what it reads, and which one it must be.
    """
    found = config.get("encoder")
    return None if found is None else from_dict(found, (Encoder,))


def enter(out: str | Path, config: dict[str, Any], *, resume: bool) -> Path:
    """The folder of a run: a new one, or one whose configuration is the same.

    Args:
      out: the folder.
      config: of the run, as JSON values.
      resume: whether the run is there already.

    Returns:
      The folder.

    Raises:
      ValueError: it is taken, or its run is another one.
    """
    folder = create(out, config, resume=resume)
    if resume:
        before, _, _ = read_run(folder)
        lines = _differences(fingerprint(before), fingerprint(config))
        if lines:
            raise ValueError(
                f"{folder} has {'; '.join(lines)}: resume with the same, or choose "
                "another --out"
            )
        if before != config:
            # More epochs, or a dataset that was moved.
            write_json(folder / "config.json", config)
    return folder


@contextlib.contextmanager
def tidy(folder: Path, keep: bool) -> Generator[None]:
    """Leaves no folder behind where a new run fails before its first epoch is done.

    The next try would otherwise find the folder taken.

    Args:
      folder: of the run.
      keep: leave it there in any case.
    """
    try:
        yield
    except BaseException:
        if not keep:
            discard_unused(folder)
        raise


def fingerprint(config: dict[str, Any]) -> dict[str, Any]:
    """What must not change between the parts of one run; its length may."""
    training = {k: v for k, v in config["training"].items() if k != "epochs"}
    keys = ("split_hash", "model", "attributes", "relations")
    same = {key: config[key] for key in keys if key in config}
    same["training"] = training
    same["node_multiple"] = config.get("node_multiple", 1)
    if "encoder" in config:
        # Its folder may be moved: the weights have a fingerprint.
        same["encoder"] = {k: v for k, v in config["encoder"].items() if k != "path"}
    return same


def _wrong_kind(config: Any) -> str | None:
    """The first field of a configuration that is not what its default is."""
    for field in dataclasses.fields(config):
        value, default = getattr(config, field.name), field.default
        if dataclasses.is_dataclass(value):
            if (wrong := _wrong_kind(value)) is not None:
                return wrong
        elif isinstance(default, bool | int | float | str):
            kinds = (float, int) if isinstance(default, float) else (type(default),)
            if type(value) not in kinds:
                return f"{field.name} is {value!r}, a {type(default).__name__} before"
        elif dataclasses.is_dataclass(default):
            return f"{field.name} is {value!r}"
    return None


def _differences(run: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    """What a run has and what is asked of it, where that is not the same."""
    if run.get("type") != asked.get("type"):
        return [f"{run['type']!r} where {asked['type']!r} is asked"]
    lines = []
    for name in sorted(run.keys() | asked.keys()):
        old, new = run.get(name), asked.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            lines += _differences(old, new)
        elif old != new:
            lines.append(f"{name} {old!r} where {new!r} is asked")
    return lines
