"""Item-based nearest neighbours."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax import lax

from recjax.lists import row_of_entry, transpose_lists
from recjax.models._item_matrix import sparse_item_score
from recjax.sparse import Layout, neighbour_sum
from recjax.types import Context, ItemLists, Params

# Numbers in the dense block of similarities that `solve` holds at a time (64 MB).
_SOLVE_NUMBERS = 2**24
# Users of these items that it marks at a time.
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
        return sparse_item_score(params, state, users, items)

    def fold_in(
        self, params: Params, context: Context, state: ItemLists, histories: ItemLists
    ) -> ItemLists:
        """The histories: newcomers are scored like users of the training data."""
        del params, context, state
        return histories


@functools.partial(jax.jit, static_argnums=0)
def _solve(model: ItemKNN, context: Context) -> Params:
    num_items = context.item_counts.shape[0]
    num_users = context.seen.pointer.shape[0] - 1
    width = min(model.neighbours, num_items)
    users_of = transpose_lists(context.seen, num_items)
    degree = jnp.diff(users_of.pointer).astype(jnp.float32)
    item_of = row_of_entry(users_of)
    ones = jnp.ones(item_of.shape, jnp.float32)
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
