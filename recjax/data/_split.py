"""Splits of a log into train, valid and test, and a fingerprint of the result."""

import dataclasses
import hashlib
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from recjax.data._arrow import pc
from recjax.data._log import Log, Step
from recjax.data._names import PARTS, pick_target
from recjax.data._pairs import leaked, pair_keys

TRAIN, VALID, TEST = 0, 1, 2


@dataclasses.dataclass(frozen=True)
class Split:
    """How rows are held out.

    With several behaviours only rows of the target are held out, the others stay in
    train (but see ``hide_pairs``).  The strategies:

    * given: the parts that the source brings.  Without a valid part, one is carved out
      of train.
    * random: each row by itself.
    * leave_one_out: each user's last row (ties in row order) is test, the one before
      is valid; users with fewer than 3 rows stay in train.
    * user_time: each user's latest rows, rounded, so that one stays in train.
    * global_time: rows from a moment on are test, rows from an earlier one on are
      valid; rows of one moment stay together, so that parts may be somewhat larger.
    * item_cold, user_cold: all rows of some items (users) are valid or test.  Their
      rows of other behaviours are left out, or they would not be cold.
    """

    strategy: (
        Literal[
            "given",
            "random",
            "leave_one_out",
            "user_time",
            "global_time",
            "item_cold",
            "user_cold",
        ]
        | None
    ) = None
    """None: given where the source brings parts, else random."""
    valid: float = 0.1
    """Share of valid: of rows, of items (item_cold), or of users (user_cold)."""
    test: float = 0.1
    """Share of test, likewise."""
    seed: int = 0
    """Equal seeds give equal splits."""
    target: str | None = None
    """The behaviour that is held out; None is ``buy`` where there is one, else the
    last."""
    carve: Literal["random", "latest"] = "random"
    """For given parts without valid: a random share `valid` of the training rows, or
    the latest training row of each user who has two or more."""
    hide_pairs: bool = False
    """Hide the other behaviours of a held-out user and item too, which would tell what
    to list: they go into its part, which is read as rows of the target alone."""


DEFAULT = Split()


def split(log: Log, split: Split = DEFAULT) -> Log:
    """Puts each row into train, valid or test.

    Args:
      log: n rows.
      split: the strategy.

    Returns:
      The log with ``parts`` over ``("train", "valid", "test")``.  The step in its
      report counts the rows of each part, and the held-out rows whose user and item
      stand in an earlier part too (none, unless repeated rows were kept).

    Raises:
      ValueError: the strategy needs times or parts that are not there, shares are
        impossible, or no training row would be left.

    >>> from recjax.data.synthetic import synthetic
    >>> log = split(synthetic(), Split("leave_one_out"))
    >>> np.bincount(log.parts)
    array([2000,  200,  200])
    """
    if not (split.valid >= 0 and split.test >= 0 and split.valid + split.test < 1):
        raise ValueError(
            "valid and test are shares that leave something to train on, got "
            f"valid={split.valid} and test={split.test}"
        )
    if split.seed < 0:
        raise ValueError(f"the seed of a split is 0 or more, got {split.seed}")
    rows = log.interactions
    strategy = split.strategy or ("random" if log.parts is None else "given")
    if strategy in ("leave_one_out", "user_time", "global_time") and rows.times is None:
        raise ValueError(
            f"the split {strategy} needs times, and the log has none; name their "
            "column, Columns(time=...) or --columns.time, or split at random"
        )
    target = np.ones(rows.num_rows, bool)
    detail: dict[str, Any] = {"strategy": strategy}
    if rows.relations is not None:
        relation = pick_target(log.relation_names, split.target)
        target = rows.relations == relation
        detail["target"] = log.relation_names[relation]
    kept = np.ones(rows.num_rows, bool)
    if strategy == "given":
        parts, carved = _given(log, split, target)
        detail.update(carved)
    else:
        parts = np.full(rows.num_rows, TRAIN, np.int8)
        if not target.any():
            raise ValueError(f"no row of the target {detail.get('target')!r} to split")
        if strategy in ("item_cold", "user_cold"):
            codes = rows.items if strategy == "item_cold" else rows.users
            parts = _cold(codes, target, split)
            # A cold item that was viewed is not cold.
            kept = target | (parts == TRAIN)
            detail["rows of cold entities left out"] = int(np.sum(~kept))
        else:
            parts[target] = _hold_out(log, np.flatnonzero(target), split, strategy)
    if split.hide_pairs:
        detail["rows of held-out pairs hidden"] = _hide_pairs(log, target, parts)
    before, rows, parts = rows.num_rows, rows.take(kept), parts[kept]
    counts = np.bincount(parts, minlength=3).tolist()
    detail.update(zip(PARTS, counts, strict=True))
    if not counts[TRAIN]:
        raise ValueError(f"the split {strategy} leaves no training row: {detail}")
    keys = pair_keys(rows, log.users.num_rows, log.items.num_rows)
    detail["pairs held out and in an earlier part"] = int(np.sum(leaked(keys, parts)))
    step = Step("split", before, len(parts), detail)
    return log._replace(
        interactions=rows, parts=parts, part_names=PARTS, report=(*log.report, step)
    )


