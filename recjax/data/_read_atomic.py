"""Atomic files: RecBole's typed tables, and the folders of MMRec."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from recjax.data._arrow import pc
from recjax.data._columns import GUESS, Columns, guess, short
from recjax.data._csv import csv_header, csv_table, naming
from recjax.data._log import Log, Step
from recjax.data._metadata import attach, keep_each_once, narrow, split_cells
from recjax.data._read_arrays import numbered_ids, read_features
from recjax.data._read_table import read_table
from recjax.data._read_triples import read_atomic_triples
from recjax.types import Feature


def interaction_file(source: Path) -> Path | None:
    """The ``.inter`` file that a folder, a prefix or a path means; None for none.

    Raises:
      ValueError: a folder has several.
    """
    if source.is_dir():
        found = sorted(source.glob("*.inter"))
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise ValueError(f"{source}: several .inter files ({names}); name one")
        return found[0] if found else None
    if source.suffix == ".inter":
        return source if source.is_file() else None
    beside = source.with_name(source.name + ".inter")
    return beside if beside.is_file() else None


def is_typed(path: Path) -> bool:
    """Whether the header has RecBole's types (``user_id:token``)."""
    return any(":" in name for name in csv_header(path, "\t")[0])


def read_recbole(inter: Path, columns: Columns = GUESS) -> Log:
    """RecBole's atomic files: ``X.inter``, and ``X.item``, ``X.user`` beside it.

    Knowledge (``X.kg``, ``X.link``) and social links (``X.net``) become triples.
    Columns of type ``token_seq`` become lists, ``float_seq`` of the item file become
    feature tables.

    Args:
      inter: the interaction file.
      columns: which column means what; names without their types.

    Returns:
      The log.

    Raises:
      ValueError: a file cannot be read; the message names it.
    """
    log = read_table(inter, columns, delimiter="\t", quoted=False)
    for side in ("users", "items"):
        path = inter.with_suffix(f".{side.removesuffix('s')}")
        if not path.is_file():
            continue
        table, step = _typed_table(path, side)
        log = attach(log, side, table, step)
        if side == "items":
            log = _lists_to_features(log, path)
    return read_atomic_triples(log, inter)


def read_mmrec(inter: Path, columns: Columns = GUESS) -> Log:
    """A folder of MMRec: ``X.inter`` with ``x_label``, features by row = item id.

    Args:
      inter: the interaction file.
      columns: which column means what.

    Returns:
      The log.  Where there are feature tables (``*_feat.npy``, else ``*.npy``), items
      are 0, 1, ... up to the largest id, touched or not.

    Raises:
      ValueError: a file cannot be read, or a table has the wrong number of rows.
    """
    log = read_table(inter, columns, delimiter="\t", quoted=False)
    tables = list(inter.parent.glob("*_feat.npy")) or list(inter.parent.glob("*.npy"))
    if not tables:
        return log
    try:
        ids = log.items["id"].combine_chunks().cast(pa.int32()).to_numpy()
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"{inter}: item ids must be whole numbers to pick feature rows ({error})"
        ) from None
    if ids.min() < 0:
        raise ValueError(f"{inter}: item ids are feature rows, got {ids.min()}")
    num_items = int(ids.max()) + 1
    rows = log.interactions
    return log._replace(
        interactions=rows._replace(items=ids[rows.items]),
        items=numbered_ids(num_items),
        features=read_features(tables, num_items),
    )


def _typed_table(path: Path, side: str) -> tuple[pa.Table, Step]:
    table, malformed = csv_table(path, delimiter="\t", quoted=False)
    header = table.column_names
    types = {short(n): n.partition(":")[2] or "token" for n in header}
    table = table.rename_columns(list(types))
    id_name = guess(side.removesuffix("s"), table.column_names)
    if id_name is None:
        raise ValueError(f"{path}: no column of ids among {', '.join(header)}")
    columns = {"id": table[id_name]}
    for name, kind in types.items():
        column = table[name].combine_chunks()
        if name in (id_name, "id"):
            continue
        if side == "items" and name in ("title", "movie_title", "item_name"):
            # RecBole calls a title a sequence of words.
            columns["title"] = column
        elif kind == "token_seq":
            columns[name] = split_cells(column, " ")
        elif kind == "float_seq":
            lists = split_cells(column, " ")
            with naming(path):
                columns[name] = lists.cast(pa.list_(pa.float32()))
        else:
            columns[name] = narrow(column) if kind == "float" else column
    before = table.num_rows + malformed
    table, counts = keep_each_once(pa.table(columns))
    detail = {"source": path.name, "wrong number of cells": malformed, **counts}
    return table, Step(f"read {side}", before, table.num_rows, detail)


def _lists_to_features(log: Log, path: Path) -> Log:
    """Turns each column of float lists into a feature table."""
    features, items = dict(log.features), log.items
    for field in log.items.schema:
        if field.type != pa.list_(pa.float32()):
            continue
        column = log.items[field.name].combine_chunks()
        lengths = pc.list_value_length(column).fill_null(0).to_numpy()
        present = lengths > 0
        widths: Sequence[int] = np.unique(lengths[present]).tolist()
        if len(widths) != 1:
            raise ValueError(
                f"{path}: {field.name} has vectors of {widths or 'no'} numbers; a "
                "feature table needs one width"
            )
        values = np.zeros((len(column), widths[0]), np.float32)
        flat = column.flatten().to_numpy(zero_copy_only=False)
        values[present] = flat.reshape(-1, widths[0])
        features[field.name] = Feature(values, present)
        items = items.drop_columns([field.name])
    return log._replace(items=items, features=features)
