"""What the tables of experiments share: rows in, one JSON file out.

A module gives a `Table` of rows, models with their settings, and calls `main`:

    python -m experiments.NAME [ROW ...] --data-dir DIR --seeds 5 --out FILE.json

Each seed of a row is trained on the training part, its epoch chosen on the validation
part, and scored once on the test part, which is read only when all seeds have chosen.
A row that the file holds already is not run again; a run that was cut off goes on with
the next row.  ``FILE.npz`` beside the file keeps the test values of single users, for
tests of significance; it can be made again and is not committed.
"""

import argparse
import dataclasses
import datetime
import difflib
import hashlib
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks import limits
from experiments import _results, report
from recjax.config import to_dict
from recjax.data import Dataset, Split, data_home, find, load, prepare
from recjax.evaluation import evaluate
from recjax.phases import Phases
from recjax.pipeline import build_context, target_lists
from recjax.run_folder import environment
from recjax.training import Record, Training, fit
from recjax.types import Context, Interactions, ItemLists, Params, Spec
from recjax.types import prepare as prepare_context


class Row(NamedTuple):
    """One line of a table.

    Attributes:
      model: a model; closed forms are solved once, whatever the number of seeds.
      training: its settings; None for closed forms.  The seed is that of the run.
      note: what the reader should know, such as where published figures come from.
      tried: settings that were tried on the validation part before these.
      published: metrics by name that a paper reports, None where there are none.
    """

    model: Any
    training: Training | None = None
    note: str = ""
    tried: int = 0
    published: Mapping[str, float] | None = None


class Table(NamedTuple):
    """What an experiment runs.

    Attributes:
      dataset: its name below ``--data-dir``.
      rows: by name.
      split: how rows are held out, where the source does not say.
      attributes: item columns whose values become nodes of the graph.
      ks: cutoffs.
      metrics: that are reported; `recjax.evaluation.METRICS`.
      shown: columns of the rendered table.
      retrain: train once more on the training and the validation part together, for
        as many epochs as the seeds chose on average, before the test.
      claimed: the row that is compared with all others, see `experiments._compare`.
    """

    dataset: str
    rows: Mapping[str, Row]
    split: Split = Split()
    attributes: tuple[str, ...] = ()
    ks: tuple[int, ...] = (10, 20)
    metrics: tuple[str, ...] = ("recall", "ndcg", "precision")
    shown: tuple[str, ...] = ("recall@20", "ndcg@20")
    retrain: bool = False
    claimed: str | None = None


class _Problem:
    """The data of a table, on the device where needed; test is read when asked."""

    def __init__(self, table: Table, path: Path) -> None:
        """Loads the training and the validation part; ValueError where one is empty."""
        self._table, self._path = table, path
        self._base: dict[tuple[float, bool], tuple[Spec, Context]] = {}
        self.data = load(path)
        self.valid = target_lists(self.data, "valid")
        if not self.valid.items.size:
            raise ValueError(f"{path} has no validation rows to choose epochs by")
        self._test: ItemLists | None = None

    def test(self) -> ItemLists:
        """The test items of each user."""
        if self._test is None:
            self._test = target_lists(load(self._path, ("test",)), "test")
        return self._test

    def context(self, row: Row, *, merged: bool) -> tuple[Spec, Context]:
        """Sizes and context for a model; of train and valid together, if merged."""
        power = row.training.negative_power if row.training else 0.0
        if (power, merged) not in self._base:
            data = merge_valid(self.data) if merged else self.data
            self._base[power, merged] = build_context(
                data, self._table.attributes, power
            )
        spec, context = self._base[power, merged]
        return spec, prepare_context(row.model, context)

    def score(
        self, row: Row, params: Params, context: Context, targets: ItemLists
    ) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """Metrics, and those of single users."""
        table = self._table
        return evaluate(
            row.model,
            params,
            context,
            targets,
            ks=table.ks,
            metrics=table.metrics,
            per_user=True,
        )


