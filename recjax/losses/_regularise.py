"""L2 penalties; the name says what is summed and what it is divided by."""

import jax
import jax.numpy as jnp

from recjax.losses._rows import keep_rows
from recjax.reduce import all_rows


def batch_l2_loss(*rows: jax.Array, where: jax.Array | None = None) -> jax.Array:
    """Half the squared norm of a batch's embedding rows, a row of the batch.

    ``(1 / 2B) sum over arrays and rows of |x|^2``; LightGCN takes the rows of the
    tables before propagation, of users, positives and negatives.

    Args:
      *rows: arrays ``[B, ..., D]``.
      where: ``[B]`` rows that count; B is their number.

    Returns:
      A scalar.

    Raises:
      ValueError: mask and arrays differ in their rows.

    Examples:
      >>> import jax.numpy as jnp
      >>> float(batch_l2_loss(jnp.array([[3.0, 4.0], [0.0, 0.0]])))  # 25 / 2 / 2
      6.25

    References:
      He et al., LightGCN, SIGIR 2020 (released code).
    """
    wide = jnp.promote_types(rows[0].dtype, jnp.float32)
    squares = jnp.zeros(rows[0].shape[0], wide)
    for x in keep_rows(where, *rows):
        squares += jnp.sum(jnp.square(x.astype(wide)), axis=range(1, x.ndim))
    squares = all_rows(squares)
    if where is None:
        return jnp.mean(squares) / 2
    number = jnp.sum(all_rows(where).astype(bool).astype(squares.dtype))
    return jnp.sum(squares) / (2 * jnp.maximum(number, 1.0))


def table_l2_loss(*tables: jax.Array) -> jax.Array:
    """Squared norm of whole tables, ``sum of |x|^2``: no half, no division.

    Args:
      *tables: arrays of any shape.

    Returns:
      A scalar.

    Examples:
      >>> import jax.numpy as jnp
      >>> float(table_l2_loss(jnp.array([[3.0, 4.0]])))
      25.0
    """
    return sum((jnp.sum(jnp.square(x)) for x in tables), jnp.zeros(()))
