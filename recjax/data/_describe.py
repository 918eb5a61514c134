"""A page about a prepared dataset, for people."""

import json
import os
import textwrap
from typing import Any

import numpy as np

from recjax.console import text_table
from recjax.data._dataset import Dataset
from recjax.data._manifest import Manifest, absolute, read_manifest
from recjax.data._store import load
from recjax.types import Interactions

_WIDTH = 80
_QUANTILES = (("min", 0.0), ("10%", 0.1), ("median", 0.5), ("90%", 0.9), ("max", 1.0))


def describe(path: str | os.PathLike) -> str:
    """Plain text about a prepared dataset: sizes, split, degrees, features, cleaning.

    Training and validation rows are read; numbers of rows come from the manifest.  Of
    the items that were held out for validation it says how many have a higher number
    than all that their user trains on.  By chance it is one in d + 1 for d training
    items; where it is far from that, a model that looks at numbers knows what was
    held out.

    Args:
      path: folder of the dataset.

    Returns:
      Lines of at most 80 columns.

    Raises:
      ValueError: as `recjax.data.load`.

    Examples:
      >>> import tempfile
      >>> import pyarrow as pa
      >>> from recjax.data._log import Log
      >>> from recjax.data._store import write
      >>> log = Log(
      ...     Interactions(np.array([0, 0], np.int32), np.array([1, 0], np.int32)),
      ...     users=pa.table({"id": ["ann"]}),
      ...     items=pa.table({"id": ["m1", "m2"]}),
      ...     parts=np.array([0, 1], np.int8), part_names=("train", "test"),
      ... )
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     page = describe(write(log, folder + "/tiny", name="tiny", config={}))
      >>> print(page[page.index("Degrees"):])
      Degrees (training rows)  min  10%  median  90%  max  without
      of a user                  1    1       1    1    1        0
      of an item                 0    0       0    0    1        1
    """
    manifest = read_manifest(absolute(path))
    known = [part for part in ("train", "valid") if part in manifest.parts]
    # Through `load`, so that an altered dataset is not described as if it were sound.
    dataset = load(path, parts=known)
    train = dataset.part("train")
    sections = [
        _head(manifest),
        _parts(manifest),
        _relations(manifest, train),
        _degrees(manifest, train),
        _numbering(dataset),
        _features(manifest),
        _report(manifest),
        _config(manifest),
    ]
    return "\n\n".join(section for section in sections if section)


def _head(manifest: Manifest) -> str:
    rows = sum(part["rows"] for part in manifest.parts.values())
    pairs = manifest.num_users * manifest.num_items
    density = f", density {rows / pairs:.3%}" if pairs else ""
    facts = [
        ("prepared", f"{manifest.created}, recjax {manifest.versions['recjax']}"),
        ("users", f"{manifest.num_users:,}"),
        ("items", f"{manifest.num_items:,}"),
        ("interactions", f"{rows:,}{density}"),
        ("columns", ", ".join(manifest.columns)),
        ("split", _strategy(manifest)),
        ("split hash", manifest.split_hash),
    ]
    return "\n".join(
        [manifest.name, "=" * min(len(manifest.name), _WIDTH)]
        + [line for key, value in facts for line in _fact(key, value, 14)]
    )


def _strategy(manifest: Manifest) -> str:
    # The report knows what a configuration of None came to.
    found = [
        step["detail"]["strategy"]
        for step in manifest.report
        if "strategy" in step["detail"]
    ]
    return str(found[-1]) if found else "as the source gives it"


def _parts(manifest: Manifest) -> str:
    total = sum(part["rows"] for part in manifest.parts.values())
    return text_table(
        ["Part", "rows", "share"],
        [
            [name, f"{part['rows']:,}", _share(part["rows"], total)]
            for name, part in manifest.parts.items()
        ],
    )


def _relations(manifest: Manifest, train: Interactions) -> str:
    if train.relations is None:
        return ""
    counts = np.bincount(train.relations, minlength=len(manifest.relation_names))
    return text_table(
        ["Relation", "training rows", "share"],
        [
            [
                name + (" (target)" if name == manifest.target else ""),
                f"{count:,}",
                _share(int(count), train.num_rows),
            ]
            for name, count in zip(manifest.relation_names, counts, strict=True)
        ],
    )


