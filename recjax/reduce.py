"""Masked reduction, shared by losses and metrics, over the rows of all devices."""

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp

ReduceFn: TypeAlias = Callable[..., jax.Array]

BATCH_AXIS = "batch"
"""Name of the axis of a `jax.pmap` whose devices hold rows of one batch each."""


def all_rows(x: jax.Array) -> jax.Array:
    """The rows of the whole batch, where a `jax.pmap` has given each device its own.

    What goes over the rows of a batch, a mean or a softmax among them, goes over these:
    its value is then the same on every device and for any number of them.

    Args:
      x: ``[B, ...]``, an entry for each row.

    Returns:
      ``[B n, ...]`` on n devices; x itself outside such a pmap.

    Examples:
      >>> import jax.numpy as jnp
      >>> all_rows(jnp.ones(3)).shape
      (3,)
    """
    try:
        jax.lax.axis_size(BATCH_AXIS)
    except NameError:
        return x
    return jax.lax.all_gather(x, BATCH_AXIS, tiled=True)


def reduce_masked(
    values: jax.Array, where: jax.Array | None, reduce_fn: ReduceFn | None
) -> jax.Array:
    """Reduces values over the rows that count, of all devices (`all_rows`).

    Args:
      values: ``[...]``.
      where: ``[...]`` mask; None counts all.
      reduce_fn: `jnp.mean` or `jnp.sum` (anything that takes ``where=``); None keeps
        one value a row, 0 where masked.

    Returns:
      The reduced value; 0 where nothing counts.

    Raises:
      ValueError: mask and values differ in shape.

    Examples:
      >>> import jax.numpy as jnp
      >>> values = jnp.array([1.0, 2.0, 6.0])
      >>> float(reduce_masked(values, jnp.array([True, False, True]), jnp.mean))
      3.5
    """
    if where is not None:
        if where.shape != values.shape:
            raise ValueError(f"where {where.shape} must have the shape {values.shape}")
        where = where.astype(bool)
        # What a masked row holds may be infinite; 0 keeps its derivative finite.
        values = jnp.where(where, values, 0.0)
    if reduce_fn is None:
        return values
    values = all_rows(values.astype(jnp.promote_types(values.dtype, jnp.float32)))
    if where is None:
        return reduce_fn(values)
    where = all_rows(where)
    # The mean over no row is 0 and not NaN: such a batch adds nothing.
    return jnp.where(jnp.any(where), reduce_fn(values, where=where), 0.0)
