"""Matrix factorisation: one learned vector a user and an item."""

import dataclasses

import jax
import jax.numpy as jnp

from recjax.models._dot import dot_bound, dot_score
from recjax.models._nodes import (
    batch_nodes,
    comparable,
    init_nodes,
    objective_with_l2,
    split_batch,
    split_nodes,
)
from recjax.objectives import Objective, Softmax
from recjax.sparse import list_sum
from recjax.types import Batch, Context, Embeddings, ItemLists, Params, Spec


@dataclasses.dataclass(frozen=True)
class MF:
    """Matrix factorisation, ``s_ui = p_u . q_i``, or the cosine of the two.

    Examples:
      >>> import jax
      >>> from recjax.types import Spec
      >>> spec = Spec(num_users=3, num_items=5)
      >>> params = MF(dim=8).init(jax.random.key(0), spec)
      >>> params["nodes"].shape
      (8, 8)

    References:
      Rendle et al., BPR, UAI 2009.
    """

    dim: int = 64
    """Width of the vectors."""
    objective: Objective = Softmax()  # noqa: RUF009 - frozen
    """What the vectors are trained for."""
    l2: float = 1e-4
    """Weight of `batch_l2_loss` on the batch's rows."""
    init_scale: float = 0.01
    """Standard deviation of the tables at the start; 0.1 suits dot products."""
    fold_in_ridge: float = 1.0
    """Ridge of the least squares that gives a newcomer a vector."""

    score = staticmethod(dot_score)
    score_bound = staticmethod(dot_bound)
    splits_batch = True

    @property
    def num_negatives(self) -> int:
        """Negatives of one training pair."""
        return self.objective.num_negatives

    @property
    def hops(self) -> int:
        """Propagations that the loss reads."""
        return 0

    def init(self, key: jax.Array, spec: Spec) -> Params:
        """Vectors from N(0, init_scale^2)."""
        spec = spec._replace(num_attributes=0)
        return init_nodes(key, spec, self.dim, scale=self.init_scale)

    def embed(self, params: Params, context: Context) -> Embeddings:
        """The vectors, of unit length under a cosine objective."""
        return comparable(self.objective, split_nodes(params["nodes"], context))

    def fold_in(
        self, params: Params, context: Context, state: Embeddings, histories: ItemLists
    ) -> Embeddings:
        """Least squares: ``p = (Q^T Q + ridge I)^-1 sum of q_i over the list``."""
        del params, context
        right = list_sum(state.items, histories)
        gram = state.items.T @ state.items + self.fold_in_ridge * jnp.eye(self.dim)
        users = jnp.linalg.solve(gram, right.T).T
        return state._replace(users=comparable(self.objective, users))

    def loss(
        self, params: Params, context: Context, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The objective, plus L2 on the batch's rows."""
        del key
        rows = params["nodes"][batch_nodes(context, batch)]
        vectors = split_batch(rows, batch)
        return objective_with_l2(
            self.objective, vectors, vectors, context, batch, l2=self.l2
        )
