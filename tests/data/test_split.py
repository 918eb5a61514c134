"""Splits: who goes where, by hand and by property, and the fingerprint."""

import numpy as np
import pyarrow as pa
import pytest

from recjax.data._log import Log
from recjax.data._split import Split, split, split_hash
from recjax.data.synthetic import synthetic
from recjax.types import Interactions

NAMES = ("train", "valid", "test")
TRAIN, VALID, TEST = 0, 1, 2
STRATEGIES = (
    "random",
    "leave_one_out",
    "user_time",
    "global_time",
    "item_cold",
    "user_cold",
)


def make_log(users, items, *, times=None, relations=None, parts=None):
    return Log(
        Interactions(
            np.array(users, np.int32),
            np.array(items, np.int32),
            times=None if times is None else np.array(times, np.int64),
            relations=None if relations is None else np.array(relations, np.int32),
        ),
        pa.table({"id": [f"u{u}" for u in range(max(users) + 1)]}),
        pa.table({"id": [f"i{i}" for i in range(max(items) + 1)]}),
        parts=None if parts is None else np.array(parts, np.int8),
        part_names=() if parts is None else NAMES,
        relation_names=() if relations is None else ("view", "buy", "like"),
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_keeps_rows_and_comes_out_the_same_again(strategy):
    log = synthetic(num_users=60, num_items=50, rows_per_user=10)
    done = split(log, Split(strategy, valid=0.2, test=0.1, seed=3))
    assert done.part_names == NAMES and done.parts.dtype == np.int8
    np.testing.assert_array_equal(done.interactions.users, log.interactions.users)
    np.testing.assert_array_equal(done.interactions.items, log.interactions.items)
    again = split(log, Split(strategy, valid=0.2, test=0.1, seed=3))
    np.testing.assert_array_equal(done.parts, again.parts)
    counts = np.bincount(done.parts, minlength=3)
    assert counts.min() > 0
    assert [done.report[-1].detail[name] for name in NAMES] == counts.tolist()
    assert done.report[-1].detail["pairs held out and in an earlier part"] == 0


def test_random_has_the_shares_asked_for_and_follows_the_seed():
    log = synthetic(num_users=50, num_items=40, rows_per_user=10)
    parts = [split(log, Split(valid=0.2, test=0.1, seed=s)).parts for s in (0, 1)]
    assert np.bincount(parts[0]).tolist() == [350, 100, 50]
    assert (parts[0] != parts[1]).any()


def test_leave_one_out_by_hand():
    # User 0: times 5, 9, 7, 9 (of the two at 9, the later row is last).
    # User 1 has two rows, user 2 one: they stay in train.
    log = make_log(
        [0, 0, 0, 1, 0, 2, 1],
        [0, 1, 2, 0, 3, 0, 1],
        times=[5, 9, 7, 3, 9, 1, 4],
    )
    parts = split(log, Split("leave_one_out")).parts
    assert parts.tolist() == [TRAIN, VALID, TRAIN, TRAIN, TEST, TRAIN, TRAIN]


def test_user_time_by_hand():
    # Ten rows of user 0, backwards in time; user 1 has one row, user 2 two.
    log = make_log(
        [0] * 10 + [1] + [2] * 2,
        [*range(10), 0, 0, 1],
        times=[*range(10, 0, -1), 1, 6, 5],
    )
    parts = split(log, Split("user_time", valid=0.2, test=0.3)).parts.tolist()
    assert parts[:10] == [TEST] * 3 + [VALID] * 2 + [TRAIN] * 5
    assert parts[10:] == [TRAIN, TEST, TRAIN]  # 2 * 0.3 and 2 * 0.2 round to 1 and 0
    # However large the shares, each user keeps a row.
    parts = split(log, Split("user_time", valid=0.3, test=0.6)).parts.tolist()
    assert parts[10:] == [TRAIN, TEST, TRAIN]
    assert parts[:10] == [TEST] * 6 + [VALID] * 3 + [TRAIN]


def test_global_time_never_cuts_through_a_moment():
    times = [1, 2, 3, 4, 5, 6, 6, 7, 8, 8]
    log = make_log([0] * 10, range(10), times=times)
    parts = split(log, Split("global_time", valid=0.3, test=0.1)).parts
    assert parts.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 2, 2]
    rng = np.random.default_rng(0)
    for seed in range(20):
        times = rng.integers(0, 12, 40)
        log = make_log(rng.integers(0, 5, 40).tolist(), range(40), times=times)
        parts = split(log, Split("global_time", valid=0.2, test=0.2, seed=seed)).parts
        assert times[parts == TRAIN].max() < times[parts != TRAIN].min()
        if (parts == VALID).any():
            assert times[parts == VALID].max() < times[parts == TEST].min()
        assert np.sum(parts == TEST) >= 8


