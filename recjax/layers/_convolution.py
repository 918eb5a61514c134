"""Graph convolutions: a sum or a maximum over neighbours, and matrices around it.

All nodes, users and items alike, share the matrices.  Sums take the weights of the
graph as they stand: normalisation and self loops are part of making the graph.
"""

from collections.abc import Callable
from typing import Literal, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
import jraph

from recjax.layers._dense import dense, init_dense, project
from recjax.layers._edges import Edges, rows_of, weighted_edges
from recjax.layers._segment import segment_max
from recjax.sparse import graph_sum, neighbour_sum
from recjax.types import Params

Activation: TypeAlias = Callable[[jax.Array], jax.Array]


def init_gcn(key: jax.Array, width_in: int, width_out: int) -> Params:
    """Parameters of `gcn`.

    Args:
      key: a PRNG key.
      width_in: D of the nodes.
      width_out: D of the result.

    Returns:
      ``{"kernel": [width_in, width_out], "bias": [width_out]}``; the kernel by Glorot,
      the bias 0.

    Examples:
      >>> import jax
      >>> jax.tree.map(lambda x: x.shape, init_gcn(jax.random.key(0), 4, 2))
      {'bias': (2,), 'kernel': (4, 2)}
    """
    return init_dense(key, width_in, width_out)


def gcn(
    params: Params,
    graph: jraph.GraphsTuple,
    nodes: jax.Array,
    *,
    activation: Activation = jax.nn.relu,
) -> jax.Array:
    """Graph convolutional network, ``h' = s(A h W + b)``.

    Args:
      params: from `init_gcn`.
      graph: its weights are the matrix A; in the paper they are symmetrically
        normalised, with a self loop at every node.
      nodes: ``[N, D]``, h.
      activation: s, applied elementwise.

    Returns:
      ``[N, D']``.

    Raises:
      ValueError: the width of the nodes is not that of the parameters.

    Examples:
      >>> import jax.numpy as jnp, jraph
      >>> graph = jraph.GraphsTuple(
      ...     nodes=None, edges=None, globals=None,
      ...     senders=jnp.array([1, 2]), receivers=jnp.array([0, 0]),
      ...     n_node=jnp.array([3]), n_edge=jnp.array([2]),
      ... )
      >>> params = {"kernel": jnp.array([[10.0]]), "bias": jnp.array([0.5])}
      >>> gcn(params, graph, jnp.array([[1.0], [2.0], [3.0]])).tolist()
      [[50.5], [0.5], [0.5]]

    References:
      Kipf and Welling, Semi-supervised classification with graph convolutional
      networks, ICLR 2017, equation 2.
    """
    nodes = jnp.asarray(nodes)
    received = _narrower(lambda x: graph_sum(graph, x), nodes, params["kernel"])
    return activation(received + params["bias"][None])


def init_graph_sage(
    key: jax.Array, width_in: int, width_out: int, *, width_pool: int = 0
) -> Params:
    """Parameters of `graph_sage`.

    Args:
      key: a PRNG key.
      width_in: D of the nodes.
      width_out: D of the result.
      width_pool: width of the maximum, for ``aggregate="max"``; 0 for the mean.

    Returns:
      ``{"self": {"kernel", "bias"}, "neighbour": {"kernel"}}``, and ``"pool":
      {"kernel", "bias"}`` where there is a width for it; kernels by Glorot, biases 0.

    Examples:
      >>> import jax
      >>> params = init_graph_sage(jax.random.key(0), 4, 2, width_pool=3)
      >>> jax.tree.map(lambda x: x.shape, params["neighbour"] | params["pool"])
      {'bias': (3,), 'kernel': (4, 3)}
      >>> params["neighbour"]["kernel"].shape
      (3, 2)
    """
    keys = jax.random.split(key, 3)
    init = nn.initializers.glorot_uniform()
    params: Params = {
        "self": init_dense(keys[0], width_in, width_out),
        "neighbour": {"kernel": init(keys[1], (width_pool or width_in, width_out))},
    }
    if width_pool:
        params["pool"] = init_dense(keys[2], width_in, width_pool)
    return params


