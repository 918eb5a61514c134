"""Propagation without parameters that returns to where it began.

The matrix A of a graph is its weights as they stand: normalisation and self loops are
part of making the graph.
"""

import jax
import jax.numpy as jnp
import jraph

from recjax.layers._unit_length import unit_length
from recjax.sparse import graph_sum


def personalised_pagerank(
    graph: jraph.GraphsTuple,
    nodes: jax.Array,
    *,
    depth: int,
    restart: jax.Array | float,
) -> jax.Array:
    """Propagation with restarts, ``h_0 = x`` and ``h_(k+1) = (1 - a) A h_k + a x``.

    For growing depth the result tends to ``a (1 - (1 - a) A)^-1 x``, where the matrix
    ``(1 - a) A`` shrinks.

    Args:
      graph: its weights are the matrix A; in the paper they are symmetrically
        normalised, with a self loop at every node.
      nodes: ``[N, D]``, x.
      depth: L, the number of steps.
      restart: a scalar a in [0, 1].

    Returns:
      ``[N, D]``, h_L.

    Raises:
      ValueError: depth is negative, restart is no scalar, or a number outside [0, 1].

    Examples:
      >>> import jax.numpy as jnp, jraph
      >>> graph = jraph.GraphsTuple(
      ...     nodes=None, edges=None, globals=None,
      ...     senders=jnp.array([1, 0]), receivers=jnp.array([0, 1]),
      ...     n_node=jnp.array([2]), n_edge=jnp.array([2]),
      ... )
      >>> nodes = jnp.array([[1.0], [3.0]])
      >>> personalised_pagerank(graph, nodes, depth=1, restart=0.5).tolist()
      [[2.0], [2.0]]

    References:
      Klicpera et al., Predict then propagate (APPNP), ICLR 2019, equation 4.
    """
    if depth < 0:
        raise ValueError(f"depth {depth} must be at least 0")
    _check_share("restart", restart)
    nodes = jnp.asarray(nodes)
    wide = jnp.promote_types(nodes.dtype, jnp.float32)
    stay = jnp.asarray(restart, wide)
    out = nodes
    for _ in range(depth):
        received = graph_sum(graph, out).astype(wide)
        out = ((1 - stay) * received + stay * nodes.astype(wide)).astype(nodes.dtype)
    return out


def propagate_normalised(
    graph: jraph.GraphsTuple,
    nodes: jax.Array,
    *,
    depth: int,
    self_weight: jax.Array | float,
) -> jax.Array:
    """LightGCN++: rows of length 1 are sent, ``e_(k+1) = A (e_k / |e_k|)``.

    The result is ``c e_0 + (1 - c) (e_1 + ... + e_L) / L``, in which e_0 is the table
    as it stands.

    Args:
      graph: its weights are the matrix A; in the paper ``d_r^-alpha d_s^-beta`` for an
        edge from s to r, with d the number of neighbours.
      nodes: ``[N, D]``, e_0; a row of zeros sends zeros, and its derivative through
        what it sends is 0.
      depth: L.
      self_weight: a scalar c in [0, 1].

    Returns:
      ``[N, D]``; sums are taken in float32 or wider.

    Raises:
      ValueError: depth is not positive, self_weight is no scalar, or a number outside
        [0, 1].

    Examples:
      >>> import jax.numpy as jnp, jraph
      >>> graph = jraph.GraphsTuple(
      ...     nodes=None, edges=None, globals=None,
      ...     senders=jnp.array([1]), receivers=jnp.array([0]),
      ...     n_node=jnp.array([2]), n_edge=jnp.array([1]),
      ... )
      >>> nodes = jnp.array([[0.0, 0.0], [6.0, 8.0]])
      >>> propagate_normalised(graph, nodes, depth=1, self_weight=0.5).round(3).tolist()
      [[0.3, 0.4], [3.0, 4.0]]

    References:
      Lee et al., Revisiting LightGCN: unexpected inflexibility, inconsistency, and a
      remedy towards improved recommendation (LightGCN++), RecSys 2024.
    """
    if depth < 1:
        raise ValueError(f"depth {depth} must be at least 1: there is a mean over it")
    _check_share("self_weight", self_weight)
    nodes = jnp.asarray(nodes)
    wide = jnp.promote_types(nodes.dtype, jnp.float32)
    layer, total = nodes, jnp.zeros(nodes.shape, wide)
    for _ in range(depth):
        layer = graph_sum(graph, unit_length(layer))
        total += layer.astype(wide)
    own = jnp.asarray(self_weight, wide)
    out = own * nodes.astype(wide) + (1 - own) * (total / depth)
    return out.astype(nodes.dtype)


def _check_share(name: str, value: jax.Array | float) -> None:
    if jnp.ndim(value):
        raise ValueError(f"{name} {jnp.shape(value)} must be a scalar ()")
    # A traced value cannot be looked at.
    if isinstance(value, int | float) and not 0 <= value <= 1:
        raise ValueError(f"{name} {value} must be between 0 and 1")
