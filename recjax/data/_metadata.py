"""Tables about users and items, and how they join the log."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.json as pa_json
import pyarrow.parquet as pq

from recjax.data import _parse
from recjax.data._arrow import pc
from recjax.data._columns import guess
from recjax.data._csv import csv_table, naming
from recjax.data._log import Log, Step
from recjax.data._names import unknown
from recjax.data._read_table import Kind
from recjax.types import Feature

Side = Literal["users", "items"]

_TITLES = ("title", "movie_title", "item_title", "product_title", "item_name", "name")
_LEADING_ZERO = r"^[+-]?0\d"


def read_metadata(
    path: Path,
    side: Side,
    *,
    kind: Kind = "csv",
    id_column: str | None = None,
    list_columns: Sequence[str] = (),
    list_separator: str = "|",
) -> tuple[pa.Table, Step]:
    """A table with one user or item a row.

    Args:
      path: the file.
      side: whose table it is.
      kind: what the file is.
      id_column: column of the ids; None guesses it.
      list_columns: text columns that hold several values; others are ignored.
      list_separator: what stands between those values.

    Returns:
      The table, column ``id`` first (text, each id once), and the step that says what
      was left out.  Other columns are text, numbers, or lists of them; an item's title
      is called ``title``.

    Raises:
      ValueError: the file cannot be read, or has no id column.
    """
    with naming(path):
        table, malformed = _load(path, kind)
    id_column = id_column or _id_column(table.column_names, side, path)
    twice = sorted({n for n in table.column_names if table.column_names.count(n) > 1})
    if twice:
        raise ValueError(f"{path}: two columns are called {twice[0]!r}; rename one")
    if id_column not in table.column_names:
        error = unknown("id column", id_column, table.column_names)
        raise ValueError(f"{path}: {error}")
    before = table.num_rows + malformed
    ids = pa.chunked_array(
        [_parse.ids(chunk) for chunk in table[id_column].chunks], pa.string()
    )
    columns, dropped = {"id": ids}, []
    title = next((t for t in _TITLES if t in table.column_names), None)
    for name in table.column_names:
        column = table[name].combine_chunks()
        if name == id_column:
            continue
        if name == "id":
            dropped.append(name)  # there is one already
        elif name == title and side == "items":
            columns["title"] = _parse.decoded(column).cast(pa.string())
        elif name in list_columns and pa.types.is_string(column.type):
            columns[name] = split_cells(column, list_separator)
        elif (kept := _plain(column, kind)) is not None:
            columns[name] = kept
        else:
            dropped.append(name)
    table = pa.table(columns)
    table, counts = keep_each_once(table)
    detail: dict[str, Any] = {
        "source": path.name,
        "wrong number of cells": malformed,
        **counts,
    }
    if dropped:
        detail["columns left out"] = dropped
    return table, Step(f"read {side}", before, table.num_rows, detail)


def attach(log: Log, side: Side, table: pa.Table, step: Step | None = None) -> Log:
    """Joins the metadata of users or items to the log by id.

    Items that only the table knows join the catalogue, without interactions; users
    that only the table knows are left out, for there is nothing to rank them by.

    Args:
      log: the log.
      side: whose table it is.
      table: column ``id`` first, each id once; replaces columns of the same name.
      step: appended to the report.

    Returns:
      The log with the joined table; feature rows of new items are absent.
    """
    old = log.users if side == "users" else log.items
    ids = old["id"].combine_chunks()
    if side == "items":
        fresh = table["id"].filter(pc.invert(pc.is_in(table["id"], ids)))
        ids = pa.concat_arrays([ids, fresh.combine_chunks()])
    rows = pc.index_in(ids, table["id"])
    position = np.arange(len(ids))
    here = pa.array(position, mask=position >= old.num_rows)
    columns: dict[str, pa.ChunkedArray | pa.Array] = {"id": ids}
    for name in old.column_names[1:]:
        if name not in table.column_names:
            columns[name] = old[name].take(here)
    for name in table.column_names[1:]:
        columns[name] = table[name].take(rows)
    report = log.report
    if step is not None:
        matched = int(np.sum(rows.is_valid().to_numpy(zero_copy_only=False)))
        added = len(ids) - old.num_rows
        detail = {**step.detail, "matched": matched - added, "without rows": added}
        report = (*report, step._replace(detail=detail))
    joined = pa.table(columns)
    if side == "users":
        return log._replace(users=joined, report=report)
    features = {n: _longer(f, len(ids)) for n, f in log.features.items()}
    return log._replace(items=joined, features=features, report=report)


def split_cells(column: pa.Array, separator: str) -> pa.Array:
    """Cells of several values as lists of text; an empty cell is an empty list."""
    cells = pc.if_else(pc.equal(column.fill_null(""), ""), None, column)
    lists = pc.split_pattern(cells.cast(pa.string()), separator)
    return pc.coalesce(lists, pa.scalar([], pa.list_(pa.string())))


def narrow(column: pa.Array) -> pa.Array:
    """A text column as whole numbers or floats if every cell is one (007 is not)."""
    if pc.any(pc.match_substring_regex(column, _LEADING_ZERO)).as_py():
        return column
    for kind in (pa.int64(), pa.float64()):
        try:
            return column.cast(kind)
        except pa.ArrowInvalid:
            continue
    return column


def _load(path: Path, kind: Kind) -> tuple[pa.Table, int]:
    if kind == "parquet":
        return pq.read_table(path), 0
    if kind == "json":
        return _load_json(path), 0
    return csv_table(path)


def _load_json(path: Path) -> pa.Table:
    with pa.input_stream(str(path)) as stream:
        table = pa_json.read_json(stream)
    # Text that looks like a date was made a date: read those columns again as text.
    text = []
    for field in table.schema:
        if pa.types.is_timestamp(field.type):
            text.append(pa.field(field.name, pa.string()))
        elif pa.types.is_list(field.type) and pa.types.is_timestamp(
            field.type.value_type
        ):
            text.append(pa.field(field.name, pa.list_(pa.string())))
    if text:
        with pa.input_stream(str(path)) as stream:
            table = pa_json.read_json(
                stream,
                parse_options=pa_json.ParseOptions(explicit_schema=pa.schema(text)),
            )
    return table


def _id_column(header: list[str], side: Side, path: Path) -> str:
    role = side.removesuffix("s")
    name = guess(role, header) or next(
        (n for n in header if n.casefold() == "id"), None
    )
    if name is None:
        raise ValueError(
            f"{path}: no column of {role} ids among {', '.join(header)}; "
            f"call it {role}_id or id"
        )
    return name


def _plain(column: pa.Array, kind: Kind) -> pa.Array | None:
    """The column as text, numbers, or lists of those; None for anything else."""
    column = _parse.decoded(column)
    type_ = column.type
    if pa.types.is_string(type_):
        return narrow(column) if kind == "csv" else column
    if pa.types.is_integer(type_) or pa.types.is_boolean(type_):
        return column.cast(pa.int64())
    if pa.types.is_floating(type_) or pa.types.is_decimal(type_):
        return column.cast(pa.float64())
    if pa.types.is_temporal(type_):
        return column.cast(pa.string())
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        inner = type_.value_type
        if pa.types.is_string(inner) or pa.types.is_large_string(inner):
            return column.cast(pa.list_(pa.string()))
        if pa.types.is_integer(inner) or pa.types.is_floating(inner):
            return column.cast(pa.list_(pa.float64()))
    return None


def keep_each_once(table: pa.Table) -> tuple[pa.Table, dict[str, int]]:
    """The first row of each id, and how many rows were left out."""
    codes = _parse.Vocabulary().encode(table["id"].chunks)
    rows = np.flatnonzero(codes >= 0)
    first = rows[np.unique(codes[rows], return_index=True)[1]]
    counts = {
        "missing ids": len(codes) - len(rows),
        "repeated ids": len(rows) - len(first),
    }
    return table.take(pa.array(first)), counts


def _longer(feature: Feature, length: int) -> Feature:
    more = length - len(feature.present)
    return Feature(
        np.pad(feature.values, ((0, more), (0, 0))), np.pad(feature.present, (0, more))
    )
