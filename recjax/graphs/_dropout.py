"""Random parts of a graph, on device: key in, static shapes out.

A dropped edge stays in its place with weight 0, so that the layout stays true.  Where
the graph has a layout and every edge has a reverse edge, the two directions of an
interaction are dropped together, which keeps symmetric weights symmetric; elsewhere
each edge is dropped by itself.
"""

import numbers

import jax
import jax.numpy as jnp
import jraph

from recjax.graphs._assemble import Normalisation
from recjax.graphs._fields import edges_of, num_nodes_of, reverse_of, with_weight
from recjax.graphs._normalise import normalise_edges


def drop_edges(
    key: jax.Array,
    graph: jraph.GraphsTuple,
    *,
    rate: float | jax.Array,
    rescale: bool = False,
) -> jraph.GraphsTuple:
    """Drops each interaction with probability ``rate``.

    Degrees are those of the whole graph; `normalise_edges` of the result weighs by
    those of what is left, as SGL does.

    Args:
      key: a PRNG key; the same key drops the same edges.
      graph: E edges.
      rate: at least 0 and below 1; may be traced.
      rescale: divide what is kept by ``1 - rate``, so that the expected weights are
        those of the graph.  DiffMM does, RLMRec and SSLRec do not.

    Returns:
      The graph; dropped edges have weight 0.

    Raises:
      ValueError: the rate is a number outside [0, 1), or the graph has no edges.

    Examples:
      >>> import jax, numpy as np
      >>> from recjax.graphs import make_graph
      >>> from recjax.types import Spec
      >>> graph = make_graph((np.array([0, 1]), np.array([0, 1])), Spec(2, 2))
      >>> view = drop_edges(jax.random.key(1), graph, rate=0.5, rescale=True)
      >>> view.edges["weight"].tolist()  # of items 0, 1 into users, and back
      [0.0, 2.0, 0.0, 2.0]

    References:
      Wu et al., Self-supervised graph learning (SGL), SIGIR 2021, edge dropout; Rong
      et al., DropEdge, ICLR 2020.
    """
    _check_rate(rate)
    weight = edges_of(graph).weight
    draw = jax.random.uniform(key, weight.shape)
    kept = weight / (1 - rate) if rescale else weight
    keep = draw[_first_direction(reverse_of(graph))] >= rate
    return with_weight(graph, jnp.where(keep, kept, 0).astype(weight.dtype))


def drop_nodes(
    key: jax.Array, graph: jraph.GraphsTuple, *, rate: float | jax.Array
) -> jraph.GraphsTuple:
    """Drops each node with probability ``rate``, and with it all its edges.

    Args:
      key: a PRNG key; the same key drops the same nodes.
      graph: N nodes; it must have a layout or node features, which tell N.
      rate: at least 0 and below 1; may be traced.

    Returns:
      The graph; the edges of dropped nodes have weight 0.

    Raises:
      ValueError: the rate is a number outside [0, 1), the graph has no edges, or the
        number of its nodes cannot be told.

    Examples:
      >>> import jax, numpy as np
      >>> from recjax.graphs import make_graph
      >>> from recjax.types import Spec
      >>> graph = make_graph((np.array([0, 1]), np.array([0, 1])), Spec(2, 2))
      >>> drop_nodes(jax.random.key(2), graph, rate=0.5).edges["weight"].tolist()
      [0.0, 1.0, 0.0, 1.0]

    References:
      Wu et al., Self-supervised graph learning (SGL), SIGIR 2021, node dropout.
    """
    _check_rate(rate)
    senders, receivers, weight, _ = edges_of(graph)
    keep = jax.random.uniform(key, (num_nodes_of(graph),)) >= rate
    if not weight.shape[0]:
        return with_weight(graph, weight)
    return with_weight(graph, jnp.where(keep[senders] & keep[receivers], weight, 0))


def prune_edges(
    key: jax.Array,
    graph: jraph.GraphsTuple,
    *,
    rate: float | jax.Array,
    normalisation: Normalisation = "symmetric",
) -> jraph.GraphsTuple:
    """Drops the share ``rate`` of the interactions, those of busy nodes sooner.

    Of the m interactions whose weight is not 0, ``(1 - rate) m``, rounded, are kept:
    drawn one after the other without replacement, each in proportion to
    ``1 / sqrt(d_u d_i)``, with d the number of edges that a node receives.  The
    weights are then those of what is left.

    Args:
      key: a PRNG key; the same key keeps the same edges.
      graph: N nodes, E edges; it must have a layout or node features, which tell N.
      rate: at least 0 and below 1; may be traced.
      normalisation: of the weights, each edge counting once; see `normalise_edges`.

    Returns:
      The graph; pruned edges have weight 0.

    Raises:
      ValueError: the rate is a number outside [0, 1), the graph has no edges, the
        number of its nodes cannot be told, or the normalisation is unknown.

    Examples:
      >>> import jax, numpy as np
      >>> from recjax.graphs import make_graph
      >>> from recjax.types import Spec
      >>> pairs = (np.array([0, 0, 1]), np.array([0, 1, 1]))
      >>> graph = make_graph(pairs, Spec(2, 2))
      >>> view = prune_edges(jax.random.key(0), graph, rate=1 / 3)
      >>> view.edges["weight"].tolist()  # user 0 and item 1 are the busy ones
      [1.0, 0.0, 1.0, 1.0, 0.0, 1.0]

    References:
      Zhou and Shen, FREEDOM, ACM MM 2023 (degree-sensitive edge pruning); Kool et
      al., Stochastic beams and where to find them, ICML 2019 (sampling without
      replacement by the largest perturbed logarithms).
    """
    _check_rate(rate)
    senders, receivers, weight, _ = edges_of(graph)
    num_nodes, num_edges = num_nodes_of(graph), weight.shape[0]
    if not num_edges:
        return normalise_edges(graph, normalisation=normalisation)
    there, reverse = weight != 0, reverse_of(graph)
    first = _first_direction(reverse)
    position = jnp.arange(num_edges, dtype=jnp.int32)
    candidate = (there | there[reverse]) & (first == position)
    degree = jax.ops.segment_sum(there.astype(jnp.float32), receivers, num_nodes)
    log_degree = jnp.log(jnp.maximum(degree, 1.0))
    score = jax.random.gumbel(key, (num_edges,), mode="high")
    score -= 0.5 * (log_degree[senders] + log_degree[receivers])
    # By rank and not by a threshold, which equal scores would pass together.
    order = jnp.argsort(jnp.where(candidate, score, -jnp.inf), descending=True)
    num_kept = jnp.round(jnp.sum(candidate) * (1 - rate)).astype(jnp.int32)
    keep = jnp.zeros(num_edges, bool).at[order].set(position < num_kept)
    kept = with_weight(graph, jnp.where(keep[first], weight, 0))
    return normalise_edges(kept, normalisation=normalisation)


def _first_direction(reverse: jax.Array) -> jax.Array:
    """Of the two directions of each edge the one that stands first, ``[E]``."""
    return jnp.minimum(reverse, jnp.arange(reverse.shape[0], dtype=reverse.dtype))


def _check_rate(rate: float | jax.Array) -> None:
    if isinstance(rate, numbers.Real) and not 0 <= rate < 1:
        raise ValueError(f"rate {rate} must be at least 0 and below 1")