def _degrees(manifest: Manifest, train: Interactions) -> str:
    rows = [
        _degree_row("of a user", train.users, manifest.num_users),
        _degree_row("of an item", train.items, manifest.num_items),
    ]
    if manifest.target is not None and train.relations is not None:
        target = train.relations == manifest.relation_names.index(manifest.target)
        users, items = train.users[target], train.items[target]
        rows += [
            _degree_row(f"of a user, {manifest.target}", users, manifest.num_users),
            _degree_row(f"of an item, {manifest.target}", items, manifest.num_items),
        ]
    heading = ["Degrees (training rows)", *(name for name, _ in _QUANTILES), "without"]
    return text_table(heading, rows)


def _degree_row(label: str, ids: np.ndarray, size: int) -> list[str]:
    counts = np.bincount(ids, minlength=size)
    if not size:
        return [label] + ["-"] * (len(_QUANTILES) + 1)
    quantiles = np.quantile(counts, [q for _, q in _QUANTILES], method="lower")
    return [label, *(f"{q:,}" for q in quantiles), f"{np.count_nonzero(counts == 0):,}"]


def _numbering(dataset: Dataset) -> str:
    if "valid" not in dataset.parts or not dataset.parts["valid"].num_rows:
        return ""
    train, valid = dataset.target_rows("train"), dataset.target_rows("valid")
    highest = np.full(dataset.spec.num_users, -1)
    np.maximum.at(highest, train.users, train.items)
    counts = np.bincount(train.users, minlength=dataset.spec.num_users)
    above = np.mean(valid.items > highest[valid.users])
    chance = np.mean(1 / (counts[valid.users] + 1))
    return text_table(
        ["Number of the item (validation rows)", "share", "by chance"],
        [["above all of the user's training items", f"{above:.1%}", f"{chance:.1%}"]],
    )


def _features(manifest: Manifest) -> str:
    table = text_table(
        ["Feature", "width", "dtype", "items", "share"],
        [
            [
                name,
                f"{feature['width']:,}",
                feature["dtype"],
                f"{feature['present']:,}",
                _share(feature["present"], manifest.num_items),
            ]
            for name, feature in manifest.features.items()
        ],
    )
    made = [
        line
        for name, feature in manifest.features.items()
        if "made_by" in feature
        for line in _fact(name, _inline(feature["made_by"]), len(name) + 2)
    ]
    return "\n".join([table, *made])


def _report(manifest: Manifest) -> str:
    counts = [
        [f"{step['before']:,}", f"{step['after']:,}", _change(step)]
        for step in manifest.report
    ]
    # The names get what the numbers leave, and are cut there.
    room = _WIDTH - sum(
        2 + max([6, *map(len, column)]) for column in zip(*counts, strict=True)
    )
    page = text_table(
        ["Preparation", "before", "after", "change"],
        [
            [textwrap.shorten(step["name"], room, placeholder="..."), *numbers]
            for step, numbers in zip(manifest.report, counts, strict=True)
        ],
    ).splitlines()
    if not page:
        return ""
    lines = page[:1]
    for step, line in zip(manifest.report, page[1:], strict=True):
        lines.append(line)
        if step["detail"]:
            lines += _fact("", _inline(step["detail"]), 4)
    return "\n".join(lines)


def _change(step: dict[str, Any]) -> str:
    change = step["after"] - step["before"]
    return f"{change:+,}" if change else "0"


def _config(manifest: Manifest) -> str:
    facts = [
        line
        for key, value in manifest.config.items()
        for line in _fact(key, _inline(value), 2 + max(map(len, manifest.config)))
    ]
    return "\n".join(["Configuration", *facts]) if facts else ""


def _inline(value: Any) -> str:
    """A JSON value in one line, as a person would write it."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_inline(x)}" for key, x in value.items())
    if isinstance(value, list):
        return "[" + ", ".join(_inline(x) for x in value) + "]"
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return json.dumps(value)


def _fact(key: str, value: str, indent: int) -> list[str]:
    indent = min(indent, _WIDTH // 2)
    return textwrap.wrap(
        value or "-",
        _WIDTH,
        initial_indent=f"{key:<{indent}}",
        subsequent_indent=" " * indent,
    )


def _share(count: int, total: int) -> str:
    return f"{count / total:.1%}" if total else "-"
