"""What a `jraph.GraphsTuple` says of its edges."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jraph

from recjax.sparse._layout import Layout


class GraphEdges(NamedTuple):
    """The edges of a graph.

    Attributes:
      senders: ``[E]`` int32.
      receivers: ``[E]`` int32.
      weight: ``[E]`` or ``[E, H]`` floating.
      layout: where the edges of each receiver lie; None where the graph does not say.
    """

    senders: jax.Array
    receivers: jax.Array
    weight: jax.Array
    layout: Layout | None


def read_edges(graph: jraph.GraphsTuple, dtype: Any = jnp.float32) -> GraphEdges:
    """The edges of a graph, with weights of 1 where it has none.

    Args:
      graph: weights in ``edges["weight"]``, a `Layout` in ``globals["layout"]``, where
        it has them.
      dtype: of the weights of a graph without weights.

    Returns:
      The edges.

    Raises:
      ValueError: the graph has no senders or receivers.

    Examples:
      >>> import jax.numpy as jnp, jraph
      >>> graph = jraph.GraphsTuple(
      ...     nodes=None, edges=None, globals=None,
      ...     senders=jnp.array([1, 2]), receivers=jnp.array([0, 0]),
      ...     n_node=jnp.array([3]), n_edge=jnp.array([2]),
      ... )
      >>> read_edges(graph).weight.tolist()
      [1.0, 1.0]
    """
    if graph.senders is None or graph.receivers is None:
        raise ValueError("the graph has no edges: senders or receivers are None")
    senders = jnp.asarray(graph.senders, jnp.int32)
    receivers = jnp.asarray(graph.receivers, jnp.int32)
    features: Any = graph.edges
    extra: Any = graph.globals
    weight = features.get("weight") if isinstance(features, dict) else None
    weight = jnp.ones(senders.shape, dtype) if weight is None else jnp.asarray(weight)
    layout = extra.get("layout") if isinstance(extra, dict) else None
    return GraphEdges(senders, receivers, weight, layout)
