"""LATTICE: a graph between items that is learned from their features."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import jraph

from recjax.graphs import cosine_neighbours
from recjax.layers import propagate, propagate_rows, unit_length
from recjax.models._dot import dot_bound, dot_score
from recjax.models._features import init_projections, project_features
from recjax.models._item_graph import fixed_graph, item_graphs
from recjax.models._nodes import (
    add_to_items,
    batch_nodes,
    comparable,
    init_nodes,
    newcomer_nodes,
    objective_with_l2,
    split_batch,
    split_nodes,
)
from recjax.objectives import BPR, Objective
from recjax.sparse import edge_dot, graph_sum
from recjax.types import Batch, Context, Embeddings, ItemLists, Params, Spec, prepared


@dataclasses.dataclass(frozen=True)
class LATTICE:
    r"""LATTICE: LightGCN, and items that receive from those of like content.

    .. math::
      u &= \bar{E}_u, \qquad
      i = \bar{E}_i + \frac{(A^l E)_i}{\lVert (A^l E)_i \rVert} \\
      A &= \lambda \sum_m a_m S_m
        + (1 - \lambda) D^{-1/2} \Big( \sum_m a_m K_m \Big) D^{-1/2}, \qquad
      a = \mathrm{softmax}(w)

    with :math:`\bar{E}` LightGCN's mean of the layers, S_m the graph of the k nearest
    items by cosine of feature m, weighted by cosine and symmetrically normalised, and
    K_m the same before normalisation, of the projected feature ``W_m f_m + b_m``; D
    holds the row sums of the sum in parentheses.

    Which items are the k nearest by projected features is found again once an epoch,
    and for scoring; no ``[I, I]`` array is made.  The cosines on these edges, and
    their derivatives, are those of the moment in every step; the released code takes
    them once an epoch, at its first step, and holds them constant after it.  A cosine
    below 0 makes no edge.  The feature tables are data and stay as they are; the
    released code lets them learn.  L2 is on the batch's u and i, as there.

    Examples:
      >>> import jax
      >>> spec = Spec(num_users=3, num_items=5, features=(("image", 7), ("text", 6)))
      >>> params = LATTICE(dim=8).init(jax.random.key(0), spec)
      >>> params["nodes"].shape, sorted(params["modality"])
      ((8, 8), ['image', 'text'])

    References:
      Zhang et al., Mining latent structures for multimedia recommendation, ACM MM 2021,
      equations 1 to 10.
    """

    dim: int = 64
    """Width of the vectors."""
    content_dim: int = 64
    """Width of the projected features."""
    layers: int = 2
    """Propagations on the interaction graph."""
    item_layers: int = 1
    """Propagations l on the item graph."""
    neighbours: int = 10
    """Nearest items k of an item, itself among them."""
    raw_share: float = 0.9
    """Lambda, the share of the raw features in the item graph."""
    objective: Objective = BPR()  # noqa: RUF009 - frozen
    """What the vectors are trained for."""
    l2: float = 1e-4
    """Weight of `batch_l2_loss` on the batch's u and i."""
    init_scale: float = 0.01
    """Standard deviation of E at the start; Xavier's rule, which the released code
    uses, gives this for twenty thousand nodes a table."""

    score = staticmethod(dot_score)
    score_bound = staticmethod(dot_bound)
    splits_batch = True

    @property
    def num_negatives(self) -> int:
        """Negatives of one training pair."""
        return self.objective.num_negatives

    def prepare(self, context: Context) -> dict:
        """The graphs S of the raw features, by name."""
        return {"raw": item_graphs(context, k=self.neighbours, weighted=True)}

    def refresh(self, params: Params, context: Context, key: jax.Array) -> Context:
        """The context with the edges that the learned graphs have in this epoch."""
        del key
        learned = self._edges(params, context)
        return context._replace(prepared={**context.prepared, "learned": learned})

    def init(self, key: jax.Array, spec: Spec) -> Params:
        """E from N(0, init_scale^2), matrices by Glorot; all modalities alike."""
        keys = jax.random.split(key)
        features = init_projections(keys[1], spec, self.content_dim)
        return {
            **init_nodes(keys[0], spec, self.dim, scale=self.init_scale),
            "features": features,
            "modality": {name: jnp.zeros(()) for name in features},
        }

    def _edges(self, params: Params, context: Context) -> dict[str, jraph.GraphsTuple]:
        """For each feature, edges from the k nearest by projection; 1, or 0 for none.

        They stay ``I k`` in number, whatever the parameters.
        """
        graphs = {}
        for name, vectors in project_features(params["features"], context).items():
            neighbours, _ = cosine_neighbours(
                vectors,
                min(self.neighbours, len(vectors)),
                present=context.features[name].present,
                include_self=True,
            )
            graphs[name] = fixed_graph(neighbours)
        return graphs

    def _similar(
        self, params: Params, context: Context, learned: Any = None
    ) -> jax.Array:
        """What items receive from those of like content, of unit length."""
        names = sorted(params["features"])
        share = jax.nn.softmax(jnp.stack([params["modality"][name] for name in names]))
        weighted = dict(zip(names, share, strict=True))
        learned = learned or self._edges(params, context)
        vectors = project_features(params["features"], context)
        graphs = {
            name: _weigh(learned[name], unit_length(vectors[name])) for name in names
        }

        def receive(graphs, items):
            return sum(
                weighted[name] * graph_sum(graphs[name], items) for name in names
            )

        items = split_nodes(params["nodes"], context).items
        degree = receive(graphs, jnp.ones_like(items[:, :1]))
        some = degree > 0
        root = jnp.where(some, jax.lax.rsqrt(jnp.where(some, degree, 1)), 0)
        raw = prepared(context, "raw")
        for _ in range(self.item_layers):
            of_raw = self.raw_share * receive(raw, items)
            of_learned = root * receive(graphs, root * items)
            items = of_raw + (1 - self.raw_share) * of_learned
        return unit_length(items)

    def embed(self, params: Params, context: Context) -> Embeddings:
        """Users and items, with the neighbours that these parameters give."""
        nodes = propagate(context.graph, params["nodes"], depth=self.layers)
        users, items = split_nodes(nodes, context)
        items += self._similar(params, context)
        return comparable(self.objective, Embeddings(users, items))

    def fold_in(
        self, params: Params, context: Context, state: Embeddings, histories: ItemLists
    ) -> Embeddings:
        """Newcomers receive from the items of their list, layer by layer."""
        users = newcomer_nodes(params["nodes"], context, histories, depth=self.layers)
        return state._replace(users=comparable(self.objective, users))

    def loss(
        self, params: Params, context: Context, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The objective, plus L2 on the vectors of the batch."""
        del key
        rows = batch_nodes(context, batch)
        nodes = propagate_rows(context.graph, params["nodes"], rows, depth=self.layers)
        # Without an epoch's edges, those of the moment.
        similar = self._similar(params, context, context.prepared.get("learned"))
        vectors = add_to_items(split_batch(nodes, batch), similar, batch)
        return objective_with_l2(
            self.objective, vectors, vectors, context, batch, l2=self.l2
        )


def _weigh(graph: Any, vectors: jax.Array) -> jraph.GraphsTuple:
    """The graph with the cosines of its ends as weights, 0 where negative."""
    cosines = edge_dot(
        vectors,
        vectors,
        graph.senders,
        graph.receivers,
        layout=graph.globals["layout"],
    )
    weight = graph.edges["weight"] * jax.nn.relu(cosines)
    return graph._replace(edges={"weight": weight})
