"""Interaction tables: CSV, JSON lines and Parquet, streamed in record batches."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.json as pa_json
import pyarrow.parquet as pq

from recjax.data import _parse
from recjax.data._columns import GUESS, Columns, resolve
from recjax.data._csv import Skipped, csv_batches, csv_header, naming
from recjax.data._log import Log, Step
from recjax.data._names import PARTS, part_code
from recjax.types import Interactions

Kind = Literal["csv", "json", "parquet"]

_BLOCK_BYTES = 8 << 20
_BATCH_ROWS = 1 << 17
# Ids are encoded once this many rows: each time the vocabulary is hashed anew.
_ENCODE_ROWS = 1 << 20
_CODED = ("user", "item", "part", "relation")


class _Chunk(NamedTuple):
    codes: dict[str, np.ndarray]
    values: np.ndarray | None
    times: np.ndarray | None
    readable: np.ndarray | None


def read_table(
    path: Path,
    columns: Columns = GUESS,
    *,
    kind: Kind = "csv",
    delimiter: str | None = None,
    quoted: bool = True,
) -> Log:
    """A table with one interaction a row.

    The file is read in batches, and of a row only its codes, value and time are kept.
    Compressed CSV and JSON files (``.gz``, ``.bz2``, ``.zst``) are opened as they are.

    Args:
      path: the file.
      columns: which column means what.
      kind: what the file is.
      delimiter: of a CSV file; None takes the commonest of ``, TAB ; |`` in its first
        line.
      quoted: whether cells of a CSV file may stand in double quotes.

    Returns:
      The log; its report counts the rows left out and the values that are no numbers.

    Raises:
      ValueError: the file cannot be read, has no row that can be used, or lacks a
        column; the message names the file.
    """
    skipped = Skipped()
    with naming(path):
        if kind == "csv":
            header, delimiter = csv_header(path, delimiter)
            roles = resolve(columns, header, str(path))
            names = sorted(set(roles.values()))
            batches = csv_batches(path, header, names, delimiter, quoted, skipped)
        elif kind == "json":
            schema = _json_schema(path)
            roles = resolve(columns, schema.names, str(path))
            batches = _json_batches(path, roles, schema)
        else:
            file = pq.ParquetFile(path)
            roles = resolve(columns, file.schema_arrow.names, str(path))
            batches = file.iter_batches(
                _BATCH_ROWS, columns=sorted(set(roles.values()))
            )
        vocabularies = {role: _parse.Vocabulary() for role in _CODED if role in roles}
        try:
            chunks = list(_chunks(batches, roles, vocabularies))
        except ValueError as error:
            if isinstance(error, pa.ArrowException):
                raise
            raise ValueError(f"{path}: {error}") from None
    return _assemble(path, chunks, vocabularies, skipped.count)


def _json_schema(path: Path) -> pa.Schema:
    """Names and types of the first block, where date-like text is text."""
    with pa.input_stream(str(path)) as stream:
        schema = pa_json.open_json(
            stream, pa_json.ReadOptions(block_size=_BLOCK_BYTES)
        ).schema
    text = [
        pa.field(f.name, pa.string())
        if pa.types.is_timestamp(f.type) or pa.types.is_null(f.type)
        else f
        for f in schema
    ]
    return pa.schema(text)


def _json_batches(
    path: Path, roles: dict[str, str], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    # A column of numbers may be whole in the first block and broken in the next.
    fields = [
        pa.field(schema.field(name).name, pa.float64())
        if role in ("value", "time") and pa.types.is_integer(schema.field(name).type)
        else schema.field(name)
        for role, name in roles.items()
    ]
    with pa.input_stream(str(path)) as stream:
        yield from pa_json.open_json(
            stream,
            read_options=pa_json.ReadOptions(block_size=_BLOCK_BYTES),
            parse_options=pa_json.ParseOptions(
                explicit_schema=pa.schema(fields), unexpected_field_behavior="ignore"
            ),
        )


def _chunks(
    batches: Iterator[pa.RecordBatch],
    roles: dict[str, str],
    vocabularies: dict[str, _parse.Vocabulary],
) -> Iterator[_Chunk]:
    """The batches as arrays, a chunk for every `_ENCODE_ROWS` rows."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(b.num_rows for b in waiting) >= _ENCODE_ROWS:
            yield _chunk(waiting, roles, vocabularies)
            waiting = []
    if waiting:
        yield _chunk(waiting, roles, vocabularies)


