"""LightGCN: user and item vectors smoothed over the interaction graph."""

import dataclasses

import jax

from recjax.layers import propagate_rows
from recjax.models._dot import dot_bound, dot_score
from recjax.models._nodes import (
    batch_nodes,
    init_nodes,
    objective_with_l2,
    split_batch,
)
from recjax.models._smoothed import embed_smoothed, fold_in_smoothed
from recjax.objectives import Objective, Softmax
from recjax.sparse import take_rows
from recjax.types import Batch, Context, Embeddings, ItemLists, Params, Spec


@dataclasses.dataclass(frozen=True)
class LightGCN:
    """LightGCN: the mean of all propagations, ``(E0 + A E0 + ... + A^L E0) / (L + 1)``.

    A holds ``1 / sqrt(d_u d_i)`` for every interaction.  A user's score for an item is
    the dot product of their rows of that mean, or the cosine where the objective says
    so.

    Examples:
      >>> import jax
      >>> from recjax.types import Spec
      >>> spec = Spec(num_users=3, num_items=5)
      >>> params = LightGCN(dim=8).init(jax.random.key(0), spec)
      >>> params["nodes"].shape
      (8, 8)

    References:
      He et al., LightGCN, SIGIR 2020.
    """

    dim: int = 64
    """Width of the vectors."""
    layers: int = 3
    """Propagations; 0 is matrix factorisation."""
    objective: Objective = Softmax()  # noqa: RUF009 - frozen
    """What the vectors are trained for; the paper's is BPR, which needs many times the
    epochs."""
    l2: float = 1e-4
    """Weight of `batch_l2_loss` on the batch's rows of E0."""
    init_scale: float = 0.01
    """Standard deviation of E0 at the start.  Under a cosine, a small one lets the
    first steps turn the vectors; the paper's, for dot products, is 0.1."""

    score = staticmethod(dot_score)
    score_bound = staticmethod(dot_bound)
    splits_batch = True

    @property
    def num_negatives(self) -> int:
        """Negatives of one training pair."""
        return self.objective.num_negatives

    @property
    def hops(self) -> int:
        """Propagations that the loss reads."""
        return self.layers

    def init(self, key: jax.Array, spec: Spec) -> Params:
        """E0 from N(0, init_scale^2)."""
        return init_nodes(key, spec, self.dim, scale=self.init_scale)

    def embed(self, params: Params, context: Context) -> Embeddings:
        """The rows of E, of unit length under a cosine objective."""
        return embed_smoothed(
            params["nodes"],
            context,
            depth=self.layers,
            cosine=self.objective.cosine,
        )

    def fold_in(
        self, params: Params, context: Context, state: Embeddings, histories: ItemLists
    ) -> Embeddings:
        """Newcomers receive from the items of their list, layer by layer."""
        return fold_in_smoothed(
            params["nodes"],
            context,
            state,
            histories,
            depth=self.layers,
            cosine=self.objective.cosine,
        )

    def loss(
        self, params: Params, context: Context, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The objective on E, plus L2 on the batch's rows of E0."""
        del key
        rows = batch_nodes(context, batch)
        nodes, learned = take_rows(params["nodes"], rows)
        vectors = propagate_rows(context.graph, nodes, rows, depth=self.layers)
        return objective_with_l2(
            self.objective,
            split_batch(vectors, batch),
            split_batch(learned, batch),
            context,
            batch,
            l2=self.l2,
        )
