"""XSimGCL: LightGCN with noise, its last mean contrasted with one of its layers."""

import dataclasses

import jax

from recjax.layers import propagate_noisy_rows
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
class XSimGCL:
    """XSimGCL: one noisy propagation serves the objective and the contrast.

        E_k = A E_(k-1) + epsilon sign(A E_(k-1)) * U_k / |U_k|,    k = 1 .. L
        Z = (E_1 + ... + E_L) / L
        loss = objective(Z) + lambda InfoNCE(Z, E_l)

    A holds ``1 / sqrt(d_u d_i)``; U is uniform between 0 and 1 and divided by its
    length row by row; l is ``contrast_layer``.  The table E0 is not part of the mean.
    Scoring is without noise.

    The contrast is a mean over the distinct users of a batch, plus a mean over its
    distinct positives.  Noise comes from `recjax.sampling.uniform_rows`.  The L2 is
    that of LightGCN, on rows of E0.

    Examples:
      >>> import jax
      >>> from recjax.types import Spec
      >>> model = XSimGCL(dim=8)
      >>> params = model.init(jax.random.key(0), Spec(num_users=3, num_items=5))
      >>> params["nodes"].shape
      (8, 8)

    References:
      Yu et al., XSimGCL: towards extremely simple graph contrastive learning for
      recommendation, TKDE 2023 (the noise is that of SimGCL, SIGIR 2022).
    """

    dim: int = 64
    """Width of the vectors."""
    layers: int = 3
    """Propagations L, at least 1."""
    contrast_layer: int = 1
    """The layer l, from 1 to L, that the mean is contrasted with."""
    noise: float = 0.2
    """Length epsilon of the noise of every node, at every layer."""
    temperature: float = 0.15
    """Of the contrast."""
    contrast: float = 0.2
    """Weight lambda of the contrast."""
    contrast_rows: int | None = None
    """Rows of a batch that are contrasted with all of it: fewer give an unbiased
    estimate in less time.  None for all."""
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
        """Refuses a layer that there is not."""
        if not 1 <= self.contrast_layer <= self.layers:
            raise ValueError(
                f"contrast_layer {self.contrast_layer} must be from 1 to layers = "
                f"{self.layers}"
            )

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
        """The objective on the noisy mean, L2, and the contrast."""
        rows = batch_nodes(context, batch)
        nodes, learned = take_rows(params["nodes"], rows)
        noisy = propagate_noisy_rows(
            key,
            context.graph,
            graph_sum(context.graph, nodes),
            rows,
            depth=self.layers - 1,
            size=self.noise,
        )
        vectors = sum(noisy[1:], noisy[0]) / self.layers
        loss, logs = objective_with_l2(
            self.objective,
            split_batch(vectors, batch),
            split_batch(learned, batch),
            context,
            batch,
            l2=self.l2,
        )
        both = slice(0, 2 * len(batch.users))
        contrast = batch_contrast(
            vectors[both],
            noisy[self.contrast_layer - 1][both],
            batch,
            temperature=self.temperature,
            rows=self.contrast_rows,
        )
        return loss + self.contrast * contrast, logs | {"contrast": contrast}
