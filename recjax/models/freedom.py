"""FREEDOM: LightGCN on pruned interactions, and a frozen graph of similar items."""

import dataclasses

import jax
import jax.numpy as jnp

from recjax.graphs import add_graphs, prune_edges
from recjax.layers import propagate, propagate_rows
from recjax.models._dot import dot_bound, dot_score
from recjax.models._features import init_projections, project_features
from recjax.models._item_graph import item_graphs
from recjax.models._nodes import (
    add_to_items,
    batch_nodes,
    comparable,
    init_nodes,
    newcomer_nodes,
    split_batch,
    split_nodes,
)
from recjax.objectives import BPR, Objective
from recjax.sparse import graph_sum
from recjax.types import (
    Batch,
    BatchVectors,
    Context,
    Embeddings,
    ItemLists,
    Params,
    Spec,
    prepared,
)


@dataclasses.dataclass(frozen=True)
class FREEDOM:
    r"""FREEDOM: freezes the item graph and denoises the interaction graph.

    .. math::
      u = \bar{E}_u, \qquad i = \bar{E}_i + (S^l E)_i, \qquad
      S = \sum_m w_m S_m

    with :math:`\bar{E}` LightGCN's mean of the layers on the interaction graph, and S_m
    the graph of the k nearest items by cosine in feature m, each with weight 1 / k.  In
    training the interaction graph is pruned anew every epoch: of the edges a share
    ``1 - drop`` is kept, drawn in proportion to :math:`1 / \sqrt{d_u d_i}`, and
    normalised again.  Scores are taken on the whole graph.  The loss is

    .. math::
      \mathrm{BPR}(u, i, j)
      + \lambda \sum_m \mathrm{BPR}(u, W_m f_{mi} + b_m, W_m f_{mj} + b_m)

    In the sum over m a row counts where its positive and all its negatives have the
    feature; an item without it has no edge in S_m.  The feature tables are data and
    stay as they are; the released code lets them learn.

    Examples:
      >>> import jax
      >>> spec = Spec(num_users=3, num_items=5, features=(("image", 7), ("text", 6)))
      >>> params = FREEDOM(dim=8).init(jax.random.key(0), spec)
      >>> params["nodes"].shape, params["features"]["image"]["kernel"].shape
      ((8, 8), (7, 8))

    References:
      Zhou and Shen, A tale of two graphs: Freezing and denoising graph structures for
      multimodal recommendation, ACM MM 2023, equations 2 to 14.
    """

    dim: int = 64
    """Width of the vectors."""
    layers: int = 2
    """Propagations on the interaction graph."""
    item_layers: int = 1
    """Propagations on the item graph; 0 adds each item's own vector."""
    neighbours: int = 10
    """Nearest items k of an item, itself among them."""
    image_weight: float = 0.1
    """Share w of the feature called "image" in the item graph; the others have alike
    what is left.  Without one of that name, or without another, all have alike."""
    drop: float = 0.8
    """Share of the interactions that an epoch leaves out; 0 for none."""
    feature_weight: float = 1e-3
    """Lambda, weight of the objective on the projected features; the paper tries 0,
    1e-5, 1e-4 and 1e-3."""
    objective: Objective = BPR()  # noqa: RUF009 - frozen
    """What the vectors are trained for."""
    init_scale: float = 0.01
    """Standard deviation of E at the start; Xavier's rule, which the released code
    uses, gives this for twenty thousand nodes a table."""

    score = staticmethod(dot_score)
    score_bound = staticmethod(dot_bound)

    @property
    def num_negatives(self) -> int:
        """Negatives of one training pair."""
        return self.objective.num_negatives

    def prepare(self, context: Context) -> dict:
        """The item graph S."""
        graphs = item_graphs(context, k=self.neighbours)
        share = dict.fromkeys(graphs, 1 / len(graphs))
        if "image" in graphs and len(graphs) > 1:
            others = (1 - self.image_weight) / (len(graphs) - 1)
            share = dict.fromkeys(graphs, others) | {"image": self.image_weight}
        weights = [share[name] for name in graphs]
        return {"item_graph": add_graphs(list(graphs.values()), weights)}

    def refresh(self, params: Params, context: Context, key: jax.Array) -> Context:
        """The context with the interaction graph of one epoch."""
        del params
        if not self.drop:
            return context
        return context._replace(graph=prune_edges(key, context.graph, rate=self.drop))

    def init(self, key: jax.Array, spec: Spec) -> Params:
        """E from N(0, init_scale^2), matrices by Glorot, biases 0."""
        keys = jax.random.split(key)
        return {
            **init_nodes(keys[0], spec, self.dim, scale=self.init_scale),
            "features": init_projections(keys[1], spec, self.dim),
        }

    def _similar(self, params: Params, context: Context) -> jax.Array:
        """What items receive from those that are like them, ``S^l E``."""
        items = split_nodes(params["nodes"], context).items
        for _ in range(self.item_layers):
            items = graph_sum(prepared(context, "item_graph"), items)
        return items

    def embed(self, params: Params, context: Context) -> Embeddings:
        """Users and items on the whole graph."""
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
        """The objective on the vectors, and on the users and projected features."""
        del key
        rows = batch_nodes(context, batch)
        nodes = propagate_rows(context.graph, params["nodes"], rows, depth=self.layers)
        vectors = add_to_items(
            split_batch(nodes, batch), self._similar(params, context), batch
        )
        main = self.objective(vectors, context, batch)
        positives = project_features(params["features"], context, batch.items)
        negatives = project_features(params["features"], context, batch.negatives)
        total = jnp.zeros(())
        for name in positives:
            present = context.features[name].present
            there = present[batch.items] & present[batch.negatives].all(axis=1)
            total += self.objective(
                BatchVectors(vectors.users, positives[name], negatives[name]),
                context,
                batch._replace(weight=batch.weight * there),
            )
        logs = {"objective": main, "features": total}
        return main + self.feature_weight * total, logs
