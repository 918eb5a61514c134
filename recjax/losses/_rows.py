"""Rows that do not count, out of the way before any arithmetic."""

import jax
import jax.numpy as jnp


def keep_rows(where: jax.Array | None, *arrays: jax.Array) -> tuple[jax.Array, ...]:
    """Arrays that are 0 where a row is masked.

    What a masked row holds may be infinite or NaN.  A mask after the loss would hide
    its value and not its derivative, which is 0 times NaN.

    Args:
      where: ``[B]`` mask; None keeps all.
      *arrays: ``[B, ...]``.

    Returns:
      The arrays.

    Raises:
      ValueError: the mask is not that of these rows.
    """
    if where is None:
        return arrays
    for x in arrays:
        if where.shape != x.shape[: max(where.ndim, 1)]:
            raise ValueError(
                f"where {where.shape} must have an entry a row of {x.shape}"
            )
    mask = where.astype(bool)
    return tuple(
        jnp.where(mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim)), x, 0)
        for x in arrays
    )
