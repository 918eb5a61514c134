"""LightGCN propagation: neighbour sums without transformation or activation."""

import jax
import jax.numpy as jnp
import jraph

from recjax.sparse import graph_sum, list_sum
from recjax.types import ItemLists


def propagate_layers(
    graph: jraph.GraphsTuple, nodes: jax.Array, *, depth: int
) -> list[jax.Array]:
    """All layers of propagation, ``e_0 = nodes`` and ``e_(k+1) = A e_k``.

    Args:
      graph: its weights are the matrix A.
      nodes: ``[N, D]``.
      depth: L.

    Returns:
      L + 1 arrays ``[N, D]``.

    Raises:
      ValueError: depth is negative.

    Examples:
      >>> import numpy as np
      >>> from recjax.data.graph import make_graph
      >>> from recjax.types import Spec
      >>> graph = make_graph((np.array([0]), np.array([0])), Spec(1, 1))
      >>> nodes = np.array([[1.0], [3.0]], np.float32)
      >>> layers = propagate_layers(graph, nodes, depth=2)
      >>> [layer.ravel().tolist() for layer in layers]
      [[1.0, 3.0], [3.0, 1.0], [1.0, 3.0]]
    """
    if depth < 0:
        raise ValueError(f"depth {depth} must be at least 0")
    layers = [jnp.asarray(nodes)]
    for _ in range(depth):
        layers.append(graph_sum(graph, layers[-1]))
    return layers


def propagate(graph: jraph.GraphsTuple, nodes: jax.Array, *, depth: int) -> jax.Array:
    """LightGCN: the mean of the layers, ``(e_0 + A e_0 + ... + A^L e_0) / (L + 1)``.

    Args:
      graph: its weights are the matrix A.
      nodes: ``[N, D]``.
      depth: L.

    Returns:
      ``[N, D]``.

    Raises:
      ValueError: depth is negative.

    Examples:
      >>> import numpy as np
      >>> from recjax.data.graph import make_graph
      >>> from recjax.types import Spec
      >>> graph = make_graph((np.array([0]), np.array([0])), Spec(1, 1))
      >>> propagate(graph, np.array([[1.0], [3.0]], np.float32), depth=1).tolist()
      [[2.0], [2.0]]

    References:
      He et al., LightGCN, SIGIR 2020, equations 3, 4 and 8.
    """
    layers = propagate_layers(graph, nodes, depth=depth)
    return sum(layers[1:], layers[0]) / len(layers)


def newcomer_sum(
    items: jax.Array, item_degrees: jax.Array, histories: ItemLists
) -> jax.Array:
    """What a user who joined after training receives, items held still.

    ``out_u = sum over i in H of x_i / sqrt(|H| d_i)``: the user's row of the
    symmetrically normalised product, had the user been in the graph.

    Args:
      items: ``[I, D]`` features x.
      item_degrees: ``[I]``, training users d of each item (0 counts as 1).
      histories: the newcomers' B lists H.

    Returns:
      ``[B, D]``; zeros for an empty list.

    Examples:
      >>> import jax.numpy as jnp
      >>> from recjax.types import ItemLists
      >>> lists = ItemLists(jnp.array([0, 1]), jnp.array([1]))
      >>> newcomer_sum(jnp.array([[1.0], [4.0]]), jnp.array([1.0, 4.0]), lists).tolist()
      [[2.0]]
    """
    length = jnp.diff(histories.pointer).astype(items.dtype)
    received = list_sum(
        items, histories, jax.lax.rsqrt(jnp.maximum(item_degrees, 1.0))[histories.items]
    )
    return received * jax.lax.rsqrt(jnp.maximum(length, 1.0))[:, None]
