"""How the setting of a row is chosen on valid."""

import contextlib
import functools
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments._problem import Problem
from experiments._progress import show_settings
from experiments._rows import Row, configured, settings_of
from recjax.checkpoint import Checkpoints
from recjax.training import make_optimizer, study

# Epochs between two checkpoints: all states of a grid may be some gigabytes.
_CHECKPOINT_EVERY = 5


def tune(row: Row, problem: Problem, folder: Path | None = None) -> dict[str, Any]:
    """Compares the settings of a row's grid on valid.

    Args:
      row: with a grid, or without one.
      problem: the data.
      folder: where trainings are saved, and resumed from; it is for this row on these
        data alone.

    Returns:
      What the file keeps: the best setting, the value of each, and the seconds where
      nothing was resumed; nothing where there is no grid.
    """
    if not row.grid:
        return {}
    start, resumed = time.perf_counter(), folder is not None and folder.exists()
    if hasattr(row.model, "solve"):
        values = _try_closed(row, problem)
    else:
        values = _try_trained(row, problem, folder)
    setting = row.grid[int(np.argmax(values))]
    print(f"  {f'best of {len(values)}: {dict(setting)}':<76}", file=sys.stderr)
    found = {"setting": dict(setting), "grid_valid": values}
    return found if resumed else found | {"tuning_seconds": time.perf_counter() - start}


def with_setting(row: Row, setting: Mapping[str, float]) -> Row:
    """A row with one of the settings of its grid."""
    if "learning_rate" in setting:
        rate = setting["learning_rate"]
        row = row._replace(training=settings_of(row, 0, learning_rate=rate))
    return row._replace(model=configured(row.model, setting))


def _try_closed(row: Row, problem: Problem) -> list[float]:
    """What each setting of a closed form gives on valid."""
    values = []
    for setting in row.grid:
        changed = with_setting(row, setting)
        _, context = problem.context(changed, merged=False)
        params = changed.model.solve(context)
        found, _ = problem.score(changed, params, context, problem.valid)
        values.append(found[settings_of(row, 0).select_by])
    return values


def _try_trained(row: Row, problem: Problem, folder: Path | None) -> list[float]:
    """What each setting of a trained model gives on valid, all in one program."""
    training = settings_of(row, 0, checkpoint_every=_CHECKPOINT_EVERY)
    spec, context = problem.context(row, merged=False)
    num_rows = context.users.shape[0]

    def make(setting):
        adam = make_optimizer(training, num_rows, setting.get("learning_rate"))
        return configured(row.model, setting), adam

    with contextlib.ExitStack() as stack:
        checkpoints = None
        if folder is not None:
            checkpoints = stack.enter_context(Checkpoints(folder, keep=1))
        found = study(
            make,
            row.grid,
            context,
            spec,
            training=training,
            valid=problem.valid,
            checkpoints=checkpoints,
            on_epoch=functools.partial(show_settings, by=training.select_by),
        )
    return [run.best_value for run in found.runs]
