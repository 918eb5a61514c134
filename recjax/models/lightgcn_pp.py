"""LightGCN++: what is sent has length 1, and degrees have exponents."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from recjax.graphs import normalise_edges
from recjax.layers import propagate_normalised, unit_length
from recjax.models._dot import dot_bound, dot_score
from recjax.models._nodes import (
    batch_nodes,
    comparable,
    init_nodes,
    objective_with_l2,
    split_batch,
    split_nodes,
)
from recjax.objectives import BPR, Objective
from recjax.sparse import graph_sum, list_sum, take_rows
from recjax.types import (
    Batch,
    Context,
    Embeddings,
    ItemLists,
    Params,
    Spec,
    prepared,
)


@dataclasses.dataclass(frozen=True)
class LightGCNPP:
    """LightGCN++: three numbers that LightGCN fixes become settings.

        e_r^(k+1) = sum over s in N(r) of d_r^-alpha d_s^-beta e_s^(k) / |e_s^(k)|
        z = gamma e^(0) + (1 - gamma) (e^(1) + ... + e^(L)) / L

    With alpha how far the length of a vector falls with its degree, with beta how much
    less the busy neighbours weigh, with gamma how much of the table is left.

    Examples:
      >>> import jax
      >>> from recjax.types import Spec
      >>> model = LightGCNPP(dim=8)
      >>> params = model.init(jax.random.key(0), Spec(num_users=3, num_items=5))
      >>> params["nodes"].shape
      (8, 8)

    References:
      Lee et al., Revisiting LightGCN: unexpected inflexibility, inconsistency, and a
      remedy towards improved recommendation, RecSys 2024.
    """

    dim: int = 64
    """Width of the vectors."""
    layers: int = 2
    """Propagations L, at least 1."""
    alpha: float = 0.6
    """Exponent of the receiver's degree."""
    beta: float = -0.1
    """Exponent of the sender's degree."""
    gamma: float = 0.2
    """Weight of the table in z."""
    objective: Objective = BPR()  # noqa: RUF009 - frozen
    """What the vectors are trained for."""
    l2: float = 1e-4
    """Weight of `batch_l2_loss` on the batch's rows of the table."""
    init_scale: float = 0.1
    """Standard deviation of the table at the start."""

    score = staticmethod(dot_score)
    score_bound = staticmethod(dot_bound)
    splits_batch = True

    def __post_init__(self) -> None:
        """Refuses a model without propagation."""
        if self.layers < 1:
            raise ValueError(f"layers {self.layers} must be at least 1")

    @property
    def num_negatives(self) -> int:
        """Negatives of one training pair."""
        return self.objective.num_negatives

    def prepare(self, context: Context) -> dict[str, Any]:
        """The graph with weights by the two exponents."""
        weights = (self.alpha, self.beta)
        return {"graph": normalise_edges(context.graph, normalisation=weights)}

    def init(self, key: jax.Array, spec: Spec) -> Params:
        """The table from N(0, init_scale^2)."""
        return init_nodes(key, spec, self.dim, scale=self.init_scale)

    def embed(self, params: Params, context: Context) -> Embeddings:
        """The rows of z, of unit length under a cosine objective."""
        nodes = propagate_normalised(
            prepared(context, "graph"),
            params["nodes"],
            depth=self.layers,
            self_weight=self.gamma,
        )
        return comparable(self.objective, split_nodes(nodes, context))

    def fold_in(
        self, params: Params, context: Context, state: Embeddings, histories: ItemLists
    ) -> Embeddings:
        """Newcomers receive from the items of their list, layer by layer.

        A newcomer has no row of the table; its degree is the length of its list.
        """
        layer, total = params["nodes"], jnp.zeros_like(state.items)
        for number in range(self.layers):
            if number:
                layer = graph_sum(prepared(context, "graph"), layer)
            layer = unit_length(layer)
            total += split_nodes(layer, context).items
        degree = jnp.maximum(context.item_counts, 1.0) ** -self.beta
        users = list_sum(total, histories, degree[histories.items])
        length = jnp.maximum(jnp.diff(histories.pointer), 1).astype(users.dtype)
        users *= (1 - self.gamma) / self.layers * length[:, None] ** -self.alpha
        return state._replace(users=comparable(self.objective, users))

    def loss(
        self, params: Params, context: Context, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The objective on z, plus L2 on the batch's rows of the table."""
        del key
        rows = batch_nodes(context, batch)
        layer, learned = take_rows(params["nodes"], rows)
        total = jnp.zeros_like(learned)
        for _ in range(self.layers):
            layer = graph_sum(prepared(context, "graph"), unit_length(layer))
            layer, taken = take_rows(layer, rows)
            total += taken
        vectors = self.gamma * learned + (1 - self.gamma) / self.layers * total
        return objective_with_l2(
            self.objective,
            split_batch(vectors, batch),
            split_batch(learned, batch),
            context,
            batch,
            l2=self.l2,
        )
