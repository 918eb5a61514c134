"""RelationAttention: attention over typed edges that keep features of their own."""

import dataclasses

import jax
import jax.numpy as jnp

from recjax.layers import edge_attention, init_edge_attention
from recjax.layers._dense import dense, init_dense
from recjax.models._dot import dot_bound, dot_score
from recjax.models._nodes import (
    init_nodes,
)
from recjax.models._relations import (
    behaviour_loss,
    behaviour_newcomers,
    behaviour_vectors,
    check_relations,
    edge_features,
    edge_relations,
)
from recjax.objectives import Objective, Softmax
from recjax.types import Batch, Context, Embeddings, ItemLists, Params, Spec

_FEATURES = 3


@dataclasses.dataclass(frozen=True)
class RelationAttention:
    r"""What a node listens to, by relation, age and count of an edge.

    .. math::
      H^{l+1}, F^{l+1} = H^l + \mathrm{attention}(H^l, z, F^l), \qquad
      s_{ubi} = (h_u \circ y_b) \cdot h_i

    by `recjax.layers.edge_attention`: scores of neighbours read a learned vector z of
    the edge's relation and the features F of the edge, made of ``log(1 + count)``,
    ``log(1 + age)`` and ``log(1 + value)``; F is updated beside the nodes.  Pairs of
    all behaviours are positives, with a vector y of each; lists are of the target's.

    Examples:
      >>> import jax
      >>> from recjax.types import Spec
      >>> spec = Spec(3, 5, relations=("view", "buy", "genre"), num_behaviours=2)
      >>> params = RelationAttention(dim=8).init(jax.random.key(0), spec)
      >>> params["relation"].shape, params["behaviour"].shape
      ((6, 8), (2, 8))

    References:
      Shaw et al., NAACL 2018; Hussain et al., EGT, KDD 2022 (the layer); Wang et al.,
      KGAT, KDD 2019 (attention by relation for recommending).
    """

    dim: int = 64
    """Width of the vectors."""
    layers: int = 2
    """Attentions."""
    heads: int = 2
    """Heads of each."""
    edge_dim: int = 4
    """Width of the features of edges."""
    objective: Objective = Softmax(0.1)  # noqa: RUF009 - frozen
    """What the vectors are trained for."""
    l2: float = 1e-4
    """Weight of `batch_l2_loss` on the batch's rows of the table."""
    init_scale: float = 0.01
    """Standard deviation of the table at the start."""

    score = staticmethod(dot_score)
    score_bound = staticmethod(dot_bound)

    @property
    def num_negatives(self) -> int:
        """Negatives of one training pair."""
        return self.objective.num_negatives

    def init(self, key: jax.Array, spec: Spec) -> Params:
        """Tables from N(0, init_scale^2), y 1, the rest as `init_edge_attention`."""
        check_relations(self, spec)
        keys = jax.random.split(key, 3 + self.layers)
        shape = (2 * len(spec.relations), self.dim)
        layers = [
            init_edge_attention(one, self.dim, self.heads, width_edge=self.edge_dim)
            for one in keys[3:]
        ]
        for layer in layers:
            # Values begin as they are: an attention that learns to choose comes to
            # vectors of neighbours, as a LightGCN has them.
            layer["value"] = jnp.eye(self.dim).reshape(layer["value"].shape)
        return init_nodes(keys[0], spec, self.dim, scale=self.init_scale) | {
            "relation": self.init_scale * jax.random.normal(keys[1], shape),
            "behaviour": jnp.ones((spec.num_behaviours, self.dim)),
            "edge": init_dense(keys[2], _FEATURES, self.edge_dim),
            "layers": layers,
        }

    def _nodes(self, params: Params, context: Context) -> jax.Array:
        """H of the last layer."""
        edge_relations(context)  # Refuses a graph without, in words of the data.
        nodes = params["nodes"]
        features = dense("features", edge_features(context), params["edge"])
        for layer in params["layers"]:
            received, features = edge_attention(
                layer, context.graph, nodes, params["relation"], features
            )
            nodes = nodes + received
        return nodes

    def embed(self, params: Params, context: Context) -> Embeddings:
        """Users times the target's y, and items."""
        nodes = self._nodes(params, context)
        return behaviour_vectors(self.objective, nodes, params["behaviour"], context)

    def fold_in(
        self, params: Params, context: Context, state: Embeddings, histories: ItemLists
    ) -> Embeddings:
        """Newcomers are the sum of their items, times the target's y."""
        return behaviour_newcomers(
            self.objective, params["behaviour"], context, state, histories
        )

    def loss(
        self, params: Params, context: Context, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The objective on pairs, each with its y, plus L2 on the table's rows."""
        del key
        return behaviour_loss(
            self.objective,
            self._nodes(params, context),
            params["behaviour"],
            params["nodes"],
            context,
            batch,
            l2=self.l2,
        )
