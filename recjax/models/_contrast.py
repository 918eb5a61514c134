"""The contrast that self-supervised models add to their objective."""

import jax
import jax.numpy as jnp

from recjax.losses import info_nce_loss
from recjax.types import Batch


def distinct_rows(ids: jax.Array, where: jax.Array) -> jax.Array:
    """One row of each id among the rows that count.

    A thing that occurs twice in a batch would otherwise be its own negative.

    Args:
      ids: ``[B]`` int, none negative.
      where: ``[B]`` rows that count.

    Returns:
      ``[B]`` bool, the first row of each id.

    Examples:
      >>> import jax.numpy as jnp
      >>> distinct_rows(jnp.array([3, 3, 5, 3]), jnp.array([0, 1, 1, 1])).tolist()
      [False, True, True, False]
    """
    ids = jnp.where(where.astype(bool), ids, -1)
    order = jnp.argsort(ids, stable=True)
    ranked = ids[order]
    first = jnp.concatenate([jnp.ones(1, bool), ranked[1:] != ranked[:-1]])
    return jnp.zeros(len(ids), bool).at[order].set(first & (ranked >= 0))


def batch_contrast(
    left: jax.Array, right: jax.Array, batch: Batch, *, temperature: float
) -> jax.Array:
    """InfoNCE among the users of a batch, plus InfoNCE among its items.

    Each is a mean over the distinct users, or items, which compete with one another.

    Args:
      left: ``[2B, D]``, one view of the users and then of the positives.
      right: ``[2B, D]``, another.
      batch: B rows.
      temperature: of the cosines.

    Returns:
      A scalar.
    """
    size = len(batch.users)
    users, items = (
        info_nce_loss(
            left[part],
            right[part],
            temperature=temperature,
            where=distinct_rows(ids, batch.weight),
        )
        for ids, part in (
            (batch.users, slice(0, size)),
            (batch.items, slice(size, 2 * size)),
        )
    )
    return users + items
