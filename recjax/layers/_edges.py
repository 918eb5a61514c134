"""What layers that look at single edges read from a graph."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jraph

from recjax.sparse import Layout, general_layout, read_edges


class Edges(NamedTuple):
    """The edges of a graph, checked.

    Attributes:
      senders: ``[E]`` int32.
      receivers: ``[E]`` int32.
      weight: ``[E]`` floating; 0 where an edge does not count.
      counts: ``[E]`` bool, whether the weight is other than 0.
      layout: where each receiver's edges lie, for weights of any kind; None where the
        graph does not say.
    """

    senders: jax.Array
    receivers: jax.Array
    weight: jax.Array
    counts: jax.Array
    layout: Layout | None


def weighted_edges(graph: jraph.GraphsTuple, dtype: Any) -> Edges:
    """The edges of a graph, with weights of 1 of this type where it has none.

    Args:
      graph: E edges.
      dtype: floating.

    Returns:
      The edges.

    Raises:
      ValueError: the graph has no senders or receivers, or not one weight an edge.
    """
    senders, receivers, weight, layout = read_edges(graph, dtype)
    if weight.shape != senders.shape:
        raise ValueError(
            f"weight {weight.shape} must be one number an edge, as senders "
            f"{senders.shape}"
        )
    return Edges(
        senders, receivers, weight, weight != 0, general_layout(layout, senders)
    )


def read_relations(
    graph: jraph.GraphsTuple, dtype: Any, num_relations: int
) -> tuple[Edges, jax.Array]:
    """The edges of a graph of several relations.

    Args:
      graph: E edges, with ``edges["relation"]`` ``[E]`` int.
      dtype: as for `weighted_edges`.
      num_relations: R.

    Returns:
      The edges, of which one with a relation that is not one of the R does not count;
      and the relation ``[E]`` of each, 0 where it does not count.

    Raises:
      ValueError: those of `weighted_edges`, or the relations are missing, of another
        shape, or no integers.
    """
    edges = weighted_edges(graph, dtype)
    features: Any = graph.edges
    relation = features.get("relation") if isinstance(features, dict) else None
    if relation is None:
        raise ValueError("the graph has no relations: edges['relation'] is missing")
    relation = jnp.asarray(relation)
    if relation.shape != edges.senders.shape or not jnp.issubdtype(
        relation.dtype, jnp.integer
    ):
        raise ValueError(
            f"edges['relation'] {relation.shape} of type {relation.dtype} must be one "
            f"integer an edge, as senders {edges.senders.shape}"
        )
    counts = edges.counts & (relation >= 0) & (relation < num_relations)
    weight = jnp.where(counts, edges.weight, 0)
    relation = jnp.where(counts, relation, 0).astype(jnp.int32)
    return edges._replace(weight=weight, counts=counts), relation


def rows_of(table: jax.Array, index: jax.Array) -> jax.Array:
    """Rows ``[E, ...]`` of a table ``[N, ...]``, which may be empty if E is 0."""
    # Without a row there is no edge, but indexing refuses before it finds out.
    return table[index] if len(table) else table
