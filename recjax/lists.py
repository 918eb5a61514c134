"""Sorted item lists of users: membership, lengths, slices and rank search.

All functions but `item_lists` are pure and run on a device.  None of them makes an
array whose size depends on the longest list, so that one user with a million items
costs nothing to the others.
"""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from recjax.types import ItemLists

_Carry = TypeVar("_Carry")
# Entries of lists that are visited at a time.
_ENTRIES = 2**10


def item_lists(users: np.ndarray, items: np.ndarray, num_users: int) -> ItemLists:
    """Lists of the distinct items of each user, ascending; on the host.

    Args:
      users: ``[n]`` integer user of each pair, in any order.
      items: ``[n]`` integer item of each pair; repeated pairs are kept once.
      num_users: U; users without a pair get an empty list.

    Returns:
      `ItemLists` of ``np.int32`` arrays.

    Raises:
      ValueError: if the two arrays differ in shape or an id is out of range.

    Examples:
      >>> lists = item_lists([1, 1, 0, 1], [5, 2, 7, 5], num_users=3)
      >>> lists.pointer.tolist(), lists.items.tolist()
      ([0, 1, 3, 3], [7, 2, 5])
    """
    users, items = np.asarray(users), np.asarray(items)
    if users.shape != items.shape or users.ndim != 1:
        raise ValueError(
            f"users {users.shape} and items {items.shape} must be vectors of one "
            "length: give one user and one item for each pair"
        )
    if users.size and (users.min() < 0 or users.max() >= num_users):
        raise ValueError(
            f"user ids run from {users.min()} to {users.max()}, outside 0 to "
            f"{num_users - 1}: raise num_users or map the ids to contiguous ones"
        )
    if items.size and items.min() < 0:
        raise ValueError(f"item ids must not be negative, the least is {items.min()}")
    stride = int(items.max()) + 1 if items.size else 1
    pairs = distinct(users.astype(np.int64) * stride + items)
    counts = np.bincount(pairs // stride, minlength=num_users)
    pointer = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    return ItemLists(pointer.astype(np.int32), (pairs % stride).astype(np.int32))


def distinct(keys: np.ndarray) -> np.ndarray:
    """The distinct numbers among some, ascending.

    `numpy.unique` hashes integers before it sorts them, which took six times as long as
    sorting alone for 20 million pairs.

    Args:
      keys: ``[n]`` integers.

    Returns:
      ``[m]``.

    Examples:
      >>> distinct(np.array([5, 2, 5])).tolist()
      [2, 5]
    """
    keys = np.sort(keys)
    is_first = np.ones(len(keys), bool)
    np.not_equal(keys[1:], keys[:-1], out=is_first[1:])
    return keys[is_first]


def lengths(lists: ItemLists, rows: jax.Array) -> jax.Array:
    """Number of items of each of the given users.

    Args:
      lists: U lists.
      rows: ``[...]`` integer users.

    Returns:
      ``[...]`` int32.

    Examples:
      >>> lists = item_lists([0, 0, 2], [4, 6, 1], num_users=3)
      >>> lengths(lists, jnp.array([2, 1, 0])).tolist()
      [1, 0, 2]
    """
    pointer, rows = jnp.asarray(lists.pointer), jnp.asarray(rows)
    return pointer[rows + 1] - pointer[rows]


def search_row(
    pointer: jax.Array, keys: jax.Array, rows: jax.Array, queries: jax.Array
) -> jax.Array:
    """Number of entries in a row whose key is at most the query.

    Binary search in ``keys[pointer[row] : pointer[row + 1]]``, which ascends within
    each row (``#{e in row : keys[e] <= query}``), all rows in step.

    Args:
      pointer: ``[U + 1]`` start of each row.
      keys: ``[n]`` keys, non-decreasing within each row.
      rows: ``[...]`` integer rows.
      queries: ``[..., M]`` values of the keys' dtype.

    Returns:
      ``[..., M]`` int32, from 0 to the length of the row.

    Raises:
      ValueError: if the leading axes of ``queries`` are not those of ``rows``.

    Examples:
      >>> pointer, keys = jnp.array([0, 2, 5]), jnp.array([3, 9, 1, 4, 4])
      >>> search_row(pointer, keys, jnp.array([0, 1]), jnp.array([[2, 3], [4, 9]]))
      Array([[0, 1],
             [3, 3]], dtype=int32)
    """
    pointer, keys = jnp.asarray(pointer, jnp.int32), jnp.asarray(keys)
    rows, queries = jnp.asarray(rows), jnp.asarray(queries)
    if queries.ndim == 0 or queries.shape[:-1] != rows.shape:
        raise ValueError(
            f"queries {queries.shape} must be [..., M] for rows {rows.shape}: give M "
            "queries for each row"
        )
    num_entries = keys.shape[0]
    start = jnp.broadcast_to(pointer[rows][..., None], queries.shape)
    if num_entries == 0:
        return jnp.zeros_like(start)
    stop = jnp.broadcast_to(pointer[rows + 1][..., None], queries.shape)

    def halve(_, bounds):
        low, high = bounds
        middle = low + (high - low) // 2  # low + high may pass int32
        key = keys[jnp.minimum(middle, num_entries - 1)]
        right = (low < high) & (key <= queries)
        return jnp.where(right, middle + 1, low), jnp.where(right, high, middle)

    # Enough steps for the longest of the rows asked for; most are far shorter than n.
    # A loop and not unrolled code: XLA would fuse the dependent gathers and compute
    # the early ones again and again.
    steps = 32 - lax.clz(jnp.max(stop - start, initial=0))
    low, _ = lax.fori_loop(0, steps, halve, (start, stop))
    return low - start


def contains(lists: ItemLists, rows: jax.Array, items: jax.Array) -> jax.Array:
    """Whether each item is in the list of its user.

    Args:
      lists: U lists.
      rows: ``[...]`` integer users.
      items: ``[..., K]`` integer items; ids outside the catalogue are in no list.

    Returns:
      ``[..., K]`` bool.

    Raises:
      ValueError: if the leading axes of ``items`` are not those of ``rows``.

    Examples:
      >>> lists = item_lists([0, 0, 2], [4, 6, 1], num_users=3)
      >>> contains(lists, jnp.array([0, 1]), jnp.array([[6, 5], [4, -1]])).tolist()
      [[True, False], [False, False]]
    """
    pointer, entries = jnp.asarray(lists.pointer), jnp.asarray(lists.items)
    rows, items = jnp.asarray(rows), jnp.asarray(items)
    count = search_row(pointer, entries, rows, items)
    if entries.shape[0] == 0:
        return jnp.zeros(count.shape, bool)
    last = pointer[rows][..., None] + count - 1
    return (count > 0) & (entries[jnp.maximum(last, 0)] == items)


def gather_rows(
    lists: ItemLists, rows: jax.Array, width: int
) -> tuple[jax.Array, jax.Array]:
    """The first ``width`` items of each of the given users, padded.

    Args:
      lists: U lists.
      rows: ``[...]`` integer users.
      width: static number of columns.

    Returns:
      Items ``[..., width]`` int32, 0 where there is none, and their validity
      ``[..., width]`` bool.

    Examples:
      >>> lists = item_lists([0, 0, 2], [4, 6, 1], num_users=3)
      >>> items, valid = gather_rows(lists, jnp.array([0, 2]), width=3)
      >>> items.tolist(), valid.sum(axis=-1).tolist()
      ([[4, 6, 0], [1, 0, 0]], [2, 1])
    """
    pointer, entries = jnp.asarray(lists.pointer), jnp.asarray(lists.items)
    rows = jnp.asarray(rows)
    offset = lax.broadcasted_iota(jnp.int32, (*rows.shape, width), rows.ndim)
    valid = offset < lengths(lists, rows)[..., None]
    if entries.shape[0] == 0:
        return jnp.zeros(offset.shape, jnp.int32), valid
    entry = jnp.where(valid, pointer[rows][..., None] + offset, 0)
    return jnp.where(valid, entries[entry], 0), valid


def locate(
    starts: jax.Array, sizes: jax.Array, positions: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Where the positions of a concatenation of slices come from.

    Slice b covers entries ``starts[b]`` to ``starts[b] + sizes[b] - 1``.  Walking over
    the positions ``0 .. sum(sizes) - 1`` in blocks visits every entry of many rows
    without padding each row to the longest.

    Args:
      starts: ``[B]`` int32 first entry of each slice.
      sizes: ``[B]`` int32 length of each slice; their sum must fit int32.
      positions: ``[P]`` int32 positions in the concatenation.

    Returns:
      The slice b ``[P]``, the entry ``[P]`` (0 where not valid), and whether the
      position lies within the concatenation ``[P]``.

    Examples:
      >>> starts, sizes = jnp.array([10, 50, 30]), jnp.array([2, 0, 1])
      >>> [x.tolist() for x in locate(starts, sizes, jnp.arange(4))]
      [[0, 0, 2, 2], [10, 11, 30, 0], [True, True, True, False]]
    """
    ends = jnp.cumsum(sizes)
    row = jnp.searchsorted(ends, positions, side="right").astype(jnp.int32)
    valid = row < sizes.shape[0]
    row = jnp.minimum(row, sizes.shape[0] - 1)
    entry = starts[row] + positions - (ends[row] - sizes[row])
    return row, jnp.where(valid, entry, 0), valid


def row_of_entry(lists: ItemLists) -> jax.Array:
    """The list that each entry belongs to.

    Args:
      lists: U lists with n entries.

    Returns:
      ``[n]`` int32, ascending.

    Examples:
      >>> row_of_entry(item_lists([0, 0, 2], [4, 6, 1], num_users=3)).tolist()
      [0, 0, 2]
    """
    pointer = jnp.asarray(lists.pointer)
    rows = jnp.arange(pointer.shape[0] - 1, dtype=jnp.int32)
    entries = lists.items.shape[0]
    return jnp.repeat(rows, jnp.diff(pointer), total_repeat_length=entries)


def transpose_lists(lists: ItemLists, num_columns: int) -> ItemLists:
    """The sorted users of each item, for the items of each user.

    Args:
      lists: U lists.
      num_columns: I.

    Returns:
      I lists of rows.

    Examples:
      >>> lists = item_lists([0, 0, 2], [1, 0, 1], num_users=3)
      >>> users = transpose_lists(lists, 2)
      >>> users.pointer.tolist(), users.items.tolist()
      ([0, 1, 3], [0, 0, 2])
    """
    items = jnp.asarray(lists.items)
    order = jnp.argsort(items, stable=True)
    columns = jnp.arange(num_columns + 1, dtype=jnp.int32)
    pointer = jnp.searchsorted(items[order], columns).astype(jnp.int32)
    return ItemLists(pointer, row_of_entry(lists)[order])


def walk_entries(
    visit: Callable[[_Carry, jax.Array, jax.Array, jax.Array], _Carry],
    carry: _Carry,
    lists: ItemLists,
    rows: jax.Array,
    *,
    block: int = _ENTRIES,
) -> _Carry:
    """Visits the items of some users, a block of entries at a time.

    The work is that of the entries there are: no list is padded to the longest.

    Args:
      visit: from the carry, places in ``rows`` ``[block]``, items ``[block]`` and
        whether these are real ``[block]``, to the next carry.
      carry: the first one.
      lists: U lists.
      rows: ``[B]`` integer users.
      block: static number of entries.

    Returns:
      The last carry.

    Examples:
      >>> lists = item_lists([0, 0, 2], [4, 6, 1], num_users=3)
      >>> def add(total, place, item, real):
      ...     return total + jnp.where(real, item, 0).sum()
      >>> int(walk_entries(add, 0, lists, jnp.array([0, 1]), block=8))
      10
    """
    pointer, items = jnp.asarray(lists.pointer), jnp.asarray(lists.items)
    if items.shape[0] == 0:
        return carry
    starts, sizes = pointer[rows], lengths(lists, rows)
    total = sizes.sum()

    def step(state):
        position, carry = state
        positions = position + jnp.arange(block, dtype=jnp.int32)
        place, entry, real = locate(starts, sizes, positions)
        return position + block, visit(carry, place, items[entry], real)

    return lax.while_loop(lambda s: s[0] < total, step, (jnp.int32(0), carry))[1]


def multi_hot(lists: ItemLists, rows: jax.Array, num_items: int) -> jax.Array:
    """1 for the items of some users and 0 for the others, a column a user.

    Args:
      lists: U lists.
      rows: ``[B]`` integer users.
      num_items: I.

    Returns:
      ``[I, B]`` float32.

    Examples:
      >>> lists = item_lists([0, 0, 2], [1, 2, 1], num_users=3)
      >>> multi_hot(lists, jnp.array([0, 1]), 3).T.tolist()
      [[0.0, 1.0, 1.0], [0.0, 0.0, 0.0]]
    """

    def mark(x, place, item, real):
        return x.at[jnp.where(real, item, num_items), place].set(1.0, mode="drop")

    zeros = jnp.zeros((num_items, rows.shape[0]), jnp.float32)
    return walk_entries(mark, zeros, lists, rows)