@pytest.mark.parametrize("side", ["item", "user"])
def test_cold_items_and_users_have_all_rows_in_one_part(side):
    log = synthetic(num_users=60, num_items=50, rows_per_user=10)
    done = split(log, Split(f"{side}_cold", valid=0.1, test=0.2))
    codes = getattr(done.interactions, f"{side}s")
    count = len(np.unique(codes))
    sets = [set(codes[done.parts == part]) for part in range(3)]
    assert sum(map(len, sets)) == len(set.union(*sets)) == count
    assert [len(s) for s in sets[1:]] == [round(count * 0.1), round(count * 0.2)]


def test_given_parts_stay():
    log = make_log([0, 0, 1, 1], [0, 1, 0, 1], parts=[0, 1, 0, 2])
    assert split(log).parts.tolist() == [0, 1, 0, 2]
    assert split(log).report[-1].detail["strategy"] == "given"
    with pytest.raises(ValueError, match="brings no parts"):
        split(make_log([0], [0]), Split("given"))
    with pytest.raises(ValueError, match="no test row"):
        split(make_log([0, 0], [0, 1], parts=[0, 1]))


def test_given_parts_without_valid_have_one_carved_out_of_train():
    users, items = np.divmod(np.arange(50), 10)
    parts = np.where(items < 8, TRAIN, TEST)
    log = make_log(users.tolist(), items.tolist(), parts=parts)
    done = split(log, Split(valid=0.25))
    assert np.bincount(done.parts).tolist() == [30, 10, 10]
    assert (done.parts[parts == TEST] == TEST).all()
    assert done.report[-1].detail["carved out of train"] == 10
    np.testing.assert_array_equal(split(log, Split(valid=0)).parts, parts)


def test_the_latest_row_of_each_user_can_be_carved():
    # User 0 bought at 4 and 6 and viewed at 9; user 1 bought once.
    log = make_log(
        [0, 0, 0, 1, 0, 1],
        [0, 1, 2, 0, 3, 1],
        times=[4, 6, 9, 5, 1, 1],
        relations=[1, 1, 0, 1, 1, 1],
        parts=[0, 0, 0, 0, 2, 2],
    )
    parts = split(log, Split(carve="latest")).parts
    assert parts.tolist() == [TRAIN, VALID, TRAIN, TRAIN, TEST, TEST]
    timeless = log._replace(interactions=log.interactions._replace(times=None))
    with pytest.raises(ValueError, match="carve='latest' needs times"):
        split(timeless, Split(carve="latest"))


@pytest.mark.parametrize(("target", "relation"), [(None, 1), ("view", 0), ("like", 2)])
@pytest.mark.parametrize("strategy", ["random", "leave_one_out", "global_time"])
def test_only_the_target_behaviour_is_held_out(rng, strategy, target, relation):
    relations = rng.integers(0, 3, 90)
    users, times = rng.integers(0, 5, 90), rng.integers(0, 1000, 90)
    log = make_log(users.tolist(), range(90), times=times, relations=relations)
    done = split(log, Split(strategy, target=target))
    held_out = done.parts != TRAIN
    assert set(relations[held_out]) == {relation}
    assert len(done.parts) == 90
    assert done.report[-1].detail["target"] == log.relation_names[relation]


