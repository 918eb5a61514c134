"""BM3: users, items and features drawn together, with no negative at all."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.layers import propagate
from recjax.losses import alignment_loss, table_l2_loss
from recjax.models._dot import dot_bound, dot_score
from recjax.models._features import init_projections, project_features
from recjax.models._nodes import init_nodes, newcomer_nodes, split_nodes
from recjax.types import Batch, Context, Embeddings, ItemLists, Params, Spec


@dataclasses.dataclass(frozen=True)
class BM3:
    r"""BM3: bootstrapped latent vectors, which need no negatives and no augmentation.

    With :math:`\bar{E}` LightGCN's mean of the layers, p one dense layer that all
    share, and x' a copy of x that receives no gradient and of which dropout takes some
    entries,

    .. math::
      u &= \bar{E}_u, \qquad i = \bar{E}_i + E_i, \qquad f_m = W_m x_{mi} + b_m \\
      C(x, y) &= 1 - \cos(x, y) \\
      L &= C(p(u), i') + C(p(i), u')
        + c \sum_m [ C(p(f_m), i') + C(p(f_m), f_m') ]
        + r (\lVert U \rVert + \lVert I \rVert) / |I|

    over the training pairs of a batch, U and I being the tables of all u and all i and
    the norms Frobenius', not squared.  The score is ``p(u) . p(i)``.

    A pair whose item lacks feature m does not count in its terms.  The feature tables
    are data and stay as they are; the released code lets them learn.  Dropout is drawn
    for each row of the batch, where the released code draws it for each node.

    Examples:
      >>> import jax
      >>> spec = Spec(num_users=3, num_items=5, features=(("image", 7),))
      >>> params = BM3(dim=8).init(jax.random.key(0), spec)
      >>> params["nodes"].shape, params["predictor"]["kernel"].shape
      ((8, 8), (8, 8))

    References:
      Zhou et al., Bootstrap latent representations for multi-modal recommendation, WWW
      2023, equations 2 to 14.
    """

    dim: int = 64
    """Width of the vectors."""
    layers: int = 1
    """Propagations; the paper tries 1 and 2."""
    dropout: float = 0.5
    """Share of the entries of a target that are dropped; the paper tries 0.3, 0.5."""
    feature_weight: float = 2.0
    """Weight c of the terms with features."""
    norm_weight: float = 0.1
    """Weight r of the norms; the paper tries 0.1 and 0.01."""
    init_scale: float = 0.01
    """Standard deviation of E at the start; Xavier's rule, which the released code
    uses, gives this for twenty thousand nodes a table."""

    score = staticmethod(dot_score)
    score_bound = staticmethod(dot_bound)
    num_negatives = 0

    def init(self, key: jax.Array, spec: Spec) -> Params:
        """E from N(0, init_scale^2), matrices by Glorot, biases 0."""
        keys = jax.random.split(key, 3)
        kernel = nn.initializers.glorot_uniform()(keys[1], (self.dim, self.dim))
        return {
            **init_nodes(keys[0], spec, self.dim, scale=self.init_scale),
            "predictor": {"kernel": kernel, "bias": jnp.zeros(self.dim)},
            "features": init_projections(keys[2], spec, self.dim),
        }

    def _vectors(self, params: Params, context: Context) -> Embeddings:
        """All u and all i."""
        nodes = propagate(context.graph, params["nodes"], depth=self.layers)
        users, items = split_nodes(nodes, context)
        return Embeddings(users, items + split_nodes(params["nodes"], context).items)

    def embed(self, params: Params, context: Context) -> Embeddings:
        """The p of all u and all i."""
        users, items = self._vectors(params, context)
        return Embeddings(_predict(params, users), _predict(params, items))

    def fold_in(
        self, params: Params, context: Context, state: Embeddings, histories: ItemLists
    ) -> Embeddings:
        """The p of what newcomers receive from their items, layer by layer."""
        users = newcomer_nodes(params["nodes"], context, histories, depth=self.layers)
        return state._replace(users=_predict(params, users))

    def loss(
        self, params: Params, context: Context, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The terms of pairs, of features, and the norms."""
        tables = self._vectors(params, context)
        users, items = tables.users[batch.users], tables.items[batch.items]
        features = project_features(params["features"], context, batch.items)
        keys = iter(jax.random.split(key, 2 + len(features)))

        def target(vectors):
            vectors = jax.lax.stop_gradient(vectors)
            # A cosine has no use for the scale that makes up for what is dropped.
            keep = jax.random.uniform(next(keys), vectors.shape) >= self.dropout
            return jnp.where(keep, vectors, 0)

        to_users, to_items = target(users), target(items)
        where = batch.weight
        pairs = _distance(_predict(params, users), to_items, where)
        pairs += _distance(_predict(params, items), to_users, where)
        content = jnp.zeros(())
        for name, vectors in features.items():
            there = where * context.features[name].present[batch.items]
            predicted = _predict(params, vectors)
            content += _distance(predicted, to_items, there)
            content += _distance(predicted, target(vectors), there)
        norms = sum((_norm(x) for x in tables), jnp.zeros(())) / len(tables.items)
        loss = pairs + self.feature_weight * content + self.norm_weight * norms
        return loss, {"objective": pairs, "features": content, "norms": norms}


def _predict(params: Params, vectors: jax.Array) -> jax.Array:
    layer = params["predictor"]
    return vectors @ layer["kernel"] + layer["bias"][None]


def _distance(left: jax.Array, right: jax.Array, where: jax.Array) -> jax.Array:
    """Mean of ``1 - cos``: half the squared distance of the unit vectors."""
    return alignment_loss(left, right, where=where) / 2


def _norm(table: jax.Array) -> jax.Array:
    # Of an empty sum the root has no derivative.
    return jnp.sqrt(table_l2_loss(table) + jnp.finfo(table.dtype).tiny)
