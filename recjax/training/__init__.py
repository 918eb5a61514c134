"""Training: a step, an epoch as one compiled scan, and the loop around it."""

from recjax.training._epoch import State, init_state, make_epoch
from recjax.training._fit import Record, Result, Training, fit, restore_params

__all__ = [
    "Record",
    "Result",
    "State",
    "Training",
    "fit",
    "init_state",
    "make_epoch",
    "restore_params",
]
