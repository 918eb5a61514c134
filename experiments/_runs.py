"""How a row of a table is trained over seeds, and tested once."""

import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments._problem import Problem
from experiments._progress import run_line, show_epoch
from experiments._rows import Row, settings_of
from recjax.phases import Phases
from recjax.training import Result, Training, fit
from recjax.types import Context, ItemLists, Params, Spec


def run_seeds(
    row: Row,
    problem: Problem,
    seeds: Sequence[int],
    *,
    retrain: bool = False,
    best_on_test: bool = False,
) -> Iterator[tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """Trains a row with one seed after another, and tests each once.

    Args:
      row: model and settings.
      problem: the data.
      seeds: some; one is enough for a closed form.
      retrain: see `Table`; all seeds choose their epochs before the first is tested.
      best_on_test: also look at test after each epoch of the run that is tested, and
        keep the best; it chooses nothing.

    Yields:
      What the file keeps of a seed, and values of single users by
      ``"SEED/METRIC"``, with the ids of the users under ``"user"``.
    """
    if not retrain:
        trained = _choose(row, problem, seeds, best_on_test)
    else:
        # The second training is the one that is tested, and looked at.
        if row.curve is None:
            chosen = _choose(row, problem, seeds, best_on_test=False)
            runs = [run for run, _ in chosen]
        else:
            # A recipe with its number of epochs: nothing is left to choose on valid.
            runs = [{"seed": seed, "seconds": {"total": 0.0}} for seed in seeds]
        trained = _retrain(row, problem, runs, best_on_test)
    for run, (context, params) in trained:
        start = time.perf_counter()
        run["test"], users = problem.test_scores(row, params, context)
        run["seconds"]["test"] = time.perf_counter() - start
        values = {"user": users.pop("user")}
        yield run, values | {f"{run['seed']}/{name}": x for name, x in users.items()}


class _Trained(NamedTuple):
    """What is tested: the parameters, and the data they saw."""

    context: Context
    params: Params


def _context(
    row: Row, problem: Problem, *, merged: bool
) -> tuple[Spec, Context, float]:
    """The data of a row, and the seconds that making them took."""
    start = time.perf_counter()
    spec, context = problem.context(row, merged=merged)
    jax.block_until_ready(context)
    return spec, context, time.perf_counter() - start


def _choose(
    row: Row, problem: Problem, seeds: Sequence[int], best_on_test: bool
) -> Iterator[tuple[dict[str, Any], _Trained]]:
    """Seeds on the training part, with their epochs chosen on the validation part."""
    spec, context, shared = _context(row, problem, merged=False)
    for seed in seeds:
        training = settings_of(row, seed)
        watch = _Watch(row, problem, context, best_on_test)
        params, result, seen = _train(
            row, spec, context, training, watch, problem.valid
        )
        run: dict[str, Any] = {"seed": seed}
        if result:
            run |= {
                "best_epoch": result.best_epoch,
                "epochs": len(result.records),
                "stopped": result.stopped,
            }
        run["valid"], _ = problem.score(row, params, context, problem.valid)
        run |= seen
        run["seconds"]["total"] += shared
        print(f"  {run_line(run)}", file=sys.stderr)
        yield run, _Trained(context, params)


def _retrain(
    row: Row, problem: Problem, runs: list[dict[str, Any]], best_on_test: bool
) -> Iterator[tuple[dict[str, Any], _Trained]]:
    """The seeds again, on the training and the validation part.

    They train for as many epochs as they chose on average, or for those of the row
    where none was chosen; each run gets what is found as ``"retrained"``.
    """
    spec, context, shared = _context(row, problem, merged=True)
    epochs: dict[str, Any] = {}
    if not hasattr(row.model, "solve"):
        every = settings_of(row, 0).epochs
        chosen = statistics.mean(run.get("best_epoch", every) for run in runs)
        epochs = {"epochs": max(1, round(chosen))}
    for run in runs:
        training = settings_of(row, run["seed"], **epochs)
        watch = _Watch(row, problem, context, best_on_test)
        params, _, seen = _train(row, spec, context, training, watch)
        seen["seconds"]["total"] += shared
        run["retrained"] = epochs | seen
        yield run, _Trained(context, params)


def _train(
    row: Row,
    spec: Spec,
    context: Context,
    training: Training,
    watch: "_Watch",
    valid: ItemLists | None = None,
) -> tuple[Params, Result | None, dict[str, Any]]:
    """Parameters, what `fit` says where there is training, and what a run keeps."""
    result = None
    with Phases() as phases:
        if hasattr(row.model, "solve"):
            params = jax.block_until_ready(row.model.solve(context))
        else:
            result = fit(
                row.model,
                context,
                spec,
                training=training,
                valid=valid,
                on_epoch=show_epoch,
                watch=watch,
                phases=phases,
            )
            params = result.params
    return params, result, watch.found() | {"seconds": watch.without(phases.seconds)}


class _Watch:
    """Looks at test after epochs, for what is reported beside; it chooses nothing."""

    def __init__(
        self, row: Row, problem: Problem, context: Context, best_on_test: bool
    ) -> None:
        """For one run."""
        self._row, self._problem, self._context = row, problem, context
        self._every, self._curve = best_on_test, row.curve or {}
        self._best: dict[str, float] | None = None
        self._points: dict[str, float] = {}
        self._seconds = 0.0

    def __call__(self, epoch: int, params: Params) -> None:
        """Looks at an epoch, if it is one to look at."""
        if not (self._every or epoch in self._curve):
            return
        start = time.perf_counter()
        found, _ = self._problem.test_scores(self._row, params, self._context)
        if epoch in self._curve:
            self._points[str(epoch)] = found[self._problem.table.shown[0]]
        by = settings_of(self._row, 0).select_by
        if by not in found:
            raise ValueError(f"the table reports {sorted(found)}, not {by}")
        if self._every and (self._best is None or found[by] > self._best[by]):
            self._best = {"epoch": epoch, **found}
        self._seconds += time.perf_counter() - start

    def found(self) -> dict[str, Any]:
        """What the run keeps of it."""
        found: dict[str, Any] = {"curve": self._points} if self._points else {}
        return found | ({"best_on_test": self._best} if self._best else {})

    def without(self, seconds: Mapping[str, float]) -> dict[str, float]:
        """The seconds of a run, less the looks at test."""
        seconds = dict(seconds)
        seconds["total"] -= self._seconds
        return seconds


def summary(
    runs: Sequence[dict[str, Any]], values: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Means, spreads and seconds of a row.

    Args:
      runs: of its seeds, from 0 on, see `run_seeds`.
      values: of single users in these runs.

    Returns:
      What the file keeps of the row, the runs included.
    """
    found: dict[str, Any] = {"mean": {}, "sd": {}, "standard_error": {}}
    for name in runs[0]["test"]:
        found["mean"][name] = statistics.mean(run["test"][name] for run in runs)
        if len(runs) > 1:
            found["sd"][name] = statistics.stdev(run["test"][name] for run in runs)
        if f"0/{name}" in values and len(values["user"]) > 1:
            # Over users, of their mean over seeds: what other users would change.
            of_user = np.mean(
                [
                    np.asarray(values[f"{seed}/{name}"], np.float64)
                    for seed in range(len(runs))
                ],
                axis=0,
            )
            error = of_user.std(ddof=1) / np.sqrt(len(of_user))
            found["standard_error"][name] = float(error)
    seen = [run.get("retrained", run).get("best_on_test") for run in runs]
    if all(best is not None for best in seen):
        found["best_on_test"] = {
            name: statistics.mean(best[name] for best in seen) for name in seen[0]
        }
    curves = [run.get("retrained", run).get("curve") for run in runs]
    if curves[0]:
        found["curve"] = {
            # A seed may have stopped before.
            epoch: statistics.mean(x[epoch] for x in curves if epoch in (x or {}))
            for epoch in curves[0]
        }
    found["seconds_a_seed"] = statistics.mean(
        run["seconds"]["total"]
        + run.get("retrained", {"seconds": {"total": 0.0}})["seconds"]["total"]
        for run in runs
    )
    return found | {"runs": list(runs)}
