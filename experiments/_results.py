"""The file of a table: one JSON that grows row by row, and users' values beside it."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments._compare import compare
from recjax.run_folder import write_json

# What is kept of the tuning of a row, see `experiments._tuning.tune`.
TUNED = ("setting", "grid_valid", "tuning_seconds")


class Begun(NamedTuple):
    """What there is of a row that is not whole.

    Attributes:
      tuned: what `experiments._tuning.tune` gave; empty where it was not asked.
      runs: of the first seeds.
      values: of single users for these, see `experiments._runs.run_seeds`.
    """

    tuned: dict[str, Any]
    runs: list[dict[str, Any]]
    values: dict[str, np.ndarray]


class Store:
    """Rows of a table on disk.

    The file is read again before each writing, so that two processes may fill it with
    different rows.
    """

    def __init__(
        self, path: Path | None, head: Mapping[str, Any], order: Sequence[str]
    ) -> None:
        """Opens the file, or begins one.

        Args:
          path: the JSON file; None keeps rows in memory only.
          head: what all rows share.
          order: names of rows, as they are to stand in the file.

        Raises:
          ValueError: the file holds another experiment, or results of another split.
        """
        self._path, self._head, self._order = path, dict(head), list(order)
        self.found: dict[str, Any] = self._head | {"rows": {}}
        self._read()

    def _read(self) -> None:
        """What the file holds, under our head."""
        if self._path is None or not self._path.exists():
            return
        found = json.loads(self._path.read_text())
        for what in (("experiment",), ("dataset", "split_hash"), ("protocol",)):
            theirs: Any = found
            ours: Any = self._head
            for key in what:
                theirs = theirs.get(key) if isinstance(theirs, dict) else None
                ours = ours[key]
            if theirs != ours:
                raise ValueError(
                    f"{self._path} has {' '.join(what)} {theirs!r} where {ours!r} is "
                    "asked: choose another --out"
                )
        self.found = self._head | {"rows": found["rows"]}
        for key in ("comparison", "begun"):
            if key in found:
                self.found[key] = found[key]

    def holds(
        self, name: str, identity: Mapping[str, Any], seeds: int, best_on_test: bool
    ) -> bool:
        """Whether a row is there as it is asked for.

        Args:
          name: of the row.
          identity: its model and settings.
          seeds: that it must have at least.
          best_on_test: whether it must have that column.

        Returns:
          Whether it is; False also where it was begun, or can be given more seeds.

        Raises:
          ValueError: it is there with other settings, or with less than is asked, and
            what is missing cannot be added.
        """
        row = self.found["rows"].get(name)
        if row is None or _matching(self.found.get("begun", {}), name, identity):
            return False
        wrong = [
            f"{key} {row.get(key)}"
            for key, value in identity.items()
            if row.get(key) != value
        ]
        few = len(row["runs"]) < seeds
        if few and not self.begun(name, identity, best_on_test).runs:
            wrong.append(f"{len(row['runs'])} of {seeds} seeds")
        if best_on_test and not (row["closed_form"] or "best_on_test" in row):
            wrong.append("no best epoch on test")
        if wrong:
            raise ValueError(
                f"{self._path} has {name!r} with {'; '.join(wrong)}: --force runs it "
                "again"
            )
        return not few

    def begun(
        self, name: str, identity: Mapping[str, Any], best_on_test: bool
    ) -> Begun:
        """What can be gone on with of a row: one cut off, or one with fewer seeds.

        Args:
          name: of the row.
          identity: its model and settings.
          best_on_test: whether seeds must have that column.

        Returns:
          What is there; nothing of another model or settings, and no seeds where the
          values of their users are gone or where all are retrained together.
        """
        place = f"begun/{name}/"
        entry = _matching(self.found.get("begun", {}), name, identity)
        if not entry:
            place = f"{name}/"
            entry = _matching(self.found["rows"], name, identity)
        if self._path is None or not entry:
            return Begun({}, [], {})
        tuned = {key: entry[key] for key in TUNED if key in entry}
        runs = list(entry.get("runs", []))
        values = {
            key.removeprefix(place): array
            for key, array in read_values(self._path).items()
            if key.startswith(place)
        }
        if self._head["retrained"] or not all(
            ("best_on_test" in run or not best_on_test)
            and any(key.startswith(f"{run['seed']}/") for key in values)
            for run in runs
        ):
            return Begun(tuned, [], {})
        return Begun(tuned, runs, values)

    def begin(
        self,
        name: str,
        entry: Mapping[str, Any],
        values: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Keeps what there is of a row, until the row is added.

        Args:
          name: of the row.
          entry: its model and settings, what tuning gave, and ``"runs"``, as far as
            they are known.
          values: of single users for these runs.
        """
        self._read()
        self.found["begun"] = self.found.get("begun", {}) | {name: dict(entry)}
        self._write_values({f"begun/{name}/": values or {}})
        self._write()

    def describe(self, name: str, words: Mapping[str, Any]) -> None:
        """Renews what is said about a row that is there, such as its note."""
        if any(self.found["rows"][name].get(key) != x for key, x in words.items()):
            self._read()
            self.found["rows"][name] |= words
            self._write()

    def add(
        self, name: str, row: Mapping[str, Any], values: Mapping[str, np.ndarray]
    ) -> None:
        """Keeps a row.

        Args:
          name: of the row.
          row: what the JSON is to hold.
          values: of single users, by ``"SEED/METRIC"`` and ``"user"``.
        """
        self._read()
        self.found["rows"][name] = dict(row)
        rows = self.found["rows"]
        known = [key for key in self._order if key in rows]
        rest = [key for key in rows if key not in self._order]
        self.found["rows"] = {key: rows[key] for key in known + rest}
        begun = self.found.pop("begun", {})
        if begun := {key: x for key, x in begun.items() if key != name}:
            self.found["begun"] = begun
        self._write_values({f"{name}/": values, f"begun/{name}/": {}})
        # Last: a row that the JSON names has its users.
        self._write()

    def compare(self, claimed: str, metric: str) -> None:
        """Compares a row with all others, see `experiments._compare.compare`.

        Args:
          claimed: the row that is claimed to be better; nothing is done without it.
          metric: by which.
        """
        if self._path is None:
            return
        self._read()
        rows = self.found["rows"]
        if claimed not in rows:
            return
        means = {name: row["mean"][metric] for name, row in rows.items()}
        self.found["comparison"] = compare(
            read_values(self._path),
            claimed,
            means,
            metric,
            self.found.get("comparison"),
        )
        self._write()

    def _write_values(self, places: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        """Puts arrays below prefixes, in place of all that was there."""
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        old = read_values(self._path)
        kept = {key: x for key, x in old.items() if not key.startswith(tuple(places))}
        for place, values in places.items():
            kept |= {f"{place}{key}": array for key, array in values.items()}
        if kept or old:
            _write_arrays(self._path.with_suffix(".npz"), kept)

    def _write(self) -> None:
        if self._path is not None:
            write_json(self._path, self.found)


def _matching(
    entries: Mapping[str, Any], name: str, identity: Mapping[str, Any]
) -> Mapping[str, Any]:
    """The entry of a row if it has this model and these settings, or nothing."""
    entry = entries.get(name, {})
    return entry if all(entry.get(k) == x for k, x in identity.items()) else {}


def read_values(path: Path) -> dict[str, np.ndarray]:
    """Test values of single users beside a file of results.

    Args:
      path: the JSON file.

    Returns:
      Arrays by ``"ROW/SEED/METRIC"``, and the users' ids by ``"ROW/user"``; empty
      where they were not kept.
    """
    path = path.with_suffix(".npz")
    if not path.exists():
        return {}
    with np.load(path) as file:
        return dict(file)


def _write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            np.savez_compressed(file, **arrays)
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
