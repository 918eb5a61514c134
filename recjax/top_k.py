"""The k largest of long columns."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

# Rows of a block.  There would be as many blocks as rows kept at sqrt(height / k).
_BLOCK, _SMALL_BLOCK = 16, 8


def top_k(scores: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """The k largest of each column, with a fraction of the comparisons of a full pass.

    The k best of a column lie in the k blocks of rows whose maxima are best.  If a
    block were left out, each of k others would hold an entry that goes before all of
    its own: a larger one, or an equal one higher up.  The best blocks are found the
    same way.

    Args:
      scores: ``[C, B]`` floating.
      k: how many; at most C.

    Returns:
      The k largest ``[B, k]`` in descending order, of equal ones the highest up first,
      and their rows ``[B, k]``.  Unlike for `jax.lax.top_k`, 0 and -0 are equal; NaN
      goes before all else.

    Examples:
      >>> import jax.numpy as jnp
      >>> values, rows = top_k(jnp.array([[1.0], [3.0], [3.0]]), 2)
      >>> values.tolist(), rows.tolist()
      ([[3.0, 3.0]], [[1, 2]])
    """
    height, width = scores.shape
    size = _BLOCK if height > _BLOCK * _SMALL_BLOCK * k else _SMALL_BLOCK
    num_blocks = -(-height // size)
    if 2 * (num_blocks + k * size) > height:
        return _direct(scores.T, k)
    pad = num_blocks * size - height
    if pad:
        scores = jnp.pad(scores, ((0, pad), (0, 0)), constant_values=-jnp.inf)
    blocks = scores.reshape(num_blocks, size, width)
    # Not blocks.max(1): the reduction of a CPU may pass over NaN.
    highest = functools.reduce(jnp.maximum, [blocks[:, row] for row in range(size)])
    # Ascending, so that of equal entries the one highest up still comes first.
    best = jnp.sort(top_k(highest, k)[1], axis=1)
    kept = blocks[best[:, :, None], jnp.arange(size), jnp.arange(width)[:, None, None]]
    values, position = _direct(kept.reshape(width, -1), k)
    block = jnp.take_along_axis(best, position // size, axis=1)
    return values, block * size + position % size


def _direct(scores: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """Of rows ``[B, C]``, where `lax.top_k` would put -0 behind 0."""
    return lax.top_k(jnp.where(scores == 0, 0, scores), k)
