"""Smoothing and convolution over hyperedges, which join any number of nodes each."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from recjax.layers._dense import init_dense, project
from recjax.sparse import Layout, Transpose, neighbour_sum
from recjax.types import Params


def hypergraph_smooth(
    nodes: jax.Array,
    members: jax.Array,
    hyperedges: jax.Array,
    *,
    num_hyperedges: int,
    weight: jax.Array | None = None,
    layout: Layout | None = None,
) -> jax.Array:
    """Nodes to hyperedges and back, ``D_v^-1/2 H W D_e^-1 H^T D_v^-1/2 x``.

    The entry of H at node i and hyperedge q is 1 where i is a member of q (more where
    that pair is repeated), D_e holds the number of members of each hyperedge and D_v,
    for each node, the sum of the weights of the hyperedges that it is a member of.  A
    hyperedge of weight 0 is as good as removed, for derivatives too: it is padding.

    Args:
      nodes: ``[N, D]``, x.
      members: ``[m]`` int, a node.
      hyperedges: ``[m]`` int, the hyperedge that this node is a member of; ascending
        where a layout is given.
      num_hyperedges: Q.
      weight: ``[Q]``, the diagonal of W, not negative; None for 1.
      layout: ``make_layout(members, hyperedges, num_senders=N, num_receivers=Q)``,
        which serves both directions; without it, any order of pairs is taken.

    Returns:
      ``[N, D]``; 0 for nodes without a hyperedge.

    Raises:
      ValueError: shapes do not fit, or the layout has no transposed order.

    Examples:
      >>> import jax.numpy as jnp
      >>> nodes = jnp.array([[2.0], [4.0], [5.0]])
      >>> members, hyperedges = jnp.array([0, 1]), jnp.array([0, 0])
      >>> hypergraph_smooth(nodes, members, hyperedges, num_hyperedges=1).tolist()
      [[3.0], [3.0], [0.0]]

    References:
      Feng et al., Hypergraph neural networks, AAAI 2019, equation 11; Bai et al.,
      Hypergraph convolution and hypergraph attention, Pattern Recognition 2021.
    """
    nodes = jnp.asarray(nodes)
    members, hyperedges = (jnp.asarray(x, jnp.int32) for x in (members, hyperedges))
    if members.ndim != 1 or members.shape != hyperedges.shape:
        raise ValueError(
            f"members {members.shape} and hyperedges {hyperedges.shape} must be two "
            "vectors of one length"
        )
    wide = jnp.promote_types(nodes.dtype, jnp.float32)
    weight = jnp.ones(num_hyperedges, wide) if weight is None else jnp.asarray(weight)
    if weight.shape != (num_hyperedges,):
        raise ValueError(
            f"weight {weight.shape} must have one entry a hyperedge, as num_hyperedges "
            f"is {num_hyperedges}"
        )
    ones = jnp.ones(members.shape, wide)
    back = reverse_pairs(members, hyperedges, layout)

    def to_nodes(x: jax.Array) -> jax.Array:
        senders, receivers, layout = back
        return neighbour_sum(
            x, ones, senders, receivers, num_receivers=len(nodes), layout=layout
        )

    # A weight of 0 has derivative 0 as well.
    counts = weight != 0
    weight = jnp.where(counts, weight, 0).astype(wide)
    degree = to_nodes(weight)[:, None]
    some = degree > 0
    scale = jnp.where(some, jax.lax.rsqrt(jnp.where(some, degree, 1)), 0)
    total = neighbour_sum(
        scale * nodes.astype(wide),
        ones,
        members,
        hyperedges,
        num_receivers=num_hyperedges,
        layout=layout,
    )
    # A floating count would stop at 2 ** 24.
    size = jax.ops.segment_sum(jnp.ones_like(hyperedges), hyperedges, num_hyperedges)
    # Before any arithmetic: NaN times 0 is NaN, in derivatives too.
    received = jnp.where(counts[:, None], total, 0)
    mean = received / jnp.maximum(size, 1).astype(wide)[:, None]
    return (scale * to_nodes(weight[:, None] * mean)).astype(nodes.dtype)


def init_hypergraph_convolution(
    key: jax.Array, width_in: int, width_out: int
) -> Params:
    """Parameters of `hypergraph_convolution`.

    Args:
      key: a PRNG key.
      width_in: D of the nodes.
      width_out: D of the result.

    Returns:
      ``{"kernel": [width_in, width_out], "bias": [width_out]}``; the kernel by Glorot,
      the bias 0.

    Examples:
      >>> import jax
      >>> params = init_hypergraph_convolution(jax.random.key(0), 4, 2)
      >>> jax.tree.map(lambda x: x.shape, params)
      {'bias': (2,), 'kernel': (4, 2)}
    """
    return init_dense(key, width_in, width_out)


def hypergraph_convolution(
    params: Params,
    nodes: jax.Array,
    members: jax.Array,
    hyperedges: jax.Array,
    *,
    num_hyperedges: int,
    weight: jax.Array | None = None,
    layout: Layout | None = None,
    activation: Callable[[jax.Array], jax.Array] = jax.nn.relu,
) -> jax.Array:
    """Hypergraph convolution, ``s(G x K + b)``, where G x is `hypergraph_smooth`.

    Args:
      params: from `init_hypergraph_convolution`, K and b.
      nodes: ``[N, D]``, x.
      members: see `hypergraph_smooth`, as are the arguments up to ``layout``.
      hyperedges: ``[m]``.
      num_hyperedges: Q.
      weight: ``[Q]``.
      layout: of the pairs.
      activation: s, applied elementwise.

    Returns:
      ``[N, D']``.

    Raises:
      ValueError: shapes do not fit, or the layout has no transposed order.

    Examples:
      >>> import jax.numpy as jnp
      >>> params = {"kernel": jnp.array([[10.0]]), "bias": jnp.array([0.5])}
      >>> nodes, members = jnp.array([[2.0], [4.0], [5.0]]), jnp.array([0, 1])
      >>> hypergraph_convolution(
      ...     params, nodes, members, jnp.array([0, 0]), num_hyperedges=1
      ... ).tolist()
      [[30.5], [30.5], [0.5]]

    References:
      Feng et al., Hypergraph neural networks, AAAI 2019, equation 11.
    """
    kernel = params["kernel"]
    nodes = jnp.asarray(nodes)
    # Both sums on the narrower side of the kernel.
    project_first = kernel.shape[1] < kernel.shape[0]
    out = hypergraph_smooth(
        project("nodes", nodes, kernel) if project_first else nodes,
        members,
        hyperedges,
        num_hyperedges=num_hyperedges,
        weight=weight,
        layout=layout,
    )
    out = out if project_first else project("nodes", out, kernel)
    return activation(out + params["bias"][None])


def reverse_pairs(
    members: jax.Array, hyperedges: jax.Array, layout: Layout | None
) -> tuple[jax.Array, jax.Array, Layout | None]:
    """Senders, receivers and layout of the pairs from hyperedges to members."""
    if layout is None:
        return hyperedges, members, None
    if layout.transpose is None:
        raise ValueError(
            "the layout has no transposed order: make_layout(members, hyperedges, ...) "
            "gives one, without symmetric=True"
        )
    order, row_pointer, sent = (jnp.asarray(x) for x in layout.transpose[:3])
    back = (
        jnp.zeros_like(order).at[order].set(jnp.arange(len(order), dtype=order.dtype))
    )
    reverse = Layout(row_pointer, Transpose(back, layout.row_pointer, members))
    return sent, members[order], reverse
