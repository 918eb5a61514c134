"""Scores of models that are an item-item matrix W: ``s_ui = sum of W_ji, j in H_u``."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from recjax.lists import locate, search_row, walk_entries
from recjax.types import ItemLists, Params

# Entries of histories, and items reached from them, that scoring visits at a time.
_ENTRIES = 2**11
_POSITIONS = 2**14
# Rows of a dense matrix that are summed at a time.
_ROWS = 2**8


@jax.jit
def sparse_item_score(
    matrix: Params, histories: ItemLists, users: jax.Array, items: jax.Array
) -> jax.Array:
    """Scores by a sparse matrix; the work is that of the entries that are not 0.

    Args:
      matrix: ``pointer [I + 1]``, ``items`` and ``weights``: row j holds the items i
        with W_ji other than 0, ascending.
      histories: the items of each user.
      users: ``[B]`` integer users.
      items: ``[C]`` integer items.

    Returns:
      ``[B, C]`` float32.
    """
    num_columns = items.shape[0]
    pointer, reached = matrix["pointer"], matrix["items"]
    scores = jnp.zeros((users.shape[0], num_columns), jnp.float32)
    if reached.shape[0] == 0:
        return scores
    columns = jnp.arange(num_columns, dtype=jnp.int32)
    num_items = pointer.shape[0] - 1
    column_of = jnp.full(num_items, num_columns, jnp.int32).at[items].min(columns)
    limits = jnp.stack([items.min() - 1, items.max()])

    # Two walks, one within the other: over the entries j of the users' histories, and
    # over the items i that row j reaches.
    def visit(scores, user, source, real):
        ends = jnp.broadcast_to(limits, (source.shape[0], 2))
        inside = search_row(pointer, reached, source, ends)
        starts = pointer[source] + inside[:, 0]
        sizes = jnp.where(real, inside[:, 1] - inside[:, 0], 0)
        total = sizes.sum()

        def inner(carry):
            position, scores = carry
            positions = position + jnp.arange(_POSITIONS, dtype=jnp.int32)
            row, entry, valid = locate(starts, sizes, positions)
            column = jnp.where(valid, column_of[reached[entry]], num_columns)
            weights = matrix["weights"][entry]
            scores = scores.at[user[row], column].add(weights, mode="drop")
            return position + _POSITIONS, scores

        carry = (jnp.int32(0), scores)
        return lax.while_loop(lambda c: c[0] < total, inner, carry)[1]

    scores = walk_entries(visit, scores, histories, users, block=_ENTRIES)
    # An item that is asked for twice was counted in its first column.
    return scores[:, column_of[items]]


@functools.partial(jax.jit, static_argnames="rows")
def dense_item_score(
    weights: jax.Array,
    histories: ItemLists,
    users: jax.Array,
    items: jax.Array,
    *,
    rows: int = _ROWS,
) -> jax.Array:
    """Scores by a dense matrix; the work is that of the entries of the histories.

    Args:
      weights: W ``[I, I]``.
      histories: the items of each user.
      users: ``[B]`` integer users.
      items: ``[C]`` integer items.
      rows: of W that are held at a time.

    Returns:
      ``[B, C]`` float32.
    """
    everything = items.shape[0] >= weights.shape[0]

    def visit(scores, user, source, real):
        of_user = jnp.arange(users.shape[0])[:, None] == jnp.where(real, user, -1)[None]
        # Whole rows where most are wanted: a gather of single numbers is slow.
        taken = weights[source] if everything else weights[source[:, None], items]
        add = jnp.matmul(of_user.astype(taken.dtype), taken, precision="highest")
        return scores + add

    width = weights.shape[0] if everything else items.shape[0]
    scores = jnp.zeros((users.shape[0], width), jnp.float32)
    scores = walk_entries(visit, scores, histories, users, block=rows)
    return scores[:, items] if everything else scores
