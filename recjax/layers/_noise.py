"""Noise of a fixed length, and propagation that adds it at every layer."""

import jax
import jax.numpy as jnp
import jraph

from recjax.sampling import uniform_rows
from recjax.sparse import graph_sum, take_rows


def perturb(
    key: jax.Array,
    x: jax.Array,
    *,
    size: jax.Array | float,
    rows: jax.Array | None = None,
) -> jax.Array:
    """Rows moved by noise within their orthant, ``x + size sign(x) * u / |u|``.

    u is uniform between 0 and 1 in every entry, see `recjax.sampling.uniform_rows`.

    Args:
      key: a PRNG key; the same key gives the same noise.
      x: ``[B, D]`` floating.
      size: length of what is added.
      rows: ``[B]`` int, the ids of these rows in a larger table; they get the noise
        that the table would give them.  None for 0 to B - 1.

    Returns:
      ``[B, D]``; an entry of 0 stays 0.  The derivative is that of x itself.

    Raises:
      ValueError: shapes do not fit.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> x = jnp.array([[1.0, -1.0]])
      >>> moved = perturb(jax.random.key(0), x, size=0.5) - x
      >>> float(jnp.linalg.norm(moved).round(4)), jnp.sign(moved).tolist()
      (0.5, [[1.0, -1.0]])

    References:
      Yu et al., Are graph augmentations necessary? Simple graph contrastive learning
      for recommendation (SimGCL), SIGIR 2022.
    """
    x = jnp.asarray(x)
    rows = jnp.arange(x.shape[0]) if rows is None else jnp.asarray(rows)
    if x.ndim != 2 or rows.shape != x.shape[:1]:
        raise ValueError(
            f"x {x.shape} must be [B, D], and rows {rows.shape} an id for each"
        )
    noise = uniform_rows(key, rows, x.shape[1])
    # Uniform numbers are never 0, and their squares neither.
    noise *= size * jax.lax.rsqrt(jnp.sum(noise * noise, axis=1, keepdims=True))
    return x + (jnp.sign(jax.lax.stop_gradient(x)) * noise).astype(x.dtype)


def propagate_noisy_rows(
    key: jax.Array,
    graph: jraph.GraphsTuple,
    nodes: jax.Array,
    rows: jax.Array,
    *,
    depth: int,
    size: jax.Array | float,
) -> list[jax.Array]:
    """Some rows of noisy layers, ``e_0 = p(nodes)`` and ``e_(k+1) = p(A e_k)``.

    p is `perturb`, with noise of its own at every layer.  SimGCL and XSimGCL leave out
    the table itself: for them ``nodes`` are its neighbour sums.

    Args:
      key: a PRNG key.
      graph: its weights are the matrix A.
      nodes: ``[N, D]``.
      rows: ``[B]`` int.
      depth: L.
      size: length of the noise.

    Returns:
      L + 1 arrays ``[B, D]``.

    Raises:
      ValueError: depth is negative, or rows are no vector of integers.

    Examples:
      >>> import jax, numpy as np
      >>> from recjax.graphs import make_graph
      >>> from recjax.types import Spec
      >>> graph = make_graph((np.array([0]), np.array([0])), Spec(1, 1))
      >>> nodes, rows = np.array([[1.0], [3.0]], np.float32), np.array([1])
      >>> layers = propagate_noisy_rows(
      ...     jax.random.key(0), graph, nodes, rows, depth=1, size=0.5
      ... )
      >>> [layer.tolist() for layer in layers]  # 3 + .5, and (1 + .5) + .5
      [[[3.5]], [[2.0]]]

    References:
      Yu et al., SimGCL, SIGIR 2022.
    """
    if depth < 0:
        raise ValueError(f"depth {depth} must be at least 0")
    keys = jax.random.split(key, depth + 1)
    layer, layers = jnp.asarray(nodes), []
    for number in range(depth):
        layer = perturb(keys[number], layer, size=size)
        layer, taken = take_rows(layer, rows)
        layers.append(taken)
        layer = graph_sum(graph, layer)
    # Nothing is sent from the last layer: these rows are all that needs noise.
    _, taken = take_rows(layer, rows)
    return [*layers, perturb(keys[depth], taken, size=size, rows=rows)]
