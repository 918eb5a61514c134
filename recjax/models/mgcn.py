"""MGCN: features purified by behaviour, fused with what behaviour says itself."""

import dataclasses

import jax
import jax.numpy as jnp

from recjax.layers import (
    fuse_common,
    init_fuse_common,
    newcomer_sum,
    propagate,
    propagate_rows,
)
from recjax.losses import info_nce_loss
from recjax.models._dot import dot_bound, dot_score
from recjax.models._features import init_projections, project_features
from recjax.models._item_graph import item_graphs
from recjax.models._nodes import (
    batch_nodes,
    comparable,
    init_nodes,
    newcomer_nodes,
    node_counts,
    objective_with_l2,
    split_batch,
    split_nodes,
)
from recjax.objectives import BPR, Objective
from recjax.sparse import graph_sum
from recjax.types import Batch, Context, Embeddings, ItemLists, Params, Spec, prepared


@dataclasses.dataclass(frozen=True)
class MGCN:
    r"""MGCN: three views of users and items, fused by attention and by gates.

    .. math::
      g_m &= E_I \odot \mathrm{sigmoid}(W_m f_m + b_m), \qquad
      z_{m,I} = S_m^l g_m, \qquad z_{m,U} = R z_{m,I} \\
      x &= \bar{E}, \qquad
      y = \mathrm{fuse}(\{z_m\}, x), \qquad e = x + y

    with S_m the graph of the k nearest items by cosine of feature m, weighted by
    cosine, R the normalised interactions, :math:`\bar{E}` LightGCN's mean of the layers
    and ``fuse`` the common and specific parts of `recjax.layers.fuse_common`.  A score
    is the dot product of two e.  Behaviour and content are drawn together by

    .. math:: c [ \mathrm{NCE}(y_u, x_u) + \mathrm{NCE}(y_i, x_i) ]

    over the users and the positives of a batch, by cosine.  L2 is on the batch's e.

    The released code has two linear maps in a row before the sigmoid, which are one.  A
    modality that an item lacks takes no part in its fusion; an item without any keeps
    ``e = x``.  The feature tables are data and stay as they are; the released code lets
    them learn.

    Examples:
      >>> import jax
      >>> spec = Spec(num_users=3, num_items=5, features=(("image", 7), ("text", 6)))
      >>> params = MGCN(dim=8).init(jax.random.key(0), spec)
      >>> params["nodes"].shape, sorted(params["fusion"]["gates"])
      ((8, 8), ['image', 'text'])

    References:
      Yu et al., Multi-view graph convolutional network for multimedia recommendation,
      ACM MM 2023, equations 1 to 17.
    """

    dim: int = 64
    """Width of the vectors."""
    layers: int = 2
    """Propagations on the interaction graph."""
    item_layers: int = 1
    """Propagations l on the item graphs."""
    neighbours: int = 10
    """Nearest items k of an item, itself among them."""
    contrast: float = 0.01
    """Weight c of the contrast of content and behaviour; the paper tries 0.001, 0.01
    and 0.1."""
    temperature: float = 0.2
    """Of the contrast."""
    objective: Objective = BPR()  # noqa: RUF009 - frozen
    """What the vectors are trained for."""
    l2: float = 1e-4
    """Weight of `batch_l2_loss` on the batch's e."""
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
        """The graphs S, by name of the feature."""
        graphs = item_graphs(context, k=self.neighbours, weighted=True)
        return {"item_graphs": graphs}

    def init(self, key: jax.Array, spec: Spec) -> Params:
        """E from N(0, init_scale^2), matrices by Glorot, biases 0."""
        keys = jax.random.split(key, 3)
        gates = init_projections(keys[1], spec, self.dim)
        return {
            **init_nodes(keys[0], spec, self.dim, scale=self.init_scale),
            "gates": gates,
            "fusion": init_fuse_common(keys[2], gates, self.dim, self.dim),
        }

    def _items(self, params: Params, context: Context) -> dict[str, jax.Array]:
        """The items' z ``[I, D]`` of each modality."""
        items = split_nodes(params["nodes"], context).items
        views = {}
        for name, gate in project_features(params["gates"], context).items():
            view = items * jax.nn.sigmoid(gate)
            for _ in range(self.item_layers):
                view = graph_sum(prepared(context, "item_graphs")[name], view)
            views[name] = view
        return views

    def _content(
        self,
        params: Params,
        context: Context,
        behaviour: jax.Array,
        rows: jax.Array | None = None,
    ) -> jax.Array:
        """Content y of some nodes, or of all, of which x is ``behaviour``."""
        names, views = zip(*self._items(params, context).items(), strict=True)
        num_users, _ = node_counts(context)
        num_others = len(params["nodes"]) - num_users - len(views[0])
        # Modalities side by side: one neighbour sum, in which items alone send.
        side = jnp.concatenate(views, axis=1)
        nodes = jnp.pad(side, ((num_users, num_others), (0, 0)))
        users = graph_sum(context.graph, nodes)[:num_users]
        side = jnp.concatenate([users, nodes[num_users:]])
        side = side if rows is None else side[rows]
        views = jnp.split(side, len(names), axis=1)
        present = {}
        for name in names:
            there = context.features[name].present
            there = jnp.pad(there, (num_users, num_others), constant_values=True)
            present[name] = there if rows is None else there[rows]
        named = dict(zip(names, views, strict=True))
        return fuse_common(params["fusion"], named, behaviour, present)

    def embed(self, params: Params, context: Context) -> Embeddings:
        """The e of users and items."""
        nodes = propagate(context.graph, params["nodes"], depth=self.layers)
        nodes += self._content(params, context, nodes)
        return comparable(self.objective, split_nodes(nodes, context))

    def fold_in(
        self, params: Params, context: Context, state: Embeddings, histories: ItemLists
    ) -> Embeddings:
        """The e of newcomers, who receive from their items in every view."""
        users = newcomer_nodes(params["nodes"], context, histories, depth=self.layers)
        views = {
            name: newcomer_sum(view, context.item_counts, histories)
            for name, view in self._items(params, context).items()
        }
        users += fuse_common(params["fusion"], views, users)
        return state._replace(users=comparable(self.objective, users))

    def loss(
        self, params: Params, context: Context, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The objective, the contrast of content and behaviour, and L2."""
        del key
        rows = batch_nodes(context, batch)
        nodes = propagate_rows(context.graph, params["nodes"], rows, depth=self.layers)
        side = self._content(params, context, nodes, rows)
        vectors = split_batch(nodes + side, batch)
        loss, logs = objective_with_l2(
            self.objective, vectors, vectors, context, batch, l2=self.l2
        )
        behaviour, content = split_batch(nodes, batch), split_batch(side, batch)
        contrast = jnp.zeros(())
        for left, right in (
            (content.users, behaviour.users),
            (content.items, behaviour.items),
        ):
            contrast += info_nce_loss(
                left, right, temperature=self.temperature, where=batch.weight
            )
        return loss + self.contrast * contrast, {**logs, "contrast": contrast}
