"""Vectors of length 1."""

import jax
import jax.numpy as jnp


def unit_length(x: jax.Array) -> jax.Array:
    """Vectors of length 1 along the last axis, ``x / |x|``; a zero vector stays zero.

    A vector without an entry above 1e-31 (in float32) counts as zero: its derivative,
    near 1 / |x|, could pass what the type holds.

    Args:
      x: ``[..., D]`` floating; lengths are taken in float32 or wider.

    Returns:
      ``[..., D]``; the derivative at a zero vector is 0.

    Examples:
      >>> import jax.numpy as jnp
      >>> unit_length(jnp.array([[3.0, 4.0], [0.0, 0.0]])).round(2).tolist()
      [[0.6, 0.8], [0.0, 0.0]]
    """
    x = jnp.asarray(x)
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    # Of vectors that are scaled first, no square is too large or too small.  The
    # result does not depend on the scale, so neither do derivatives.
    top = jnp.max(jnp.abs(wide), axis=-1, keepdims=True, initial=0.0)
    limits = jnp.finfo(wide.dtype)
    # So written that NaN passes through.
    some = ~(top <= limits.tiny / limits.eps)
    scaled = jnp.where(some, wide, 0) / jax.lax.stop_gradient(jnp.where(some, top, 1))
    square = jnp.sum(jnp.square(scaled), axis=-1, keepdims=True)
    return (scaled * jax.lax.rsqrt(jnp.where(some, square, 1))).astype(x.dtype)
