"""Item lists against plain Python sets."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.lists import (
    contains,
    distinct,
    gather_rows,
    item_lists,
    lengths,
    locate,
    search_row,
)
from recjax.types import ItemLists


def random_lists(rng, num_users=40, num_items=60, num_pairs=500):
    # Every third user has no item.
    users = rng.integers(0, num_users, num_pairs)
    users = users[users % 3 > 0]
    items = rng.integers(0, num_items, len(users))
    rows = [sorted(set(items[users == user].tolist())) for user in range(num_users)]
    return item_lists(users, items, num_users), rows


def test_item_lists_are_sorted_and_distinct(rng):
    lists, rows = random_lists(rng)
    assert lists.pointer.dtype == lists.items.dtype == np.int32
    found = np.split(lists.items, lists.pointer[1:-1])
    assert [row.tolist() for row in found] == rows


def test_distinct_is_unique(rng):
    for size in (0, 1, 400):
        keys = rng.integers(-50, 50, size) * 2**40
        np.testing.assert_array_equal(distinct(keys), np.unique(keys))
    assert distinct(np.array([3, 3])).tolist() == [3]


def test_item_lists_of_nothing():
    lists = item_lists(np.zeros(0, np.int32), np.zeros(0, np.int32), 3)
    assert lists.pointer.tolist() == [0, 0, 0, 0]
    assert lists.items.shape == (0,)


@pytest.mark.parametrize(
    ("users", "items", "message"),
    [
        ([0, 3], [0, 0], "from 0 to 3, outside 0 to 2"),
        ([-1], [0], "from -1"),
        ([0], [-2], "negative"),
        ([0, 1], [0], r"\(2,\).*\(1,\)"),
    ],
)
def test_item_lists_refuse(users, items, message):
    with pytest.raises(ValueError, match=message):
        item_lists(np.array(users), np.array(items), 3)


@pytest.mark.parametrize("jit", [False, True])
def test_contains_lengths_and_gather(rng, jit):
    lists, rows = random_lists(rng)
    wrap = jax.jit if jit else lambda f, **_: f
    users = rng.integers(0, 40, 25)
    items = rng.integers(-3, 70, (25, 9))
    expected = [
        [item in rows[u] for item in row] for u, row in zip(users, items, strict=True)
    ]
    assert wrap(contains)(lists, users, items).tolist() == expected
    assert wrap(lengths)(lists, users).tolist() == [len(rows[u]) for u in users]
    gathered, valid = wrap(gather_rows, static_argnums=2)(lists, users, 5)
    for user, row, mask in zip(
        users, np.asarray(gathered), np.asarray(valid), strict=True
    ):
        assert row[mask].tolist() == rows[user][:5]
        assert (row[~mask] == 0).all()


def test_contains_takes_any_leading_axes(rng):
    lists, _ = random_lists(rng)
    users = rng.integers(0, 40, (4, 3))
    items = rng.integers(0, 60, (4, 3, 7))
    batched = contains(lists, users, items)
    one = jax.vmap(jax.vmap(lambda u, i: contains(lists, u, i)))(users, items)
    flat = contains(lists, users.reshape(-1), items.reshape(-1, 7))
    np.testing.assert_array_equal(batched, one)
    np.testing.assert_array_equal(batched, flat.reshape(4, 3, 7))


def test_contains_does_not_read_the_row_before():
    lists = item_lists(np.array([0, 2]), np.array([9, 12]), 3)
    found = contains(lists, jnp.array([1, 2]), jnp.array([[9], [9]]))
    assert not found.any()


def test_search_row_counts_keys_up_to_the_query(rng):
    pointer = np.array([0, 4, 4, 9, 10])
    keys = np.sort(rng.integers(0, 6, 10).astype(np.uint32))
    keys = np.concatenate([np.sort(keys[a:b]) for a, b in itertools.pairwise(pointer)])
    rows = np.array([0, 1, 2, 3, 2])
    queries = rng.integers(0, 8, (5, 20)).astype(np.uint32)
    expected = [
        [int((keys[pointer[r] : pointer[r + 1]] <= q).sum()) for q in row]
        for r, row in zip(rows, queries, strict=True)
    ]
    assert search_row(pointer, keys, rows, queries).tolist() == expected


def test_search_row_reads_unsigned_keys_above_int32():
    keys = jnp.array([5, 2**31 + 7, 2**32 - 1], jnp.uint32)
    queries = jnp.array([[2**31, 2**31 + 7, 2**32 - 1]], jnp.uint32)
    assert search_row(jnp.array([0, 3]), keys, jnp.array([0]), queries).tolist() == [
        [1, 2, 3]
    ]


def test_no_entries_at_all():
    lists = ItemLists(jnp.zeros(4, jnp.int32), jnp.zeros(0, jnp.int32))
    rows, items = jnp.array([0, 2]), jnp.array([[0, 1], [2, 3]])
    assert not contains(lists, rows, items).any()
    assert lengths(lists, rows).tolist() == [0, 0]
    gathered, valid = gather_rows(lists, rows, 3)
    assert gathered.shape == (2, 3)
    assert not valid.any()
    assert search_row(lists.pointer, lists.items, rows, items).tolist() == [
        [0, 0],
        [0, 0],
    ]


def test_queries_of_another_batch_are_refused():
    lists = item_lists(np.array([0]), np.array([1]), 2)
    with pytest.raises(ValueError, match=r"\(3, 2\).*\(2,\)"):
        contains(lists, jnp.array([0, 1]), jnp.zeros((3, 2), jnp.int32))


def test_locate_walks_every_slice_once(rng):
    sizes = rng.integers(0, 5, 30)
    starts = rng.integers(0, 100, 30)
    expected = [
        (row, start + offset)
        for row, (start, size) in enumerate(zip(starts, sizes, strict=True))
        for offset in range(size)
    ]
    row, entry, valid = locate(
        jnp.asarray(starts, jnp.int32),
        jnp.asarray(sizes, jnp.int32),
        jnp.arange(len(expected) + 6),
    )
    assert (
        list(zip(row[valid].tolist(), entry[valid].tolist(), strict=True)) == expected
    )
    assert valid.sum() == len(expected)


def test_long_rows_cost_no_memory():
    # One row of 100,000 entries: nothing of [B, longest row] is made.
    longest = 100_000
    lists = item_lists(np.zeros(longest, int), np.arange(longest), 64)
    compiled = (
        jax.jit(contains)
        .lower(lists, np.arange(64), np.zeros((64, 20), np.int32))
        .compile()
    )
    temporary = compiled.memory_analysis().temp_size_in_bytes
    assert temporary < 20 * 64 * 20 * 4