def split_hash(log: Log) -> str:
    """Fingerprint of a split: SHA-256 over ids, behaviours and parts.

    It does not depend on the order of rows, users or items, nor on values, times and
    metadata.

    Args:
      log: a log with parts.

    Returns:
      64 hex digits.

    Raises:
      ValueError: the log has no parts.

    >>> from recjax.data.synthetic import synthetic
    >>> log = split(synthetic(), Split("random", seed=1))
    >>> backwards = np.arange(log.interactions.num_rows)[::-1]
    >>> turned = log._replace(
    ...     interactions=log.interactions.take(backwards), parts=log.parts[backwards]
    ... )
    >>> split_hash(turned) == split_hash(log)
    True
    """
    if log.parts is None:
        raise ValueError("the log has no parts; split(log, Split()) makes them")
    rows = log.interactions
    digest = hashlib.sha256()
    users, user_rank = _ranks(log.users["id"].combine_chunks())
    items, item_rank = _ranks(log.items["id"].combine_chunks())
    relations, relation_rank = _ranks(pa.array(log.relation_names, pa.string()))
    for ids in (users, items, relations, pa.array(PARTS)):
        _digest_text(digest, ids)
    places = np.array([PARTS.index(name) for name in log.part_names])
    ranked = rows._replace(
        users=user_rank[rows.users],
        items=item_rank[rows.items],
        relations=None if rows.relations is None else relation_rank[rows.relations],
    )
    keys = pair_keys(ranked, log.users.num_rows, log.items.num_rows)
    keys = np.sort(keys * len(PARTS) + places[log.parts])
    digest.update(keys.astype("<i8").data)
    return digest.hexdigest()


def _given(
    log: Log, split: Split, target: np.ndarray
) -> tuple[np.ndarray, dict[str, Any]]:
    """The parts of the source, with a valid part carved out if there is none."""
    if log.parts is None:
        raise ValueError("the source brings no parts; choose the strategy random")
    places = np.array([PARTS.index(name) for name in log.part_names], np.int8)
    parts = places[log.parts]
    if not (parts == TEST).any():
        raise ValueError("the given parts have no test row; choose the strategy random")
    if (parts == VALID).any() or split.valid == 0:
        return parts, {}
    train = np.flatnonzero(target & (parts == TRAIN))
    if split.carve == "latest":
        users, times = log.interactions.users[train], log.interactions.times
        if times is None:
            raise ValueError("carve='latest' needs times, and the log has none")
        from_end, size = _places_from_end(users, times[train])
        carved = train[(from_end == 0) & (size > 1)]
    else:
        some = np.random.default_rng(split.seed).permutation(len(train))
        carved = train[some[: _round(len(train) * split.valid)]]
    parts[carved] = VALID
    return parts, {"carved out of train": len(carved), "carved": split.carve}


