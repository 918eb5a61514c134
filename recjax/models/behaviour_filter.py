"""BehaviourFilter: graph filters of what users did, behaviours weighted."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jax import lax

from recjax.models._filters import LowRank, by_users, co_product
from recjax.models._histories import (
    Histories,
    as_histories,
    as_sparse_matrix,
    history_matrix,
    unit_histories,
    weighted_hot,
)
from recjax.sparse import truncated_svd
from recjax.types import Context, ItemLists, Params


@dataclasses.dataclass(frozen=True)
class BehaviourFilter:
    r"""A linear and an ideal low-pass filter of the weighted sum of behaviours.

    .. math::
      R = \sum_b w_b R_b, \qquad B = D_u^{-a} R D_i^{a - 1}, \qquad
      A = D_u^{-1/2} R D_i^{-1/2},

    .. math::
      S = R B^T B + \alpha R D_i^{-1/2} V V^T D_i^{1/2}

    with D the sums of R and V the right singular vectors of A for its k largest values.
    Of one behaviour, ``a = 1/2`` is GF-CF, and ``alpha = 0`` the linear filter of
    Turbo-CF without its power.  Without times or relations it takes all pairs alike.

    Examples:
      >>> import numpy as np
      >>> from recjax.data import make_relation_context
      >>> from recjax.types import Interactions, Spec
      >>> train = Interactions(
      ...     np.array([0, 0, 1]), np.array([0, 1, 1]), relations=np.array([1, 0, 0])
      ... )
      >>> spec, context = make_relation_context(
      ...     train, Spec(2, 2), names=("view", "buy")
      ... )
      >>> model = BehaviourFilter(weights=(1.0, 3.0), alpha=1.0, ideal_weight=0.0)
      >>> params = model.solve(context)
      >>> state = model.embed(params, context)
      >>> model.score(params, state, np.array([1]), np.arange(2)).round(4).tolist()
      [[0.1875, 1.0625]]

    References:
      Park et al., Turbo-CF, SIGIR 2024; Shen et al., How powerful is graph convolution
      for recommendation? (GF-CF), CIKM 2021.
    """

    weights: tuple[float, ...] = ()
    """w, by behaviour; none are 1 for all."""
    alpha: float = 0.5
    """a, how much of the normalisation is by users."""
    ideal_weight: float = 0.3
    """Alpha, the weight of the ideal filter; 0 for none."""
    rank: int = 256
    """Singular vectors k of the ideal filter; at most min(U, I) are taken."""

    def solve(self, context: Context) -> Params:
        """B as a ``matrix``, the ideal filter as a ``low_rank`` product, histories."""
        _, matrix = history_matrix(context, self.weights)
        of_users, of_items = (
            np.asarray(matrix.sum(axis=axis)).ravel() for axis in (1, 0)
        )

        def scaled(user_power: float, item_power: float):
            left, right = (
                scipy.sparse.diags_array(np.where(x > 0, np.maximum(x, 1e-30) ** p, 0))
                for x, p in ((of_users, user_power), (of_items, item_power))
            )
            return as_sparse_matrix((left @ matrix @ right).tocsr())

        params: Params = {
            "matrix": scaled(-self.alpha, self.alpha - 1),
            "history": as_histories(matrix)._asdict(),
        }
        if self.ideal_weight:
            rank = min(self.rank, len(of_users), len(of_items))
            half = jax.device_put(scaled(-0.5, -0.5))
            vectors = truncated_svd(half, rank, jax.random.key(0))[2]
            root = np.sqrt(np.where(of_items > 0, of_items, 1))[:, None]
            params["low_rank"] = LowRank(
                vectors / root, self.ideal_weight * vectors * root
            )
        return jax.device_put(params)

    def embed(self, params: Params, context: Context) -> Histories:
        """The users' weighted histories."""
        del context
        return Histories(**params["history"])

    def score(
        self, params: Params, state: Histories, users: jax.Array, items: jax.Array
    ) -> jax.Array:
        """Scores ``[B, C]``; two sparse products with all items a block of users."""

        def block(users):
            x = weighted_hot(state, users, params["matrix"].shape[1])
            out = co_product(params["matrix"], x)
            if "low_rank" in params:
                sent, received = params["low_rank"]
                high = lax.Precision.HIGHEST
                inner = jnp.matmul(sent.T, x, precision=high)
                out += jnp.matmul(received, inner, precision=high)
            return out[items].T

        return by_users(block, users)

    def fold_in(
        self, params: Params, context: Context, state: Histories, histories: ItemLists
    ) -> Histories:
        """Newcomers' items all weigh 1."""
        del params, context, state
        return unit_histories(histories)
