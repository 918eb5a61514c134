"""Cleaning: from a log as it was read to one worth training on, with a report."""

import dataclasses
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from recjax.data._log import Log, Step
from recjax.data._names import PARTS
from recjax.data._pairs import leaked, pair_keys
from recjax.types import Feature


@dataclasses.dataclass(frozen=True)
class Cleaning:
    """What to clean, in the order in which it is done."""

    non_finite: Literal["drop", "error"] = "drop"
    """Rows whose value is no finite number: leave them out, or stop."""
    after: int | None = None
    """Keep rows at this time or later."""
    before: int | None = None
    """Keep rows earlier than this time."""
    duplicates: Literal["keep", "first", "last", "sum"] = "first"
    """Several rows of one user, item and behaviour: keep all, the earliest, the latest
    (without times: in row order), or the latest with the sum of the values (without
    values: their number)."""
    min_value: float | None = None
    """Keep rows whose value is at least this."""
    min_user: int = 0
    """Keep users with at least this many rows (k-core, with min_item)."""
    min_item: int = 0
    """Keep items with at least this many rows (k-core, with min_user)."""
    drop_unused: bool | None = None
    """Leave out users and items without rows: all of them, none, or (None) those
    that lost their rows here, while a catalogue keeps what never had any."""
    impute: Literal["mask", "mean", "zero"] = "mask"
    """Feature rows that are missing or not finite: zeros marked absent, the mean of
    the other rows, or zeros marked present."""


DEFAULT = Cleaning()


def clean(log: Log, cleaning: Cleaning = DEFAULT) -> Log:
    """Applies the steps of a cleaning; each adds its counts to the report.

    Where the log has a given split, a row of an earlier part whose user, item and
    behaviour stand in a later part too is a leak, and is always taken out.

    Args:
      log: n rows.
      cleaning: the steps.

    Returns:
      The log with the rows that are left, in their order; users and items that were
      left out are gone from the tables and the features, and codes are contiguous.

    Raises:
      ValueError: a step needs values or times that are not there, no row is left, or
        a feature table has not one row an item.

    >>> from recjax.data.synthetic import synthetic
    >>> log = clean(synthetic(), Cleaning(min_user=5, min_item=20))
    >>> for step in log.report:
    ...     print(step.name, step.before, step.after)
    read 2400 2400
    repeated rows: first 2400 2400
    keep users of 5 rows and items of 20 2400 1693
    drop users and items without rows 1693 1693
    impute vector: mask 1693 1693
    """
    _check(log, cleaning)
    had = _have_rows(log)
    log = _drop_non_finite(log, cleaning.non_finite)
    log = _window(log, cleaning.after, cleaning.before)
    log = _drop_repeats(log, cleaning.duplicates)
    log = _drop_leaks(log)
    if cleaning.min_value is not None and log.interactions.values is not None:
        name = f"keep values from {cleaning.min_value:g}"
        log = _keep(log, log.interactions.values >= cleaning.min_value, name)
    log = _k_core(log, cleaning.min_user, cleaning.min_item)
    log = _drop_unused(log, had, cleaning.drop_unused)
    return _impute_features(log, cleaning.impute)


def _check(log: Log, cleaning: Cleaning) -> None:
    rows, num_items = log.interactions, log.items.num_rows
    if cleaning.min_value is not None and rows.values is None:
        raise ValueError(
            f"min_value={cleaning.min_value:g} needs values, and the log has none; "
            "name their column, Columns(value=...) or --columns.value"
        )
    window = (cleaning.after, cleaning.before)
    if window != (None, None) and rows.times is None:
        raise ValueError(
            f"after={window[0]}, before={window[1]} need times, and the log has none; "
            "name their column, Columns(time=...) or --columns.time"
        )
    for name, feature in log.features.items():
        for what in (feature.values, feature.present):
            if len(what) != num_items:
                raise ValueError(
                    f"feature table {name!r} has {len(what)} rows for {num_items} "
                    "items; there must be one row an item"
                )


def _keep(log: Log, mask: np.ndarray, name: str, **detail: Any) -> Log:
    """The rows of the mask, and a step that counts them."""
    step = Step(name, len(mask), int(np.sum(mask)), detail)
    log = log._replace(report=(*log.report, step))
    if not mask.any():
        said = "; ".join(f"{s.name}: {s.before} -> {s.after}" for s in log.report)
        raise ValueError(
            f"cleaning leaves no row ({said}): relax the last of these steps"
        )
    if mask.all():
        return log
    parts = None if log.parts is None else log.parts[mask]
    return log._replace(interactions=log.interactions.take(mask), parts=parts)


def _drop_non_finite(log: Log, how: str) -> Log:
    values = log.interactions.values
    if values is None:
        return log
    finite = np.isfinite(values)
    if how == "error" and not finite.all():
        row = int(np.argmin(finite))
        user = log.users["id"][int(log.interactions.users[row])]
        item = log.items["id"][int(log.interactions.items[row])]
        raise ValueError(
            f"{np.sum(~finite)} of {len(finite)} values are no finite number, the "
            f"first for user {user} and item {item}; non_finite drop leaves them out"
        )
    return _keep(log, finite, "drop values that are no finite number")