def merge_valid(data: Dataset) -> Dataset:
    """The dataset whose training part holds the validation part too.

    Args:
      data: with both parts.

    Returns:
      The dataset; rows of the target behaviour only.
    """
    train, valid = data.target_rows("train"), data.target_rows("valid")
    rows = Interactions(
        np.concatenate([train.users, valid.users]),
        np.concatenate([train.items, valid.items]),
    )
    return data._replace(parts={"train": rows})


def run_row(
    row: Row,
    problem: _Problem,
    *,
    seeds: int,
    retrain: bool = False,
    best_on_test: bool = False,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """All seeds of a row.

    Args:
      row: model and settings.
      problem: the data.
      seeds: their number; one is enough for a closed form.
      retrain: see `Table`.
      best_on_test: also look at test after each epoch of the run that is tested, and
        keep the best; it chooses nothing.

    Returns:
      What the file keeps of the row, and values of single users by
      ``"SEED/METRIC"``, with the ids of the users under ``"user"``.
    """
    is_closed = hasattr(row.model, "solve")
    start = time.perf_counter()
    spec, context = problem.context(row, merged=False)
    jax.block_until_ready(context)
    shared = time.perf_counter() - start

    runs, trained = [], []
    for seed in range(1 if is_closed else seeds):
        look = best_on_test and not retrain
        run, params = _select(row, problem, spec, context, seed, look)
        run["seconds"]["total"] += shared
        runs.append(run)
        trained.append(None if retrain else params)
        print(f"  {_progress(run)}", file=sys.stderr)
    if retrain:
        start = time.perf_counter()
        spec, context = problem.context(row, merged=True)
        jax.block_until_ready(context)
        shared = time.perf_counter() - start
        epochs = 0
        if not is_closed:
            epochs = max(1, round(statistics.mean(run["best_epoch"] for run in runs)))
        for seed, run in enumerate(runs):
            again, trained[seed] = _retrain(
                row, problem, spec, context, seed, epochs, best_on_test
            )
            again["seconds"]["total"] += shared
            run["retrained"] = again
    values: dict[str, np.ndarray] = {}
    for seed, run in enumerate(runs):
        start = time.perf_counter()
        run["test"], users = problem.score(row, trained[seed], context, problem.test())
        run["seconds"]["test"] = time.perf_counter() - start
        values["user"] = users.pop("user")
        values |= {f"{seed}/{name}": column for name, column in users.items()}
    return _summary(runs, values), values


def _training(row: Row, seed: int, **changes: Any) -> Training:
    return dataclasses.replace(row.training or Training(), seed=seed, **changes)


def _select(
    row: Row,
    problem: _Problem,
    spec: Spec,
    context: Context,
    seed: int,
    look: bool,
) -> tuple[dict[str, Any], Params]:
    """A seed on the training part, with its epoch chosen on the validation part."""
    run: dict[str, Any] = {"seed": seed}
    watch = _Watch(row, problem, context, look)
    with Phases() as phases:
        if hasattr(row.model, "solve"):
            params = jax.block_until_ready(row.model.solve(context))
        else:
            result = fit(
                row.model,
                context,
                spec,
                training=_training(row, seed),
                valid=problem.valid,
                on_epoch=_show,
                watch=watch,
                phases=phases,
            )
            params = result.params
            run |= {
                "best_epoch": result.best_epoch,
                "epochs": len(result.records),
                "stopped": result.stopped,
            }
    run["valid"], _ = problem.score(row, params, context, problem.valid)
    if watch.best is not None:
        run["best_on_test"] = watch.best
    run["seconds"] = watch.without(phases.seconds)
    return run, params


def _retrain(
    row: Row,
    problem: _Problem,
    spec: Spec,
    context: Context,
    seed: int,
    epochs: int,
    look: bool,
) -> tuple[dict[str, Any], Params]:
    """A seed on the training and the validation part, for so many epochs."""
    watch = _Watch(row, problem, context, look)
    with Phases() as phases:
        if hasattr(row.model, "solve"):
            params = jax.block_until_ready(row.model.solve(context))
        else:
            params = fit(
                row.model,
                context,
                spec,
                training=_training(row, seed, epochs=epochs),
                watch=watch,
                phases=phases,
            ).params
    run: dict[str, Any] = {"epochs": epochs} if epochs else {}
    if watch.best is not None:
        run["best_on_test"] = watch.best
    run["seconds"] = watch.without(phases.seconds)
    return run, params


class _Watch:
    """Keeps the best epoch on test, for a column that says so; it chooses nothing."""

    def __init__(
        self, row: Row, problem: _Problem, context: Context, look: bool
    ) -> None:
        """For one run."""
        self._row, self._problem, self._context = row, problem, context
        self._look, self._seconds = look, 0.0
        self.best: dict[str, float] | None = None

    def __call__(self, epoch: int, params: Params) -> None:
        """Looks at an epoch."""
        if not self._look:
            return
        start = time.perf_counter()
        test = self._problem.test()
        found, _ = self._problem.score(self._row, params, self._context, test)
        by = _training(self._row, 0).select_by
        if by not in found:
            raise ValueError(f"the table reports {sorted(found)}, not {by}")
        if self.best is None or found[by] > self.best[by]:
            self.best = {"epoch": epoch, **found}
        self._seconds += time.perf_counter() - start

    def without(self, seconds: Mapping[str, float]) -> dict[str, float]:
        """The seconds of a run, less the looks at test."""
        seconds = dict(seconds)
        seconds["total"] -= self._seconds
        return seconds


def _summary(
    runs: list[dict[str, Any]], values: dict[str, np.ndarray]
) -> dict[str, Any]:
    """Means, spreads and seconds of the runs of a row."""
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
    if seen[0] is not None:
        found["best_on_test"] = {
            name: statistics.mean(best[name] for best in seen) for name in seen[0]
        }
    found["seconds_a_seed"] = statistics.mean(
        run["seconds"]["total"]
        + run.get("retrained", {"seconds": {"total": 0.0}})["seconds"]["total"]
        for run in runs
    )
    return found | {"runs": runs}


def _show(record: Record) -> None:
    """A line that the next look at the validation part writes over."""
    if record.valid:
        scores = ", ".join(f"{name} {x:.4f}" for name, x in record.valid.items())
        words = f"epoch {record.epoch}, best {record.best_epoch}: valid {scores}"
        print(f"  {words}", end="\r", file=sys.stderr, flush=True)


def _progress(run: Mapping[str, Any]) -> str:
    words = f"seed {run['seed']}: "
    if "best_epoch" in run:
        words += f"epoch {run['best_epoch']} of {run['epochs']}, "
    scores = ", ".join(f"{name} {value:.4f}" for name, value in run["valid"].items())
    return f"{words}valid {scores}; {run['seconds']['total']:.1f} s"


def _identity(row: Row, table: Table) -> dict[str, Any]:
    """What must be the same for a row not to be run again."""
    training = None
    if not hasattr(row.model, "solve"):
        training = to_dict(_training(row, 0))
        del training["seed"]
    identity = {
        "model": to_dict(row.model),
        "training": training,
        "retrained": table.retrain,
    }
    # As it will be read again, with lists where tuples were.
    return json.loads(json.dumps(identity))


def _describe(row: Row) -> dict[str, Any]:
    return {
        "note": row.note,
        "settings_tried": row.tried,
        "published": dict(row.published) if row.published else None,
        "closed_form": hasattr(row.model, "solve"),
    }


def _protocol(table: Table, spec: Spec) -> str:
    """How the numbers came about, in a sentence."""
    masked, fitted = "training items masked", ""
    if table.retrain:
        masked = "training and validation items masked"
        fitted = (
            ", then trained on train and valid for the mean of the epochs that the "
            "seeds chose"
        )
    return (
        f"full ranking of {spec.num_items:,} items; {masked}; mean over users with a "
        "held-out item; ideal DCG of min(|held out|, K) ones; epoch chosen on valid"
        f"{fitted}; test read once a seed"
    )


def run_table(
    table: Table,
    path: Path,
    *,
    name: str = "table",
    only: Sequence[str] = (),
    seeds: int = 5,
    out: Path | None = None,
    best_on_test: bool = False,
    force: bool = False,
) -> dict[str, Any]:
    """Runs the rows that the file does not hold yet.

    Args:
      table: what to run.
      path: folder of the prepared dataset.
      name: of the experiment.
      only: names of rows; empty for all.
      seeds: their number.
      out: the JSON file; None keeps nothing.
      best_on_test: see `run_row`.
      force: run rows that are there again.

    Returns:
      What the file holds.

    Raises:
      ValueError: a row is unknown, or the file holds results of something else.
    """
    for row in only:
        if row not in table.rows:
            near = difflib.get_close_matches(row, table.rows, n=3, cutoff=0.3)
            raise ValueError(
                f"no row {row!r}, perhaps {' or '.join(near or table.rows)}?"
            )
    if seeds < 1:
        raise ValueError(f"seeds {seeds} must be at least 1")
    problem = _Problem(table, path)
    data = problem.data
    head = {
        "experiment": name,
        "dataset": {
            "name": data.name,
            "split_hash": data.split_hash,
            "users": data.spec.num_users,
            "items": data.spec.num_items,
            "train": data.target_rows("train").num_rows,
            "valid": data.target_rows("valid").num_rows,
        },
        "protocol": _protocol(table, data.spec),
        "retrained": table.retrain,
        "shown": list(table.shown),
    }
    store = _results.Store(out, head, tuple(table.rows))
    wanted = {row: table.rows[row] for row in only or table.rows}
    todo = []
    # All of them before the first is run: it may take hours.
    for key, row in wanted.items():
        count = 1 if hasattr(row.model, "solve") else seeds
        if force or not store.holds(key, _identity(row, table), count, best_on_test):
            todo.append(key)
        else:
            store.describe(key, _describe(row))
    for key in todo:
        row = wanted[key]
        print(f"{key}", file=sys.stderr)
        entry, values = run_row(
            row,
            problem,
            seeds=seeds,
            retrain=table.retrain,
            best_on_test=best_on_test,
        )
        facts = {
            "date": datetime.date.today().isoformat(),
            "host": limits.host(),
            **environment(),
        }
        store.add(key, _identity(row, table) | _describe(row) | entry | facts, values)
    if table.claimed and todo:
        store.compare(table.claimed, table.shown[-1])
    return store.found


def dataset_folder(table: Table, data_dir: Path) -> Path:
    """The prepared dataset of a table, made where it is missing.

    Args:
      table: names the dataset and its split.
      data_dir: where the source is, or the prepared folder.

    Returns:
      The folder.
    """
    source = data_dir / table.dataset
    if table.split == Split() or (source / "dataset.json").is_file():
        return find(source)
    # A folder of its own: the default split of the same source may be there.
    text = json.dumps(dataclasses.asdict(table.split), sort_keys=True)
    digest = hashlib.sha256(f"{source.resolve()} {text}".encode()).hexdigest()
    out = data_home() / f"{source.name}-{digest[:8]}"
    return prepare(source, out, split_by=table.split)


def main(
    table: Table, doc: str | None, name: str, argv: Sequence[str] | None = None
) -> dict[str, Any]:
    """The command line of an experiment.

    Args:
      table: what it runs.
      doc: of the module; shown by ``--help``.
      name: of the module.
      argv: options; None for those of the process.

    Returns:
      What the file holds.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m experiments.{name}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "rows", nargs="*", metavar="ROW", help=f"any of {', '.join(table.rows)}"
    )
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="a JSON file, added to row by row")
    parser.add_argument(
        "--best-on-test",
        action="store_true",
        help="also a column of the best epoch on test, which chooses nothing",
    )
    parser.add_argument("--force", action="store_true", help="run rows again")
    options = parser.parse_args(argv)
    try:
        found = run_table(
            table,
            dataset_folder(table, options.data_dir),
            name=name,
            only=options.rows,
            seeds=options.seeds,
            out=options.out,
            best_on_test=options.best_on_test,
            force=options.force,
        )
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print(report.section(found))
    return found
