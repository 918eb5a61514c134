"""What filters of users' item lists share: a state, and scores by blocks of users.

A block of B users is an array ``[I, B]`` with the users' items as 1; a filter brings it
to their scores.  Sparse products are the fastest a column at this width.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from recjax.lists import multi_hot
from recjax.sparse import SparseMatrix, list_sum, sparse_matrix, sparse_product
from recjax.types import Context, ItemLists

# Users whose arrays [I, B] are held at a time, as in `recjax.ranking.rank`.
_USERS = 32


class LowRank(NamedTuple):
    """An item-item matrix ``S T^T``.

    Attributes:
      sent: S ``[I, k]``.
      received: T ``[I, k]``.
    """

    sent: jax.Array
    received: jax.Array


class FilterState(NamedTuple):
    """What filters score with, beside their parameters.

    Attributes:
      lists: the items of each user.
      users: ``[U, k]``, their sums of ``LowRank.sent``; None for filters without.
    """

    lists: ItemLists
    users: jax.Array | None = None


def normalised_matrix(
    context: Context, user_power: float, item_power: float
) -> SparseMatrix:
    """The interactions ``D_u^user_power R D_i^item_power``; no interaction, no weight.

    Args:
      context: the training data.
      user_power: of the number of items of a user.
      item_power: of the number of users of an item.

    Returns:
      The matrix ``[U, I]``.
    """
    users = jnp.diff(context.seen.pointer).astype(jnp.float32)
    items = context.item_counts
    return sparse_matrix(
        context.seen,
        items.shape[0],
        row_weight=jnp.maximum(users, 1.0) ** user_power,
        column_weight=jnp.maximum(items, 1.0) ** item_power,
    )


def co_product(matrix: SparseMatrix, x: jax.Array) -> jax.Array:
    """``A^T A x`` without the item-item matrix: to the users and back.

    Args:
      matrix: A ``[U, I]``.
      x: ``[I, B]``.

    Returns:
      ``[I, B]``.
    """
    return sparse_product(matrix.transposed, sparse_product(matrix, x))


def by_columns(function: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """A function of ``[I, B]`` that treats columns apart, of any number of columns.

    Args:
      function: keeps the shape.
      x: ``[I, k]``.

    Returns:
      ``[I, k]``.
    """
    pad = jnp.pad(x, ((0, 0), (0, -x.shape[1] % _USERS)))
    blocks = pad.reshape(len(x), -1, _USERS).swapaxes(0, 1)
    out = lax.map(function, blocks).swapaxes(0, 1)
    return out.reshape(pad.shape)[:, : x.shape[1]]


def by_users(score: Callable[[jax.Array], jax.Array], users: jax.Array) -> jax.Array:
    """Scores of users, some at a time: a filter holds all items for each of them.

    Args:
      score: from users ``[b]`` to ``[b, C]``, each by itself.
      users: ``[B]`` integer users.

    Returns:
      ``[B, C]``.
    """
    if len(users) <= _USERS:
        return score(users)
    blocks = jnp.pad(users, (0, -len(users) % _USERS)).reshape(-1, _USERS)
    scores = lax.map(score, blocks)
    return scores.reshape(-1, scores.shape[-1])[: len(users)]


def filter_state(lists: ItemLists, low_rank: LowRank | None = None) -> FilterState:
    """The state of users with these lists."""
    if low_rank is None:
        return FilterState(lists)
    return FilterState(lists, list_sum(low_rank.sent, lists))


def filter_score(
    function: Callable[[jax.Array], jax.Array],
    state: FilterState,
    users: jax.Array,
    items: jax.Array,
    *,
    num_items: int,
    low_rank: LowRank | None = None,
) -> jax.Array:
    """Scores ``[B, C]``: the filter of the users' lists, and a low rank beside it.

    Args:
      function: the filter, from ``[I, B]`` to ``[I, B]``; it treats columns apart.
      state: from `filter_state`.
      users: ``[B]`` integer users.
      items: ``[C]`` integer items.
      num_items: I.
      low_rank: what `filter_state` was given.

    Returns:
      ``[B, C]`` float32.
    """

    def score(users):
        out = function(multi_hot(state.lists, users, num_items))
        if low_rank is None:
            return out[items].T
        received = low_rank.received
        few = items.shape[0] < num_items
        if few:
            # Gathered after the sum where all are asked for: it is the lesser array.
            out, received = out[items], received[items]
        of_users = jnp.asarray(state.users)[users].T
        out += jnp.matmul(received, of_users, precision=lax.Precision.HIGHEST)
        return (out if few else out[items]).T

    return by_users(score, users)
