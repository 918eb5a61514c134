"""The file of a table: one JSON that grows row by row, and users' values beside it."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments._compare import compare
from recjax.run_folder import write_json


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
        """Whether a row is there.

        Args:
          name: of the row.
          identity: its model and settings.
          seeds: that it must have at least.
          best_on_test: whether it must have that column.

        Returns:
          Whether it is.

        Raises:
          ValueError: it is there with other settings, or with less than is asked.
        """
        row = self.found["rows"].get(name)
        if row is None:
            return False
        wrong = [
            f"{key} {row.get(key)}"
            for key, value in identity.items()
            if row.get(key) != value
        ]
        if len(row["runs"]) < seeds:
            wrong.append(f"{len(row['runs'])} of {seeds} seeds")
        if best_on_test and not (row["closed_form"] or "best_on_test" in row):
            wrong.append("no best epoch on test")
        if wrong:
            raise ValueError(
                f"{self._path} has {name!r} with {'; '.join(wrong)}: --force runs it "
                "again"
            )
        return True

    def tuned(self, name: str, identity: Mapping[str, Any]) -> dict[str, Any]:
        """What a run that was cut off had found by tuning a row.

        Args:
          name: of the row.
          identity: its model and settings.

        Returns:
          What `keep_tuned` was given beside them; nothing where there is none, or of
          another model or settings.
        """
        begun = self.found.get("begun", {}).get(name, {})
        if any(begun.get(key) != value for key, value in identity.items()):
            return {}
        return {key: value for key, value in begun.items() if key not in identity}

    def keep_tuned(self, name: str, tuned: Mapping[str, Any]) -> None:
        """Keeps what tuning a row has found, until the row is added."""
        self._read()
        self.found["begun"] = self.found.get("begun", {}) | {name: dict(tuned)}
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
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        kept = {
            key: array
            for key, array in read_values(self._path).items()
            if not key.startswith(f"{name}/")
        }
        kept |= {f"{name}/{key}": array for key, array in values.items()}
        _write_arrays(self._path.with_suffix(".npz"), kept)
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

    def _write(self) -> None:
        if self._path is not None:
            write_json(self._path, self.found)


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
