"""Cleaning: what each step keeps, counts and renumbers."""

import numpy as np
import pyarrow as pa
import pytest

from recjax.data._clean import Cleaning, clean
from recjax.data._log import Log
from recjax.data.synthetic import synthetic
from recjax.types import Feature, Interactions

NAMES = ("train", "valid", "test")
NAN = float("nan")


def make_log(
    rows,
    *,
    values=None,
    times=None,
    relations=None,
    parts=None,
    num_users=4,
    num_items=5,
):
    """A log of (user, item) rows; users are a, b, ..., items are 0, 1, ..."""
    array = np.array(rows, np.int32)
    return Log(
        Interactions(
            array[:, 0],
            array[:, 1],
            None if values is None else np.array(values, np.float32),
            None if times is None else np.array(times, np.int64),
            None if relations is None else np.array(relations, np.int32),
        ),
        pa.table({"id": list("abcdefgh")[:num_users]}),
        pa.table({"id": [str(i) for i in range(num_items)]}),
        parts=None if parts is None else np.array(parts, np.int8),
        part_names=() if parts is None else NAMES,
        relation_names=() if relations is None else ("view", "buy"),
    )


def rows_of(log):
    users, items = log.users["id"].to_pylist(), log.items["id"].to_pylist()
    rows = log.interactions
    return [users[u] + items[i] for u, i in zip(rows.users, rows.items, strict=True)]


def step(log, words):
    (found,) = [s for s in log.report if words in s.name]
    return found


@pytest.mark.parametrize(
    ("duplicates", "times", "values"),
    [
        ("first", None, [1, 2, 3]),
        ("last", None, [4, 2, 5]),
        ("sum", None, [5, 2, 8]),
        ("keep", None, [1, 2, 3, 4, 5]),
        # Row 3 (a0, value 4) is the earlier of its pair now.
        ("first", [9, 9, 7, 8, 7], [2, 3, 4]),
        ("last", [9, 9, 7, 8, 7], [1, 2, 5]),
        ("sum", [9, 9, 7, 8, 7], [5, 2, 8]),
    ],
)
def test_repeated_rows(duplicates, times, values):
    rows = [(0, 0), (0, 1), (1, 0), (0, 0), (1, 0)]
    log = make_log(rows, values=[1, 2, 3, 4, 5], times=times)
    log = clean(log, Cleaning(duplicates=duplicates))
    assert sorted(log.interactions.values.tolist()) == sorted(values)
    assert len(set(rows_of(log))) == 3
    if duplicates != "keep":
        assert step(log, "repeated")[1:3] == (5, 3)
    if duplicates == "sum" and times is not None:
        assert dict(zip(rows_of(log), log.interactions.times, strict=True)) == {
            "a0": 9,
            "a1": 9,
            "b0": 7,
        }


def test_the_sum_without_values_is_a_count():
    log = clean(make_log([(0, 0), (0, 0), (1, 0)]), Cleaning(duplicates="sum"))
    assert dict(zip(rows_of(log), log.interactions.values, strict=True)) == {
        "a0": 2,
        "b0": 1,
    }


def test_rows_of_another_behaviour_are_no_repeats():
    log = clean(make_log([(0, 0), (0, 0), (0, 0)], relations=[0, 1, 1]))
    assert log.interactions.relations.tolist() == [0, 1]


def test_a_pair_of_train_that_stands_in_test_is_leakage():
    rows = [(0, 0), (0, 1), (1, 0), (1, 2), (0, 0), (1, 0), (1, 0)]
    log = clean(
        make_log(rows, parts=[0, 0, 0, 0, 2, 1, 2]), Cleaning(duplicates="keep")
    )
    assert list(zip(rows_of(log), log.parts.tolist(), strict=True)) == [
        ("a1", 0),
        ("b2", 0),
        ("a0", 2),
        ("b0", 2),
    ]
    found = step(log, "later parts")
    assert (found.before, found.after) == (7, 4)
    assert found.detail == {"leakage out of train": 2, "leakage out of valid": 1}


@pytest.mark.parametrize("duplicates", ["first", "last", "sum"])
def test_of_a_repeat_across_parts_the_held_out_row_stays(duplicates):
    log = make_log([(0, 0), (0, 1), (0, 0)], values=[1, 2, 4], parts=[0, 0, 2])
    log = clean(log, Cleaning(duplicates=duplicates))
    assert log.parts.tolist() == [0, 2]
    assert log.interactions.values.tolist() == [2, 4]


def test_a_view_before_the_held_out_buy_is_no_leakage():
    log = make_log([(0, 0), (0, 0), (1, 1)], relations=[0, 1, 0], parts=[0, 2, 0])
    assert clean(log).parts.tolist() == [0, 2, 0]


def test_values_that_are_no_number():
    log = make_log([(0, 0), (1, 1), (2, 2)], values=[1, NAN, np.inf])
    cleaned = clean(log)
    assert rows_of(cleaned) == ["a0"]
    assert step(cleaned, "finite")[1:3] == (3, 1)
    with pytest.raises(ValueError, match=r"2 of 3 values .* for user b and item 1"):
        clean(log, Cleaning(non_finite="error"))


