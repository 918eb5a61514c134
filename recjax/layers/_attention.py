"""Softmax attention of a node over its neighbours, along the edges of a graph.

Every edge of the graph goes from a sender j to a receiver i, and N(i) are the senders
of i as the graph lists them: no self loop is added.  A node without an edge that counts
receives 0.  A masked edge is as good as removed, whatever it holds; a node whose edges
are all masked may hold anything, NaN included.

The weights in ``graph.edges`` are not read; for attention that starts from them, add
``bias=jnp.log(graph.edges["weight"])``.
"""

import jax
import jax.numpy as jnp
import jraph

from recjax.layers._segment import segment_powers
from recjax.sparse import (
    Layout,
    edge_dot,
    general_layout,
    neighbour_sum,
    read_edges,
)


def graph_attention(
    graph: jraph.GraphsTuple,
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    *,
    bias: jax.Array | None = None,
    where: jax.Array | None = None,
    scale: float | None = None,
) -> jax.Array:
    """Neighbour attention, ``out_i = sum over j in N(i) of a_ij v_j``.

    ``a_ij = softmax over j in N(i) of (q_i . k_j / sqrt(D) + b_ij)``, for each head.

    Args:
      graph: E edges between N nodes.
      queries: ``[N, H, D]``, or ``[N, D]`` for one head without an axis.
      keys: shape of the queries.
      values: ``[N, H, D']`` or ``[N, D']``.
      bias: ``[E]`` for all heads or ``[E, H]``, b; None for 0.
      where: ``[E]`` mask of the edges that count; None counts all.
      scale: what stands in place of ``1 / sqrt(D)``.

    Returns:
      ``[N, H, D']`` or ``[N, D']``, in the type of the values; scores and sums are
      taken in float32 or wider.

    Raises:
      ValueError: shapes do not fit, or the graph has no senders or receivers.

    Examples:
      >>> import jax.numpy as jnp, jraph
      >>> graph = jraph.GraphsTuple(
      ...     nodes=None, edges=None, globals=None,
      ...     senders=jnp.array([1, 2]), receivers=jnp.array([0, 0]),
      ...     n_node=jnp.array([3]), n_edge=jnp.array([2]),
      ... )
      >>> nodes = jnp.array([[0.0], [1.0], [3.0]])
      >>> graph_attention(graph, nodes, nodes, nodes).tolist()
      [[2.0], [0.0], [0.0]]

    References:
      Vaswani et al., Attention is all you need, NeurIPS 2017, equation 1; Shi et al.,
      Masked label prediction, IJCAI 2021, equations 3 and 4 (over neighbours).
    """
    queries, keys, values = (jnp.asarray(x) for x in (queries, keys, values))
    senders, receivers, _, layout = read_edges(graph)
    where = check_where(where, receivers)
    if queries.ndim not in (2, 3) or queries.shape != keys.shape:
        raise ValueError(
            f"queries {queries.shape} and keys {keys.shape} must both be [N, H, D] or "
            "[N, D]"
        )
    if values.ndim != keys.ndim or values.shape[:-1] != keys.shape[:-1]:
        raise ValueError(
            f"values {values.shape} must have the axes of keys {keys.shape}, but for "
            "the last"
        )
    if queries.ndim == 2:
        one_head = (x[:, None] for x in (queries, keys, values))
        return graph_attention(
            graph, *one_head, bias=bias, where=where, scale=scale
        ).squeeze(1)
    if scale is None:
        scale = queries.shape[-1] ** -0.5
    queries = keep_live(queries, where, receivers)
    keys = keep_live(keys, where, senders)
    layout = general_layout(layout, senders)
    scores = scale * edge_dot(keys, queries, senders, receivers, layout=layout)
    if bias is not None:
        bias = jnp.asarray(bias)
        if bias.shape not in (receivers.shape, scores.shape):
            raise ValueError(
                f"bias {bias.shape} must be {receivers.shape} or {scores.shape}"
            )
        scores += (bias[:, None] if bias.ndim == 1 else bias).astype(scores.dtype)
    return attend(scores, values, senders, receivers, where, layout)


def attend(
    scores: jax.Array,
    values: jax.Array,
    senders: jax.Array,
    receivers: jax.Array,
    where: jax.Array | None,
    layout: Layout | None,
) -> jax.Array:
    """Values ``[N, H, D]`` of senders, weighted by the softmax of scores ``[E, H]``."""
    num = len(values)
    if not num:
        return values
    power, total = segment_powers(scores, receivers, num, where, layout is not None)
    # Divided at the nodes, of which there are fewer than edges.
    received = neighbour_sum(
        keep_live(values, where, senders).astype(scores.dtype),
        power,
        senders,
        receivers,
        num_receivers=num,
        layout=layout,
    )
    out = received / jnp.where(total > 0, total, 1)[..., None]
    return out.astype(values.dtype)


def check_where(where: jax.Array | None, receivers: jax.Array) -> jax.Array | None:
    """The mask ``[E]`` as bool."""
    if where is None:
        return None
    where = jnp.asarray(where)
    if where.shape != receivers.shape:
        raise ValueError(
            f"where {where.shape} must have the shape of receivers {receivers.shape}"
        )
    return where.astype(bool)


def keep_live(nodes: jax.Array, where: jax.Array | None, *ends: jax.Array) -> jax.Array:
    """Nodes ``[N, ...]``, 0 where all edges with the node at such an end are masked."""
    if where is None:
        return nodes
    live = jnp.zeros(len(nodes), bool)
    for end in ends:
        live = live.at[end].max(where, mode="drop")
    # Before any arithmetic: NaN times 0 is NaN, in derivatives too.
    return jnp.where(live.reshape(-1, *[1] * (nodes.ndim - 1)), nodes, 0)
