"""The catalogue in chunks, and the scores of one chunk with seen items masked."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from recjax.lists import locate, search_row
from recjax.types import ItemLists, Params, Scorer

# Chunks are whole multiples of this many items.  The matrix product of a CPU takes
# another path for narrow or odd widths, whose sums round otherwise; at a multiple of
# 64 every width gave the same bits, so a score does not depend on the chunk size.
_LANES = 128
# Scores held at a time where the caller names no chunk size: 16 MB, near the cache of a
# CPU, and 1 GB where many small steps would leave an accelerator idle.
_BLOCK_SCORES, _BLOCK_SCORES_APART = 2**22, 2**28
# Seen items that are masked at a time, likewise.
_POSITIONS, _POSITIONS_APART = 2**9, 2**16


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
    block = _BLOCK_SCORES if on_cpu() else _BLOCK_SCORES_APART
    return max(1, min(num_items, block // max(num_users, 1)))


def on_cpu() -> bool:
    """Whether computations run on a CPU by default: it chooses sizes, not results."""
    return jax.default_backend() == "cpu"


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
    step = _POSITIONS if on_cpu() else _POSITIONS_APART

    def mask(carry):
        position, scores = carry
        positions = position + jnp.arange(step, dtype=jnp.int32)
        row, entry, real = locate(starts, sizes, positions)
        item = entries[entry]
        column = jnp.searchsorted(ids, item).astype(jnp.int32)
        column = jnp.where(real & (ids[column] == item), column, ids.shape[0])
        scores = scores.at[column, row].set(-jnp.inf, mode="drop")
        return position + step, scores

    return lax.while_loop(lambda c: c[0] < total, mask, (jnp.int32(0), scores))[1]
