"""Rows of a table that goes on being used, with a derivative that adds in place."""

import jax
import jax.numpy as jnp


def take_rows(x: jax.Array, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The array itself, and some of its rows: ``(x, x[rows])``.

    The derivative of plain indexing is an array of the size of ``x``, zero but for a
    few rows, which is then added to whatever other derivative ``x`` has.  Where the
    rest of the computation goes on from the first result, that other derivative is at
    hand, and the rows are added to it in place: O(B) instead of O(N).

    Args:
      x: ``[N, ...]``.
      rows: ``[B]`` int.

    Returns:
      ``x``, and ``[B, ...]``.

    Raises:
      ValueError: rows are no vector of integers.

    Examples:
      >>> import jax.numpy as jnp
      >>> nodes, taken = take_rows(jnp.array([1.0, 2.0, 3.0]), jnp.array([2, 0]))
      >>> nodes.tolist(), taken.tolist()
      ([1.0, 2.0, 3.0], [3.0, 1.0])
    """
    x, rows = jnp.asarray(x), jnp.asarray(rows)
    if rows.ndim != 1 or not jnp.issubdtype(rows.dtype, jnp.integer):
        raise ValueError(f"rows {rows.dtype}{rows.shape} must be a vector of integers")
    return _take_rows(x, rows)


@jax.custom_vjp
def _take_rows(x, rows):
    return x, x[rows]


def _forward(x, rows):
    return _take_rows(x, rows), rows


def _backward(rows, grads):
    whole, taken = grads
    return whole.at[rows].add(taken), None


_take_rows.defvjp(_forward, _backward)
