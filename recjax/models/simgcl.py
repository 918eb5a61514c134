"""SimGCL: LightGCN, and two noisy propagations contrasted with each other."""

import dataclasses

import jax

from recjax.layers import propagate_noisy_rows, propagate_rows
from recjax.models._contrast import batch_contrast
from recjax.models._dot import dot_bound, dot_score
from recjax.models._nodes import (
    batch_nodes,
    init_nodes,
    objective_with_l2,
    split_batch,
)
from recjax.models._smoothed import embed_smoothed, fold_in_smoothed
from recjax.objectives import BPR, Objective
from recjax.sparse import graph_sum, take_rows
from recjax.types import Batch, Context, Embeddings, ItemLists, Params, Spec


@dataclasses.dataclass(frozen=True)
class SimGCL:
    """SimGCL: noise makes two views of every node, without touching the graph.

        E'_k = A E'_(k-1) + epsilon sign(A E'_(k-1)) * U_k / |U_k|,    k = 1 .. L
        Z' = (E'_1 + ... + E'_L) / L
        loss = objective(Z) + lambda InfoNCE(Z', Z'')

    A holds ``1 / sqrt(d_u d_i)``.  Z is the same mean without noise, which also scores;
    the table E0 is not part of it.  Z' and Z'' differ by the draw of U, which is
    uniform between 0 and 1 and divided by its length row by row.

    The noise does not change the derivative: that of a view by E0 is that of Z.  So a
    view is computed as Z plus a difference held constant, with the same values and
    derivatives, and one backward pass serves all three; the first neighbour sum does
    too.  A step takes 4 L - 2 neighbour sums instead of 6 L.

    The contrast is a mean over the distinct users of a batch, plus a mean over its
    distinct positives.  Noise comes from `recjax.sampling.uniform_rows`.  The L2 is
    that of LightGCN, on rows of E0.

    Examples:
      >>> import jax
      >>> from recjax.types import Spec
      >>> model = SimGCL(dim=8)
      >>> params = model.init(jax.random.key(0), Spec(num_users=3, num_items=5))
      >>> params["nodes"].shape
      (8, 8)

    References:
      Yu et al., Are graph augmentations necessary? Simple graph contrastive learning
      for recommendation, SIGIR 2022.
    """

    dim: int = 64
    """Width of the vectors."""
    layers: int = 3
    """Propagations L, at least 1."""
    noise: float = 0.1
    """Length epsilon of the noise of every node, at every layer."""
    temperature: float = 0.2
    """Of the contrast."""
    contrast: float = 0.5
    """Weight lambda of the contrast."""
    objective: Objective = BPR()  # noqa: RUF009 - frozen
    """What the vectors are trained for."""
    l2: float = 1e-4
    """Weight of `batch_l2_loss` on the batch's rows of E0."""
    init_scale: float = 0.01
    """Standard deviation of E0 at the start, near that of Glorot's rule for a table of
    this kind: the noise is longer than the vectors at first."""

    score = staticmethod(dot_score)
    score_bound = staticmethod(dot_bound)

    def __post_init__(self) -> None:
        """Refuses a model without propagation."""
        if self.layers < 1:
            raise ValueError(f"layers {self.layers} must be at least 1")

    @property
    def num_negatives(self) -> int:
        """Negatives of one training pair."""
        return self.objective.num_negatives

    def init(self, key: jax.Array, spec: Spec) -> Params:
        """E0 from N(0, init_scale^2)."""
        return init_nodes(key, spec, self.dim, scale=self.init_scale)

    def embed(self, params: Params, context: Context) -> Embeddings:
        """The mean of layers 1 to L without noise."""
        return embed_smoothed(
            params["nodes"],
            context,
            depth=self.layers,
            with_table=False,
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
            with_table=False,
            cosine=self.objective.cosine,
        )

    def loss(
        self, params: Params, context: Context, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The objective on the clean mean, L2, and the contrast of two noisy ones."""
        graph, depth = context.graph, self.layers - 1
        rows = batch_nodes(context, batch)
        nodes, learned = take_rows(params["nodes"], rows)
        first = graph_sum(graph, nodes)
        vectors = propagate_rows(graph, first, rows, depth=depth)
        loss, logs = objective_with_l2(
            self.objective,
            split_batch(vectors, batch),
            split_batch(learned, batch),
            context,
            batch,
            l2=self.l2,
        )
        size = 2 * len(batch.users)
        rows, clean = rows[:size], vectors[:size]

        def view(key):
            noisy = propagate_noisy_rows(
                key, graph, first, rows, depth=depth, size=self.noise
            )
            mean = sum(noisy[1:], noisy[0]) / self.layers
            return clean + jax.lax.stop_gradient(mean - clean)

        left, right = (view(one) for one in jax.random.split(key))
        contrast = batch_contrast(
            left,
            right,
            batch,
            temperature=self.temperature,
        )
        return loss + self.contrast * contrast, logs | {"contrast": contrast}
