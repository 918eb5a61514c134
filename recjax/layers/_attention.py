"""Softmax attention of a node over its neighbours, along the edges of a graph.

Every edge of the graph goes from a sender j to a receiver i, and N(i) are the senders
of i as the graph lists them: no self loop is added.  A node without an edge that counts
receives 0.  A masked edge is as good as removed, whatever it and its sender hold.

The weights in ``graph.edges`` are not read; for attention that starts from them, add
``bias=jnp.log(graph.edges["weight"])``.  The layout in ``graph.globals`` serves as the
promise that edges are sorted by receiver and for no more: its transpose may be left
out for symmetric weights, and attention weights are not symmetric.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import jraph

from recjax.layers._segment import segment_softmax
from recjax.types import Params


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
    senders, receivers, is_sorted = _edges(graph)
    where = _check_where(where, receivers)
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
    wide = jnp.promote_types(jnp.result_type(queries, keys), jnp.float32)

    # Gathered again for the derivative: [E, H, D] is far more than the nodes hold.
    @jax.checkpoint
    def score(queries, keys):
        to, by = _rows(queries, receivers, where), _rows(keys, senders, where)
        return jnp.einsum("ehd,ehd->eh", to, by, preferred_element_type=wide)

    scores = scale * score(queries, keys)
    if bias is not None:
        bias = jnp.asarray(bias)
        if bias.shape not in (receivers.shape, scores.shape):
            raise ValueError(
                f"bias {bias.shape} must be {receivers.shape} or {scores.shape}"
            )
        scores += (bias[:, None] if bias.ndim == 1 else bias).astype(wide)
    return _attend(scores, values, senders, receivers, where, is_sorted)


def init_gat(
    key: jax.Array, width_in: int, width_out: int, heads: int, *, width_edge: int = 0
) -> Params:
    """Parameters of `gat`.

    Args:
      key: a PRNG key.
      width_in: F of the nodes.
      width_out: D of each head.
      heads: H.
      width_edge: width of the edge features; 0 for none.

    Returns:
      ``{"kernel": [F, H, D], "receiver": [H, D], "sender": [H, D]}``, and
      ``"edge": [width_edge, H]`` where there are edge features; the kernel by Glorot,
      the rest normal with variance one over the width it is multiplied with.

    Examples:
      >>> import jax
      >>> params = init_gat(jax.random.key(0), 4, 3, 2)
      >>> jax.tree.map(lambda x: x.shape, params)
      {'kernel': (4, 2, 3), 'receiver': (2, 3), 'sender': (2, 3)}
    """
    keys = jax.random.split(key, 4)
    vector = nn.initializers.normal(width_out**-0.5)
    params = {
        "kernel": _init_heads(keys[0], width_in, heads, width_out),
        "receiver": vector(keys[1], (heads, width_out)),
        "sender": vector(keys[2], (heads, width_out)),
    }
    if width_edge:
        edge = nn.initializers.normal(width_edge**-0.5)
        params["edge"] = edge(keys[3], (width_edge, heads))
    return params


def gat(
    params: Params,
    graph: jraph.GraphsTuple,
    nodes: jax.Array,
    *,
    edge_features: jax.Array | None = None,
    where: jax.Array | None = None,
    concat: bool = True,
    negative_slope: float = 0.2,
) -> jax.Array:
    """Graph attention network, ``out_i = sum over j in N(i) of a_ij W h_j``.

    ``a_ij = softmax over j in N(i) of leaky_relu(a_l . W h_i + a_r . W h_j + a_e .
    f_ij)``, for each head; f are the edge features.  The activation is left to the
    caller.

    Args:
      params: from `init_gat`.
      graph: E edges between N nodes.
      nodes: ``[N, F]``, h.
      edge_features: ``[E, F']``, f, where the parameters have a term for them.
      where: ``[E]`` mask of the edges that count; None counts all.
      concat: whether heads stand side by side, or their mean is taken.
      negative_slope: of the leaky rectifier.

    Returns:
      ``[N, H * D]``, or the mean over heads ``[N, D]``.

    Raises:
      ValueError: shapes do not fit, edge features without parameters or parameters
        without edge features, or the graph has no senders or receivers.

    Examples:
      >>> import jax.numpy as jnp, jraph
      >>> graph = jraph.GraphsTuple(
      ...     nodes=None, edges=None, globals=None,
      ...     senders=jnp.array([1, 2]), receivers=jnp.array([0, 0]),
      ...     n_node=jnp.array([3]), n_edge=jnp.array([2]),
      ... )
      >>> params = {
      ...     "kernel": jnp.array([[[10.0]]]),
      ...     "receiver": jnp.array([[1.0]]),
      ...     "sender": jnp.array([[0.0]]),
      ... }
      >>> gat(params, graph, jnp.array([[0.0], [1.0], [3.0]])).tolist()
      [[20.0], [0.0], [0.0]]

    References:
      Velickovic et al., Graph attention networks, ICLR 2018, equations 1 to 6.
    """
    senders, receivers, is_sorted = _edges(graph)
    where = _check_where(where, receivers)
    projected = _project("nodes", jnp.asarray(nodes), params["kernel"])
    wide = jnp.promote_types(projected.dtype, jnp.float32)
    # One number a node and head: the edges then gather no vector for their score.
    to, by = (
        jnp.einsum("nhd,hd->nh", projected, params[side], preferred_element_type=wide)[
            ..., None
        ]
        for side in ("receiver", "sender")
    )
    scores = _rows(to, receivers, where)[..., 0] + _rows(by, senders, where)[..., 0]
    features = _edge_features(params, edge_features, receivers, where)
    if features is not None:
        scores += _project("edge features", features, params["edge"])
    scores = jax.nn.leaky_relu(scores, negative_slope)
    out = _attend(scores, projected, senders, receivers, where, is_sorted)
    return out.reshape(len(out), math.prod(out.shape[1:])) if concat else out.mean(1)


def init_gatv2(
    key: jax.Array, width_in: int, width_out: int, heads: int, *, width_edge: int = 0
) -> Params:
    """Parameters of `gatv2`.

    Args:
      key: a PRNG key.
      width_in: F of the nodes.
      width_out: D of each head.
      heads: H.
      width_edge: width of the edge features; 0 for none.

    Returns:
      ``{"receiver": [F, H, D], "sender": [F, H, D], "query": [H, D]}``, and
      ``"edge": [width_edge, H, D]`` where there are edge features; all by Glorot but
      the query, which is normal with variance ``1 / D``.

    Examples:
      >>> import jax
      >>> params = init_gatv2(jax.random.key(0), 4, 3, 2)
      >>> jax.tree.map(lambda x: x.shape, params)
      {'query': (2, 3), 'receiver': (4, 2, 3), 'sender': (4, 2, 3)}
    """
    keys = jax.random.split(key, 4)
    params = {
        "receiver": _init_heads(keys[0], width_in, heads, width_out),
        "sender": _init_heads(keys[1], width_in, heads, width_out),
        "query": nn.initializers.normal(width_out**-0.5)(keys[2], (heads, width_out)),
    }
    if width_edge:
        params["edge"] = _init_heads(keys[3], width_edge, heads, width_out)
    return params


def gatv2(
    params: Params,
    graph: jraph.GraphsTuple,
    nodes: jax.Array,
    *,
    edge_features: jax.Array | None = None,
    where: jax.Array | None = None,
    concat: bool = True,
    negative_slope: float = 0.2,
) -> jax.Array:
    """Dynamic graph attention, ``out_i = sum over j in N(i) of a_ij W_r h_j``.

    ``a_ij = softmax over j in N(i) of a . leaky_relu(W_l h_i + W_r h_j + W_e f_ij)``,
    for each head; f are the edge features.  Unlike in `gat`, the order of a node's
    neighbours by weight depends on the node.  The activation is left to the caller.

    Args:
      params: from `init_gatv2`.
      graph: E edges between N nodes.
      nodes: ``[N, F]``, h.
      edge_features: ``[E, F']``, f, where the parameters have a term for them.
      where: ``[E]`` mask of the edges that count; None counts all.
      concat: whether heads stand side by side, or their mean is taken.
      negative_slope: of the leaky rectifier.

    Returns:
      ``[N, H * D]``, or the mean over heads ``[N, D]``.

    Raises:
      ValueError: shapes do not fit, edge features without parameters or parameters
        without edge features, or the graph has no senders or receivers.

    Examples:
      >>> import jax.numpy as jnp, jraph
      >>> graph = jraph.GraphsTuple(
      ...     nodes=None, edges=None, globals=None,
      ...     senders=jnp.array([1, 2]), receivers=jnp.array([0, 0]),
      ...     n_node=jnp.array([3]), n_edge=jnp.array([2]),
      ... )
      >>> params = {
      ...     "receiver": jnp.array([[[1.0]]]),
      ...     "sender": jnp.array([[[10.0]]]),
      ...     "query": jnp.array([[0.0]]),
      ... }
      >>> gatv2(params, graph, jnp.array([[0.0], [1.0], [3.0]])).tolist()
      [[20.0], [0.0], [0.0]]

    References:
      Brody et al., How attentive are graph attention networks?, ICLR 2022, equation 7.
    """
    senders, receivers, is_sorted = _edges(graph)
    where = _check_where(where, receivers)
    nodes = jnp.asarray(nodes)
    to = _project("nodes", nodes, params["receiver"])
    by = _project("nodes", nodes, params["sender"])
    features = _edge_features(params, edge_features, receivers, where)

    @jax.checkpoint
    def score(params, to, by):
        hidden = _rows(to, receivers, where) + _rows(by, senders, where)
        if features is not None:
            hidden += _project("edge features", features, params["edge"])
        hidden = jax.nn.leaky_relu(hidden, negative_slope)
        wide = jnp.promote_types(hidden.dtype, jnp.float32)
        return jnp.einsum(
            "ehd,hd->eh", hidden, params["query"], preferred_element_type=wide
        )

    scores = score(params, to, by)
    out = _attend(scores, by, senders, receivers, where, is_sorted)
    return out.reshape(len(out), math.prod(out.shape[1:])) if concat else out.mean(1)


def _attend(
    scores: jax.Array,
    values: jax.Array,
    senders: jax.Array,
    receivers: jax.Array,
    where: jax.Array | None,
    is_sorted: bool,
) -> jax.Array:
    """Values ``[N, H, D]`` of senders, weighted by the softmax of scores ``[E, H]``."""
    weights = segment_softmax(
        scores, receivers, num_receivers=len(values), where=where, is_sorted=is_sorted
    )
    wide = jnp.promote_types(values.dtype, jnp.float32)

    @jax.checkpoint
    def total(values, weights):
        messages = _rows(values, senders, where).astype(wide) * weights[..., None]
        return jax.ops.segment_sum(
            messages, receivers, len(values), indices_are_sorted=is_sorted
        )

    return total(values, weights).astype(values.dtype)


def _edges(graph: jraph.GraphsTuple) -> tuple[jax.Array, jax.Array, bool]:
    """Senders and receivers ``[E]``, and whether the latter are known to ascend."""
    senders, receivers = graph.senders, graph.receivers
    if senders is None or receivers is None:
        raise ValueError("the graph has no edges: senders or receivers are None")
    extra: Any = graph.globals
    is_sorted = isinstance(extra, dict) and extra.get("layout") is not None
    return jnp.asarray(senders), jnp.asarray(receivers), is_sorted


def _check_where(where: jax.Array | None, receivers: jax.Array) -> jax.Array | None:
    if where is None:
        return None
    where = jnp.asarray(where)
    if where.shape != receivers.shape:
        raise ValueError(
            f"where {where.shape} must have the shape of receivers {receivers.shape}"
        )
    return where.astype(bool)


def _rows(nodes: jax.Array, index: jax.Array, where: jax.Array | None) -> jax.Array:
    """Rows ``[E, H, D]`` of nodes ``[N, H, D]``, 0 at masked edges."""
    # Without a node there is no edge, but indexing refuses before it finds out.
    rows = nodes[index] if len(nodes) else nodes
    # Before any arithmetic: NaN times 0 is NaN, in derivatives too.
    return rows if where is None else jnp.where(where[:, None, None], rows, 0)


def _init_heads(key: jax.Array, width_in: int, heads: int, width: int) -> jax.Array:
    # As one matrix: the initialiser would read [F, H, D] as a convolution.
    kernel = nn.initializers.glorot_uniform()(key, (width_in, heads * width))
    return kernel.reshape(width_in, heads, width)


def _project(name: str, rows: jax.Array, kernel: jax.Array) -> jax.Array:
    """Rows ``[N, F]`` times a kernel ``[F, ...]``."""
    if rows.ndim != 2 or rows.shape[1] != kernel.shape[0]:
        raise ValueError(
            f"{name} {rows.shape} do not fit the kernel {kernel.shape}: the last axis "
            "of the one must be the first of the other"
        )
    return jnp.tensordot(rows, kernel, 1)


def _edge_features(
    params: Params,
    features: jax.Array | None,
    receivers: jax.Array,
    where: jax.Array | None,
) -> jax.Array | None:
    if (features is None) != ("edge" not in params):
        raise ValueError(
            "edge features and parameters for them (width_edge) go together: one is "
            "there without the other"
        )
    if features is None:
        return None
    features = jnp.asarray(features)
    if features.ndim != 2 or len(features) != len(receivers):
        raise ValueError(
            f"edge features {features.shape} must be [E, F] with the E of receivers "
            f"{receivers.shape}"
        )
    return features if where is None else jnp.where(where[:, None], features, 0)
