"""A language model that is trained along: from a folder and a dataset into a model."""

import dataclasses
from pathlib import Path
from typing import Any

import pyarrow as pa

from recjax import encoders
from recjax.data import item_texts
from recjax.models import Hybrid, with_tower
from recjax.types import Context


@dataclasses.dataclass(frozen=True)
class Encoder:
    """Which language model reads what of the items; saved with the run."""

    path: str
    """A folder as Hugging Face writes it, or a package; see `recjax.encoders.load`."""
    fields: tuple[str, ...] = ("title",)
    """Item columns of the text."""
    template: str = ""
    """The text, see `recjax.data.item_texts`."""
    length: int = 32
    """Tokens of the longest text, the rest of which is cut."""
    layers: int = 1
    """The last layers, which are trained; those below stay, and run once."""
    weights: str = ""
    """`recjax.encoders.fingerprint` of the model; empty for that of the folder."""


def identified(encoder: Encoder) -> Encoder:
    """The encoder with the fingerprint of its model, and a path that stays right.

    Args:
      encoder: with a fingerprint, or without.

    Returns:
      The encoder.

    Raises:
      ValueError: there is no model at that path, or it is not the one that was named.
    """
    weights = encoders.fingerprint(encoder.path)
    if encoder.weights not in ("", weights):
        raise ValueError(
            f"the model at {encoder.path} is {weights[:16]}, the run was trained with "
            f"{encoder.weights[:16]}: put that one back, or train again into another "
            "--out"
        )
    path = Path(encoder.path).expanduser()
    where = str(path.resolve()) if path.exists() else encoder.path
    return dataclasses.replace(encoder, path=where, weights=weights)


def attach(
    model: Any, context: Context, items: pa.Table, encoder: Encoder
) -> tuple[Any, Context]:
    """Gives a model its tower, and the context the tower's weights and inputs.

    Args:
      model: a `recjax.models.Hybrid`.
      context: the training data.
      items: the item table of the dataset, in the order of the context.
      encoder: what is read of it, and by which model.

    Returns:
      Model and context.

    Raises:
      ValueError: the model has no place for a tower, the dataset no such column, or
        there is no encoder.
    """
    if not isinstance(model, Hybrid):
        raise ValueError(
            f"{type(model).__name__} trains no language model, hybrid does; others "
            "read its vectors: recjax embed DATASET --encoder PATH"
        )
    tower, params, tokenizer = encoders.load(encoder.path)
    length = min(encoder.length, tower.length)
    texts, present = item_texts(items, encoder.fields, encoder.template)
    tokens = encoders.tokenize(tokenizer, texts, length=length)
    upper, params, hidden = encoders.cut(tower, params, tokens, layers=encoder.layers)
    text = dataclasses.replace(model.text, tower=upper)
    context = with_tower(context, params, hidden, present)
    return dataclasses.replace(model, text=text), context
