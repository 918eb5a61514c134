"""A large model and a graph model in one: texts, a tower, a graph, what they share."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from recjax.layers import propagate, propagate_rows
from recjax.models._dot import dot_bound, dot_score
from recjax.models._history_attention import (
    history_block,
    init_blocks,
    last_items,
    neighbour_block,
    newcomer_block,
    with_histories,
)
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
from recjax.models._text_table import (
    Fusion,
    Sharing,
    init_text_table,
    past_graph,
    text_table,
)
from recjax.models._texts import item_texts, text_width
from recjax.models._tower import Tuned, with_tower
from recjax.objectives import Objective, Softmax
from recjax.types import (
    Batch,
    BatchVectors,
    Context,
    Embeddings,
    Feature,
    ItemLists,
    Params,
    Spec,
    prepared,
)

__all__ = ["Hybrid", "Tuned", "with_histories", "with_tower"]


@dataclasses.dataclass(frozen=True)
class Hybrid:
    r"""Texts of items through a tower, a projection and the interaction graph, jointly.

    With ``x_i`` what a tower says of item i's text, E the learned table of users and
    items, and A the normalised interactions,

    .. math::
      E^0 = [E_U; \mathrm{fuse}(E_I, P x)], \qquad
      H = \frac{1}{L + 1} \sum_{l=0}^{L} A^l E^0, \qquad
      h_i \leftarrow h_i + P' x_i.

    The table's rows of items start from 0: they are what is to be learned of an item
    beside its text, and an item that nobody took stays with its text alone.  The last
    term is there where ``skip`` says so.

    Without a tower, x are the dataset's feature tables, which stay as they are.  With
    one, whose weights and inputs `with_tower` puts into the context, x is learned too,
    see `Tuned`; scoring runs the tower for all items.

    Parameters are shared in three forms:

    - ``fusion="sum"``: one table of items, text plus residual, for the graph and for
      scoring.  ``"apart"`` shares nothing: table and text side by side, D / 2 each.
    - ``skip="shared"``: one projection into the graph and past it, P' = P.  ``"own"``
      has a P' of its own.
    - ``attention="shared"``: one transformer block lets every node attend to its
      neighbours in the graph, and every user along the history; a user's vector is the
      sum of both, the second gated.  ``"own"`` has two blocks.  Histories are by time
      where `with_histories` gave them to the context; a newcomer's is by item id.

    Examples:
      >>> import jax
      >>> from recjax.types import Spec
      >>> spec = Spec(num_users=3, num_items=5, features=(("text", 7),))
      >>> params = Hybrid(dim=4).init(jax.random.key(0), spec)
      >>> jax.tree.map(lambda x: x.shape, params)
      {'nodes': (8, 4), 'project': (7, 4)}

    References:
      He et al., LightGCN, SIGIR 2020 (H); Yi et al., RecSys 2019 (logQ); the tower's
      in `Tuned`, the blocks' in `recjax.layers.transformer_block`.  Their combination
      is ours; the experiment is ``experiments/movielens_language.py``.
    """

    dim: int = 64
    """Width D of the vectors."""
    layers: int = 3
    """Propagations L."""
    text: Tuned = Tuned()  # noqa: RUF009 - frozen
    """The tower, and what of it is learned."""
    fusion: Fusion = "sum"
    """How text and table become one, see `text_table`."""
    skip: Sharing = "none"
    """Whether the text also goes past the graph, and by which projection."""
    attention: Sharing = "none"
    """Whether transformer blocks follow the propagation, and whether they are one."""
    history: int = 20
    """Items of a user's history that is attended along, the last ones."""
    heads: int = 2
    """Of that attention."""
    objective: Objective = Softmax()  # noqa: RUF009 - frozen
    """What the vectors are trained for."""
    l2: float = 1e-4
    """Weight of `batch_l2_loss` on the batch's rows of the table."""
    init_scale: float = 0.01
    """Standard deviation of the users' table at the start."""
    feature: str = ""
    """The feature table to read without a tower; empty for all, side by side."""

    score = staticmethod(dot_score)
    score_bound = staticmethod(dot_bound)

    def __post_init__(self) -> None:
        """Refuses what does not go together."""
        if self.skip == "shared" and self.fusion != "sum":
            raise ValueError(
                f"skip 'shared' needs one projection to D, and fusion {self.fusion!r} "
                "has none: choose fusion 'sum' or skip 'own'"
            )
        if self.dim % self.heads or (self.fusion == "apart" and self.dim % 2):
            raise ValueError(
                f"dim {self.dim} must be a multiple of heads {self.heads}, and even "
                "for fusion 'apart'"
            )

    @property
    def num_negatives(self) -> int:
        """Negatives of one training pair."""
        return self.objective.num_negatives

    def prepare(self, context: Context) -> dict[str, Any]:
        """What the context holds already, and histories by id, if it has none."""
        if self.attention == "none" or "histories" in context.prepared:
            return context.prepared
        histories = last_items(context.seen, length=self.history)
        return context.prepared | {"histories": histories}

    def refresh(self, params: Params, context: Context, key: jax.Array) -> Context:
        """The context with the tower's memory bank of an epoch."""
        del key
        return self.text.refresh(params.get("tower", {}), context)

    def init(self, key: jax.Array, spec: Spec) -> Params:
        """Users from N(0, init_scale^2), items 0, kernels by Glorot."""
        keys = jax.random.split(key, 3)
        params = init_nodes(key, spec, self.dim, scale=self.init_scale)
        first, last = spec.num_users, spec.num_users + spec.num_items
        params["nodes"] = params["nodes"].at[first:last].set(0.0)
        if self.text.tower is None:
            width = text_width(spec, self.feature)
        else:
            width = self.text.tower.dim
            params["tower"] = self.text.init(keys[0])
        params |= init_text_table(keys[1], self.fusion, width, self.dim, skip=self.skip)
        return params | init_blocks(keys[2], self.attention, self.dim)

    def _text(
        self, params: Params, context: Context, batch: Batch | None = None
    ) -> Feature:
        """The x of all items; in a step, by the tower's schedule."""
        if self.text.tower is None:
            return item_texts(context, self.feature)
        return self.text.texts(params["tower"], context, batch)

    def _start(self, params: Params, context: Context, text: Feature) -> jax.Array:
        """E^0, ``[N, D]``."""
        num_users, num_items = node_counts(context)
        nodes = jnp.asarray(params["nodes"])
        table = split_nodes(nodes, context).items
        fused = text_table(params, self.fusion, table, text)
        return nodes.at[num_users : num_users + num_items].set(fused)

    def _nodes(self, params: Params, context: Context, nodes: jax.Array) -> jax.Array:
        """H of all nodes, after the attention over neighbours if there is one."""
        nodes = propagate(context.graph, nodes, depth=self.layers)
        if self.attention == "none":
            return nodes
        return neighbour_block(params, context.graph, nodes, heads=self.heads)

    def embed(self, params: Params, context: Context) -> Embeddings:
        """Vectors of all users and items, of unit length under a cosine objective."""
        text = self._text(params, context)
        nodes = self._nodes(params, context, self._start(params, context, text))
        users, items = split_nodes(nodes, context)
        if self.attention != "none":
            histories = prepared(context, "histories")
            users += history_block(params, items, histories, heads=self.heads)
        items = past_graph(params, self.skip, items, text)
        return comparable(self.objective, Embeddings(users, items))

    def fold_in(
        self, params: Params, context: Context, state: Embeddings, histories: ItemLists
    ) -> Embeddings:
        """Newcomers receive from the items of their list, texts included."""
        nodes = self._start(params, context, self._text(params, context))
        users = newcomer_nodes(nodes, context, histories, depth=self.layers)
        if self.attention != "none":
            smooth = propagate(context.graph, nodes, depth=self.layers)
            users = newcomer_block(
                params, users, smooth, context, histories, heads=self.heads
            )
            items = split_nodes(self._nodes(params, context, nodes), context).items
            lists = last_items(histories, length=self.history)
            users += history_block(params, items, lists, heads=self.heads)
        return state._replace(users=comparable(self.objective, users))

    def loss(
        self, params: Params, context: Context, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The objective, plus L2 on the batch's rows of the table."""
        del key
        text = self._text(params, context, batch)
        rows, nodes = batch_nodes(context, batch), self._start(params, context, text)
        if self.attention == "none":
            vectors = propagate_rows(context.graph, nodes, rows, depth=self.layers)
            users, items, negatives = split_batch(vectors, batch)
        else:
            nodes = self._nodes(params, context, nodes)
            users, items, negatives = split_batch(nodes[rows], batch)
            histories = prepared(context, "histories")
            of_batch = jax.tree.map(lambda x: x[batch.users], histories)
            all_items = split_nodes(nodes, context).items
            users += history_block(params, all_items, of_batch, heads=self.heads)
        items = past_graph(params, self.skip, items, text, rows=batch.items)
        negatives = past_graph(params, self.skip, negatives, text, rows=batch.negatives)
        return objective_with_l2(
            self.objective,
            BatchVectors(users, items, negatives),
            split_batch(params["nodes"][rows], batch),
            context,
            batch,
            l2=self.l2,
        )
