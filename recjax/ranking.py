"""Exact full ranking: a running top k over chunks of the items that can matter."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from recjax.chunks import chunk_scores, default_chunk_size, item_chunks, on_cpu
from recjax.top_k import top_k
from recjax.types import ItemLists, Params, Scorer

# Users that are ranked together.  Few users and many items: a user then passes through
# top k once, or not much oftener, and the block of scores stays in the cache of a CPU.
# An accelerator wants many, and no bounds: ranking Gowalla on an H200 took 8 s with the
# sizes of a CPU, and 0.04 s with its own.
_ROWS, _ROWS_APART = 32, 4096
# Where a model bounds its scores, the items of the largest bounds come first: this
# share of the catalogue, then twice as many, and so on.  Small catalogues are ranked in
# one go.
_FIRST_SHARE = 1 / 4
_SMALL_CATALOGUE = 2**13


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

    On CPU, a model with a `recjax.types.BoundedScorer.score_bound` is not asked for
    items whose bound lies below the k-th best score of a user: where few items have
    long vectors, as after training by dot products, that is most of the catalogue.

    Args:
      model: any `recjax.types.Scorer`; hashable, static under jit.
      params: its parameters.
      state: what ``model.embed`` returned.
      seen: the items that are never recommended to a user.
      users: ``[B]`` integer users, rows of the state and of ``seen``.
      num_items: I; static.
      k: length of the lists; static; may exceed I.
      chunk_size: C, items scored at a time at most; static; a multiple of 128 is taken.
        None for `recjax.chunks.default_chunk_size`.
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

    def best(users, candidates):
        return _best(
            model, params, state, seen, users, num_items, k, chunk_size, candidates
        )

    most = _ROWS if on_cpu() else _ROWS_APART

    def by_rows(users, candidates):
        if len(users) <= most:
            return best(users, candidates)
        rows = jnp.pad(users, (0, -len(users) % most)).reshape(-1, most)
        found = lax.map(lambda users: best(users, candidates), rows)
        return jax.tree.map(lambda x: x.reshape(-1, k)[: len(users)], found)

    bound = getattr(model, "score_bound", None) if on_cpu() else None
    if candidates is not None or bound is None or num_items < _SMALL_CATALOGUE:
        return by_rows(users, candidates)

    of_users, of_items = bound(params, state)
    # An item whose bound is unknown comes first.
    of_items = jnp.where(jnp.isnan(of_items), jnp.inf, of_items)
    order = jnp.argsort(-of_items).astype(jnp.int32)
    width = int(num_items * _FIRST_SHARE)
    items, scores = by_rows(users, order[:width])
    # s(u, i) <= of_users[u] of_items[i]: below the k-th best so far, the item is out.
    least = scores[:, -1] / of_users[users]
    # All items where the least is negative or NaN.
    reach = jnp.searchsorted(-of_items[order], -least, side="right")

    # Users of like reach together; each run of them goes once more, over the shortest
    # prefix of the order that holds all that they need.
    line = jnp.argsort(reach)
    rows = min(most, len(users))
    padded = jnp.pad(line, (0, rows), mode="edge")
    while width < num_items:
        shorter, width = width, min(2 * width, num_items)
        start, stop = jnp.searchsorted(
            reach[line], jnp.array([shorter, width]), "right"
        )
        prefix = order[:width] if width < num_items else None

        def again(carry, prefix=prefix):
            place, items, scores = carry
            some = lax.dynamic_slice_in_dim(padded, place, rows)
            found = best(users[some], prefix)
            return (
                place + rows,
                items.at[some].set(found[0]),
                scores.at[some].set(found[1]),
            )

        carry = (start, items, scores)
        _, items, scores = lax.while_loop(lambda c, n=stop: c[0] < n, again, carry)
    return items, scores


def _best(
    model: Scorer,
    params: Params,
    state: Any,
    seen: ItemLists,
    users: jax.Array,
    num_items: int,
    k: int,
    chunk_size: int | None,
    candidates: jax.Array | None,
) -> tuple[jax.Array, jax.Array]:
    """The lists of a few users, by chunks."""
    total = num_items if candidates is None else candidates.shape[0]
    if chunk_size is None:
        chunk_size = default_chunk_size(users.shape[0], total)
    num_chunks, width, tail, ids_of = item_chunks(num_items, chunk_size, candidates)

    def best_of(chunk):
        ids = ids_of(chunk)
        scores = chunk_scores(model, params, state, seen, users, ids, num_items, tail)
        scores, place = top_k(scores, min(k, width))
        return jnp.where(scores == -jnp.inf, -1, ids[place]), scores

    if num_chunks == 1:
        items, scores = best_of(0)
        pad = ((0, 0), (0, k - items.shape[1]))
        return (
            jnp.pad(items, pad, constant_values=-1),
            jnp.pad(scores, pad, constant_values=-jnp.inf),
        )

    def merge(chunk, best):
        # The list so far stands first: its ids are lower, and top_k is stable.
        found = best_of(chunk)
        items = jnp.concatenate([best[0], found[0]], axis=1)
        scores, place = top_k(jnp.concatenate([best[1], found[1]], axis=1).T, k)
        return jnp.take_along_axis(items, place, axis=1), scores

    items = jnp.full((users.shape[0], k), -1, jnp.int32)
    scores = jnp.full((users.shape[0], k), -jnp.inf, jnp.float32)
    return lax.fori_loop(0, num_chunks, merge, (items, scores))
