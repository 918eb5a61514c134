"""DirectAU: users near their items, and both spread over the sphere."""

import dataclasses

import jax

from recjax.layers import propagate_rows
from recjax.losses import alignment_loss, batch_l2_loss, uniformity_loss
from recjax.models._dot import dot_bound, dot_score
from recjax.models._nodes import batch_nodes, init_nodes, split_batch
from recjax.models._smoothed import embed_smoothed, fold_in_smoothed
from recjax.sparse import take_rows
from recjax.types import Batch, Context, Embeddings, ItemLists, Params, Spec


@dataclasses.dataclass(frozen=True)
class DirectAU:
    """DirectAU: alignment and uniformity, optimised as they are, without negatives.

        loss = mean over b of |z_u - z_i|^2 + gamma / 2 (uniformity(users) +
            uniformity(items))
        uniformity(x) = log mean over pairs of exp(-2 |z_x - z_y|^2)

    The vectors z have length 1; they are those of LightGCN, or of matrix factorisation
    with ``layers=0``.  The means are over pairs of rows of a batch, in which users and
    items stand as often as in the paper's.

    A newcomer receives from the items of its list; with ``layers=0``, where nothing is
    propagated, as if there were one layer.

    Examples:
      >>> import jax
      >>> from recjax.types import Spec
      >>> model = DirectAU(dim=8)
      >>> params = model.init(jax.random.key(0), Spec(num_users=3, num_items=5))
      >>> params["nodes"].shape
      (8, 8)

    References:
      Wang et al., Towards representation alignment and uniformity in collaborative
      filtering, KDD 2022.
    """

    dim: int = 64
    """Width of the vectors."""
    layers: int = 3
    """Propagations of the encoder; 0 is matrix factorisation."""
    gamma: float = 2.0
    """Weight of uniformity; it has to be chosen for each dataset, from 0.2 to 10."""
    cosine: bool = True
    """Score by cosines, which are what is trained; False for dot products, under which
    the longer vectors stand higher."""
    l2: float = 1e-6
    """Weight of `batch_l2_loss` on the batch's rows of E0, whose length no other part
    of the loss sees."""
    init_scale: float = 0.01
    """Standard deviation of E0 at the start: a small one lets the first steps turn the
    vectors."""

    score = staticmethod(dot_score)
    score_bound = staticmethod(dot_bound)
    num_negatives = 0

    @property
    def hops(self) -> int:
        """Propagations that the loss reads."""
        return self.layers

    def init(self, key: jax.Array, spec: Spec) -> Params:
        """E0 from N(0, init_scale^2)."""
        return init_nodes(key, spec, self.dim, scale=self.init_scale)

    def embed(self, params: Params, context: Context) -> Embeddings:
        """The encoder's vectors, of unit length where cosines are asked for."""
        return embed_smoothed(
            params["nodes"], context, depth=self.layers, cosine=self.cosine
        )

    def fold_in(
        self, params: Params, context: Context, state: Embeddings, histories: ItemLists
    ) -> Embeddings:
        """Newcomers receive from the items of their list."""
        return fold_in_smoothed(
            params["nodes"],
            context,
            state,
            histories,
            depth=max(self.layers, 1),
            cosine=self.cosine,
        )

    def loss(
        self, params: Params, context: Context, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Alignment, uniformity of users and of items, and L2."""
        del key
        rows = batch_nodes(context, batch)
        nodes, learned = take_rows(params["nodes"], rows)
        vectors = split_batch(
            propagate_rows(context.graph, nodes, rows, depth=self.layers), batch
        )
        users, items, where = vectors.users, vectors.items, batch.weight
        alignment = alignment_loss(users, items, where=where)
        uniformity = uniformity_loss(users, where=where) / 2
        uniformity += uniformity_loss(items, where=where) / 2
        loss = alignment + self.gamma * uniformity
        penalty = batch_l2_loss(*split_batch(learned, batch), where=where)
        logs = {"alignment": alignment, "uniformity": uniformity}
        return loss + self.l2 * penalty, logs
