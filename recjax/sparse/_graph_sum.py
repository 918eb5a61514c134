"""Neighbour sums over a `jraph.GraphsTuple`, and over lists of items."""

import jax
import jax.numpy as jnp
import jraph

from recjax.lists import row_of_entry
from recjax.sparse._layout import Layout
from recjax.sparse._neighbour_sum import Implementation, neighbour_sum
from recjax.sparse._read_edges import read_edges
from recjax.types import ItemLists


def graph_sum(
    graph: jraph.GraphsTuple,
    nodes: jax.Array,
    *,
    implementation: Implementation | None = None,
) -> jax.Array:
    """Sum of weighted neighbour features over a graph: the matrix product A nodes.

    Args:
      graph: weights in ``edges["weight"]`` (1 where there are none); a graph with a
        `Layout` in ``globals["layout"]`` takes the fast path.
      nodes: ``[N, ...]`` features.
      implementation: see `neighbour_sum`.

    Returns:
      ``[N, ...]``.

    Raises:
      ValueError: the graph has no senders or receivers.

    Examples:
      >>> import jax.numpy as jnp, jraph
      >>> graph = jraph.GraphsTuple(
      ...     nodes=None, edges=None, globals=None,
      ...     senders=jnp.array([1, 2]), receivers=jnp.array([0, 0]),
      ...     n_node=jnp.array([3]), n_edge=jnp.array([2]),
      ... )
      >>> graph_sum(graph, jnp.array([[1.0], [2.0], [3.0]])).tolist()
      [[5.0], [0.0], [0.0]]
    """
    nodes = jnp.asarray(nodes)
    edges = read_edges(graph, nodes.dtype)
    return neighbour_sum(
        nodes,
        edges.weight,
        edges.senders,
        edges.receivers,
        num_receivers=nodes.shape[0],
        layout=edges.layout,
        implementation=implementation,
    )


def list_sum(
    x: jax.Array, lists: ItemLists, weight: jax.Array | None = None
) -> jax.Array:
    """Sum of item features over lists of items, ``out[b] = sum of w_e x[items_e]``.

    Args:
      x: ``[I, D]``.
      lists: B lists with n entries in all.
      weight: ``[n]``, one weight an entry; None for 1.

    Returns:
      ``[B, D]``; an empty list gives 0.

    Examples:
      >>> import jax.numpy as jnp
      >>> from recjax.types import ItemLists
      >>> lists = ItemLists(jnp.array([0, 2, 2]), jnp.array([0, 1]))
      >>> list_sum(jnp.array([[1.0], [4.0]]), lists).tolist()
      [[5.0], [0.0]]
    """
    if weight is None:
        weight = jnp.ones(lists.items.shape[0], x.dtype)
    return neighbour_sum(
        x,
        weight,
        lists.items,
        row_of_entry(lists),
        num_receivers=lists.pointer.shape[0] - 1,
        layout=Layout(lists.pointer),
    )
