"""Item-based nearest neighbours."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax import lax

from recjax.lists import lengths, locate, search_row
from recjax.sparse import Layout, neighbour_sum
from recjax.types import Context, ItemLists, Params

# Numbers in the dense block of similarities that `solve` holds at a time (64 MB).
_SOLVE_NUMBERS = 2**24
# Entries of histories, and items reached from them, that scoring visits at a time.
_ENTRIES = 2**11
_POSITIONS = 2**14


@dataclasses.dataclass(frozen=True)
class ItemKNN:
    r"""Item-based k nearest neighbours with cosine similarity.

    .. math::
      \mathrm{sim}(i, j) = \frac{|U_i \cap U_j|}{\sqrt{|U_i|\,|U_j|} + \lambda},
      \qquad s_{ui} = \sum_{j \in I_u \cap N_k(i)} \mathrm{sim}(i, j)

    with U_i the training users of item i, I_u the training items of user u and
    N_k(i) the k items most similar to i.  Similarities are computed for a block of
    items at a time; no ``[I, I]`` array is made.

    Examples:
      >>> import numpy as np
      >>> from recjax.data.graph import make_context
      >>> from recjax.types import Interactions, Spec
      >>> train = Interactions(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 1]))
      >>> context = make_context(train, Spec(num_users=3, num_items=3))
      >>> model = ItemKNN(neighbours=2)
      >>> params = model.solve(context)
      >>> state = model.embed(params, context)
      >>> scores = model.score(params, state, np.array([2]), np.arange(3))
      >>> scores.tolist()  # the first is 2 / sqrt(2 * 3)
      [[0.816..., 0.0, 0.0]]

    References:
      Sarwar et al., "Item-based collaborative filtering recommendation algorithms",
      WWW 2001; Deshpande and Karypis, "Item-based top-N recommendation algorithms",
      ACM TOIS 2004.
    """

    neighbours: int = 100
    """Neighbours k kept for each item."""
    shrink: float = 0.0
    """Lambda, added to the denominator: it discounts items with little support."""

    def solve(self, context: Context) -> Params:
        """The neighbours of each item, listed by neighbour.

        Returns:
          ``pointer [I + 1]``, ``items [I k]`` and ``weights [I k]``: row j holds the
          items i that have j among their neighbours, and sim(i, j).  Entries past
          ``pointer[-1]`` are unused: an item may have fewer than k neighbours.
        """
        return _solve(self, context)

    def embed(self, params: Params, context: Context) -> ItemLists:
        """The training items of each user."""
        del params
        return context.seen

    def score(
        self, params: Params, state: ItemLists, users: jax.Array, items: jax.Array
    ) -> jax.Array:
        """Scores ``[B, C]``; the work is that of the similarities that are not 0."""
        return _score(params, state, users, items)

    def fold_in(
        self, params: Params, context: Context, state: ItemLists, histories: ItemLists
    ) -> ItemLists:
        """The histories: newcomers are scored like users of the training data."""
        del params, context, state
        return histories


def _transpose(lists: ItemLists, num_columns: int) -> ItemLists:
    """The sorted rows of each column: for user lists, the users of each item."""
    entries = jnp.arange(lists.items.shape[0], dtype=jnp.int32)
    rows = jnp.searchsorted(lists.pointer, entries, side="right").astype(jnp.int32) - 1
    order = jnp.argsort(lists.items, stable=True)
    columns = jnp.arange(num_columns + 1, dtype=jnp.int32)
    pointer = jnp.searchsorted(lists.items[order], columns).astype(jnp.int32)
    return ItemLists(pointer, rows[order])


@functools.partial(jax.jit, static_argnums=0)
def _solve(model: ItemKNN, context: Context) -> Params:
    num_items = context.item_counts.shape[0]
    num_users = context.seen.pointer.shape[0] - 1
    width = min(model.neighbours, num_items)
    users_of = _transpose(context.seen, num_items)
    degree = jnp.diff(users_of.pointer).astype(jnp.float32)
    entries = jnp.arange(users_of.items.shape[0], dtype=jnp.int32)
    item_of = jnp.searchsorted(users_of.pointer, entries, side="right") - 1
    ones = jnp.ones(entries.shape, jnp.float32)
    chunk = max(1, min(num_items, _SOLVE_NUMBERS // max(num_users, num_items)))

    def block(first):
        columns = first + jnp.arange(chunk, dtype=jnp.int32)
        start = users_of.pointer[first]
        stop = users_of.pointer[jnp.minimum(first + chunk, num_items)]

        def mark(carry):
            position, has = carry
            entry = position + jnp.arange(_POSITIONS, dtype=jnp.int32)
            valid = entry < stop
            entry = jnp.where(valid, entry, 0)
            column = jnp.where(valid, item_of[entry] - first, chunk)
            has = has.at[users_of.items[entry], column].set(1.0, mode="drop")
            return position + _POSITIONS, has

        has = jnp.zeros((num_users, chunk), jnp.float32)
        has = lax.while_loop(lambda carry: carry[0] < stop, mark, (start, has))[1]
        common = neighbour_sum(
            has,
            ones,
            users_of.items,
            item_of,
            num_receivers=num_items,
            layout=Layout(users_of.pointer),
        )
        own = degree[jnp.minimum(columns, num_items - 1)]
        norm = jnp.sqrt(degree[:, None] * own[None, :]) + model.shrink
        similarity = common / jnp.maximum(norm, 1e-30)
        itself = jnp.arange(num_items, dtype=jnp.int32)[:, None] == columns[None, :]
        return lax.top_k(jnp.where(itself, 0.0, similarity).T, width)

    firsts = jnp.arange(0, num_items, chunk, dtype=jnp.int32)
    weights, neighbours = lax.map(block, firsts)
    weights = weights.reshape(-1, width)[:num_items].reshape(-1)
    neighbours = neighbours.reshape(-1, width)[:num_items].reshape(-1)
    # Similarity 0 is no neighbour (the item has fewer than k): sorted to the end.
    neighbours = jnp.where(weights > 0, neighbours, num_items)
    order = jnp.argsort(neighbours, stable=True)
    rows = jnp.arange(num_items + 1, dtype=jnp.int32)
    return {
        "pointer": jnp.searchsorted(neighbours[order], rows).astype(jnp.int32),
        "items": (order // width).astype(jnp.int32),
        "weights": weights[order],
    }


@jax.jit
def _score(
    params: Params, histories: ItemLists, users: jax.Array, items: jax.Array
) -> jax.Array:
    num_columns = items.shape[0]
    num_items = params["pointer"].shape[0] - 1
    scores = jnp.zeros((users.shape[0], num_columns), jnp.float32)
    if histories.items.shape[0] == 0:
        return scores
    columns = jnp.arange(num_columns, dtype=jnp.int32)
    column_of = jnp.full(num_items, num_columns, jnp.int32).at[items].min(columns)
    first, last = items.min(), items.max()
    begin, sizes_of = histories.pointer[users], lengths(histories, users)
    num_entries = sizes_of.sum()

    # Two walks, one within the other: over the entries j of the users' histories, and
    # over the items i that have these entries among their neighbours.
    def outer(carry):
        position, scores = carry
        positions = position + jnp.arange(_ENTRIES, dtype=jnp.int32)
        user, entry, valid = locate(begin, sizes_of, positions)
        neighbour = histories.items[entry]
        limits = jnp.broadcast_to(jnp.stack([first - 1, last]), (_ENTRIES, 2))
        inside = search_row(params["pointer"], params["items"], neighbour, limits)
        starts = params["pointer"][neighbour] + inside[:, 0]
        sizes = jnp.where(valid, inside[:, 1] - inside[:, 0], 0)
        total = sizes.sum()

        def inner(carry):
            position, scores = carry
            positions = position + jnp.arange(_POSITIONS, dtype=jnp.int32)
            source, edge, valid = locate(starts, sizes, positions)
            column = column_of[params["items"][edge]]
            column = jnp.where(valid, column, num_columns)
            scores = scores.at[user[source], column].add(
                params["weights"][edge], mode="drop"
            )
            return position + _POSITIONS, scores

        carry = (jnp.int32(0), scores)
        scores = lax.while_loop(lambda c: c[0] < total, inner, carry)[1]
        return position + _ENTRIES, scores

    carry = (jnp.int32(0), scores)
    scores = lax.while_loop(lambda c: c[0] < num_entries, outer, carry)[1]
    # An item that is asked for twice was counted in its first column.
    return scores[:, column_of[items]]