def _chunk(
    batches: list[pa.RecordBatch],
    roles: dict[str, str],
    vocabularies: dict[str, _parse.Vocabulary],
) -> _Chunk:
    codes = {
        role: words.encode([_parse.ids(b.column(roles[role])) for b in batches])
        for role, words in vocabularies.items()
    }
    values = times = readable = None
    if "value" in roles:
        read = [_parse.numbers(b.column(roles["value"])) for b in batches]
        values = np.concatenate(read)
    if "time" in roles:
        pairs = [_parse.times(b.column(roles["time"])) for b in batches]
        times = np.concatenate([seconds for seconds, _ in pairs])
        readable = np.concatenate([ok for _, ok in pairs])
    return _Chunk(codes, values, times, readable)


def _assemble(
    path: Path,
    chunks: list[_Chunk],
    vocabularies: dict[str, _parse.Vocabulary],
    malformed: int,
) -> Log:
    """One log of all chunks, without the rows that miss an id or a time."""
    if not chunks:
        why = (
            f"{malformed} have the wrong number of cells" if malformed else "none there"
        )
        raise ValueError(f"{path}: no row can be used, {why}")
    codes = {r: np.concatenate([c.codes[r] for c in chunks]) for r in vocabularies}
    values = _joined([c.values for c in chunks])
    times = _joined([c.times for c in chunks])
    readable = _joined([c.readable for c in chunks])
    kept = np.all([column >= 0 for column in codes.values()], axis=0)
    before = len(kept) + malformed
    detail = {
        "source": path.name,
        "wrong number of cells": malformed,
        "missing ids": int(np.sum(~kept)),
    }
    if readable is not None:
        detail["unreadable times"] = int(np.sum(kept & ~readable))
        kept &= readable
    if values is not None:
        detail["values that are no number"] = int(np.sum(np.isnan(values[kept])))
    if not kept.any():
        raise ValueError(
            f"{path}: none of {before} rows can be used: {detail}. Times are seconds "
            'or ISO dates; Columns(time="") leaves them out'
        )
    rows = Interactions(
        codes["user"], codes["item"], values, times, codes.get("relation")
    )
    parts = _part_codes(path, codes, vocabularies)
    users, items = vocabularies["user"].ids, vocabularies["item"].ids
    if not kept.all():
        rows = rows.take(kept)
        parts = None if parts is None else parts[kept]
        user_codes, users = _compact(rows.users, users)
        item_codes, items = _compact(rows.items, items)
        rows = rows._replace(users=user_codes, items=item_codes)
    relations = vocabularies.get("relation")
    return Log(
        rows,
        pa.table({"id": users}),
        pa.table({"id": items}),
        parts=parts,
        part_names=() if parts is None else PARTS,
        relation_names=() if relations is None else tuple(relations.ids.to_pylist()),
        report=(Step("read", before, rows.num_rows, detail),),
    )


def _joined(arrays: list[np.ndarray | None]) -> np.ndarray | None:
    there = [x for x in arrays if x is not None]
    return np.concatenate(there) if there else None


def _compact(codes: np.ndarray, ids: pa.Array) -> tuple[np.ndarray, pa.Array]:
    """Codes and ids without the ids that only incomplete rows had."""
    used = np.bincount(codes, minlength=len(ids)) > 0
    if used.all():
        return codes, ids
    return (np.cumsum(used, dtype=np.int32) - 1)[codes], ids.filter(pa.array(used))


def _part_codes(
    path: Path, codes: dict[str, np.ndarray], vocabularies: dict[str, _parse.Vocabulary]
) -> np.ndarray | None:
    if "part" not in codes:
        return None
    words = vocabularies["part"].ids.to_pylist()
    known = [part_code(word) for word in words]
    if None in known:
        raise ValueError(
            f"{path}: the part column says {words[known.index(None)]!r}; parts are "
            'train, valid, test or 0, 1, 2 (Columns(part="") if it is no part)'
        )
    return np.array([*known, -1], np.int8)[codes["part"]]
