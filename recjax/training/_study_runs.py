"""The runs of a study between two epochs, and their checkpoints."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from recjax.checkpoint import Checkpoints
from recjax.training._epoch import State
from recjax.training._fit import Record, Training
from recjax.training._study_scorer import Setting
from recjax.types import Params


class Run(NamedTuple):
    """One run of a study.

    Attributes:
      setting: as it was given.
      seed: of parameters, order, negatives and dropout.
      best_epoch: chosen on the validation part, or the last; 0 where there was none.
      best_value: of ``training.select_by`` there; -inf where nothing was evaluated.
      records: one an epoch, until the run stopped.
      stopped: ``"epochs"`` (all done), ``"patience"``, or ``"not finite"``: the loss
        of the next epoch was not.
    """

    setting: Setting
    seed: int
    best_epoch: int
    best_value: float
    records: list[Record]
    stopped: str


@dataclasses.dataclass
class Progress:
    """A run on its way: the choice that `fit` makes, for one of many."""

    setting: Setting
    seed: int
    best_epoch: int = 0
    best_value: float = -np.inf
    waited: int = 0
    stopped: str | None = None
    records: list[Record] = dataclasses.field(default_factory=list)

    def note(
        self, epoch: int, scores: dict[str, float], training: Training, last: bool
    ) -> bool:
        """Takes an epoch in; whether its parameters are the best so far."""
        if last:
            self.best_epoch = epoch
            return True
        if not scores:
            return False
        if scores[training.select_by] > self.best_value:
            self.best_value, self.best_epoch = scores[training.select_by], epoch
            self.waited = 0
            return True
        self.waited += 1
        return False

    def goes_on(self, training: Training) -> bool:
        """Whether another epoch is worth while."""
        return self.stopped is None and self.waited < training.patience

    def record_of(self, epoch: int) -> Record | None:
        """Of an epoch, None where the run had stopped."""
        return self.records[epoch - 1] if len(self.records) >= epoch else None

    def finish(self) -> Run:
        """What is returned of it."""
        return Run(
            self.setting,
            self.seed,
            self.best_epoch,
            self.best_value,
            self.records,
            self.stopped or "epochs",
        )


class Held(NamedTuple):
    """What a study holds between two epochs.

    Attributes:
      epoch: epochs done.
      runs: all R.
      places: ``[P]``, the runs of the program; the others have stopped.
      states: theirs, leaves ``[P, ...]``.
      best: parameters of the best epochs of all, leaves ``[R, ...]``.
    """

    epoch: int
    runs: list[Progress]
    places: np.ndarray
    states: State
    best: Params


# What of a run is not in its setting.
_KEPT = ("best_epoch", "best_value", "waited", "stopped")


def save(checkpoints: Checkpoints, held: Held, fingerprint: dict[str, Any]) -> None:
    """Keeps what a study holds."""
    runs = [
        {name: getattr(run, name) for name in _KEPT}
        | {"records": [list(record) for record in run.records]}
        for run in held.runs
    ]
    record = {"places": held.places.tolist(), "runs": runs}
    checkpoints.save(
        held.epoch,
        _arrays(held.states, held.best),
        _identity(held.runs, fingerprint) | record,
    )


def restore(checkpoints: Checkpoints, held: Held, fingerprint: dict[str, Any]) -> Held:
    """What a study held, or what it has at its start where nothing was kept."""

    def like(record):
        num = len(record["places"])

        def shape(leaf):
            return jax.ShapeDtypeStruct((num, *leaf.shape[1:]), leaf.dtype)

        arrays = _arrays(held.states, held.best)
        return arrays | {"states": jax.tree.map(shape, arrays["states"])}

    expect = _identity(held.runs, fingerprint)
    restored = checkpoints.restore(like, expect=expect)
    if restored is None:
        return held
    runs = [
        Progress(
            run.setting,
            run.seed,
            **{name: saved[name] for name in _KEPT},
            records=[Record(*record) for record in saved["records"]],
        )
        for run, saved in zip(held.runs, restored.record["runs"], strict=True)
    ]
    states = restored.tree["states"]
    states = states._replace(key=jax.random.wrap_key_data(states.key))
    places = np.asarray(restored.record["places"])
    return Held(restored.epoch, runs, places, states, restored.tree["best"])


def _identity(runs: Sequence[Progress], fingerprint: dict[str, Any]) -> dict[str, Any]:
    """What must be the same to go on."""
    settings = [[float(x) for x in jax.tree.leaves(run.setting)] for run in runs]
    seeds = [run.seed for run in runs]
    return {"fingerprint": fingerprint, "settings": settings, "seeds": seeds}


def _arrays(states: State, best: Params) -> dict[str, Any]:
    """The arrays of a checkpoint."""
    key = jax.random.key_data(states.key)
    return {"states": states._replace(key=key), "best": best}


def take(tree: Any, rows: Any) -> Any:
    """Some of the runs, or one of them."""
    return jax.tree.map(lambda leaf: leaf[rows], tree)