def _window(log: Log, after: int | None, before: int | None) -> Log:
    if after is not None and log.interactions.times is not None:
        log = _keep(log, log.interactions.times >= after, f"keep times from {after}")
    if before is not None and log.interactions.times is not None:
        log = _keep(log, log.interactions.times < before, f"keep times before {before}")
    return log


def _drop_repeats(log: Log, how: str) -> Log:
    if how == "keep":
        return log
    rows = log.interactions
    keys = _keys(log)
    if log.parts is not None:
        keys = keys * len(PARTS) + log.parts
    order = np.argsort(keys, kind="stable")
    in_order = keys[order]
    first = np.concatenate([[True], in_order[1:] != in_order[:-1]])
    starts = np.flatnonzero(first)
    ends = np.append(starts[1:], len(keys))
    if rows.times is not None and not first.all():
        repeated = np.repeat(ends - starts > 1, ends - starts)
        some = order[repeated]
        order[repeated] = some[np.lexsort((rows.times[some], keys[some]))]
    chosen = order[starts] if how == "first" else order[ends - 1]
    if how == "sum":
        values = np.ones(len(keys)) if rows.values is None else rows.values[order]
        totals = np.zeros(len(keys), np.float32)
        totals[chosen] = np.add.reduceat(values.astype(np.float64), starts)
        log = log._replace(interactions=rows._replace(values=totals))
    mask = np.zeros(len(keys), bool)
    mask[chosen] = True
    return _keep(log, mask, f"repeated rows: {how}")


def _drop_leaks(log: Log) -> Log:
    if log.parts is None:
        return log
    leaks = leaked(_keys(log), log.parts)
    detail = {
        f"leakage out of {name}": int(np.sum(leaks & (log.parts == part)))
        for part, name in enumerate(PARTS[:2])
    }
    return _keep(log, ~leaks, "take rows of later parts out of earlier ones", **detail)


def _k_core(log: Log, min_user: int, min_item: int) -> Log:
    if min_user <= 1 and min_item <= 1:
        return log
    users, items = log.interactions.users, log.interactions.items
    left = np.arange(len(users))
    iterations = 0
    while True:
        enough = np.bincount(users)[users] >= min_user if len(users) else users < 0
        enough &= np.bincount(items)[items] >= min_item if len(items) else items < 0
        if enough.all():
            break
        iterations += 1
        left, users, items = left[enough], users[enough], items[enough]
    mask = np.zeros(log.interactions.num_rows, bool)
    mask[left] = True
    name = f"keep users of {min_user} rows and items of {min_item}"
    return _keep(log, mask, name, iterations=iterations)


def _have_rows(log: Log) -> tuple[np.ndarray, np.ndarray]:
    """``[U]`` and ``[I]`` bool, users and items with a row."""
    rows = log.interactions
    return (
        np.bincount(rows.users, minlength=log.users.num_rows) > 0,
        np.bincount(rows.items, minlength=log.items.num_rows) > 0,
    )


def _drop_unused(
    log: Log, had: tuple[np.ndarray, np.ndarray], drop: bool | None
) -> Log:
    have = _have_rows(log)
    if drop is None:
        users, items = (now | ~then for now, then in zip(have, had, strict=True))
    elif drop:
        users, items = have
    else:
        users, items = (np.ones_like(now) for now in have)
    rows = log.interactions
    detail = {"users": int(np.sum(~users)), "items": int(np.sum(~items))}
    name = "drop users and items without rows"
    log = _keep(log, np.ones(rows.num_rows, bool), name, **detail)
    if not users.all():
        codes = np.cumsum(users, dtype=np.int32) - 1
        rows = rows._replace(users=codes[rows.users])
        log = log._replace(users=log.users.filter(pa.array(users)))
    if not items.all():
        codes = np.cumsum(items, dtype=np.int32) - 1
        rows = rows._replace(items=codes[rows.items])
        features = {
            name: Feature(f.values[items], f.present[items])
            for name, f in log.features.items()
        }
        table = log.items.filter(pa.array(items))
        log = log._replace(items=table, features=features)
    return log._replace(interactions=rows)


def _impute_features(log: Log, how: str) -> Log:
    features, report = {}, list(log.report)
    rows = log.interactions.num_rows
    for name, feature in log.features.items():
        missing = ~np.isfinite(feature.values).all(1) | ~feature.present
        fill: Any = 0
        if how == "mean" and not missing.all():
            fill = feature.values[~missing].mean(0, dtype=np.float64)
        values = feature.values.copy()
        values[missing] = fill
        present = ~missing if how == "mask" else np.ones_like(missing)
        features[name] = Feature(values, present)
        detail = {"feature rows": len(missing), "missing": int(np.sum(missing))}
        report.append(Step(f"impute {name}: {how}", rows, rows, detail))
    return log._replace(features=features, report=tuple(report))


def _keys(log: Log) -> np.ndarray:
    return pair_keys(log.interactions, log.users.num_rows, log.items.num_rows)
