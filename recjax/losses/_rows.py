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


def distinct_rows(ids: jax.Array, where: jax.Array) -> jax.Array:
    """One row of each id among the rows that count.

    A thing that occurs twice in a batch would otherwise be its own negative.

    Args:
      ids: ``[B]`` int, none negative.
      where: ``[B]`` rows that count.

    Returns:
      ``[B]`` bool, the first row of each id.

    Examples:
      >>> import jax.numpy as jnp
      >>> distinct_rows(jnp.array([3, 3, 5, 3]), jnp.array([0, 1, 1, 1])).tolist()
      [False, True, True, False]
    """
    ids = jnp.where(where.astype(bool), ids, -1)
    order = jnp.argsort(ids, stable=True)
    ranked = ids[order]
    first = jnp.concatenate([jnp.ones(1, bool), ranked[1:] != ranked[:-1]])
    return jnp.zeros(len(ids), bool).at[order].set(first & (ranked >= 0))