def test_a_cold_item_keeps_no_row_of_another_behaviour(rng):
    items, relations = rng.integers(0, 20, 200), rng.integers(0, 2, 200)
    log = make_log(
        rng.integers(0, 9, 200).tolist(), items.tolist(), relations=relations
    )
    done = split(log, Split("item_cold"))
    rows = done.interactions
    cold = set(rows.items[done.parts != TRAIN])
    assert len(cold) == 4
    assert not cold & set(rows.items[done.parts == TRAIN])
    left_out = int(np.sum(np.isin(items, [*cold]) & (relations == 0)))
    assert left_out > 0
    assert rows.num_rows == 200 - left_out
    assert done.report[-1].detail["rows of cold entities left out"] == left_out


def test_pairs_that_straddle_the_parts_are_counted():
    # The same pair again and again, with duplicates kept.
    log = make_log([0] * 10, [0] * 10, times=range(10))
    done = split(log, Split("global_time", valid=0.1, test=0.1))
    assert done.report[-1].detail["pairs held out and in an earlier part"] == 9


@pytest.mark.parametrize("strategy", ["leave_one_out", "user_time", "global_time"])
def test_strategies_by_time_need_times(strategy):
    with pytest.raises(ValueError, match=f"the split {strategy} needs times"):
        split(make_log([0, 0], [0, 1]), Split(strategy))


def test_impossible_shares():
    log = make_log([0, 0, 1], [0, 1, 0], times=[1, 1, 1])
    with pytest.raises(ValueError, match=r"valid=0.5 and test=0.5"):
        split(log, Split(valid=0.5, test=0.5))
    with pytest.raises(ValueError, match=r"valid=-0.1"):
        split(log, Split(valid=-0.1))
    with pytest.raises(ValueError, match="leaves no training row"):
        split(log, Split("global_time", test=0.4))
    with pytest.raises(
        ValueError, match="no target behaviour 'bye'; did you mean 'buy'"
    ):
        split(make_log([0], [0], relations=[1]), Split(target="bye"))


def renumbered(log, rng):
    """The same log with rows, users, items and behaviours in another order."""
    rows = rng.permutation(log.interactions.num_rows)
    users, items = (
        rng.permutation(log.users.num_rows),
        rng.permutation(log.items.num_rows),
    )
    relations = rng.permutation(len(log.relation_names))
    taken = log.interactions.take(rows)
    return log._replace(
        interactions=taken._replace(
            users=np.argsort(users).astype(np.int32)[taken.users],
            items=np.argsort(items).astype(np.int32)[taken.items],
            relations=np.argsort(relations).astype(np.int32)[taken.relations],
        ),
        users=log.users.take(users),
        items=log.items.take(items),
        parts=log.parts[rows],
        relation_names=tuple(log.relation_names[r] for r in relations),
    )


def test_hash_sees_ids_behaviours_and_parts_but_no_order(rng):
    users, items = rng.integers(0, 9, 60).tolist(), rng.integers(0, 8, 60).tolist()
    parts, relations = rng.integers(0, 3, 60), rng.integers(0, 3, 60)
    log = make_log(users, items, relations=relations, parts=parts)
    digest = split_hash(log)
    assert len(digest) == 64 and int(digest, 16) >= 0
    assert split_hash(renumbered(log, rng)) == digest
    timed = log.interactions._replace(times=np.arange(60))
    assert split_hash(log._replace(interactions=timed)) == digest
    moved = log.parts.copy()
    moved[0] = (moved[0] + 1) % 3
    other_ids = pa.table({"id": [*log.items["id"].to_pylist()[:-1], "another"]})
    for other in (
        log._replace(parts=moved),
        log._replace(items=other_ids),
        log._replace(relation_names=("view", "buy", "love")),
        log._replace(
            interactions=log.interactions.take(np.arange(59)), parts=parts[:59]
        ),
    ):
        assert split_hash(other) != digest
    with pytest.raises(ValueError, match="no parts"):
        split_hash(log._replace(parts=None))


def test_hash_tells_where_an_id_ends():
    log = make_log([0, 1], [0, 0], parts=[0, 0])
    one, two = (
        split_hash(log._replace(users=pa.table({"id": ids})))
        for ids in (["ab", "c"], ["a", "bc"])
    )
    assert one != two
