"""RGCN: relational graph convolution, and pairs scored by relation."""

import dataclasses

import jax
import jax.numpy as jnp

from recjax.layers import init_rgcn_basis, rgcn
from recjax.models._dot import dot_bound, dot_score
from recjax.models._nodes import (
    init_nodes,
)
from recjax.models._relations import (
    behaviour_loss,
    behaviour_newcomers,
    behaviour_vectors,
    check_relations,
    edge_relations,
)
from recjax.objectives import Objective, Softmax
from recjax.types import Batch, Context, Embeddings, ItemLists, Params, Spec


@dataclasses.dataclass(frozen=True)
class RGCN:
    r"""R-GCN for ranking: a matrix a relation, and a learned vector a behaviour.

    .. math::
      H^{l+1} = H^l + \tanh\Big(W_0 H^l + \sum_r \frac{1}{c_{ir}} \sum_{j \in N_r(i)}
      W_r h^l_j + b\Big), \qquad s_{uri} = (h_u \circ z_r) \cdot h_i

    over all typed edges, those back being relations of their own, with ``W_r`` made of
    shared bases.  Every behaviour b has pairs and a vector z_b (DistMult): what a user
    views tells of what it buys, without being the same.  Lists are of the target's z.

    Examples:
      >>> import jax
      >>> from recjax.types import Spec
      >>> spec = Spec(3, 5, relations=("view", "buy", "genre"), num_behaviours=2)
      >>> params = RGCN(dim=8).init(jax.random.key(0), spec)
      >>> params["relation"].shape, params["layers"][0]["coefficient"].shape
      ((2, 8), (6, 2))

    References:
      Schlichtkrull et al., Modeling relational data with graph convolutional networks,
      ESWC 2018 (encoder and DistMult); the residual and the objective are ours.
    """

    dim: int = 64
    """Width of the vectors."""
    layers: int = 2
    """Convolutions."""
    bases: int = 2
    """Matrices that all relations share."""
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
        """The table from N(0, init_scale^2), matrices by Glorot, z 1."""
        check_relations(self, spec)
        first, *keys = jax.random.split(key, 1 + self.layers)
        return init_nodes(first, spec, self.dim, scale=self.init_scale) | {
            "relation": jnp.ones((spec.num_behaviours, self.dim)),
            "layers": [
                init_rgcn_basis(
                    one,
                    self.dim,
                    self.dim,
                    relations=2 * len(spec.relations),
                    bases=self.bases,
                )
                for one in keys
            ],
        }

    def _nodes(self, params: Params, context: Context) -> jax.Array:
        """H of the last layer."""
        edge_relations(context)  # Refuses a graph without, in words of the data.
        nodes = params["nodes"]
        for layer in params["layers"]:
            nodes = nodes + rgcn(layer, context.graph, nodes, activation=jnp.tanh)
        return nodes

    def embed(self, params: Params, context: Context) -> Embeddings:
        """Users times the target's z, and items."""
        nodes = self._nodes(params, context)
        return behaviour_vectors(self.objective, nodes, params["relation"], context)

    def fold_in(
        self, params: Params, context: Context, state: Embeddings, histories: ItemLists
    ) -> Embeddings:
        """Newcomers are the sum of their items, times the target's z."""
        return behaviour_newcomers(
            self.objective, params["relation"], context, state, histories
        )

    def loss(
        self, params: Params, context: Context, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The objective on pairs, each with its z, plus L2 on the table's rows."""
        del key
        return behaviour_loss(
            self.objective,
            self._nodes(params, context),
            params["relation"],
            params["nodes"],
            context,
            batch,
            l2=self.l2,
        )
