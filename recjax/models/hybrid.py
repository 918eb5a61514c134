"""A large model and a graph model in one: texts, a tower, a graph, what they share."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from recjax.layers import propagate, propagate_rows
from recjax.models._dot import dot_bound, dot_score
from recjax.models._history_attention import Attended
from recjax.models._nodes import (
    batch_nodes,
    comparable,
    init_nodes,
    newcomer_nodes,
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
from recjax.models._texts import text_width
from recjax.models._tower import Tuned
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
)


@dataclasses.dataclass(frozen=True)
class Hybrid:
    r"""Texts of items through a tower, a projection and the interaction graph, jointly.

    With x what a tower says of items' texts, E the learned table of users and items,
    and A the normalised interactions,

    .. math::
      E^0 = [E_U; \mathrm{fuse}(E_I, P x)], \qquad
      H = \frac{1}{L + 1} \sum_{l=0}^{L} A^l E^0, \qquad
      h_i \leftarrow h_i + P' x_i.

    The table's rows of items start from 0: they are what is to be learned of an item
    beside its text.  The last term is there where ``skip`` says so.

    Without a tower, x are the dataset's feature tables, which stay as they are.  With
    one, put into the context by `with_tower`, x is learned too, see `Tuned`.

    Parameters are shared in three forms: one table of items, text plus residual, for
    the graph and for scoring (``fusion="sum"``; ``"apart"`` has table and text side by
    side, D / 2 each); one projection into the graph and past it, P' = P
    (``skip="shared"``); and one transformer block over neighbours in the graph and
    along users' histories (``attended=Attended("shared")``).

    Examples:
      >>> import jax
      >>> from recjax.types import Spec
      >>> spec = Spec(num_users=3, num_items=5, features=(("text", 7),))
      >>> params = Hybrid(dim=4).init(jax.random.key(0), spec)
      >>> jax.tree.map(lambda x: x.shape, params)
      {'nodes': (8, 4), 'project': (7, 4)}

    References:
      He et al., LightGCN, SIGIR 2020 (H); Yi et al., RecSys 2019 (logQ); and those of
      `Tuned` and `Attended`.  The combination is ours, and its experiment
      ``experiments/movielens_language.py``.
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
    attended: Attended = Attended()  # noqa: RUF009 - frozen
    """Whether transformer blocks follow the propagation, and whether they are one."""
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
        if self.dim % self.attended.heads or (self.fusion == "apart" and self.dim % 2):
            raise ValueError(
                f"dim {self.dim} must be a multiple of heads {self.attended.heads}, "
                "and even for fusion 'apart'"
            )

    @property
    def num_negatives(self) -> int:
        """Negatives of one training pair."""
        return self.objective.num_negatives

    def prepare(self, context: Context) -> dict[str, Any]:
        """What the context holds already, and histories by id, if it has none."""
        return self.attended.prepare(context)

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
        tower = self.text.tower
        width = tower.dim if tower else text_width(spec, self.feature)
        params |= {"tower": self.text.init(keys[0])} if tower else {}
        params |= init_text_table(keys[1], self.fusion, width, self.dim, skip=self.skip)
        return params | self.attended.init(keys[2], self.dim)

    def _start(
        self, params: Params, context: Context, batch: Batch | None = None
    ) -> tuple[Feature, jax.Array]:
        """The x of all items, in a step by the tower's schedule, and E^0."""
        text = self.text.texts(params.get("tower", {}), context, batch, self.feature)
        nodes = jnp.asarray(params["nodes"])
        users, items = split_nodes(nodes, context)
        fused = text_table(params, self.fusion, items, text)
        return text, nodes.at[len(users) : len(users) + len(items)].set(fused)

    def embed(self, params: Params, context: Context) -> Embeddings:
        """Vectors of all users and items, of unit length under a cosine objective."""
        text, nodes = self._start(params, context)
        nodes = propagate(context.graph, nodes, depth=self.layers)
        nodes = self.attended.nodes(params, context.graph, nodes)
        users, items = split_nodes(nodes, context)
        users = self.attended.users(params, users, items, context)
        items = past_graph(params, self.skip, items, text)
        return comparable(self.objective, Embeddings(users, items))

    def fold_in(
        self, params: Params, context: Context, state: Embeddings, histories: ItemLists
    ) -> Embeddings:
        """Newcomers receive from the items of their list, texts included."""
        _, nodes = self._start(params, context)
        users = newcomer_nodes(nodes, context, histories, depth=self.layers)
        nodes = propagate(context.graph, nodes, depth=self.layers)
        users = self.attended.newcomers(params, users, nodes, context, histories)
        return state._replace(users=comparable(self.objective, users))

    def loss(
        self, params: Params, context: Context, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The objective, plus L2 on the batch's rows of the table."""
        del key
        text, nodes = self._start(params, context, batch)
        rows = batch_nodes(context, batch)
        if self.attended.sharing == "none":
            vectors = propagate_rows(context.graph, nodes, rows, depth=self.layers)
            users, items, negatives = split_batch(vectors, batch)
        else:
            nodes = propagate(context.graph, nodes, depth=self.layers)
            nodes = self.attended.nodes(params, context.graph, nodes)
            users, items, negatives = split_batch(nodes[rows], batch)
            everything = split_nodes(nodes, context).items
            users = self.attended.users(params, users, everything, context, batch.users)
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
