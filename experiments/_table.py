"""What the tables of experiments share: rows in, one JSON file out.

A module gives a `Table` of rows, models with their settings, and calls `main`:

    python -m experiments.NAME [ROW ...] --data-dir DIR --seeds 5 --out FILE.json

Each seed of a row is trained on the training part, its epoch chosen on the validation
part, and scored once on the test part.  A row that the file holds already is not run
again; a run that was cut off goes on within its tuning, with the setting that it had
chosen, and with the next seed.  ``FILE.npz`` beside the file keeps the test values of
single users, for tests of significance and for rows that are given more seeds; it can
be made again and is not committed.
"""

import argparse
import dataclasses
import datetime
import difflib
import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import limits
from experiments import _results, report
from experiments._problem import Problem
from experiments._rows import Row, Table, settings_of
from experiments._runs import run_seeds, summary
from experiments._tuning import tune, with_setting
from recjax.config import to_dict
from recjax.data import Split, data_home, find, prepare
from recjax.run_folder import environment


def _identity(row: Row, table: Table) -> dict[str, Any]:
    """What must be the same for a row not to be run again."""
    training = None
    if not hasattr(row.model, "solve"):
        training = to_dict(settings_of(row, 0))
        del training["seed"]
    identity = {
        "model": to_dict(row.model),
        "training": training,
        "grid": [dict(setting) for setting in row.grid] or None,
        "retrained": table.retrain,
        "behaviours": row.behaviours or None,
        "features": row.features or None,
    }
    # As it will be read again, with lists where tuples were.
    return json.loads(json.dumps(identity))


def _describe(row: Row) -> dict[str, Any]:
    return {
        "note": row.note,
        "settings_tried": row.tried + len(row.grid),
        "published": dict(row.published) if row.published else None,
        "published_curve": {str(e): x for e, x in row.curve.items()}
        if row.curve
        else None,
        "closed_form": hasattr(row.model, "solve"),
    }


def run_table(
    table: Table,
    problem: Problem,
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
      problem: on what.
      name: of the experiment.
      only: names of rows; empty for all.
      seeds: their number.
      out: the JSON file; None keeps nothing.
      best_on_test: see `run_seeds`.
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
    head = {
        "experiment": name,
        "dataset": problem.facts(),
        "protocol": problem.protocol(),
        "retrained": table.retrain,
        "shown": list(table.shown),
    }
    store = _results.Store(out, head, tuple(table.rows))
    wanted = {row: table.rows[row] for row in only or table.rows}
    todo = {}
    # All of them before the first is run: it may take hours.
    for key, row in wanted.items():
        count = 1 if hasattr(row.model, "solve") else seeds
        identity = _identity(row, table)
        if force or not store.holds(key, identity, count, best_on_test):
            todo[key] = identity, count
        else:
            store.describe(key, _describe(row))
    for key, (identity, count) in todo.items():
        row = wanted[key]
        folder = _tuning_folder(out, key, identity, problem)
        if force:
            # From here on nothing counts that was found before.
            store.begin(key, identity)
            _remove(folder)
        tuned, runs, values = store.begun(key, identity, best_on_test)
        there = f", with {len(runs)} of {count} seeds there" if runs else ""
        print(f"{key}{there}", file=sys.stderr)
        if not tuned and (tuned := tune(row, problem, folder)):
            store.begin(key, identity | tuned)
        _remove(folder)
        for run, users in run_seeds(
            with_setting(row, tuned["setting"]) if tuned else row,
            problem,
            range(len(runs), count),
            retrain=table.retrain,
            best_on_test=best_on_test,
        ):
            runs.append(run)
            values |= users
            # The last one is kept with the row.
            if len(runs) < count:
                store.begin(key, identity | tuned | {"runs": runs}, values)
        facts = {
            "date": datetime.date.today().isoformat(),
            "host": limits.host(),
            **environment(),
        }
        entry = identity | _describe(row) | tuned | summary(runs, values) | facts
        store.add(key, entry, values)
    if table.claimed and todo:
        store.compare(table.claimed, table.shown[-1])
    return store.found


def _tuning_folder(
    out: Path | None, name: str, identity: dict[str, Any], problem: Problem
) -> Path | None:
    """Where the tuning of a row is kept on the way, beside the file."""
    if out is None:
        return None
    what = [name, identity, problem.facts()["split_hash"]]
    digest = hashlib.sha256(json.dumps(what).encode()).hexdigest()
    return out.with_suffix(f".{digest[:12]}.tuning")


def _remove(folder: Path | None) -> None:
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


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
    table: Table,
    doc: str | None,
    name: str,
    argv: Sequence[str] | None = None,
    problem: Callable[[], Problem] | None = None,
) -> dict[str, Any]:
    """The command line of an experiment.

    Args:
      table: what it runs.
      doc: of the module; shown by ``--help``.
      name: of the module.
      argv: options; None for those of the process.
      problem: makes the data; None takes the table's from ``--data-dir``.

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
    parser.add_argument("--data-dir", type=Path, required=problem is None)
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
            problem()
            if problem
            else Problem(table, dataset_folder(table, options.data_dir)),
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
