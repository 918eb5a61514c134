"""Graph attention networks: scores from both ends of an edge, by parameters.

The conventions on edges and masks are those of `recjax.layers._attention`.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import jraph

from recjax.layers._attention import attend, check_where, keep_live
from recjax.layers._edges import rows_of
from recjax.sparse import general_layout, read_edges
from recjax.types import Params


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
    senders, receivers, _, layout = read_edges(graph)
    layout = general_layout(layout, senders)
    where = check_where(where, receivers)
    nodes = keep_live(jnp.asarray(nodes), where, senders, receivers)
    projected = _project("nodes", nodes, params["kernel"])
    wide = jnp.promote_types(projected.dtype, jnp.float32)
    # One number a node and head: the edges then gather no vector for their score.
    to, by = (
        jnp.einsum("nhd,hd->nh", projected, params[side], preferred_element_type=wide)
        for side in ("receiver", "sender")
    )
    scores = rows_of(to, receivers) + rows_of(by, senders)
    features = _edge_features(params, edge_features, receivers, where)
    if features is not None:
        scores += _project("edge features", features, params["edge"])
    scores = jax.nn.leaky_relu(scores, negative_slope)
    out = attend(scores, projected, senders, receivers, where, layout)
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
    senders, receivers, _, layout = read_edges(graph)
    layout = general_layout(layout, senders)
    where = check_where(where, receivers)
    nodes = keep_live(jnp.asarray(nodes), where, senders, receivers)
    to = _project("nodes", nodes, params["receiver"])
    by = _project("nodes", nodes, params["sender"])
    features = _edge_features(params, edge_features, receivers, where)

    @jax.checkpoint
    def score(params, to, by):
        hidden = rows_of(to, receivers) + rows_of(by, senders)
        if features is not None:
            hidden += _project("edge features", features, params["edge"])
        hidden = jax.nn.leaky_relu(hidden, negative_slope)
        wide = jnp.promote_types(hidden.dtype, jnp.float32)
        return jnp.einsum(
            "ehd,hd->eh", hidden, params["query"], preferred_element_type=wide
        )

    scores = score(params, to, by)
    out = attend(scores, by, senders, receivers, where, layout)
    return out.reshape(len(out), math.prod(out.shape[1:])) if concat else out.mean(1)


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
