"""A prepared dataset in memory, as training and recommending see it."""

import difflib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from recjax.data._arrow import pc
from recjax.data._names import shorten, shown
from recjax.types import Feature, Interactions, Spec


class Dataset(NamedTuple):
    """The parts that were asked for, and what is known of users and items.

    Attributes:
      spec: sizes, for a model's ``init``.
      name: the dataset's name.
      parts: interactions by part, sorted by user, then item; ``train`` holds every
        relation, the others only rows of the target.
      users: one row a user; column ``id`` first.
      items: one row an item; column ``id`` first.
      features: item feature tables, memory-mapped.
      relation_names: names of the behaviours; empty for one unnamed behaviour.
      target: the behaviour that is evaluated; None where there is one only.
      split_hash: names the split; equal hashes are equal splits.
      feature_hashes: SHA-256 of each feature's values.

    Examples:
      >>> import pyarrow as pa
      >>> dataset = Dataset(
      ...     spec=Spec(1, 2), name="tiny", parts={}, users=pa.table({"id": ["ann"]}),
      ...     items=pa.table({"id": ["m1", "m2"], "title": ["Alien", None]}),
      ... )
      >>> dataset.find_items(["m2"])
      array([1], dtype=int32)
      >>> dataset.titles([0, 1])
      ['Alien', 'm2']
    """

    spec: Spec
    name: str
    parts: dict[str, Interactions]
    users: pa.Table
    items: pa.Table
    features: dict[str, Feature] = {}  # noqa: RUF012 - never mutated
    relation_names: tuple[str, ...] = ()
    target: str | None = None
    split_hash: str = ""
    feature_hashes: dict[str, str] = {}  # noqa: RUF012 - never mutated

    def part(self, name: str) -> Interactions:
        """Interactions of a loaded part; ValueError where it was not loaded."""
        if name not in self.parts:
            raise ValueError(
                f"part {name!r} is not loaded; loaded: {list(self.parts)}.  Ask for it "
                f"by load(path, parts=(..., {name!r}))"
            )
        return self.parts[name]

    def target_rows(self, name: str) -> Interactions:
        """Interactions of a loaded part that are of the target behaviour."""
        rows = self.part(name)
        if rows.relations is None or self.target is None:
            return rows
        return rows.take(rows.relations == self.relation_names.index(self.target))

    def with_features(self, hashes: dict[str, str]) -> "Dataset":
        """With those features alone; ValueError where they are gone or changed.

        What trained on a dataset must find the features it had, whatever came later.
        """
        for name, asked in hashes.items():
            found = self.feature_hashes.get(name, "none")
            if found != asked:
                raise ValueError(
                    f"the feature {name!r} of {self.name} is not the one that was "
                    f"trained with (SHA-256 {asked[:12]}, now {found[:12]}): make it "
                    "as it was"
                )
        widths = ((name, f) for name, f in self.spec.features if name in hashes)
        return self._replace(
            spec=self.spec._replace(features=tuple(widths)),
            features={name: self.features[name] for name in hashes},
            feature_hashes=hashes,
        )

    def find_users(self, ids: Sequence[str] | np.ndarray) -> np.ndarray:
        """Positions ``[n]`` int32 of user ids; ValueError for an unknown one."""
        return _find(self.users["id"], ids, "user")

    def find_items(self, ids: Sequence[str] | np.ndarray) -> np.ndarray:
        """Positions ``[n]`` int32 of item ids; ValueError for an unknown one."""
        return _find(self.items["id"], ids, "item")

    def titles(self, items: Sequence[int] | np.ndarray) -> list[str]:
        """Titles of items ``[n]`` by position; the id where there is no title."""
        rows = np.asarray(items, np.int64)
        if rows.size and not (0 <= rows.min() and rows.max() < self.spec.num_items):
            raise ValueError(
                f"items must lie in [0, {self.spec.num_items}); got {rows.min()} to "
                f"{rows.max()}; turn ids into positions by find_items"
            )
        found = self.items.take(pa.array(rows))
        ids = found["id"].to_pylist()
        if "title" not in found.column_names:
            return ids
        titles = found["title"].cast(pa.string()).to_pylist()
        return [title or name for title, name in zip(titles, ids, strict=True)]


def _find(
    table: pa.ChunkedArray, ids: Sequence[str] | np.ndarray, kind: str
) -> np.ndarray:
    if isinstance(ids, str):
        raise ValueError(f"ids are a list of {kind} ids; got the string {ids!r}")
    # Ids that look like numbers are often given as numbers.
    asked = pa.array([str(x) for x in ids], table.type)
    found = pc.index_in(asked, value_set=table)
    if found.null_count:
        unknown = asked.filter(found.is_null())
        name = unknown[0].as_py()
        near = _nearest(name, table)
        some = [shorten(x, 80) for x in near or table[:3].to_pylist()]
        hint = f"nearest: {some}" if near else f"ids look like {some}"
        more = f" (and {len(unknown) - 1:,} more)" if len(unknown) > 1 else ""
        raise ValueError(f"no {kind} {shown(name)}{more}; {hint}")
    return found.to_numpy(zero_copy_only=False).astype(np.int32)


def _nearest(name: str, table: pa.ChunkedArray) -> list[str]:
    # difflib takes minutes for a million ids.  One typing error leaves the start or
    # the end intact, so ids that share most of either are candidates enough.
    candidates = []
    for shares, piece in (
        (pc.starts_with, lambda size: name[:size]),
        (pc.ends_with, lambda size: name[len(name) - size :]),
    ):
        low, high, best = 0, len(name), table
        while low < high:  # longest start (end) that any id shares
            size = (low + high + 1) // 2
            here = table.filter(shares(table, piece(size)))
            if len(here):
                low, best = size, here
            else:
                high = size - 1
        candidates += best[:2000].to_pylist()
    # Sorted, so that the answer does not depend on the order of a set.
    return difflib.get_close_matches(name, sorted(set(candidates)), n=3)
