"""VBPR: matrix factorisation with a second score on the content of items."""

import dataclasses

import jax
import jax.numpy as jnp

from recjax.models._dot import dot_bound, dot_score
from recjax.models._features import init_projections, project_features
from recjax.models._nodes import comparable, objective_with_l2
from recjax.objectives import BPR, Objective
from recjax.sparse import list_sum
from recjax.types import (
    Batch,
    BatchVectors,
    Context,
    Embeddings,
    ItemLists,
    Params,
    Spec,
)


@dataclasses.dataclass(frozen=True)
class VBPR:
    r"""VBPR: a learned and a projected vector an item, with two vectors a user.

    .. math::
      s_{ui} = p_u \cdot q_i + t_u \cdot \sum_m E_m f_{mi} + b_i
        + \sum_m \beta_m \cdot f_{mi}

    with f_m the vector of item i in feature m, which adds nothing where it is missing.
    One matrix over all features side by side is the sum over m.

    The score is one dot product, of ``[p_u, t_u, 1]`` and ``[q_i, sum_m E_m f_mi, b_i +
    sum_m beta_m . f_mi]``; under a cosine objective the last entries are left out,
    because a bias has no place in a cosine.  L2 is on the batch's rows of those two, so
    that it shrinks what comes of the content as well; the paper shrinks the matrices.

    Examples:
      >>> import jax
      >>> spec = Spec(num_users=3, num_items=5, features=(("image", 7),))
      >>> params = VBPR(dim=8, content_dim=4).init(jax.random.key(0), spec)
      >>> params["users"].shape, params["items"].shape
      ((3, 12), (5, 8))

    References:
      He and McAuley, VBPR: Visual Bayesian personalized ranking from implicit
      feedback, AAAI 2016, equation 4.
    """

    dim: int = 64
    """Width of p and q."""
    content_dim: int = 64
    """Width of t, and of the projected features."""
    objective: Objective = BPR()  # noqa: RUF009 - frozen
    """What the vectors are trained for."""
    l2: float = 1e-4
    """Weight of `batch_l2_loss` on the two sides of the batch's dot products."""
    init_scale: float = 0.01
    """Standard deviation of p, t and q at the start."""
    fold_in_ridge: float = 1.0
    """Ridge of the least squares that gives a newcomer a vector."""

    score = staticmethod(dot_score)
    score_bound = staticmethod(dot_bound)
    splits_batch = True

    @property
    def num_negatives(self) -> int:
        """Negatives of one training pair."""
        return self.objective.num_negatives

    def init(self, key: jax.Array, spec: Spec) -> Params:
        """Tables from N(0, init_scale^2), matrices by Glorot, biases 0."""
        keys = jax.random.split(key, 3)
        width = self.dim + self.content_dim
        params: Params = {
            "users": jax.random.normal(keys[0], (spec.num_users, width)),
            "items": jax.random.normal(keys[1], (spec.num_items, self.dim)),
        }
        params = jax.tree.map(lambda table: self.init_scale * table, params)
        params["content"] = init_projections(
            keys[2], spec, self.content_dim, bias=False
        )
        if not self.objective.cosine:
            params["bias"] = jnp.zeros(spec.num_items)
            params["content_bias"] = {
                name: {"kernel": jnp.zeros((width, 1))} for name, width in spec.features
            }
        return params

    def _items(self, params: Params, context: Context, items: jax.Array | None = None):
        """Learned and projected vector, and bias, of items ``[...]`` or all."""
        take = (lambda table: table) if items is None else (lambda table: table[items])
        content = project_features(params["content"], context, items)
        parts = [take(params["items"]), sum(content.values())]
        if not self.objective.cosine:
            of_content = project_features(params["content_bias"], context, items)
            parts.append(take(params["bias"])[..., None] + sum(of_content.values()))
        return jnp.concatenate(parts, axis=-1)

    def _users(self, users: jax.Array) -> jax.Array:
        """Vectors ``[B, D]`` with what the bias of an item is multiplied by."""
        if self.objective.cosine:
            return users
        return jnp.concatenate([users, jnp.ones_like(users[:, :1])], axis=1)

    def embed(self, params: Params, context: Context) -> Embeddings:
        """The two sides of the dot product."""
        users, items = self._users(params["users"]), self._items(params, context)
        return comparable(self.objective, Embeddings(users, items))

    def fold_in(
        self, params: Params, context: Context, state: Embeddings, histories: ItemLists
    ) -> Embeddings:
        """Least squares of the scores on the newcomer's row of 0 and 1.

        ``[p, t] = (X^T X + ridge I)^-1 X^T (row - bias)``, with X the items' vectors.
        """
        width = self.dim + self.content_dim
        vectors, bias = state.items[:, :width], state.items[:, width:]
        right = list_sum(vectors, histories)
        if not self.objective.cosine:
            right -= (vectors.T @ bias).T
        gram = vectors.T @ vectors + self.fold_in_ridge * jnp.eye(width)
        users = self._users(jnp.linalg.solve(gram, right.T).T)
        return state._replace(users=comparable(self.objective, users))

    def loss(
        self, params: Params, context: Context, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The objective, plus L2 on the vectors that it compares."""
        del key
        vectors = BatchVectors(
            self._users(params["users"][batch.users]),
            self._items(params, context, batch.items),
            self._items(params, context, batch.negatives),
        )
        return objective_with_l2(
            self.objective, vectors, vectors, context, batch, l2=self.l2
        )
