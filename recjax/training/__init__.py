"""Training: a step, an epoch as one compiled scan, the loop around it; many at once."""

from recjax.training._epoch import State, init_state, make_epoch
from recjax.training._fit import (
    Record,
    Result,
    Training,
    fit,
    make_optimizer,
    restore_params,
)
from recjax.training._local import Sampled, Share, draw_share, share_gradient
from recjax.training._stream import make_streamed_epoch
from recjax.training._study import Study, make_study_epoch, study
from recjax.training._study_runs import Run

__all__ = [
    "Record",
    "Result",
    "Run",
    "Sampled",
    "Share",
    "State",
    "Study",
    "Training",
    "draw_share",
    "fit",
    "init_state",
    "make_epoch",
    "make_optimizer",
    "make_streamed_epoch",
    "make_study_epoch",
    "restore_params",
    "share_gradient",
    "study",
]
