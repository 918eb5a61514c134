"""BSPM: blurring and sharpening processes on the users' items."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from recjax.models._filters import (
    FilterState,
    LowRank,
    by_columns,
    co_product,
    filter_score,
    filter_state,
    normalised_matrix,
)
from recjax.sparse import SparseMatrix, truncated_svd
from recjax.types import Context, ItemLists, Params


@dataclasses.dataclass(frozen=True)
class BSPM:
    r"""BSPM-EM: blurs the users' items, then sharpens them, without training.

    .. math::
      A = D_u^{-1/2} R D_i^{-1/2}, \qquad P = A^T A

    .. math::
      Y_0 = R P + \beta R D_i^{-1/2} V V^T D_i^{1/2}, \qquad
      S = Y_0 \sum_{n=0}^{4} \frac{(-T P)^n}{n!}

    with R the interactions, D the degrees and V the right singular vectors of A for its
    k largest values.  Y_0 is one Euler step of size 1 of either blurring process; the
    sum is one Runge-Kutta step of order 4 of the sharpening ``dy/dt = -y P``, from time
    0 to T, which begins at the sum of both ("early merge").  P is never formed.  The
    sharpening of the second term is a fixed low-rank matrix, made once in `solve`.

    Examples:
      >>> import numpy as np
      >>> from recjax.data.graph import make_context
      >>> from recjax.types import Interactions, Spec
      >>> train = Interactions(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 2, 2]))
      >>> context = make_context(train, Spec(num_users=3, num_items=3))
      >>> model = BSPM(rank=1, time=0.5)
      >>> params = model.solve(context)
      >>> state = model.embed(params, context)
      >>> scores = model.score(params, state, np.array([0]), np.arange(3))
      >>> scores.argmax().item()
      1

    References:
      Choi et al., Blurring-sharpening process models for collaborative filtering,
      SIGIR 2023; the early-merge variant with the settings released for Gowalla.
    """

    rank: int = 448
    """Singular vectors k of the ideal filter; at most min(U, I) are taken."""
    ideal_weight: float = 0.2
    """Beta, the weight of the ideal filter."""
    time: float = 2.5
    """T, how long is sharpened; 0 for not at all."""

    def solve(self, context: Context) -> Params:
        """A ``matrix``, and the sharpened ideal filter as a ``low_rank`` product."""
        return _solve(self, context)

    def embed(self, params: Params, context: Context) -> FilterState:
        """The users' items, and what they send to the ideal filter."""
        return filter_state(context.seen, params["low_rank"])

    def score(
        self, params: Params, state: FilterState, users: jax.Array, items: jax.Array
    ) -> jax.Array:
        """Scores ``[B, C]``; ten sparse products with all items a block of users."""
        matrix = params["matrix"]
        return filter_score(
            lambda x: _sharpen(matrix, co_product(matrix, x), self.time),
            state,
            users,
            items,
            num_items=matrix.shape[1],
            low_rank=params["low_rank"],
        )

    def fold_in(
        self, params: Params, context: Context, state: FilterState, histories: ItemLists
    ) -> FilterState:
        """The histories: newcomers are filtered like users of the training data."""
        del context, state
        return filter_state(histories, params["low_rank"])


def _sharpen(matrix: SparseMatrix, start: jax.Array, time: float) -> jax.Array:
    """One Runge-Kutta step of ``dy/dt = -P y`` from columns ``[I, B]``, by Horner."""
    out = start
    for order in (4, 3, 2, 1):
        out = start - (time / order) * co_product(matrix, out)
    return out


@functools.partial(jax.jit, static_argnums=0)
def _solve(model: BSPM, context: Context) -> Params:
    matrix = normalised_matrix(context, -0.5, -0.5)
    rank = min(model.rank, *matrix.shape)
    vectors = truncated_svd(matrix, rank, jax.random.key(0))[2]
    root = jnp.sqrt(jnp.maximum(context.item_counts, 1.0))[:, None]
    sharpen = functools.partial(_sharpen, matrix, time=model.time)
    received = by_columns(sharpen, model.ideal_weight * vectors * root)
    return {"matrix": matrix, "low_rank": LowRank(vectors / root, received)}
