"""What a model of user and item vectors is trained for.

An objective is a frozen dataclass: its fields are its settings, and calling it with
the vectors of a batch gives the loss.  It also says how vectors are compared
(``cosine``) and how many negatives a training pair needs (``num_negatives``), so that
any encoder works with any objective.
"""

import dataclasses
from typing import TypeAlias

import jax
import jax.numpy as jnp

from recjax.layers import unit_length
from recjax.losses import (
    bce_loss,
    bpr_loss,
    in_batch_dot_softmax_loss,
    sampled_softmax_loss,
)
from recjax.sampling import negative_log_probability
from recjax.types import Batch, BatchVectors, Context


@dataclasses.dataclass(frozen=True)
class BPR:
    """Positives above sampled negatives, `recjax.losses.bpr_loss`."""

    num_negatives: int = 1
    """Sampled negatives a training pair."""

    cosine = False

    def __call__(
        self, vectors: BatchVectors, context: Context, batch: Batch
    ) -> jax.Array:
        """The loss of a batch."""
        del context
        positive, negatives = pair_scores(vectors)
        return bpr_loss(positive, negatives, where=batch.weight)


@dataclasses.dataclass(frozen=True)
class BCE:
    """Clicked or not, `recjax.losses.bce_loss` over positives and negatives."""

    num_negatives: int = 1
    """Sampled negatives a training pair."""

    cosine = False

    def __call__(
        self, vectors: BatchVectors, context: Context, batch: Batch
    ) -> jax.Array:
        """The loss of a batch."""
        del context
        positive, negatives = pair_scores(vectors)
        logits = jnp.concatenate([positive[:, None], negatives], axis=1)
        labels = jnp.zeros_like(logits).at[:, 0].set(1.0)
        where = jnp.broadcast_to(batch.weight[:, None], logits.shape)
        return bce_loss(logits, labels, where=where)


@dataclasses.dataclass(frozen=True)
class Softmax:
    """The batch's items as the catalogue, with logQ; vectors of unit length."""

    temperature: float = 0.25
    """Cosines are divided by it."""
    log_q: float = 1.0
    """Share of the correction.  With less than 1, cosines learn less of what is popular
    and more of who likes it; see `popularity`."""

    cosine = True
    num_negatives = 0

    @property
    def popularity(self) -> float:
        """What ``ln d`` of an item with d users is to weigh beside cosines in scores.

        Softmax of ``(cos + popularity ln d) / temperature`` with all of the correction
        has the gradient of softmax of ``cos / temperature`` with a share ``log_q``.
        """
        return self.temperature * (1.0 - self.log_q)

    def __call__(
        self, vectors: BatchVectors, context: Context, batch: Batch
    ) -> jax.Array:
        """The loss of a batch."""
        users = unit_length(vectors.users) / self.temperature
        items = unit_length(vectors.items)
        share = context.item_counts[batch.items] / context.users.shape[0]
        # A positive always has a count; padding is masked, whatever it divides by.
        log_q = jnp.log(jnp.maximum(share, jnp.finfo(share.dtype).tiny))
        log_q = self.log_q * log_q
        return in_batch_dot_softmax_loss(users, items, log_q, where=batch.weight)


@dataclasses.dataclass(frozen=True)
class SampledSoftmax:
    """Drawn negatives as the catalogue, with logQ; vectors of unit length."""

    temperature: float = 0.25
    """Cosines are divided by it."""
    num_negatives: int = 256
    """Sampled negatives a training pair."""

    cosine = True

    def __call__(
        self, vectors: BatchVectors, context: Context, batch: Batch
    ) -> jax.Array:
        """The loss of a batch."""
        positive, negatives = pair_scores(BatchVectors(*map(unit_length, vectors)))
        log_q = negative_log_probability(
            context.negatives, batch.users, batch.negatives
        )
        return sampled_softmax_loss(
            positive / self.temperature,
            negatives / self.temperature,
            log_q,
            where=batch.weight,
        )


Objective: TypeAlias = BPR | BCE | Softmax | SampledSoftmax

OBJECTIVES = {
    "bpr": BPR,
    "bce": BCE,
    "softmax": Softmax,
    "sampled_softmax": SampledSoftmax,
}
"""Names that the command line takes."""


def pair_scores(vectors: BatchVectors) -> tuple[jax.Array, jax.Array]:
    """Dot products of a batch's users with their positives and negatives.

    Args:
      vectors: B rows with M negatives.

    Returns:
      Scores ``[B]`` of the positives and ``[B, M]`` of the negatives.

    Examples:
      >>> import jax.numpy as jnp
      >>> from recjax.types import BatchVectors
      >>> vectors = BatchVectors(
      ...     jnp.array([[2.0]]), jnp.array([[3.0]]), jnp.array([[[5.0]]])
      ... )
      >>> positive, negatives = pair_scores(vectors)
      >>> positive.tolist(), negatives.tolist()
      ([6.0], [[10.0]])
    """
    positive = jnp.sum(vectors.users * vectors.items, axis=-1)
    return positive, jnp.einsum("bd,bmd->bm", vectors.users, vectors.negatives)
