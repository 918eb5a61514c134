"""A graph transformer: attention to neighbours, and to all nodes in linear time."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import jraph

from recjax.layers import graph_attention, linear_attention, unit_length
from recjax.models._dot import dot_bound, dot_score
from recjax.models._nodes import (
    batch_nodes,
    comparable,
    init_nodes,
    newcomer_graph,
    objective_with_l2,
    split_batch,
    split_nodes,
)
from recjax.objectives import Objective, Softmax
from recjax.sparse import take_rows
from recjax.types import Batch, Context, Embeddings, ItemLists, Params, Spec


@dataclasses.dataclass(frozen=True)
class GraphTransformer:
    """Users, items and attributes through layers of local and global attention.

        Q = norm(H_k) W_k^Q,    K = norm(H_k) W_k^K
        H_(k+1) = (H_k + local(Q, K, H_k) + g_k global(Q, K, H_k)) / 2

    Local is `recjax.layers.graph_attention` over the neighbours in the graph, global
    `recjax.layers.linear_attention` over all nodes; norm divides a row by its root mean
    square.  A score is the dot product of rows of the last H.

    It is a design of this toolkit, made of the parts below, and kept small:

    - The vectors themselves are sent, without a matrix, and there is no feed-forward
      part: LightGCN found that such matrices harm a learned table.  Matrices only say
      who listens to whom.
    - Queries and keys are normalised, so that scores have the size that a softmax
      needs, while the vectors keep the scale of the table.
    - Both attentions share queries and keys: half the matrices.
    - The gates g begin at 0.  At first a layer is a graph network, and it learns how
      much of the rest of the graph it needs.
    - With equal attention and closed gates a layer is a lazy walk,
      ``(I + D^-1 A) / 2``, so that the last layer holds all powers and needs no mean
      over layers.

    The time of a step grows as ``N D^2 + E D``; no array has an entry a pair of nodes.

    Examples:
      >>> import jax
      >>> from recjax.types import Spec
      >>> model = GraphTransformer(dim=8, heads=2)
      >>> params = model.init(jax.random.key(0), Spec(num_users=3, num_items=5))
      >>> params["nodes"].shape, params["layers"][0]["query"].shape
      ((8, 8), (8, 8))

    References:
      Rampasek et al., Recipe for a general, powerful, scalable graph transformer,
      NeurIPS 2022 (a local and a global part, side by side);
      Katharopoulos et al., Transformers are RNNs, ICML 2020 (linear attention);
      Bachlechner et al., ReZero is all you need, UAI 2021 (gates that begin at 0).
    """

    dim: int = 64
    """Width of the vectors."""
    layers: int = 2
    """Layers of attention."""
    heads: int = 1
    """Heads of both attentions, which share the width."""
    objective: Objective = Softmax()  # noqa: RUF009 - frozen
    """What the vectors are trained for."""
    l2: float = 1e-4
    """Weight of `batch_l2_loss` on the batch's rows of the table."""
    init_scale: float = 0.01
    """Standard deviation of the table at the start; 0.1 suits dot products."""

    score = staticmethod(dot_score)
    score_bound = staticmethod(dot_bound)
    splits_batch = True

    def __post_init__(self) -> None:
        """Refuses heads that do not share the width."""
        if self.heads < 1 or self.dim % self.heads:
            raise ValueError(f"dim {self.dim} must be a multiple of heads {self.heads}")

    @property
    def num_negatives(self) -> int:
        """Negatives of one training pair."""
        return self.objective.num_negatives

    def init(self, key: jax.Array, spec: Spec) -> Params:
        """The table from N(0, init_scale^2), matrices by Glorot, gates 0."""
        key, *keys = jax.random.split(key, 2 * self.layers + 1)
        glorot, shape = nn.initializers.glorot_uniform(), (self.dim, self.dim)
        layers = [
            {
                "query": glorot(query, shape),
                "key": glorot(key, shape),
                "gate": jnp.zeros(()),
            }
            for query, key in zip(keys[::2], keys[1::2], strict=True)
        ]
        nodes = init_nodes(key, spec, self.dim, scale=self.init_scale)
        return {**nodes, "layers": layers}

    def _layer(
        self,
        params: Params,
        graph: jraph.GraphsTuple,
        nodes: jax.Array,
        *,
        listeners: int = 0,
    ) -> jax.Array:
        """One layer ``[N, D]``; the first nodes may be such that send nothing."""

        def apart(x):
            return x.reshape(len(x), self.heads, self.dim // self.heads)

        scaled = unit_length(nodes) * self.dim**0.5
        queries, keys = apart(scaled @ params["query"]), apart(scaled @ params["key"])
        # The kernel of linear attention is 0 there.
        keys = keys.at[:listeners].set(-jnp.inf) if listeners else keys
        local = graph_attention(graph, queries, keys, apart(nodes))
        everywhere = linear_attention(queries, keys, apart(nodes))
        received = local + params["gate"] * everywhere
        return (nodes + received.reshape(nodes.shape)) / 2

    def embed(self, params: Params, context: Context) -> Embeddings:
        """The last layer, of unit length under a cosine objective."""
        nodes = params["nodes"]
        for layer in params["layers"]:
            nodes = self._layer(layer, context.graph, nodes)
        return comparable(self.objective, split_nodes(nodes, context))

    def fold_in(
        self, params: Params, context: Context, state: Embeddings, histories: ItemLists
    ) -> Embeddings:
        """Newcomers begin at 0 and listen to their list and to all trained nodes."""
        nodes, num = params["nodes"], len(histories.pointer) - 1
        num_users = len(context.seen.pointer) - 1
        lists = newcomer_graph(histories, len(nodes), first=num_users)
        users = jnp.zeros((num, self.dim), nodes.dtype)
        for layer in params["layers"]:
            everyone = jnp.concatenate([users, nodes])
            users = self._layer(layer, lists, everyone, listeners=num)[:num]
            nodes = self._layer(layer, context.graph, nodes)
        return state._replace(users=comparable(self.objective, users))

    def loss(
        self, params: Params, context: Context, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The objective on the last layer, plus L2 on the batch's rows of the table."""
        del key
        rows = batch_nodes(context, batch)
        nodes, learned = take_rows(params["nodes"], rows)
        for layer in params["layers"]:
            nodes = self._layer(layer, context.graph, nodes)
        return objective_with_l2(
            self.objective,
            split_batch(nodes[rows], batch),
            split_batch(learned, batch),
            context,
            batch,
            l2=self.l2,
        )
