"""BehaviourGCN: LightGCN on all behaviours, each with a learned weight."""

import dataclasses

import jax
import jax.numpy as jnp
import jraph

from recjax.graphs import normalise_edges
from recjax.layers import propagate, propagate_rows
from recjax.models._dot import dot_bound, dot_score
from recjax.models._nodes import (
    batch_nodes,
    comparable,
    init_nodes,
    objective_with_l2,
    split_batch,
    split_nodes,
)
from recjax.models._relations import (
    check_relations,
    edge_relations,
    fold_in_by_items,
)
from recjax.objectives import Objective, Softmax
from recjax.sparse import take_rows
from recjax.types import Batch, Context, Embeddings, ItemLists, Params, Spec


@dataclasses.dataclass(frozen=True)
class BehaviourGCN:
    r"""LightGCN whose edges weigh what their relation is found to be worth.

    .. math::
      a_e = e^{\omega_{r(e)}}, \qquad
      A_{ij} = \sum_{e: j \to i} \frac{a_e}{\sqrt{d_i d_j}}, \qquad
      d_i = \sum_{e \to i} a_e, \qquad
      E = \frac{1}{L + 1} \sum_{l=0}^{L} A^l E_0

    with omega, one number a relation, learned with E0 and 0 at the start, where this is
    a LightGCN on the sum of the behaviours.  Training pairs are those of all
    behaviours.

    Examples:
      >>> import jax
      >>> from recjax.types import Spec
      >>> spec = Spec(3, 5, relations=("view", "buy"), num_behaviours=2)
      >>> params = BehaviourGCN(dim=8).init(jax.random.key(0), spec)
      >>> params["nodes"].shape, params["relation"].shape
      ((8, 8), (2,))

    References:
      He et al., LightGCN, SIGIR 2020; Jin et al., MBGCN, SIGIR 2020 (a learned weight
      a behaviour).
    """

    dim: int = 64
    """Width of the vectors."""
    layers: int = 2
    """Propagations."""
    objective: Objective = Softmax(0.1)  # noqa: RUF009 - frozen
    """What the vectors are trained for."""
    l2: float = 1e-4
    """Weight of `batch_l2_loss` on the batch's rows of E0."""
    init_scale: float = 0.01
    """Standard deviation of E0 at the start."""

    score = staticmethod(dot_score)
    score_bound = staticmethod(dot_bound)

    @property
    def num_negatives(self) -> int:
        """Negatives of one training pair."""
        return self.objective.num_negatives

    def init(self, key: jax.Array, spec: Spec) -> Params:
        """E0 from N(0, init_scale^2), omega 0."""
        check_relations(self, spec)
        nodes = init_nodes(key, spec, self.dim, scale=self.init_scale)
        return nodes | {"relation": jnp.zeros(len(spec.relations))}

    def _graph(self, params: Params, context: Context) -> jraph.GraphsTuple:
        """The graph with the weights A."""
        weight = jnp.exp(params["relation"])[edge_relations(context)]
        return normalise_edges(context.graph, weight)

    def embed(self, params: Params, context: Context) -> Embeddings:
        """The rows of E, of unit length under a cosine objective."""
        graph = self._graph(params, context)
        nodes = propagate(graph, params["nodes"], depth=self.layers)
        return comparable(self.objective, split_nodes(nodes, context))

    def fold_in(
        self, params: Params, context: Context, state: Embeddings, histories: ItemLists
    ) -> Embeddings:
        """Newcomers are the sum of their items."""
        del params
        cosine = self.objective.cosine
        return fold_in_by_items(context, state, histories, cosine=cosine)

    def loss(
        self, params: Params, context: Context, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The objective on E, plus L2 on the batch's rows of E0."""
        del key
        rows = batch_nodes(context, batch)
        nodes, learned = take_rows(params["nodes"], rows)
        graph = self._graph(params, context)
        vectors = propagate_rows(graph, nodes, rows, depth=self.layers)
        return objective_with_l2(
            self.objective,
            split_batch(vectors, batch),
            split_batch(learned, batch),
            context,
            batch,
            l2=self.l2,
        )