def graph_sage(
    params: Params,
    graph: jraph.GraphsTuple,
    nodes: jax.Array,
    *,
    aggregate: Literal["mean", "max"] = "mean",
    activation: Activation = jax.nn.relu,
) -> jax.Array:
    """GraphSAGE, ``h_i' = s(W_self h_i + W_nbr a_i + b)``.

    The aggregate ``a_i`` is the mean of h_j over j in N(i), or the maximum of
    ``relu(W_pool h_j + b_pool)``; 0 where there is no j.  Both are over the edges whose
    weight is not 0, and the size of a weight is not read: for a weighted mean see
    `message_passing` over a graph of row-normalised weights.

    Args:
      params: from `init_graph_sage`, with a pool for the maximum and none for the mean.
      graph: N nodes; its weights say which edges count.
      nodes: ``[N, D]``, h.
      aggregate: as above.
      activation: s, applied elementwise.

    Returns:
      ``[N, D']``.

    Raises:
      ValueError: shapes do not fit, the aggregate is unknown, the parameters are those
        of the other one, or the graph has no senders or receivers.

    Examples:
      >>> import jax.numpy as jnp, jraph
      >>> graph = jraph.GraphsTuple(
      ...     nodes=None, edges=None, globals=None,
      ...     senders=jnp.array([1, 2]), receivers=jnp.array([0, 0]),
      ...     n_node=jnp.array([3]), n_edge=jnp.array([2]),
      ... )
      >>> params = {
      ...     "self": {"kernel": jnp.array([[1.0]]), "bias": jnp.array([0.5])},
      ...     "neighbour": {"kernel": jnp.array([[10.0]])},
      ... }
      >>> graph_sage(params, graph, jnp.array([[1.0], [2.0], [4.0]])).tolist()
      [[31.5], [2.5], [4.5]]

    References:
      Hamilton et al., GraphSAGE, NeurIPS 2017, algorithm 1 (the concatenation of line
      5 is the sum of two products here) and equation 3 (pooling).
    """
    if aggregate not in ("mean", "max"):
        raise ValueError(f"aggregate {aggregate!r}: use 'mean' or 'max'")
    if (aggregate == "max") != ("pool" in params):
        raise ValueError(
            f"aggregate {aggregate!r} and parameters {sorted(params)}: a pool "
            "(width_pool) goes with 'max', and none with 'mean'"
        )
    nodes = jnp.asarray(nodes)
    own = dense("nodes", nodes, params["self"])
    edges = weighted_edges(graph, nodes.dtype)
    kernel = params["neighbour"]["kernel"]
    if aggregate == "mean":
        received = _narrower(lambda x: _mean(edges, x), nodes, kernel)
    else:
        pooled = jax.nn.relu(dense("nodes", nodes, params["pool"]))
        received = project("pooled nodes", _maximum(edges, pooled), kernel)
    return activation(own + received)


def init_gin(key: jax.Array, width_in: int, width_out: int, *, hidden: int) -> Params:
    """Parameters of `gin`.

    Args:
      key: a PRNG key.
      width_in: D of the nodes.
      width_out: D of the result.
      hidden: width of the hidden layer.

    Returns:
      ``{"epsilon": [], "first": {"kernel", "bias"}, "second": {"kernel", "bias"}}``;
      kernels by Glorot, the rest 0.

    Examples:
      >>> import jax
      >>> params = init_gin(jax.random.key(0), 4, 2, hidden=3)
      >>> params["first"]["kernel"].shape, params["second"]["kernel"].shape
      ((4, 3), (3, 2))
    """
    first, second = jax.random.split(key)
    return {
        "epsilon": jnp.zeros(()),
        "first": init_dense(first, width_in, hidden),
        "second": init_dense(second, hidden, width_out),
    }


def gin(
    params: Params,
    graph: jraph.GraphsTuple,
    nodes: jax.Array,
    *,
    activation: Activation = jax.nn.relu,
) -> jax.Array:
    """Graph isomorphism network, ``h_i' = f((1 + e) h_i + sum over j in N(i) of h_j)``.

    ``f(x) = W_2 s(W_1 x + b_1) + b_2``.  The sum is weighted by the graph's edges:
    weights of 1 give the equation as it stands.

    Args:
      params: from `init_gin`; e is one of them.
      graph: N nodes.
      nodes: ``[N, D]``, h.
      activation: s, applied elementwise.

    Returns:
      ``[N, D']``.

    Raises:
      ValueError: the width of the nodes is not that of the parameters.

    Examples:
      >>> import jax.numpy as jnp, jraph
      >>> graph = jraph.GraphsTuple(
      ...     nodes=None, edges=None, globals=None,
      ...     senders=jnp.array([1]), receivers=jnp.array([0]),
      ...     n_node=jnp.array([2]), n_edge=jnp.array([1]),
      ... )
      >>> layer = {"kernel": jnp.array([[10.0]]), "bias": jnp.array([1.0])}
      >>> params = {"epsilon": jnp.array(0.5), "first": layer, "second": layer}
      >>> gin(params, graph, jnp.array([[2.0], [4.0]])).tolist()
      [[711.0], [611.0]]

    References:
      Xu et al., How powerful are graph neural networks?, ICLR 2019, equation 4.1.
    """
    nodes = jnp.asarray(nodes)
    received = (1 + params["epsilon"]) * nodes + graph_sum(graph, nodes)
    hidden = activation(dense("nodes", received, params["first"]))
    return dense("hidden nodes", hidden, params["second"])


