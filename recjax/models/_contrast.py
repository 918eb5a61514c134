"""The contrast that self-supervised models add to their objective."""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from recjax.losses import info_nce_loss
from recjax.losses._rows import distinct_rows
from recjax.types import Batch, BatchVectors, Embeddings


def batch_contrast(
    left: jax.Array,
    right: jax.Array,
    batch: Batch,
    *,
    temperature: float,
    rows: int | None = None,
) -> jax.Array:
    """InfoNCE among the users of a batch, plus InfoNCE among its items.

    Each is a mean over the distinct users, or items, which compete with one another.

    Args:
      left: ``[2B, D]``, one view of the users and then of the positives.
      right: ``[2B, D]``, another.
      batch: B rows.
      temperature: of the cosines.
      rows: the mean is over those among so many first rows; all of the batch stay
        competitors.  None for all rows.

    Returns:
      A scalar.
    """
    size, total = len(batch.users), jnp.zeros(())
    for start, ids in ((0, batch.users), (size, batch.items)):
        stays = distinct_rows(ids, batch.weight)
        others = right[start : start + size]
        total += info_nce_loss(
            left[start : start + size][:rows],
            others[:rows],
            candidates=others,
            counted=stays,
            temperature=temperature,
            where=stays[:rows],
        )
    return total


def contrast_views(
    views: Sequence[Embeddings],
    batch: Batch,
    *,
    temperature: float,
    own: BatchVectors | None = None,
    rows: int | None = None,
) -> jax.Array:
    """InfoNCE over all users, plus InfoNCE over all items, at the rows of a batch.

    Args:
      views: M views of all users and items.
      batch: B rows.
      temperature: of the cosines.
      own: the vectors of the batch's users and items that are contrasted with every
        view; None contrasts the views with each other, by pairs m < n.
      rows: so many first rows are contrasted; None for all.

    Returns:
      A scalar, the sum of the contrasts.
    """
    total = jnp.zeros(())
    for side, ids in enumerate((batch.users[:rows], batch.items[:rows])):
        tables = [view[side] for view in views]
        if own is None:
            both = itertools.combinations(tables, 2)
            pairs = [(left[ids], right) for left, right in both]
        else:
            pairs = [(own[side][:rows], right) for right in tables]
        for left, right in pairs:
            total += info_nce_loss(
                left,
                right[ids],
                candidates=right,
                temperature=temperature,
                where=batch.weight[:rows],
            )
    return total