def _hide_pairs(log: Log, target: np.ndarray, parts: np.ndarray) -> int:
    """Moves rows of other behaviours to the part of their pair; how many they are."""
    pairs = log.interactions._replace(relations=None)
    keys = pair_keys(pairs, log.users.num_rows, log.items.num_rows)
    hidden = 0
    for part in (VALID, TEST):
        found = ~target & (parts == TRAIN)
        found &= np.isin(keys, keys[target & (parts == part)])
        parts[found] = part
        hidden += int(found.sum())
    return hidden


def _hold_out(log: Log, rows: np.ndarray, split: Split, strategy: str) -> np.ndarray:
    """Parts of the given rows."""
    if strategy == "random":
        return _random(len(rows), split)
    times = log.interactions.times
    assert times is not None
    times, users = times[rows], log.interactions.users[rows]
    if strategy == "global_time":
        return _global_time(times, split)
    from_end, size = _places_from_end(users, times)
    if strategy == "leave_one_out":
        test, valid = np.where(size >= 3, 1, 0), np.where(size >= 3, 1, 0)
    else:
        # One row of each user stays in train, and test goes before valid.
        test = np.minimum(np.floor(size * split.test + 0.5), size - 1)
        valid = np.minimum(np.floor(size * split.valid + 0.5), size - 1 - test)
    parts = np.where(from_end < test + valid, VALID, TRAIN)
    return np.where(from_end < test, TEST, parts).astype(np.int8)


def _random(count: int, split: Split) -> np.ndarray:
    """Parts of so many things, at random, in the shares of the split."""
    order = np.random.default_rng(split.seed).permutation(count)
    test = _round(count * split.test)
    valid = _round(count * split.valid)
    parts = np.full(count, TRAIN, np.int8)
    parts[order[:test]] = TEST
    parts[order[test : test + valid]] = VALID
    return parts


def _global_time(times: np.ndarray, split: Split) -> np.ndarray:
    count = len(times)
    test = _round(count * split.test)
    held_out = test + _round(count * split.valid)
    parts = np.full(count, TRAIN, np.int8)
    in_order = np.sort(times)
    if held_out:
        parts[times >= in_order[count - held_out]] = VALID
    if test:
        parts[times >= in_order[count - test]] = TEST
    return parts


def _cold(codes: np.ndarray, target: np.ndarray, split: Split) -> np.ndarray:
    """Parts of rows, by a draw among the codes that have a target row."""
    there = np.unique(codes[target])
    of_code = np.full(int(codes.max()) + 1, TRAIN, np.int8)
    of_code[there] = _random(len(there), split)
    return of_code[codes]


def _places_from_end(
    users: np.ndarray, times: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of each row: how many later rows its user has, and how many rows in all."""
    order = np.lexsort((times, users))
    counts = np.bincount(users)
    ends = np.cumsum(counts)
    from_end = np.empty(len(users), np.int64)
    from_end[order] = ends[users[order]] - 1 - np.arange(len(users))
    return from_end, counts[users]


def _round(number: float) -> int:
    return int(np.floor(number + 0.5))


def _ranks(ids: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """The ids in order of their bytes, and the place of each."""
    order = pc.array_sort_indices(ids)
    ranks = np.empty(len(ids), np.int64)
    ranks[order.to_numpy()] = np.arange(len(ids))
    return ids.take(order), ranks


def _digest_text(digest: Any, ids: pa.Array) -> None:
    # Lengths first, so that ("ab", "c") and ("a", "bc") differ.
    lengths = pc.binary_length(ids).to_numpy(zero_copy_only=False)
    digest.update(np.array([len(ids)], "<i8").data)
    digest.update(lengths.astype("<i4").data)
    digest.update("".join(ids.to_pylist()).encode())
