"""Weights by degree, on device: for graphs whose edges were dropped or learned."""

from typing import Any

import jax
import jax.numpy as jnp
import jraph

from recjax.graphs._assemble import Normalisation, exponents
from recjax.graphs._fields import (
    edges_of,
    floating,
    num_nodes_of,
    with_weight,
)
from recjax.sparse import general_layout


def normalise_edges(
    graph: jraph.GraphsTuple,
    weight: jax.Array | None = None,
    *,
    normalisation: Normalisation = "symmetric",
) -> jraph.GraphsTuple:
    """Weights anew, by the degrees of the edges that are there now.

    With c_e what edge e counts and ``d_i`` the sum of c_e over the edges into i, the
    edge from j to r weighs ``d_r^-a c_e d_j^-b``; see `make_graph` for the exponents.

    Args:
      graph: N nodes, E edges; it must have a layout or node features, which tell N.
      weight: ``[E]`` c; None counts every edge whose weight is not 0 as 1, so that
        what was dropped counts no more.  Where a d that is asked for is 0 or less, the
        weight is 0.
      normalisation: the exponents; where they differ the weights are not symmetric,
        and a symmetric layout becomes a general one.

    Returns:
      The graph with the new weights.

    Raises:
      ValueError: the shape of the weights is not that of the edges, the number of
        nodes cannot be told, or the normalisation is unknown.

    Examples:
      >>> import numpy as np
      >>> from recjax.graphs import make_graph
      >>> from recjax.types import Spec
      >>> graph = make_graph((np.array([0, 1]), np.array([0, 0])), Spec(2, 1))
      >>> dropped = graph._replace(edges={"weight": np.array([0.7, 0.0, 0.7, 0.0])})
      >>> normalise_edges(dropped).edges["weight"].tolist()
      [1.0, 0.0, 1.0, 0.0]

    References:
      Wu et al., Self-supervised graph learning (SGL), SIGIR 2021 (the matrix of each
      view is normalised after edges are dropped).
    """
    to, of = exponents(normalisation)
    senders, receivers, now, layout = edges_of(graph)
    extra: Any = graph.globals
    if weight is None:
        weight = (now != 0).astype(now.dtype)
    elif jnp.shape(weight) != senders.shape:
        raise ValueError(
            f"weight {jnp.shape(weight)} must have one entry for each edge, "
            f"{senders.shape}"
        )
    weight = floating(weight)
    if layout is not None and to != of:
        general = general_layout(layout, senders)
        graph = graph._replace(globals={**extra, "layout": general})
    if not senders.shape[0]:
        return with_weight(graph, weight)
    wide = weight.astype(jnp.promote_types(weight.dtype, jnp.float32))
    degree = jax.ops.segment_sum(
        wide,
        receivers,
        num_nodes_of(graph),
        indices_are_sorted=layout is not None,
    )
    # The factors of the nodes first: they are the same number for the reverse edge.
    scale = _power(degree, to)[receivers] * _power(degree, of)[senders]
    return with_weight(graph, (wide * scale).astype(weight.dtype))


def _power(degree: jax.Array, exponent: float) -> jax.Array:
    """``d^-exponent``, 0 for a node that receives nothing, derivative included."""
    if exponent == 0:
        return jnp.ones_like(degree)
    positive = degree > 0
    return jnp.where(positive, jnp.where(positive, degree, 1.0) ** -exponent, 0.0)
