"""UltraGCN: the limit of infinitely many propagations, as weights of a loss."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recjax.graphs import co_occurrence_graph
from recjax.losses import batch_l2_loss, bce_loss
from recjax.models._dot import dot_bound, dot_score
from recjax.models._nodes import batch_nodes, init_nodes, split_batch, split_nodes
from recjax.objectives import pair_scores
from recjax.reduce import reduce_masked
from recjax.sparse import list_sum
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
class UltraGCN:
    """UltraGCN: matrix factorisation with weights that a graph network would give.

    With M sampled negatives j of each pair,

        loss = mean over pairs (u, i) of [ -w_ui log sigmoid(s_ui)
            - c mean over negatives j of w_uj log sigmoid(-s_uj)
            - kappa sum over k in S(i) of omega_ik log sigmoid(s_uk) ]
        w_ui = base + constraint beta_ui
        beta_ui = sqrt((d_u + 1) / (d_i + 1)) / d_u
        omega_ik = G_ik / (g_i - G_ii) sqrt(g_i / g_k),    g_i = sum over k of G_ik

    s is the dot product of learned vectors, d are degrees.  G counts the users that two
    items share, and S(i) are the items but i with the largest omega.  A step touches
    rows of a batch only: there is no propagation, in training or in scoring.

    Deviations: the released code sums over a batch, here is a mean; L2 is on the
    batch's rows; positives and negatives share ``base`` and ``constraint``.

    Examples:
      >>> import jax
      >>> from recjax.types import Spec
      >>> model = UltraGCN(dim=8)
      >>> params = model.init(jax.random.key(0), Spec(num_users=3, num_items=5))
      >>> params["nodes"].shape
      (8, 8)

    References:
      Mao et al., UltraGCN: ultra simplification of graph convolutional networks for
      recommendation, CIKM 2021.
    """

    dim: int = 64
    """Width of the vectors."""
    num_negatives: int = 256
    """Sampled negatives M a training pair."""
    base: float = 1e-6
    """Weight of plain binary cross-entropy."""
    constraint: float = 1.0
    """Weight of the constraint, binary cross-entropy weighted by beta."""
    negative_weight: float = 300.0
    """Weight c of the mean over negatives."""
    item_weight: float = 5e-4
    """Weight kappa of the constraint between items."""
    neighbours: int = 10
    """Items in S(i), at most."""
    l2: float = 1e-4
    """Weight of `batch_l2_loss` on the batch's rows."""
    init_scale: float = 1e-4
    """Standard deviation of the vectors at the start."""

    score = staticmethod(dot_score)
    score_bound = staticmethod(dot_bound)
    splits_batch = True

    def prepare(self, context: Context) -> dict[str, Any]:
        """``neighbours [I, K]``, S(i), and ``omega [I, K]``, 0 where there is none."""
        users, items = np.asarray(context.users), np.asarray(context.items)
        num_items = len(context.item_counts)
        user_degrees = np.diff(np.asarray(context.seen.pointer))
        own = np.asarray(context.item_counts, np.float64)
        total = np.bincount(items, user_degrees[users], num_items).astype(np.float64)
        # In a row, omega orders by this; its other factors are the row's.
        scale = np.maximum(total, 1.0) ** -0.5
        graph = co_occurrence_graph(
            (items, users),
            num_items,
            k=self.neighbours,
            scale=scale,
            normalisation="none",
        )
        senders, receivers = np.asarray(graph.senders), np.asarray(graph.receivers)
        layout: Any = graph.globals
        weights: Any = graph.edges
        omega = np.asarray(weights["weight"], np.float64)
        omega *= scale[senders] * np.sqrt(total[receivers])
        omega /= total[receivers] - own[receivers]
        place = np.arange(len(senders)) - layout["layout"].row_pointer[receivers]
        shape = (num_items, self.neighbours)
        out = {"neighbours": np.zeros(shape, np.int32), "omega": np.zeros(shape)}
        out["neighbours"][receivers, place] = senders
        out["omega"][receivers, place] = omega
        return out | {"omega": out["omega"].astype(np.float32)}

    def init(self, key: jax.Array, spec: Spec) -> Params:
        """Vectors from N(0, init_scale^2)."""
        spec = spec._replace(num_attributes=0)
        return init_nodes(key, spec, self.dim, scale=self.init_scale)

    def embed(self, params: Params, context: Context) -> Embeddings:
        """The vectors."""
        return split_nodes(params["nodes"], context)

    def fold_in(
        self, params: Params, context: Context, state: Embeddings, histories: ItemLists
    ) -> Embeddings:
        """The limit itself: ``e_u = sum over i in the list of beta_ui e_i``."""
        del params
        degree = jnp.diff(histories.pointer).astype(state.items.dtype)
        of_items = jax.lax.rsqrt(context.item_counts + 1)[histories.items]
        users = list_sum(state.items, histories, of_items)
        of_users = jnp.sqrt(degree + 1) / jnp.maximum(degree, 1)
        return state._replace(users=users * of_users[:, None])

    def loss(
        self, params: Params, context: Context, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Weighted cross-entropy, the constraint between items, and L2."""
        del key
        pointer, counts = context.seen.pointer, context.item_counts
        near = prepared(context, "neighbours")[batch.items]
        rows = batch_nodes(context, batch)
        # All rows at once: their derivative is one table.
        among = jnp.concatenate([rows, len(pointer) - 1 + near.ravel()])
        taken = params["nodes"][among]
        vectors = split_batch(taken[: len(rows)], batch)
        neighbours = taken[len(rows) :].reshape(*near.shape, self.dim)

        degree = (pointer[batch.users + 1] - pointer[batch.users]).astype(taken.dtype)
        of_users = jnp.sqrt(degree + 1) / jnp.maximum(degree, 1)
        of_items = jax.lax.rsqrt(counts + 1)
        of_positives = of_users * of_items[batch.items]
        of_negatives = of_users[:, None] * of_items[batch.negatives]
        positive, negatives = pair_scores(vectors)

        def cross_entropy(scores, label, beta):
            labels = jnp.full_like(scores, label)
            losses = bce_loss(scores, labels, reduce_fn=None)
            return (self.base + self.constraint * beta) * losses

        losses = cross_entropy(positive, 1.0, of_positives)
        losses += self.negative_weight * jnp.mean(
            cross_entropy(negatives, 0.0, of_negatives), axis=1
        )
        pairs = reduce_masked(losses, batch.weight, jnp.mean)
        omega = prepared(context, "omega")[batch.items]
        scores = jnp.einsum("bd,bkd->bk", vectors.users, neighbours)
        items = reduce_masked(
            jnp.sum(omega * jax.nn.softplus(-scores), axis=1), batch.weight, jnp.mean
        )
        penalty = batch_l2_loss(*vectors, where=batch.weight)
        loss = pairs + self.item_weight * items + self.l2 * penalty
        return loss, {"objective": pairs, "items": items}
