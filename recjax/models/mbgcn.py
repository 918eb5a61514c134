"""MBGCN: behaviours by their strength for a user, and by what items share."""

import dataclasses

import jax
import jax.numpy as jnp

from recjax.graphs import normalise_edges
from recjax.models._dot import dot_bound, dot_score
from recjax.models._nodes import (
    batch_nodes,
    comparable,
    init_nodes,
    node_counts,
    objective_with_l2,
    split_batch,
    split_nodes,
)
from recjax.models._relations import (
    behaviour_graph,
    check_relations,
    edge_relations,
    fold_in_by_items,
)
from recjax.objectives import Objective, Softmax
from recjax.sparse import graph_sum
from recjax.types import Batch, Context, Embeddings, ItemLists, Params, Spec


@dataclasses.dataclass(frozen=True)
class MBGCN:
    r"""MBGCN: a user is what it did, by behaviour; so are two items that are alike.

    With N_b(u) the items of user u under behaviour b, and w learned,

    .. math::
      p_u = \sum_b \frac{w_b |N_b(u)|}{\sum_{b'} w_{b'} |N_{b'}(u)|}\;
      \underset{i \in N_b(u)}{\mathrm{mean}}\; e_i W,
      \qquad q_i = \underset{u \in N(i)}{\mathrm{mean}}\; e_u W,

    .. math::
      s^b_i = M_b\, \underset{u \in N_b(i)}{\mathrm{mean}}\;
      \underset{j \in N_b(u)}{\mathrm{mean}}\; e_j, \qquad
      x^b_u = \underset{j \in N_b(u)}{\mathrm{mean}}\; s^b_j,

    vectors ``[e + p, x^1, x^2, ...]`` of a user and ``[e + q, lambda s^1, ...]`` of an
    item, and their dot product or cosine as the score: the first term says what alike
    users take, the others which items go together.

    Examples:
      >>> import jax
      >>> from recjax.types import Spec
      >>> spec = Spec(3, 5, relations=("view", "buy"), num_behaviours=2)
      >>> MBGCN(dim=8).init(jax.random.key(0), spec)["item"].shape
      (2, 8, 8)

    References:
      Jin et al., Multi-behavior recommendation with graph convolutional networks
      (MBGCN), SIGIR 2020, with one layer; its objective is BPR, from pretrained
      vectors.
    """

    dim: int = 64
    """Width of the vectors e."""
    item_weight: float = 1.0
    """lambda, of the items' part of the score."""
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
        """The table from N(0, init_scale^2); W and M the identity; w 1."""
        check_relations(self, spec)
        identity = jnp.eye(self.dim)
        size = spec.num_behaviours
        return init_nodes(key, spec, self.dim, scale=self.init_scale) | {
            "behaviour": jnp.zeros(size),
            "propagate": identity,
            "item": identity[None].repeat(size, axis=0),
        }

    def _vectors(self, params: Params, context: Context) -> jax.Array:
        """Vectors ``[N, D (1 + B)]`` of all nodes."""
        nodes, behaviour = params["nodes"], params["behaviour"]
        num_users, num_items = node_counts(context)
        relation = edge_relations(context)
        strength = jnp.exp(behaviour)[jnp.minimum(relation, len(behaviour) - 1)]
        # Rows that sum to one: the share of a behaviour is then its strength times
        # how often it is there.
        mean = normalise_edges(
            context.graph,
            jnp.where(relation < len(behaviour), strength, 0),
            normalisation="row",
        )
        parts = [nodes + graph_sum(mean, nodes @ params["propagate"])]
        kinds = jnp.arange(len(nodes))
        is_item = (kinds >= num_users) & (kinds < num_users + num_items)
        for place, matrix in enumerate(params["item"]):
            graph = behaviour_graph(context, place, "row")
            alike = graph_sum(graph, graph_sum(graph, nodes)) @ matrix
            of_users = graph_sum(graph, alike)
            both = jnp.where(is_item[:, None], self.item_weight * alike, of_users)
            parts.append(both)
        return jnp.concatenate(parts, axis=1)

    def embed(self, params: Params, context: Context) -> Embeddings:
        """The vectors, of unit length under a cosine objective."""
        nodes = self._vectors(params, context)
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
        """The objective on pairs of all behaviours, plus L2 on the table's rows."""
        del key
        rows = batch_nodes(context, batch)
        return objective_with_l2(
            self.objective,
            split_batch(self._vectors(params, context)[rows], batch),
            split_batch(params["nodes"][rows], batch),
            context,
            batch,
            l2=self.l2,
        )
