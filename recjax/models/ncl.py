"""NCL: LightGCN, contrasted with its own layers and with prototypes."""

import dataclasses

import jax
import jax.numpy as jnp

from recjax.layers import unit_length
from recjax.losses import info_nce_loss
from recjax.losses._rows import distinct_rows
from recjax.models._contrast import batch_contrast
from recjax.models._dot import dot_bound, dot_score
from recjax.models._nodes import (
    batch_nodes,
    init_nodes,
    objective_with_l2,
    split_batch,
    split_nodes,
)
from recjax.models._smoothed import embed_smoothed, fold_in_smoothed
from recjax.objectives import BPR, Objective
from recjax.sparse import graph_sum, take_rows
from recjax.types import Batch, Context, Embeddings, ItemLists, Params, Spec, prepared

# Vectors that are compared with all prototypes at a time.
_BLOCK = 4096


@dataclasses.dataclass(frozen=True)
class NCL:
    """NCL: neighbours in the graph, and in space, as positives.

        E_(k+1) = A E_k,    Z = (E0 + ... + E_L) / (L + 1)
        loss = objective(Z) + structure InfoNCE(E2, E0) + prototype InfoNCE(E0, C)

    E2 gathers the nodes two steps away: users of the same items, items of the same
    users.  C holds for each user (item) the centre of its cluster, which competes with
    all centres of users (items) and is held constant.  Clusters are those of spherical
    k-means, made on the device before every epoch from random vectors by a few steps
    of Lloyd's.

    Deviations: the structural contrast competes with the distinct users (items) of the
    batch instead of all of them, which keeps a step near the cost of its neighbour
    sums; both contrasts are means over these, where the paper has sums (so that its
    weights, near 1e-6, are to be multiplied by the size of its batches); users and
    items weigh the same; k-means compares directions, as the contrast does; and there
    are no epochs without prototypes at the start.  The L2 is that of LightGCN.

    Examples:
      >>> import jax
      >>> from recjax.types import Spec
      >>> model = NCL(dim=8)
      >>> params = model.init(jax.random.key(0), Spec(num_users=3, num_items=5))
      >>> params["nodes"].shape
      (8, 8)

    References:
      Lin et al., Improving graph collaborative filtering with neighborhood-enriched
      contrastive learning, WWW 2022.
    """

    dim: int = 64
    """Width of the vectors."""
    layers: int = 3
    """Propagations L, at least 2."""
    temperature: float = 0.1
    """Of both contrasts."""
    structure: float = 2e-3
    """Weight of the contrast of layer 2 with layer 0."""
    prototype: float = 2e-4
    """Weight of the contrast of layer 0 with the prototypes."""
    clusters: int = 1000
    """Prototypes of users, and of items; no more than there are of them."""
    steps: int = 5
    """Steps of k-means an epoch."""
    objective: Objective = BPR()  # noqa: RUF009 - frozen
    """What the vectors are trained for."""
    l2: float = 1e-4
    """Weight of `batch_l2_loss` on the batch's rows of E0."""
    init_scale: float = 0.01
    """Standard deviation of E0 at the start, near that of Glorot's rule for a table of
    this kind."""

    score = staticmethod(dot_score)
    score_bound = staticmethod(dot_bound)

    def __post_init__(self) -> None:
        """Refuses a model without a layer 2."""
        if self.layers < 2:
            raise ValueError(f"layers {self.layers} must be at least 2")

    @property
    def num_negatives(self) -> int:
        """Negatives of one training pair."""
        return self.objective.num_negatives

    def init(self, key: jax.Array, spec: Spec) -> Params:
        """E0 from N(0, init_scale^2)."""
        return init_nodes(key, spec, self.dim, scale=self.init_scale)

    def refresh(self, params: Params, context: Context, key: jax.Array) -> Context:
        """The prototypes of one epoch, of users and of items."""
        tables = split_nodes(params["nodes"], context)
        prototypes = tuple(
            _cluster(key, table, num=self.clusters, steps=self.steps)
            for key, table in zip(jax.random.split(key), tables, strict=True)
        )
        return context._replace(prepared={**context.prepared, "prototypes": prototypes})

    def embed(self, params: Params, context: Context) -> Embeddings:
        """The mean of all layers, as in LightGCN."""
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
        """The objective, L2, and the two contrasts."""
        del key
        rows = batch_nodes(context, batch)
        layer, learned = take_rows(params["nodes"], rows)
        layers = [learned]
        for _ in range(self.layers):
            layer, taken = take_rows(graph_sum(context.graph, layer), rows)
            layers.append(taken)
        vectors = sum(layers[1:], learned) / len(layers)
        loss, logs = objective_with_l2(
            self.objective,
            split_batch(vectors, batch),
            split_batch(learned, batch),
            context,
            batch,
            l2=self.l2,
        )
        size = len(batch.users)
        structure = batch_contrast(
            layers[2][: 2 * size],
            learned[: 2 * size],
            batch,
            temperature=self.temperature,
        )
        sides = (batch.users, learned[:size]), (batch.items, learned[size : 2 * size])
        prototype = jnp.zeros(())
        for (ids, own), (centres, cluster) in zip(
            sides, prepared(context, "prototypes"), strict=True
        ):
            prototype += info_nce_loss(
                own,
                centres[cluster[ids]],
                temperature=self.temperature,
                candidates=centres,
                where=distinct_rows(ids, batch.weight),
            )
        loss += self.structure * structure + self.prototype * prototype
        return loss, logs | {"structure": structure, "prototype": prototype}


def _cluster(
    key: jax.Array, vectors: jax.Array, *, num: int, steps: int
) -> tuple[jax.Array, jax.Array]:
    """Centres ``[K, D]`` of unit length by cosine, and the nearest of each vector."""
    vectors = unit_length(vectors)
    num = min(num, len(vectors))
    start = jax.random.choice(key, len(vectors), (num,), replace=False)

    def nearest(centres):
        def one(vector):
            return jnp.argmax(centres @ vector)

        return jax.lax.map(one, vectors, batch_size=_BLOCK)

    def step(_, centres):
        total = jax.ops.segment_sum(vectors, nearest(centres), num)
        # A centre that nobody is nearest to stays where it is.
        some = jnp.any(total != 0, axis=1, keepdims=True)
        return jnp.where(some, unit_length(total), centres)

    centres = jax.lax.fori_loop(0, steps, step, vectors[start])
    return centres, nearest(centres)