def init_ngcf(key: jax.Array, width_in: int, width_out: int) -> Params:
    """Parameters of `ngcf`.

    Args:
      key: a PRNG key.
      width_in: D of the nodes.
      width_out: D of the result.

    Returns:
      ``{"sum": {"kernel", "bias"}, "product": {"kernel"}}``; kernels ``[width_in,
      width_out]`` by Glorot, bias 0.

    Examples:
      >>> import jax
      >>> params = init_ngcf(jax.random.key(0), 4, 2)
      >>> jax.tree.map(lambda x: x.shape, params)
      {'product': {'kernel': (4, 2)}, 'sum': {'bias': (2,), 'kernel': (4, 2)}}
    """
    first, second = jax.random.split(key)
    init = nn.initializers.glorot_uniform()
    return {
        "sum": init_dense(first, width_in, width_out),
        "product": {"kernel": init(second, (width_in, width_out))},
    }


def ngcf(
    params: Params,
    graph: jraph.GraphsTuple,
    nodes: jax.Array,
    *,
    negative_slope: float = 0.2,
) -> jax.Array:
    """Neural graph collaborative filtering, one layer.

    ``h_i' = leaky_relu(W_1 h_i + sum over j in N(i) of A_ij (W_1 h_j + W_2 (h_j * h_i))
    + b)``.  As h_i and the matrices are the same for every j, one neighbour sum serves
    both terms: ``h' = leaky_relu(W_1 (h + A h) + W_2 (h * A h) + b)``.

    Args:
      params: from `init_ngcf`.
      graph: its weights are the matrix A; in the paper they are symmetrically
        normalised, without self loops.
      nodes: ``[N, D]``, h.
      negative_slope: of the leaky rectifier.

    Returns:
      ``[N, D']``; the model of the paper scores with all its layers side by side.

    Raises:
      ValueError: the width of the nodes is not that of the parameters.

    Examples:
      >>> import jax.numpy as jnp, jraph
      >>> graph = jraph.GraphsTuple(
      ...     nodes=None, edges=None, globals=None,
      ...     senders=jnp.array([1]), receivers=jnp.array([0]),
      ...     n_node=jnp.array([2]), n_edge=jnp.array([1]),
      ... )
      >>> params = {
      ...     "sum": {"kernel": jnp.array([[1.0]]), "bias": jnp.array([0.5])},
      ...     "product": {"kernel": jnp.array([[10.0]])},
      ... }
      >>> ngcf(params, graph, jnp.array([[2.0], [3.0]])).tolist()
      [[65.5], [3.5]]

    References:
      Wang et al., Neural graph collaborative filtering, SIGIR 2019, equations 3, 5 and
      7 (b is that of the authors' program).
    """
    nodes = jnp.asarray(nodes)
    received = graph_sum(graph, nodes)
    out = dense("nodes", nodes + received, params["sum"])
    out += project("nodes", nodes * received, params["product"]["kernel"])
    return jax.nn.leaky_relu(out, negative_slope)


def _narrower(
    aggregate: Callable[[jax.Array], jax.Array], nodes: jax.Array, kernel: jax.Array
) -> jax.Array:
    """A linear aggregate times a kernel, in the order of the narrower aggregate."""
    if kernel.shape[1] < kernel.shape[0]:
        return aggregate(project("nodes", nodes, kernel))
    return project("nodes", aggregate(nodes), kernel)


def _mean(edges: Edges, nodes: jax.Array) -> jax.Array:
    """Mean of the neighbours ``[N, D]`` along the edges that count."""
    total = neighbour_sum(
        nodes,
        edges.counts.astype(nodes.dtype),
        edges.senders,
        edges.receivers,
        num_receivers=len(nodes),
        layout=edges.layout,
    )
    # A floating count would stop at 2 ** 24.
    counts = edges.counts.astype(jnp.int32)
    number = jax.ops.segment_sum(counts, edges.receivers, len(nodes))
    wide = jnp.promote_types(nodes.dtype, jnp.float32)
    mean = total.astype(wide) / jnp.maximum(number, 1).astype(wide)[:, None]
    return mean.astype(nodes.dtype)


def _maximum(edges: Edges, nodes: jax.Array) -> jax.Array:
    """Maximum of the neighbours ``[N, D]`` along the edges that count."""

    # Gathered again for the derivative: [E, D] is far more than the nodes hold.
    @jax.checkpoint
    def maximum(nodes: jax.Array) -> jax.Array:
        return segment_max(
            rows_of(nodes, edges.senders),
            edges.receivers,
            num_receivers=len(nodes),
            where=edges.counts,
            is_sorted=edges.layout is not None,
        )

    return maximum(nodes)