def test_least_value_and_window_of_time():
    rows = [(0, 0), (0, 1), (0, 2), (0, 3)]
    log = make_log(rows, values=[1, 3, 4, 5], times=[10, 20, 30, 40])
    assert rows_of(clean(log, Cleaning(min_value=3))) == ["a1", "a2", "a3"]
    assert rows_of(clean(log, Cleaning(after=20, before=40))) == ["a1", "a2"]
    # The last rating counts, and it is too low.
    again = make_log([(0, 0), (0, 0), (0, 1)], values=[5, 1, 5])
    assert rows_of(clean(again, Cleaning(duplicates="last", min_value=3))) == ["a1"]
    with pytest.raises(ValueError, match="min_value=3 needs values"):
        clean(make_log(rows), Cleaning(min_value=3))
    with pytest.raises(ValueError, match="after=1, before=None need times"):
        clean(make_log(rows), Cleaning(after=1))


def core_by_hand(rows, min_user, min_item):
    """The k-core, one round of both conditions at a time, and the rounds."""
    rounds = 0
    while True:
        users = [u for u, _ in rows]
        items = [i for _, i in rows]
        kept = [
            (u, i)
            for u, i in rows
            if users.count(u) >= min_user and items.count(i) >= min_item
        ]
        if kept == rows:
            return rows, rounds
        rows, rounds = kept, rounds + 1


@pytest.mark.parametrize(("min_user", "min_item"), [(2, 2), (3, 2), (0, 4), (5, 1)])
def test_core_is_what_a_loop_finds(rng, min_user, min_item):
    rows = [(int(u), int(i)) for u, i in rng.integers(0, 8, (40, 2))]
    rows = list(dict.fromkeys(rows))
    expected, rounds = core_by_hand(rows, min_user, min_item)
    log = make_log(rows, num_users=8, num_items=8)
    log = clean(log, Cleaning(min_user=min_user, min_item=min_item))
    assert rows_of(log) == [f"{'abcdefgh'[u]}{i}" for u, i in expected]
    assert step(log, "keep users of").detail == {"iterations": rounds}
    # What is left is numbered without gaps.
    assert set(log.interactions.users) == set(range(log.users.num_rows))


def test_core_needs_several_rounds_in_a_chain():
    # a-0-b-1-c-2-d: each round takes one end off.
    rows = [(0, 0), (1, 0), (1, 1), (2, 1), (2, 2), (3, 2), (3, 3), (0, 3), (0, 4)]
    log = clean(make_log(rows), Cleaning(min_user=2, min_item=2))
    assert step(log, "keep users of").detail == {"iterations": 1}
    with pytest.raises(ValueError, match=r"leaves no row .*-> 0"):
        clean(make_log(rows[:7]), Cleaning(min_user=2, min_item=2))


@pytest.mark.parametrize(
    ("drop_unused", "users", "items"),
    [(None, "abd", "0134"), (True, "ab", "01"), (False, "abcd", "01234")],
)
def test_who_leaves_the_catalogue(drop_unused, users, items):
    # User c and item 2 lose their row; user d, items 3 and 4 never had one.
    values = np.arange(10, dtype=np.float16).reshape(5, 2)
    log = make_log([(0, 0), (2, 2), (1, 1)], values=[1, NAN, 1])
    log = log._replace(
        items=log.items.append_column("title", pa.array([f"t{i}" for i in range(5)])),
        features={"f": Feature(values, np.ones(5, bool))},
    )
    log = clean(log, Cleaning(drop_unused=drop_unused))
    assert "".join(log.users["id"].to_pylist()) == users
    assert "".join(log.items["id"].to_pylist()) == items
    assert log.items["title"].to_pylist() == [f"t{i}" for i in items]
    np.testing.assert_array_equal(log.features["f"].values, values[[*map(int, items)]])
    assert log.features["f"].values.dtype == np.float16
    assert len(log.features["f"].present) == len(items)
    assert rows_of(log) == ["a0", "b1"]
    dropped = {"users": 4 - len(users), "items": 5 - len(items)}
    assert step(log, "without rows").detail == dropped


@pytest.mark.parametrize(
    ("impute", "filled", "present"),
    [
        ("mask", [0, 0], [True, False, True, False]),
        ("zero", [0, 0], [True] * 4),
        ("mean", [2, 4], [True] * 4),
    ],
)
def test_feature_rows_that_are_missing(impute, filled, present):
    values = np.array([[1, 2], [NAN, 7], [3, 6], [0, 0]], np.float32)
    feature = Feature(values.copy(), np.array([True, True, True, False]))
    log = make_log([(0, 0)], num_items=4)._replace(features={"f": feature})
    cleaned = clean(log, Cleaning(impute=impute))
    expected = [[1, 2], filled, [3, 6], filled]
    np.testing.assert_array_equal(cleaned.features["f"].values, expected)
    assert cleaned.features["f"].present.tolist() == present
    assert step(cleaned, "impute f").detail == {"feature rows": 4, "missing": 2}
    np.testing.assert_array_equal(feature.values, values)


def test_a_feature_table_of_wrong_length():
    feature = Feature(np.zeros((4, 2)), np.ones(4, bool))
    log = make_log([(0, 0)])._replace(features={"f": feature})
    with pytest.raises(ValueError, match="'f' has 4 rows for 5 items"):
        clean(log)


def test_a_clean_log_stays_as_it_is():
    log = synthetic(num_users=20, num_items=12, rows_per_user=5)
    cleaned = clean(log, Cleaning(min_user=5))
    assert rows_of(cleaned) == rows_of(log)
    assert cleaned.report[0] == log.report[0]
    assert all(s.before == s.after for s in cleaned.report)
    np.testing.assert_array_equal(cleaned.interactions.times, log.interactions.times)
