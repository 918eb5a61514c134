"""Message passing with one transformation for the node and one for its neighbours."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jraph

from recjax.layers._dense import dense, init_dense
from recjax.sparse import graph_sum
from recjax.types import Params


def init_message_passing(key: jax.Array, width_in: int, width_out: int) -> Params:
    """Parameters of `message_passing`.

    Args:
      key: a PRNG key.
      width_in: D of the nodes.
      width_out: D of the result.

    Returns:
      ``{"self": {"kernel", "bias"}, "neighbour": {"kernel"}}``; kernels
      ``[width_in, width_out]`` by Glorot, bias 0.

    Examples:
      >>> import jax
      >>> params = init_message_passing(jax.random.key(0), 4, 2)
      >>> jax.tree.map(lambda x: x.shape, params)
      {'neighbour': {'kernel': (4, 2)}, 'self': {'bias': (2,), 'kernel': (4, 2)}}
    """
    self_key, neighbour_key = jax.random.split(key)
    init = nn.initializers.glorot_uniform()
    return {
        "self": init_dense(self_key, width_in, width_out),
        "neighbour": {"kernel": init(neighbour_key, (width_in, width_out))},
    }


def message_passing(
    params: Params,
    graph: jraph.GraphsTuple,
    nodes: jax.Array,
    *,
    activation: Callable[[jax.Array], jax.Array] = jax.nn.relu,
) -> jax.Array:
    """One graph layer: ``h_i' = s(W_self h_i + sum over j in N(i) of W_nbr h_j + b)``.

    The sum is weighted by the graph's edges: weights of 1 give the equation as it
    stands, row-normalised weights a mean over the neighbours.  All nodes, users and
    items alike, share the two matrices.

    Args:
      params: from `init_message_passing`.
      graph: N nodes.
      nodes: ``[N, D]``.
      activation: s, applied elementwise.

    Returns:
      ``[N, D']``.

    Raises:
      ValueError: the width of the nodes is not that of the parameters.

    Examples:
      >>> import jax, jax.numpy as jnp, jraph
      >>> graph = jraph.GraphsTuple(
      ...     nodes=None, edges=None, globals=None,
      ...     senders=jnp.array([1]), receivers=jnp.array([0]),
      ...     n_node=jnp.array([2]), n_edge=jnp.array([1]),
      ... )
      >>> params = {
      ...     "self": {"kernel": jnp.array([[1.0]]), "bias": jnp.array([0.5])},
      ...     "neighbour": {"kernel": jnp.array([[10.0]])},
      ... }
      >>> message_passing(params, graph, jnp.array([[1.0], [2.0]])).tolist()
      [[21.5], [2.5]]

    References:
      Gilmer et al., Neural message passing, ICML 2017; Hamilton et al., GraphSAGE,
      NeurIPS 2017 (separate matrices for a node and its neighbours).
    """
    own = dense("nodes", nodes, params["self"])
    # The product with the kernel first: the neighbour sum is then as narrow as the
    # result.
    received = graph_sum(graph, nodes @ params["neighbour"]["kernel"])
    return activation(own + received)
