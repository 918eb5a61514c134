"""LGMRec: local vectors from the graph, global ones from learned hyperedges."""

import dataclasses
from collections.abc import Iterable

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.layers import propagate, unit_length
from recjax.models._contrast import contrast_views
from recjax.models._dot import dot_bound, dot_score
from recjax.models._features import check_features
from recjax.models._learned_hyperedges import pass_hyperedges
from recjax.models._nodes import (
    batch_nodes,
    comparable,
    init_glorot_nodes,
    newcomer_nodes,
    objective_with_l2,
    split_batch,
    split_nodes,
)
from recjax.models._smooth_features import smooth_features, smooth_newcomers
from recjax.objectives import BPR, Objective
from recjax.sparse import take_rows
from recjax.types import Batch, Context, Embeddings, ItemLists, Params, Spec, prepared


@dataclasses.dataclass(frozen=True)
class LGMRec:
    r"""LGMRec: LightGCN, plus smoothed modalities, plus a few hyperedges for all.

    With A the normalised graph, R the interactions, X_m the features of a modality, and
    parameters E, W_m and V_m,

    .. math::
        L = LightGCN(E) + \textstyle\sum_m norm(A^K [mean(R X_m); X_m] W_m), \\
        H_m = softmax(([R X_m V_m; X_m V_m] + g) / t), \quad
        G_m = H_m H_{m,items}^T LightGCN(E)_{items}, \\
        E^* = L + \alpha \, norm(\textstyle\sum_m G_m),

    scored by the dot product.  Rows of H say how a node depends on a few hyperedges; g
    is Gumbel noise.  The loss is the objective on E*, L2 on the same rows, and for
    pairs of modalities m < n, `recjax.losses.info_nce_loss` of G_m against G_n, over
    all users and over all items.

    Any number of modalities.  A node without one, a user by its items, has rows of 0
    there; a mean is over the items that have it.

    Noise and dropout of H are for training only; released code draws noise when it
    scores, too.  Features stay as they are (there, they are trained).  The contrast is
    a mean over ``contrast_rows`` of the batch, an unbiased estimate (there, a sum over
    all, of weight 1e-4).  Unsure, as from memory: the paper's noise may be logistic,
    and the released penalty of norms not squared.

    Examples:
      >>> import jax
      >>> from recjax.types import Spec
      >>> spec = Spec(3, 5, features=(("image", 6),))
      >>> params = LGMRec(dim=8).init(jax.random.key(0), spec)
      >>> jax.tree.map(lambda x: x.shape, params["modalities"]["image"])
      {'hyperedges': (6, 4), 'kernel': (6, 8)}

    References:
      Guo et al., LGMRec: local and global graph learning for multimodal
      recommendation, AAAI 2024, sections 3.2 to 3.4.
    """

    dim: int = 64
    """Width of the vectors."""
    layers: int = 2
    """Propagations of E."""
    modality_layers: int = 2
    """Propagations K of the modalities."""
    hyperedges: int = 4
    """Hyperedges of each modality."""
    hyperedge_layers: int = 1
    """Steps from items to hyperedges and back."""
    global_weight: float = 0.3
    """Weight alpha of the global vectors."""
    dropout: float = 0.5
    """Share of the entries of H that a step drops; the rest is rescaled."""
    temperature: float = 0.2
    """Of the softmax of H, and of the contrast."""
    contrast: float = 0.2
    """Weight of the contrast between modalities."""
    contrast_rows: int = 256
    """Rows of a batch that are contrasted."""
    objective: Objective = BPR()  # noqa: RUF009 - frozen
    """What the vectors are trained for."""
    l2: float = 1e-6
    """Weight of `batch_l2_loss` on the batch's rows of E*."""

    score = staticmethod(dot_score)
    score_bound = staticmethod(dot_bound)

    @property
    def num_negatives(self) -> int:
        """Negatives of one training pair."""
        return self.objective.num_negatives

    def init(self, key: jax.Array, spec: Spec) -> Params:
        """Tables and matrices by Glorot."""
        glorot, modalities = nn.initializers.glorot_uniform(), {}
        key, nodes_key = jax.random.split(key)
        for name, width in sorted(spec.features):
            key, one, two = jax.random.split(key, 3)
            modalities[name] = {
                "kernel": glorot(one, (width, self.dim)),
                "hyperedges": glorot(two, (width, self.hyperedges)),
            }
        nodes = init_glorot_nodes(nodes_key, spec, self.dim)
        return nodes | {"modalities": modalities}

    def prepare(self, context: Context) -> dict:
        """The smoothed features of all nodes: they have no parameters."""
        check_features("LGMRec", context)
        depth, num_nodes = self.modality_layers, int(context.graph.n_node[0])
        return {"smoothed": smooth_features(context, depth=depth, num_nodes=num_nodes)}

    def _global(
        self,
        params: Params,
        context: Context,
        items: jax.Array,
        lists: ItemLists,
        key: jax.Array | None = None,
    ) -> list[Embeddings]:
        """G of users with these lists and of all items, a modality each."""
        return [
            pass_hyperedges(
                None if key is None else jax.random.fold_in(key, number),
                params["modalities"][name]["hyperedges"],
                feature,
                items,
                lists,
                layers=self.hyperedge_layers,
                temperature=self.temperature,
                dropout=self.dropout,
            )
            for number, (name, feature) in enumerate(sorted(context.features.items()))
        ]

    def _add(
        self,
        params: Params,
        own: jax.Array,
        smoothed: dict[str, jax.Array],
        parts: Iterable[jax.Array],
    ) -> jax.Array:
        """E* of some nodes, from their rows of LightGCN(E), of A^K [...] and of G."""
        for name, x in smoothed.items():
            own += unit_length(x @ params["modalities"][name]["kernel"])
        return own + self.global_weight * unit_length(sum(parts, jnp.zeros_like(own)))

    def embed(self, params: Params, context: Context) -> Embeddings:
        """The vectors E*, of unit length under a cosine objective."""
        nodes = propagate(context.graph, params["nodes"], depth=self.layers)
        own = split_nodes(nodes, context)
        parts = self._global(params, context, own.items, context.seen)
        parts, nodes = map(jnp.concatenate, parts), jnp.concatenate(own)
        nodes = self._add(params, nodes, prepared(context, "smoothed"), parts)
        return comparable(self.objective, split_nodes(nodes, context))

    def fold_in(
        self, params: Params, context: Context, state: Embeddings, histories: ItemLists
    ) -> Embeddings:
        """Newcomers receive from their items, and depend on hyperedges by them."""
        start = params["nodes"]
        nodes = propagate(context.graph, start, depth=self.layers)
        items = split_nodes(nodes, context).items
        own = newcomer_nodes(start, context, histories, depth=self.layers)
        smoothed = smooth_newcomers(
            context, histories, depth=self.modality_layers, num_nodes=len(start)
        )
        parts = self._global(params, context, items, histories)
        users = self._add(params, own, smoothed, (part.users for part in parts))
        return state._replace(users=comparable(self.objective, users))

    def loss(
        self, params: Params, context: Context, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The objective and L2 on E*, and the contrast between modalities."""
        rows = batch_nodes(context, batch)
        nodes = propagate(context.graph, params["nodes"], depth=self.layers)
        nodes, own = take_rows(nodes, rows)
        items = split_nodes(nodes, context).items
        parts = self._global(params, context, items, context.seen, key)
        smoothed = jax.tree.map(lambda x: x[rows], prepared(context, "smoothed"))
        mixed = [jnp.concatenate(part)[rows] for part in parts]
        vectors = split_batch(self._add(params, own, smoothed, mixed), batch)
        loss, aux = objective_with_l2(
            self.objective, vectors, vectors, context, batch, l2=self.l2
        )
        contrast = contrast_views(
            parts, batch, temperature=self.temperature, rows=self.contrast_rows
        )
        return loss + self.contrast * contrast, aux | {"contrast": contrast}
