"""SGL: LightGCN, and two views of the graph contrasted with each other."""

import dataclasses

import jax

from recjax.graphs import drop_edges, normalise_edges
from recjax.layers import propagate_rows
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
from recjax.sparse import take_rows
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
class SGL:
    """SGL with edge dropout (SGL-ED): nodes recognised in two thinned graphs.

        Z(A) = (E0 + A E0 + ... + A^L E0) / (L + 1)
        loss = objective(Z(A)) + lambda InfoNCE(Z(A'), Z(A''))

    A' and A'' lose each interaction with probability rho, and are normalised by the
    degrees that are left; they are drawn anew every epoch.  Scoring uses the whole
    graph.

    Deviations: the paper's InfoNCE competes with all users (or items), this one with
    the distinct ones of the batch, which keeps a step near the cost of its neighbour
    sums; and it is a mean over them, where the paper has a sum.  The L2 is that of
    LightGCN, on rows of E0.

    Examples:
      >>> import jax
      >>> from recjax.types import Spec
      >>> model = SGL(dim=8)
      >>> params = model.init(jax.random.key(0), Spec(num_users=3, num_items=5))
      >>> params["nodes"].shape
      (8, 8)

    References:
      Wu et al., Self-supervised graph learning for recommendation, SIGIR 2021.
    """

    dim: int = 64
    """Width of the vectors."""
    layers: int = 3
    """Propagations L."""
    drop: float = 0.1
    """Share rho of the interactions that a view loses."""
    temperature: float = 0.2
    """Of the contrast."""
    contrast: float = 0.1
    """Weight lambda of the contrast."""
    objective: Objective = BPR()  # noqa: RUF009 - frozen
    """What the vectors are trained for."""
    l2: float = 1e-4
    """Weight of `batch_l2_loss` on the batch's rows of E0."""
    init_scale: float = 0.01
    """Standard deviation of E0 at the start, near that of Glorot's rule for a table of
    this kind."""

    score = staticmethod(dot_score)
    score_bound = staticmethod(dot_bound)

    @property
    def num_negatives(self) -> int:
        """Negatives of one training pair."""
        return self.objective.num_negatives

    def init(self, key: jax.Array, spec: Spec) -> Params:
        """E0 from N(0, init_scale^2)."""
        return init_nodes(key, spec, self.dim, scale=self.init_scale)

    def refresh(self, params: Params, context: Context, key: jax.Array) -> Context:
        """Two thinned graphs, for one epoch."""
        del params
        views = tuple(
            normalise_edges(drop_edges(key, context.graph, rate=self.drop))
            for key in jax.random.split(key)
        )
        return context._replace(prepared={**context.prepared, "views": views})

    def embed(self, params: Params, context: Context) -> Embeddings:
        """The mean of all layers over the whole graph, as in LightGCN."""
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
        """The objective on the whole graph, L2, and the contrast of the two views."""
        del key
        rows = batch_nodes(context, batch)
        nodes, learned = take_rows(params["nodes"], rows)
        vectors = propagate_rows(context.graph, nodes, rows, depth=self.layers)
        loss, logs = objective_with_l2(
            self.objective,
            split_batch(vectors, batch),
            split_batch(learned, batch),
            context,
            batch,
            l2=self.l2,
        )
        both = rows[: 2 * len(batch.users)]
        left, right = (
            propagate_rows(view, nodes, both, depth=self.layers)
            for view in prepared(context, "views")
        )
        contrast = batch_contrast(left, right, batch, temperature=self.temperature)
        return loss + self.contrast * contrast, logs | {"contrast": contrast}
