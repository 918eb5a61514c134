"""Whether a log can be stored: dtypes, ranges, names."""

import numpy as np
import pyarrow as pa

from recjax.data._log import Log
from recjax.data._manifest import check_name
from recjax.data._names import PARTS
from recjax.types import Feature


def check_log(log: Log, name: str) -> None:
    """Refuses a log that could not be read back as it is."""
    from recjax.data._blocks import COLUMNS

    rows = log.interactions
    if not name.strip():
        raise ValueError("the name of the dataset is empty")
    if log.parts is None or "train" not in log.part_names:
        raise ValueError(
            f"the log has the parts {log.part_names}, 'train' is needed; split it first"
        )
    if not set(log.part_names) <= set(PARTS):
        raise ValueError(f"parts are among {PARTS}, got {log.part_names}")
    for field, dtype in COLUMNS.values():
        column = getattr(rows, field)
        if column is not None and (
            column.shape != (rows.num_rows,) or column.dtype != dtype
        ):
            raise ValueError(
                f"{field} must be {np.dtype(dtype)} [{rows.num_rows}]; got "
                f"{column.dtype} {list(column.shape)}"
            )
    if log.parts.shape != (rows.num_rows,):
        raise ValueError(
            f"parts must be [{rows.num_rows}] like users; got {list(log.parts.shape)}"
        )
    for what, column, size in (
        ("users", rows.users, log.users.num_rows),
        ("items", rows.items, log.items.num_rows),
        ("parts", log.parts, len(log.part_names)),
        ("relations", rows.relations, len(log.relation_names)),
    ):
        if (
            column is not None
            and column.size
            and not (0 <= column.min() and column.max() < size)
        ):
            raise ValueError(
                f"{what} must lie in [0, {size}); got {column.min()} to {column.max()}"
            )
    if (rows.relations is None) != (not log.relation_names):
        raise ValueError(
            f"relations are {'absent' if rows.relations is None else 'given'}, but the "
            f"relation names are {log.relation_names}; give both or neither"
        )
    for kind, table in (("users", log.users), ("items", log.items)):
        _check_ids(kind, table)
    _check_features(log)


def _check_ids(kind: str, table: pa.Table) -> None:
    if not table.num_columns or table.schema[0].name != "id":
        raise ValueError(
            f"the first column of {kind} must be 'id'; got {table.column_names}"
        )
    ids = table["id"]
    if ids.type not in (pa.string(), pa.large_string()) or ids.null_count:
        raise ValueError(
            f"ids of {kind} must be strings; got {ids.type}, {ids.null_count} missing"
        )
    distinct = len(ids.unique())
    if distinct != len(ids):
        raise ValueError(
            f"ids of {kind} must be distinct; got {len(ids):,} rows of {distinct:,} ids"
        )


def _check_features(log: Log) -> None:
    for name, feature in log.features.items():
        check_name("feature", name)
        check_feature(name, feature, log.items.num_rows)
    folded = {name.casefold() for name in log.features}
    if len(folded) != len(log.features):
        # Some file systems do not tell A.npy from a.npy.
        raise ValueError(f"feature names differ by case only: {list(log.features)}")


def check_feature(name: str, feature: Feature, num_items: int) -> None:
    """Refuses a feature table of another shape or type."""
    values, present = feature
    if (
        values.ndim != 2
        or len(values) != num_items
        or values.dtype not in (np.float16, np.float32, np.float64)
    ):
        raise ValueError(
            f"values of feature {name!r} must be [{num_items}, F] and float16, "
            f"float32 or float64; got {list(values.shape)} {values.dtype}"
        )
    if present.shape != (num_items,) or present.dtype != np.bool_:
        raise ValueError(
            f"presence of feature {name!r} must be [{num_items}] bool; got "
            f"{list(present.shape)} {present.dtype}"
        )
