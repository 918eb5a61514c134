"""CRGCN: a cascade of graph convolutions, one behaviour after the other."""

import dataclasses

import jax
import jax.numpy as jnp

from recjax.layers import unit_length
from recjax.losses import batch_l2_loss
from recjax.models._dot import dot_bound, dot_score
from recjax.models._nodes import (
    batch_nodes,
    comparable,
    init_nodes,
    split_batch,
    split_nodes,
)
from recjax.models._relations import (
    behaviour_graph,
    check_relations,
    fold_in_by_items,
    pair_behaviours,
)
from recjax.objectives import Objective, Softmax
from recjax.sparse import graph_sum
from recjax.types import Batch, Context, Embeddings, ItemLists, Params, Spec


@dataclasses.dataclass(frozen=True)
class CRGCN:
    r"""CRGCN: what one behaviour says refines what those before it said.

    .. math::
      E_b = E_{b-1} + \frac{X_b}{|X_b|}, \qquad X_b = A_b^L (E_{b-1} T_b), \qquad
      \mathcal{L} = \sum_b \lambda_b\, \mathcal{L}_b(E_b)

    over behaviours in their order, such as view, cart, buy, with A_b the symmetrically
    normalised graph of behaviour b, T_b a matrix (the identity at the start) and L_b
    the objective on the pairs of b.  Scores are of the last E, that of the target.

    Examples:
      >>> import jax
      >>> from recjax.types import Spec
      >>> spec = Spec(3, 5, relations=("view", "buy"), num_behaviours=2)
      >>> CRGCN(dim=8).init(jax.random.key(0), spec)["transform"].shape
      (2, 8, 8)

    References:
      Yan et al., Cascading residual graph convolutional network for multi-behavior
      recommendation (CRGCN), TOIS 2023 (T_b is between its behaviours, and its
      objective is BPR).
    """

    dim: int = 64
    """Width of the vectors."""
    layers: int = 1
    """Propagations a behaviour."""
    objective: Objective = Softmax(0.1)  # noqa: RUF009 - frozen
    """What the vectors are trained for."""
    auxiliary: float = 1.0
    """lambda of the behaviours before the target, whose own is 1."""
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
        """E0 from N(0, init_scale^2), T the identity."""
        check_relations(self, spec)
        identity = jnp.eye(self.dim)[None].repeat(spec.num_behaviours, axis=0)
        nodes = init_nodes(key, spec, self.dim, scale=self.init_scale)
        return nodes | {"transform": identity}

    def _stages(self, params: Params, context: Context) -> list[jax.Array]:
        """E ``[N, D]`` after each behaviour."""
        nodes, stages = params["nodes"], []
        for behaviour, transform in enumerate(params["transform"]):
            graph, received = behaviour_graph(context, behaviour), nodes @ transform
            for _ in range(self.layers):
                received = graph_sum(graph, received)
            nodes = nodes + unit_length(received)
            stages.append(nodes)
        return stages

    def embed(self, params: Params, context: Context) -> Embeddings:
        """The rows of the last E, of unit length under a cosine objective."""
        nodes = self._stages(params, context)[-1]
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
        """The objectives of all behaviours, plus L2 on the batch's rows of E0."""
        del key
        behaviours, rows = pair_behaviours(batch), batch_nodes(context, batch)
        stages, total = self._stages(params, context), jnp.zeros(())
        for behaviour, nodes in enumerate(stages):
            ours = batch._replace(weight=batch.weight * (behaviours == behaviour))
            loss = self.objective(split_batch(nodes[rows], batch), context, ours)
            # A mean over the behaviour's pairs, weighted by how many they are.
            share = ours.weight.sum() / jnp.maximum(batch.weight.sum(), 1.0)
            is_last = behaviour == len(stages) - 1
            total += (1.0 if is_last else self.auxiliary) * share * loss
        learned = split_batch(params["nodes"][rows], batch)
        penalty = batch_l2_loss(*learned, where=batch.weight)
        return total + self.l2 * penalty, {"objective": total}
