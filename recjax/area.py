"""The area under the curve, in a pass over the scores for each target."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from recjax.chunks import chunk_scores, default_chunk_size, item_chunks
from recjax.lists import gather_rows, lengths
from recjax.types import ItemLists, Params, Scorer


def area_under_curve(
    model: Scorer,
    params: Params,
    state: Any,
    seen: ItemLists,
    targets: ItemLists,
    users: jax.Array,
    *,
    num_items: int,
    max_targets: int,
    chunk_size: int | None = None,
) -> jax.Array:
    """AUC of each user's targets against all items neither seen nor target.

    Args:
      model: any `recjax.types.Scorer`.
      params: its parameters.
      state: what ``model.embed`` returned.
      seen: the items that are not ranked.
      targets: the held-out items.
      users: ``[B]`` int.
      num_items: I.
      max_targets: no user has more.
      chunk_size: items scored at a time, see `recjax.ranking.rank`.

    Returns:
      ``[B]``; NaN where nothing is left but targets.
    """
    if chunk_size is None:
        chunk_size = default_chunk_size(users.shape[0], num_items)
    num_chunks, width, tail, ids_of = item_chunks(num_items, chunk_size)
    positives, is_positive = gather_rows(targets, users, max_targets)
    num_positive = lengths(targets, users)
    # Not max_targets: a batch of users with few targets makes few passes.
    num_targets = jnp.minimum(num_positive.max(), max_targets)
    rows = jnp.arange(users.shape[0])[:, None]

    def scores_of(chunk):
        ids = ids_of(chunk)
        scores = chunk_scores(model, params, state, seen, users, ids, num_items, tail)
        return scores.T

    def column_of(chunk):
        column = positives - chunk * width
        inside = is_positive & (column >= 0) & (column < width)
        return jnp.where(inside, column, width), inside

    def find(chunk, found):
        column, inside = column_of(chunk)
        score = scores_of(chunk)[rows, jnp.minimum(column, width - 1)]
        return jnp.where(inside, score, found)

    shape = (users.shape[0], max_targets)
    found = lax.fori_loop(0, num_chunks, find, jnp.full(shape, -jnp.inf))

    def count(chunk, carry):
        twice_below, num_negative = carry
        scores = scores_of(chunk)
        scores = scores.at[rows, column_of(chunk)[0]].set(-jnp.inf, mode="drop")
        is_negative = scores > -jnp.inf
        scores = jnp.where(is_negative, scores, jnp.inf)

        def against(target, twice_below):
            # Integers, one number a target: exact, and far below 2**31.
            score = found[:, target][:, None]
            below = (scores < score).astype(jnp.int32)
            upto = (scores <= score).astype(jnp.int32)
            return twice_below.at[:, target].add((below + upto).sum(axis=1))

        twice_below = lax.fori_loop(0, num_targets, against, twice_below)
        return twice_below, num_negative + is_negative.sum(axis=1)

    carry = (jnp.zeros(shape, jnp.int32), jnp.zeros(shape[0], jnp.int32))
    twice_below, num_negative = lax.fori_loop(0, num_chunks, count, carry)
    share = twice_below / jnp.maximum(2 * num_negative, 1)[:, None]
    area = jnp.where(is_positive, share, 0.0).sum(axis=1) / jnp.maximum(num_positive, 1)
    return jnp.where(num_negative > 0, area, jnp.nan)
