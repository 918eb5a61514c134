"""What the functions that change a graph read from it, and how they write it."""

from typing import Any

import jax
import jax.numpy as jnp
import jraph

from recjax.sparse import GraphEdges, read_edges


def edges_of(graph: jraph.GraphsTuple) -> GraphEdges:
    """The edges, with one weight each."""
    edges = read_edges(graph)
    if not (graph.edges is None or isinstance(graph.edges, dict)):
        raise ValueError(
            f"the graph's edges are {type(graph.edges).__name__}: put them into a dict "
            'beside the "weight"'
        )
    if edges.weight.shape != edges.senders.shape:
        raise ValueError(
            f"weight {edges.weight.shape} must have one entry for each edge, "
            f"{edges.senders.shape}"
        )
    return edges._replace(weight=floating(edges.weight))


def with_weight(graph: jraph.GraphsTuple, weight: jax.Array) -> jraph.GraphsTuple:
    """The same graph with other weights."""
    edges: Any = graph.edges
    return graph._replace(edges={**(edges or {}), "weight": weight})


def floating(weight: jax.Array) -> jax.Array:
    """The weights, counts as float32: a share of them is no integer."""
    weight = jnp.asarray(weight)
    if jnp.issubdtype(weight.dtype, jnp.floating):
        return weight
    return weight.astype(jnp.float32)


def num_nodes_of(graph: jraph.GraphsTuple) -> int:
    """N, which must be known before the graph's numbers are."""
    layout, features = read_edges(graph).layout, jax.tree.leaves(graph.nodes)
    if layout is not None:
        return layout.row_pointer.shape[0] - 1
    if features:
        return features[0].shape[0]
    raise ValueError(
        "the graph has neither nodes nor a layout to tell how many nodes there are: "
        'put one from recjax.sparse.make_layout into globals["layout"]'
    )


def reverse_of(graph: jraph.GraphsTuple) -> jax.Array:
    """The reverse of each edge ``[E]`` where every edge has one, else each edge."""
    senders, receivers, _, layout = edges_of(graph)
    itself = jnp.arange(senders.shape[0], dtype=jnp.int32)
    if layout is None or not senders.shape[0]:
        return itself
    if layout.reverse is not None:
        return jnp.asarray(layout.reverse)
    if layout.transpose is None:
        return itself
    # Edges by sender are the reverse edges of those by receiver if and only if the
    # ends agree, whatever the weights.
    order = jnp.asarray(layout.transpose.order)
    agree = (senders[order] == receivers) & (receivers[order] == senders)
    return jnp.where(jnp.all(agree), order, itself)
