"""GF-CF: a linear and an ideal low-pass filter of the users' items."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from recjax.models._filters import (
    FilterState,
    LowRank,
    co_product,
    filter_score,
    filter_state,
    normalised_matrix,
)
from recjax.sparse import truncated_svd
from recjax.types import Context, ItemLists, Params


@dataclasses.dataclass(frozen=True)
class GFCF:
    r"""GF-CF: two low-pass filters on the item graph, without training.

    .. math::
      A = D_u^{-1/2} R D_i^{-1/2}, \qquad
      S = R A^T A + \alpha R D_i^{-1/2} V V^T D_i^{1/2}

    with R the interactions, D the degrees and V the right singular vectors of A for its
    k largest values.  The first term takes R as it is, as the released code does; no
    ``[I, I]`` array is made.

    Examples:
      >>> import numpy as np
      >>> from recjax.data.graph import make_context
      >>> from recjax.types import Interactions, Spec
      >>> train = Interactions(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 2, 2]))
      >>> context = make_context(train, Spec(num_users=3, num_items=3))
      >>> model = GFCF(rank=1)
      >>> params = model.solve(context)
      >>> state = model.embed(params, context)
      >>> scores = model.score(params, state, np.array([0]), np.arange(3))
      >>> scores.argmax().item()
      1

    References:
      Shen et al., How powerful is graph convolution for recommendation?, CIKM 2021.
    """

    rank: int = 256
    """Singular vectors k of the ideal filter; at most min(U, I) are taken."""
    ideal_weight: float = 0.3
    """Alpha, the weight of the ideal filter."""

    def solve(self, context: Context) -> Params:
        """A ``matrix``, and the ideal filter as a ``low_rank`` product."""
        return _solve(self, context)

    def embed(self, params: Params, context: Context) -> FilterState:
        """The users' items, and what they send to the ideal filter."""
        return filter_state(context.seen, params["low_rank"])

    def score(
        self, params: Params, state: FilterState, users: jax.Array, items: jax.Array
    ) -> jax.Array:
        """Scores ``[B, C]``; two sparse products with all items a block of users."""
        return filter_score(
            lambda x: co_product(params["matrix"], x),
            state,
            users,
            items,
            num_items=params["matrix"].shape[1],
            low_rank=params["low_rank"],
        )

    def fold_in(
        self, params: Params, context: Context, state: FilterState, histories: ItemLists
    ) -> FilterState:
        """The histories: newcomers are filtered like users of the training data."""
        del context, state
        return filter_state(histories, params["low_rank"])


@functools.partial(jax.jit, static_argnums=0)
def _solve(model: GFCF, context: Context) -> Params:
    matrix = normalised_matrix(context, -0.5, -0.5)
    rank = min(model.rank, *matrix.shape)
    vectors = truncated_svd(matrix, rank, jax.random.key(0))[2]
    root = jnp.sqrt(jnp.maximum(context.item_counts, 1.0))[:, None]
    low_rank = LowRank(vectors / root, model.ideal_weight * vectors * root)
    return {"matrix": matrix, "low_rank": low_rank}
