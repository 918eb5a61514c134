"""Exact full ranking, a running top k over chunks of the catalogue; and lists."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from recjax.lists import locate, search_row
from recjax.top_k import top_k
from recjax.types import Context, ItemLists, Params, Scorer

# Chunks are whole multiples of this many items.  The matrix product of a CPU takes
# another path for narrow or odd widths, whose sums round otherwise; at a multiple of
# 64 every width gave the same bits, so a score does not depend on the chunk size.
_LANES = 128
# Scores held at a time where the caller names no chunk size (16 MB), and users that are
# ranked together.  Few users and many items: a user then passes through top k once, or
# not much oftener, and the block stays in cache.
_BLOCK_SCORES = 2**22
_ROWS = 32
# Seen items that are masked at a time.
_POSITIONS = 2**12


def default_chunk_size(num_users: int, num_items: int) -> int:
    """Items scored at a time where nobody says otherwise.

    Args:
      num_users: B, users of one batch.
      num_items: I.

    Returns:
      The chunk size.

    Examples:
      >>> default_chunk_size(512, 3_000), default_chunk_size(512, 10_000_000)
      (3000, 8192)
    """
    return max(1, min(num_items, _BLOCK_SCORES // max(num_users, 1)))


def item_chunks(
    num_items: int, chunk_size: int, candidates: jax.Array | None = None
) -> tuple[int, int, int, Any]:
    """Cuts the catalogue, or the candidates, into chunks of ascending ids.

    Args:
      num_items: I.
      chunk_size: items of a chunk; rounded up to a multiple of 128, so that the
        scores are the same bits for every chunk size.
      candidates: ``[M]`` item ids in any order; repeated ids count once, ids outside
        the catalogue not at all.  None for all items.

    Returns:
      The number of chunks, their width C, how many ids at the end of a chunk may be
      padding, and a function from the number of a chunk to its ids ``[C]``, ascending;
      ids from I on are padding.

    Raises:
      ValueError: if the chunk size is not positive.

    Examples:
      >>> num_chunks, width, tail, ids_of = item_chunks(300, 200)
      >>> num_chunks, width, tail, ids_of(1)[0].item()
      (2, 256, 212, 256)
    """
    if chunk_size < 1:
        raise ValueError(f"chunk_size = {chunk_size} must be positive")
    total = num_items if candidates is None else candidates.shape[0]
    # Chunks of like widths: a short last one would cost as much as the others.
    width = -(-min(chunk_size, max(total, 1)) // _LANES) * _LANES
    num_chunks = -(-max(total, 1) // width)
    width = -(-max(total, 1) // (num_chunks * _LANES)) * _LANES
    pad = num_chunks * width - total
    offsets = jnp.arange(width, dtype=jnp.int32)
    if candidates is None:
        return num_chunks, width, pad, lambda chunk: chunk * width + offsets
    ids = jnp.asarray(candidates, jnp.int32)
    ids = jnp.sort(jnp.where((ids >= 0) & (ids < num_items), ids, num_items))
    repeated = jnp.concatenate([jnp.zeros(min(total, 1), bool), ids[1:] == ids[:-1]])
    ids = jnp.sort(jnp.where(repeated, num_items, ids))
    ids = jnp.pad(ids, (0, pad), constant_values=num_items)
    return (
        num_chunks,
        width,
        # Any number of candidates may be no item, or the same one.
        width,
        lambda chunk: lax.dynamic_slice_in_dim(ids, chunk * width, width),
    )


def chunk_scores(
    model: Scorer,
    params: Params,
    state: Any,
    seen: ItemLists,
    users: jax.Array,
    ids: jax.Array,
    num_items: int,
    tail: int,
) -> jax.Array:
    """Scores of one chunk, with -inf for what may not be recommended.

    Args:
      model: scores the items.
      params: its parameters.
      state: what ``model.embed`` returned.
      seen: the items that are never recommended to a user.
      users: ``[B]`` integer users.
      ids: ``[C]`` ascending item ids; from I on padding.
      num_items: I.
      tail: how many ids at the end may be padding.

    Returns:
      ``[C, B]`` float32, a column for each user: what goes over the items then goes
      over whole vectors, and a product of two tables need not copy the larger one.
    """
    scores = model.score(params, state, users, jnp.minimum(ids, num_items - 1)).T
    scores = scores.astype(jnp.float32)
    # In place: another pass over all scores would cost as much as their maximum.
    real = ids.shape[0] - tail
    last = jnp.where(ids[real:, None] < num_items, scores[real:], -jnp.inf)
    scores = scores.at[real:].set(last)
    pointer, entries = jnp.asarray(seen.pointer), jnp.asarray(seen.items)
    if entries.shape[0] == 0:
        return scores
    # Only the entries that lie in the chunk are visited, each once in all chunks.
    limits = jnp.broadcast_to(jnp.stack([ids[0] - 1, ids[-1]]), (users.shape[0], 2))
    inside = search_row(pointer, entries, users, limits)
    starts, sizes = pointer[users] + inside[:, 0], inside[:, 1] - inside[:, 0]
    total = sizes.sum()

    def mask(carry):
        position, scores = carry
        positions = position + jnp.arange(_POSITIONS, dtype=jnp.int32)
        row, entry, real = locate(starts, sizes, positions)
        item = entries[entry]
        column = jnp.searchsorted(ids, item).astype(jnp.int32)
        column = jnp.where(real & (ids[column] == item), column, ids.shape[0])
        scores = scores.at[column, row].set(-jnp.inf, mode="drop")
        return position + _POSITIONS, scores

    return lax.while_loop(lambda c: c[0] < total, mask, (jnp.int32(0), scores))[1]


@functools.partial(jax.jit, static_argnames=("model", "num_items", "k", "chunk_size"))
def rank(
    model: Scorer,
    params: Params,
    state: Any,
    seen: ItemLists,
    users: jax.Array,
    *,
    num_items: int,
    k: int,
    chunk_size: int | None = None,
    candidates: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """The k best unseen items of each user, best first; exact.

    ``items[b] = argtop_k { s(u_b, i) : i not in seen[u_b] }``, of equal scores the
    lowest id first.  The catalogue passes in chunks under a running top k, so that
    memory is O(B (C + k)) for chunks of C items, and the result is the same for every
    chunk size.

    Args:
      model: any `recjax.types.Scorer`; hashable, static under jit.
      params: its parameters.
      state: what ``model.embed`` returned.
      seen: the items that are never recommended to a user.
      users: ``[B]`` integer users, rows of the state and of ``seen``.
      num_items: I; static.
      k: length of the lists; static; may exceed I.
      chunk_size: C, items scored at a time at most; static; a multiple of 128 is taken.
        None for `default_chunk_size`.
      candidates: ``[M]`` item ids; only these are ranked.  Repeated ids count once,
        ids outside the catalogue not at all.  None for all items.

    Returns:
      Items ``[B, k]`` int32 and scores ``[B, k]`` float32; -1 and -inf where fewer
      than k items are left.  An item that the model itself scores -inf counts as not
      there; NaN scores are not hidden.

    Raises:
      ValueError: if k or the chunk size is not positive.

    Examples:
      >>> from recjax.models import MF
      >>> from recjax.types import Embeddings
      >>> items = jnp.array([[3.0], [5.0], [4.0], [5.0]])
      >>> state = Embeddings(jnp.array([[1.0]]), items)
      >>> seen = ItemLists(jnp.array([0, 1]), jnp.array([3]))
      >>> rank(MF(), {}, state, seen, jnp.array([0]), num_items=4, k=2)
      (Array([[1, 2]], dtype=int32), Array([[5., 4.]], dtype=float32))
    """
    if k < 1:
        raise ValueError(f"k = {k} must be positive")
    users = jnp.asarray(users)
    num_users = users.shape[0]
    if chunk_size is None:
        chunk_size = default_chunk_size(min(num_users, _ROWS), num_items)
    num_chunks, width, tail, ids_of = item_chunks(num_items, chunk_size, candidates)

    def best_of(users, chunk):
        ids = ids_of(chunk)
        scores = chunk_scores(model, params, state, seen, users, ids, num_items, tail)
        scores, place = top_k(scores, min(k, width))
        return jnp.where(scores == -jnp.inf, -1, ids[place]), scores

    def best(users):
        if num_chunks == 1:
            items, scores = best_of(users, 0)
            pad = ((0, 0), (0, k - items.shape[1]))
            return (
                jnp.pad(items, pad, constant_values=-1),
                jnp.pad(scores, pad, constant_values=-jnp.inf),
            )

        def merge(chunk, best):
            # The list so far stands first: its ids are lower, and top_k is stable.
            found = best_of(users, chunk)
            items = jnp.concatenate([best[0], found[0]], axis=1)
            scores, place = top_k(jnp.concatenate([best[1], found[1]], axis=1).T, k)
            return jnp.take_along_axis(items, place, axis=1), scores

        items = jnp.full((users.shape[0], k), -1, jnp.int32)
        scores = jnp.full((users.shape[0], k), -jnp.inf, jnp.float32)
        return lax.fori_loop(0, num_chunks, merge, (items, scores))

    if num_users <= _ROWS:
        return best(users)
    rows = jnp.pad(users, (0, -num_users % _ROWS)).reshape(-1, _ROWS)
    found = lax.map(best, rows)
    return jax.tree.map(lambda x: x.reshape(-1, k)[:num_users], found)


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
    batch_size: int = 512,
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
      batch_size: users ranked at a time.
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
    batch_size = max(1, min(batch_size, len(users)))
    waiting = None
    for number, (batch, valid) in enumerate(user_batches(users, batch_size)):
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
        rows = slice(number * batch_size, number * batch_size + int(valid.sum()))
        waiting = (rows, step)
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
    users: np.ndarray, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of one size, the last one filled up with user 0, and what is real."""
    for start in range(0, len(users), batch_size):
        batch = users[start : start + batch_size]
        pad = batch_size - len(batch)
        yield np.pad(batch, (0, pad)), np.arange(batch_size) < len(batch)


@functools.partial(jax.jit, static_argnames="model")
def embed(model: Scorer, params: Params, context: Context) -> Any:
    """``model.embed``, compiled once a model and shapes."""
    return model.embed(params, context)
