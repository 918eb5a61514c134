"""Turbo-CF: polynomial low-pass filters of the users' items."""

import dataclasses
from typing import Literal

import jax
import numpy as np
import scipy.sparse

from recjax.lists import row_of_entry
from recjax.models._filters import (
    FilterState,
    co_product,
    filter_score,
    normalised_matrix,
)
from recjax.models._item_matrix import sparse_item_score
from recjax.sparse import Layout, neighbour_sum
from recjax.types import Context, ItemLists, Params


@dataclasses.dataclass(frozen=True)
class TurboCF:
    r"""Turbo-CF: a polynomial of the item graph, without training or vectors.

    .. math::
      B = D_u^{-a} R D_i^{a - 1}, \qquad P_{ij} = \big( (B^T B)_{ij} \big)^s

    .. math::
      S_1 = R P, \qquad S_2 = R (2 P - P^2), \qquad
      S_3 = R \big( P + 0.01 (-P^3 + 10 P^2 - 29 P) \big)

    with R the interactions, D the degrees and a, s and the index of S settings.  For
    s = 1, P is never formed.  For other powers its non-zeros, the pairs of items with a
    user in common, are kept sparsely: 8 bytes each, and `solve`, on the host, takes
    three times that.  ``order`` 1 then costs what a user's items have in common with
    others; a higher order costs all pairs again for each power, and suits small
    catalogues.

    Examples:
      >>> import numpy as np
      >>> from recjax.data.graph import make_context
      >>> from recjax.types import Interactions, Spec
      >>> train = Interactions(np.array([0, 0, 1]), np.array([0, 1, 1]))
      >>> context = make_context(train, Spec(num_users=2, num_items=2))
      >>> model = TurboCF(alpha=0.5, power=1.0)
      >>> params = model.solve(context)
      >>> state = model.embed(params, context)
      >>> model.score(params, state, np.array([1]), np.arange(2)).round(3).tolist()
      [[0.354, 0.75]]

    References:
      Park et al., Turbo-CF: matrix decomposition-free graph filtering for fast
      recommendation, SIGIR 2024 (the numbers of order 3 are those of its code).
    """

    alpha: float = 0.6
    """a, how much of the normalisation is by users; 0.5 is symmetric.  Sparse data want
    0.9."""
    power: float = 0.7
    """s, to which every entry of the item graph is raised."""
    order: Literal[1, 2, 3] = 1
    """Degree of the polynomial: a linear filter, one of second order, or one near the
    ideal."""

    def solve(self, context: Context) -> Params:
        """B as a ``matrix``, or rows of P: ``pointer``, ``items``, ``weights``."""
        matrix = normalised_matrix(context, -self.alpha, self.alpha - 1)
        if self.power == 1:
            return {"matrix": matrix}
        edges = jax.device_get(matrix.by_row)
        host = scipy.sparse.csr_array(
            (edges.weight, edges.senders, edges.layout.row_pointer), shape=matrix.shape
        )
        pairs = (host.T @ host).tocsr()
        pairs.sort_indices()
        if pairs.nnz >= 2**31:
            raise ValueError(
                f"{pairs.nnz} pairs of items have a user in common, more than int32 "
                "counts: take power = 1, which forms none of them"
            )
        rows = {
            "pointer": pairs.indptr.astype(np.int32),
            "items": pairs.indices.astype(np.int32),
            "weights": np.power(pairs.data, np.float32(self.power)),
        }
        return jax.device_put(rows)

    def embed(self, params: Params, context: Context) -> FilterState:
        """The users' items."""
        del params
        return FilterState(context.seen)

    def score(
        self, params: Params, state: FilterState, users: jax.Array, items: jax.Array
    ) -> jax.Array:
        """Scores ``[B, C]``."""
        if "matrix" in params:
            num_items = params["matrix"].shape[1]
        elif self.order == 1:
            return sparse_item_score(params, state.lists, users, items)
        else:
            num_items = params["pointer"].shape[0] - 1
        return filter_score(
            lambda x: self._filter(params, x),
            state,
            users,
            items,
            num_items=num_items,
        )

    def fold_in(
        self, params: Params, context: Context, state: FilterState, histories: ItemLists
    ) -> FilterState:
        """The histories: newcomers are filtered like users of the training data."""
        del params, context, state
        return FilterState(histories)

    def _filter(self, params: Params, x: jax.Array) -> jax.Array:
        """The polynomial of P, of columns ``[I, B]``."""
        once = _product(params, x)
        if self.order == 1:
            return once
        twice = _product(params, once)
        if self.order == 2:
            return 2 * once - twice
        return once + 0.01 * (-_product(params, twice) + 10 * twice - 29 * once)


def _product(params: Params, x: jax.Array) -> jax.Array:
    """P x; P is symmetric."""
    if "matrix" in params:
        return co_product(params["matrix"], x)
    rows = ItemLists(params["pointer"], params["items"])
    return neighbour_sum(
        x,
        params["weights"],
        rows.items,
        row_of_entry(rows),
        num_receivers=len(x),
        layout=Layout(rows.pointer),
    )
