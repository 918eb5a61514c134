"""Losses: scores in, a scalar out; masked rows do not count."""

from recjax.losses._contrast import (
    alignment_loss,
    grace_loss,
    info_nce_loss,
    uniformity_loss,
)
from recjax.losses._distil import distillation_loss
from recjax.losses._pairwise import bce_loss, bpr_loss
from recjax.losses._regularise import batch_l2_loss, table_l2_loss
from recjax.losses._softmax import (
    full_softmax_loss,
    in_batch_dot_softmax_loss,
    in_batch_softmax_loss,
    sampled_softmax_loss,
)

__all__ = [
    "alignment_loss",
    "batch_l2_loss",
    "bce_loss",
    "bpr_loss",
    "distillation_loss",
    "full_softmax_loss",
    "grace_loss",
    "in_batch_dot_softmax_loss",
    "in_batch_softmax_loss",
    "info_nce_loss",
    "sampled_softmax_loss",
    "table_l2_loss",
    "uniformity_loss",
]
