"""The batch of a step, and a device's share of its rows."""

from typing import Literal

import jax
import jax.numpy as jnp

from recjax.reduce import BATCH_AXIS
from recjax.sampling import make_batch, sample_user_pairs
from recjax.types import Batch, Context


def draw_batch(
    key: jax.Array,
    context: Context,
    index: jax.Array,
    rows: jax.Array,
    weight: jax.Array,
    *,
    num_negatives: int,
    pairs: Literal["shuffled", "by_user"],
) -> tuple[Batch, jax.Array]:
    """The batch of a step, and the key of its loss.

    Args:
      key: of the steps of an epoch.
      context: the training data.
      index: of the step.
      rows: ``[B]`` training pairs, and their ``weight``, from `epoch_rows`.
      weight: ``[B]``.
      num_negatives: M.
      pairs: see `Training`.

    Returns:
      B rows, and a key.
    """
    pair_key, negative_key, loss_key = jax.random.split(
        jax.random.fold_in(key, index), 3
    )
    if pairs == "by_user":
        rows = sample_user_pairs(pair_key, context, len(rows))
    relations = context.relations
    batch = make_batch(
        negative_key,
        context,
        context.users[rows],
        context.items[rows],
        weight,
        num_negatives,
        None if relations is None else relations[rows],
    )
    return batch, loss_key


def own_rows(batch: Batch, device: jax.Array) -> Batch:
    """The rows of one of the devices of a pmap; the last ones get padding.

    Args:
      batch: B rows.
      device: ``[]`` int, its number m among n.

    Returns:
      Rows ``m B / n`` to ``(m + 1) B / n``.
    """
    parts = jax.lax.axis_size(BATCH_AXIS)
    size = -(-len(batch.users) // parts)

    def take(x):
        pad = ((0, size * parts - len(x)), *((0, 0),) * (x.ndim - 1))
        return jax.lax.dynamic_slice_in_dim(jnp.pad(x, pad), device * size, size)

    return jax.tree.map(take, batch)
