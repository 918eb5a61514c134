"""Personal lists, for known users and for newcomers."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from recjax.ranking import rank
from recjax.types import Context, ItemLists, Params, Scorer


def recommend(
    model: Scorer,
    params: Params,
    context: Context,
    *,
    users: np.ndarray | None = None,
    histories: ItemLists | None = None,
    k: int = 10,
    filter_seen: bool = True,
    candidates: np.ndarray | None = None,
    state: Any = None,
    batch_size: int = 8192,
    chunk_size: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Lists of the k best items, for known users or for newcomers.

    Args:
      model: any `recjax.types.Scorer`.
      params: its parameters.
      context: the training data.
      users: ids ``[B]`` of known users, in any order, repeated or not.  None for all
        users, unless histories are given.
      histories: B lists of item ids of newcomers instead, see
        `recjax.lists.item_lists`; the model folds them in without training.
      k: length of the lists.  Where the catalogue (or ``candidates``) has fewer items
        than k, the lists have as many columns as it has items.
      filter_seen: leave out the training items of known users, and the history of
        newcomers.
      candidates: ``[M]`` ids of the only items to rank; None for all.
      state: what ``model.embed(params, context)`` returned, to save computing it
        again.
      batch_size: users ranked at a time, at most.
      chunk_size: items scored at a time, see `recjax.ranking.rank`.

    Returns:
      Items ``[B, min(k, I)]`` int32, best first, and their scores, float32.  A user
      for whom fewer items are left has -1 and -inf at the end.

    Raises:
      ValueError: if both users and histories are given, an id is out of range, or k
        or the batch size is not positive.

    Examples:
      >>> from recjax.data.graph import make_context
      >>> from recjax.lists import item_lists
      >>> from recjax.models import Popular
      >>> from recjax.types import Interactions, Spec
      >>> train = Interactions(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2]))
      >>> context = make_context(train, Spec(num_users=3, num_items=3))
      >>> params = Popular().solve(context)
      >>> items, scores = recommend(Popular(), params, context, users=[0, 2], k=2)
      >>> items.tolist()
      [[2, -1], [1, 0]]
      >>> newcomer = item_lists([0], [1], num_users=1)
      >>> recommend(Popular(), params, context, histories=newcomer, k=9)[0].tolist()
      [[0, 2, -1]]
    """
    if k < 1 or batch_size < 1:
        raise ValueError(f"k = {k} and batch_size = {batch_size} must be positive")
    num_items = context.item_counts.shape[0]
    if users is not None and histories is not None:
        raise ValueError(
            "users and histories are both given: ask for known users by id, or for "
            "newcomers by their histories"
        )
    ids = None
    if candidates is not None:
        ids = np.unique(_check_items("candidates", candidates, num_items))
    if state is None:
        state = embed(model, params, context)
    if histories is not None:
        _check_items("histories", histories.items, num_items)
        num_users, seen = len(histories.pointer) - 1, jax.device_put(histories)
        state = _fold_in(model, params, context, state, seen)
    else:
        num_users, seen = context.seen.pointer.shape[0] - 1, context.seen
    if users is None:
        users = np.arange(num_users)
    users = check_users(users, num_users)
    if not filter_seen:
        seen = ItemLists(jnp.zeros(num_users + 1, jnp.int32), jnp.zeros(0, jnp.int32))

    k = min(k, num_items if ids is None else len(ids))
    items = np.zeros((len(users), k), np.int32)
    scores = np.zeros((len(users), k), np.float32)
    if k == 0:
        return items, scores
    start, waiting = 0, None
    for batch, valid in user_batches(users, batch_size):
        step = rank(
            model,
            params,
            state,
            seen,
            batch,
            num_items=num_items,
            k=k,
            chunk_size=chunk_size,
            candidates=ids,
        )
        if waiting is not None:
            _store(waiting, items, scores)
        stop = start + int(valid.sum())
        start, waiting = stop, (slice(start, stop), step)
    if waiting is not None:
        _store(waiting, items, scores)
    return items, scores


def _check_items(name: str, items: Any, num_items: int) -> np.ndarray:
    items = np.asarray(items)
    if items.size and (items.min() < 0 or items.max() >= num_items):
        raise ValueError(
            f"{name} hold item ids from {items.min()} to {items.max()}, outside 0 to "
            f"{num_items - 1}"
        )
    return items.astype(np.int32)


@functools.partial(jax.jit, static_argnames="model")
def _fold_in(
    model: Scorer, params: Params, context: Context, state: Any, histories: ItemLists
) -> Any:
    return model.fold_in(params, context, state, histories)


def _store(step: Any, items: np.ndarray, scores: np.ndarray) -> None:
    rows, best = step
    found = jax.device_get(best)
    count = rows.stop - rows.start
    items[rows], scores[rows] = found[0][:count], found[1][:count]


def check_users(users: np.ndarray, num_users: int) -> np.ndarray:
    """The ids as int32; `ValueError` with the range where they are out of range."""
    users = np.asarray(users)
    if users.ndim != 1 or not (
        np.issubdtype(users.dtype, np.integer) or users.size == 0
    ):
        raise ValueError(
            f"users must be a vector of integer ids, got {users.dtype} {users.shape}"
        )
    if users.size and (users.min() < 0 or users.max() >= num_users):
        raise ValueError(
            f"user ids run from {users.min()} to {users.max()}, outside 0 to "
            f"{num_users - 1}: newcomers are given by histories to recommend()"
        )
    return users.astype(np.int32)


def user_batches(
    users: np.ndarray, batch_size: int, multiple: int = 1
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of one size, the last one filled up with user 0, and what is real.

    Args:
      users: ``[U']``.
      batch_size: users of a batch at most.  As many batches as that takes are made
        nearly equal, so that there is little to fill up.
      multiple: what the size of a batch is divisible by.

    Yields:
      Users ``[B]`` and ``[B]`` booleans.

    Examples:
      >>> [(x.tolist(), r.tolist()) for x, r in user_batches(np.array([7, 8, 9]), 2)]
      [([7, 8], [True, True]), ([9, 0], [True, False])]
    """
    number = -(-len(users) // batch_size)
    size = -(-len(users) // max(number * multiple, 1)) * multiple
    for start in range(0, len(users), max(size, 1)):
        batch = users[start : start + size]
        yield np.pad(batch, (0, size - len(batch))), np.arange(size) < len(batch)


@functools.partial(jax.jit, static_argnames=("model", "mesh"))
def embed(
    model: Scorer, params: Params, context: Context, mesh: Mesh | None = None
) -> Any:
    """``model.embed``, compiled once a model and shapes; on a mesh whole everywhere."""
    state = model.embed(params, context)
    if mesh is None:
        return state
    return jax.lax.with_sharding_constraint(state, NamedSharding(mesh, PartitionSpec()))
