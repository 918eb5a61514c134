"""Vectors of texts: those of the items, and what users read from theirs."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from recjax.alignments import Texts
from recjax.models._features import list_features
from recjax.types import Context, Feature, Spec


def text_names(names: Sequence[str], feature: str) -> list[str]:
    """The feature tables that a model reads: the named one, or all of them.

    Args:
      names: of the tables that there are.
      feature: the name of one; empty for all.

    Returns:
      Names in order.

    Raises:
      ValueError: there is no such table, or none at all.
    """
    if not names or (feature and feature not in names):
        wanted = repr(feature) if feature else "any"
        raise ValueError(
            f"this model reads vectors of the items, and of {wanted} there are none "
            f"(there are: {', '.join(sorted(names)) or 'none'}): give the dataset "
            "feature tables (recjax embed DATASET --encoder PATH, or features= of "
            "recjax.data.make_context), or train hybrid with --encoder PATH"
        )
    return [feature] if feature else sorted(names)


def text_width(spec: Spec, feature: str) -> int:
    """Width F of `item_texts`."""
    widths = dict(spec.features)
    return sum(widths[name] for name in text_names(list(widths), feature))


def item_texts(context: Context, feature: str) -> Feature:
    """The items' vectors ``[I, F]``: the tables side by side, 0 where one is absent.

    An item is present where it is in any table.
    """
    names = text_names(list(context.features), feature)
    values, present = [], []
    for name in names:
        table = context.features[name]
        mask = jnp.asarray(table.present).astype(bool)
        numbers = jnp.asarray(table.values).astype(jnp.float32)
        values.append(jnp.where(mask[:, None], numbers, 0))
        present.append(mask)
    return Feature(jnp.concatenate(values, axis=1), jnp.any(jnp.stack(present), axis=0))


def all_texts(context: Context, feature: str) -> Texts:
    """The items' vectors, and for each user the mean of those of its training items.

    The data have no text about a user, such as a profile that a language model writes.
    """
    items = item_texts(context, feature)
    return Texts(list_features(items, context.seen), items)


def masked(values: jax.Array, present: jax.Array) -> jax.Array:
    """Rows ``[N, D]`` that are present, 0 elsewhere."""
    return jnp.where(present[:, None], values, 0)
