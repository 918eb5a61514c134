"""LightGCN propagation: neighbour sums without transformation or activation."""

from collections.abc import Iterator
from typing import Literal

import jax
import jax.numpy as jnp
import jraph

from recjax.sparse import graph_sum, list_sum, take_rows
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
      >>> from recjax.graphs import make_graph
      >>> from recjax.types import Spec
      >>> graph = make_graph((np.array([0]), np.array([0])), Spec(1, 1))
      >>> nodes = np.array([[1.0], [3.0]], np.float32)
      >>> layers = propagate_layers(graph, nodes, depth=2)
      >>> [layer.ravel().tolist() for layer in layers]
      [[1.0, 3.0], [3.0, 1.0], [1.0, 3.0]]
    """
    return list(_walk(graph, nodes, depth))


def propagate(
    graph: jraph.GraphsTuple,
    nodes: jax.Array,
    *,
    depth: int,
    combine: Literal["mean", "sum"] | jax.Array = "mean",
) -> jax.Array:
    """LightGCN: a combination of the layers, ``sum over k of c_k A^k e_0``.

    Args:
      graph: its weights are the matrix A.
      nodes: ``[N, D]``, e_0.
      depth: L.
      combine: ``"mean"`` (every c is 1 / (L + 1)), ``"sum"`` (every c is 1), or the
        weights c themselves, ``[L + 1]``.

    Returns:
      ``[N, D]``; sums are taken in float32 or wider.

    Raises:
      ValueError: depth is negative, or combine is none of the above.

    Examples:
      >>> import numpy as np
      >>> from recjax.graphs import make_graph
      >>> from recjax.types import Spec
      >>> graph = make_graph((np.array([0]), np.array([0])), Spec(1, 1))
      >>> nodes = np.array([[1.0], [3.0]], np.float32)
      >>> propagate(graph, nodes, depth=1).tolist()
      [[2.0], [2.0]]
      >>> propagate(graph, nodes, depth=1, combine=np.array([1.0, 10.0])).tolist()
      [[31.0], [13.0]]

    References:
      He et al., LightGCN, SIGIR 2020, equations 3, 4 and 8.
    """
    nodes = jnp.asarray(nodes)
    wide = jnp.promote_types(nodes.dtype, jnp.float32)
    layers = (layer.astype(wide) for layer in _walk(graph, nodes, depth))
    if isinstance(combine, str):
        if combine not in ("mean", "sum"):
            raise ValueError(f"combine {combine!r}: use 'mean', 'sum' or weights")
        total = sum(layers, next(layers))
        return (total / (depth + 1 if combine == "mean" else 1)).astype(nodes.dtype)
    weights = jnp.asarray(combine, wide)
    if weights.shape != (depth + 1,):
        raise ValueError(
            f"combine {weights.shape} must have one weight a layer, that is depth + 1 "
            f"= {depth + 1}"
        )
    terms = (weights[k] * layer for k, layer in enumerate(layers))
    return sum(terms, next(terms)).astype(nodes.dtype)


def propagate_rows(
    graph: jraph.GraphsTuple, nodes: jax.Array, rows: jax.Array, *, depth: int
) -> jax.Array:
    """Some rows of `propagate`: the same values, with less work in training.

    A loss looks at the rows of its batch only.  The layers are therefore combined at
    these rows, and their derivatives added at these rows: nothing but the L neighbour
    sums, forwards and backwards, touches all nodes.

    Args:
      graph: its weights are the matrix A.
      nodes: ``[N, D]``, e_0.
      rows: ``[B]`` int.
      depth: L.

    Returns:
      ``[B, D]``, the mean of the layers; sums are taken in float32 or wider.

    Raises:
      ValueError: depth is negative, or rows are no vector of integers.

    Examples:
      >>> import numpy as np
      >>> from recjax.graphs import make_graph
      >>> from recjax.types import Spec
      >>> graph = make_graph((np.array([0]), np.array([0])), Spec(1, 1))
      >>> nodes = np.array([[1.0], [3.0]], np.float32)
      >>> propagate_rows(graph, nodes, np.array([1]), depth=1).tolist()
      [[2.0]]

    References:
      He et al., LightGCN, SIGIR 2020, equations 3, 4 and 8.
    """
    if depth < 0:
        raise ValueError(f"depth {depth} must be at least 0")
    if len(rows) > len(nodes):
        # Many negatives: combining all nodes once is then the lesser work.
        return propagate(graph, nodes, depth=depth)[rows]
    wide = jnp.promote_types(nodes.dtype, jnp.float32)
    layer, taken = take_rows(nodes, rows)
    total = taken.astype(wide)
    for _ in range(depth):
        layer, taken = take_rows(graph_sum(graph, layer), rows)
        total += taken
    return (total / (depth + 1)).astype(nodes.dtype)


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


def _walk(
    graph: jraph.GraphsTuple, nodes: jax.Array, depth: int
) -> Iterator[jax.Array]:
    """The L + 1 layers, one at a time."""
    if depth < 0:
        raise ValueError(f"depth {depth} must be at least 0")
    layer = jnp.asarray(nodes)
    yield layer
    for _ in range(depth):
        layer = graph_sum(graph, layer)
        yield layer
