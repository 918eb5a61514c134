"""How a run was made, as its folder says, and whether it may go on."""

from pathlib import Path
from typing import Any

from recjax.alignments import ALIGNMENTS
from recjax.config import differences, from_dict, wrong_kind
from recjax.joint import Encoder
from recjax.models import MODELS, Attended, Diffusion, Tuned
from recjax.objectives import OBJECTIVES
from recjax.run_folder import (
    create,
    damaged,
    read_config,
    write_json,
)
from recjax.training import Training

CONFIG_TYPES = (
    *MODELS.values(),
    *OBJECTIVES.values(),
    *ALIGNMENTS.values(),
    Attended,
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
        if (wrong := wrong_kind(value)) is not None:
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
        lines = differences(fingerprint(before), fingerprint(config))
        if lines:
            raise ValueError(
                f"{folder} has {'; '.join(lines)}: resume with the same, or choose "
                "another --out"
            )
        if before != config:
            # More epochs, or a dataset that was moved.
            write_json(folder / "config.json", config)
    return folder


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
