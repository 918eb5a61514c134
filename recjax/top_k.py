"""The k largest of wide rows."""

import jax
import jax.numpy as jnp
from jax import lax

_BLOCK = 32


def top_k(scores: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """`jax.lax.top_k` of wide rows, with a fraction of its comparisons.

    The k best of a row lie in the k blocks of columns whose maxima are best.  If a
    block were left out, each of k others would hold an entry that goes before all of
    its own: a larger one, or an equal one further left.

    Args:
      scores: ``[B, C]`` floating.
      k: how many; at most C.

    Returns:
      The k largest ``[B, k]`` in descending order, of equal ones the leftmost first,
      and their columns ``[B, k]``.  Unlike for `jax.lax.top_k`, 0 and -0 are equal;
      NaN goes before all else.

    Examples:
      >>> import jax.numpy as jnp
      >>> values, columns = top_k(jnp.array([[1.0, 3.0, 3.0]]), 2)
      >>> values.tolist(), columns.tolist()
      ([[3.0, 3.0]], [[1, 2]])
    """
    num_rows, width = scores.shape
    num_blocks = width // _BLOCK
    if width % _BLOCK or 2 * (num_blocks + k * _BLOCK) > width:
        return lax.top_k(_without_sign(scores), k)
    blocks = scores.reshape(num_rows, num_blocks, _BLOCK)
    # The maximum of a CPU may pass over NaN, a sum does not.
    highest = jnp.where(jnp.isnan(blocks.sum(2)), jnp.inf, blocks.max(2))
    # Ascending, so that of equal entries the leftmost still comes first.
    best = jnp.sort(lax.top_k(_without_sign(highest), k)[1], axis=1)
    # Whole blocks as rows of one table: a gather of contiguous pieces.
    first = num_blocks * jnp.arange(num_rows, dtype=best.dtype)[:, None]
    kept = blocks.reshape(-1, _BLOCK)[first + best].reshape(num_rows, -1)
    values, position = lax.top_k(_without_sign(kept), k)
    block = jnp.take_along_axis(best, position // _BLOCK, axis=1)
    return values, block * _BLOCK + position % _BLOCK


def _without_sign(scores: jax.Array) -> jax.Array:
    """0 in place of -0, which `lax.top_k` puts behind it."""
    return jnp.where(scores == 0, 0, scores)
