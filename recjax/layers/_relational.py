"""Convolution with a matrix for each relation, made of bases or of blocks.

``edges["relation"]`` ``[E]`` says which of the R relations an edge belongs to.  An edge
counts where its weight is not 0 and its relation is one of the R.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import jraph

from recjax.layers._dense import dense, init_dense, project
from recjax.layers._edges import Edges, read_relations, rows_of
from recjax.sparse import Layout, neighbour_sum
from recjax.types import Params


def init_rgcn_basis(
    key: jax.Array, width_in: int, width_out: int, *, relations: int, bases: int
) -> Params:
    """Parameters of `rgcn` whose matrices are combinations, ``W_r = sum_b c_rb V_b``.

    Args:
      key: a PRNG key.
      width_in: D of the nodes.
      width_out: D' of the result.
      relations: R.
      bases: number of matrices V that all relations share.

    Returns:
      ``{"self": {"kernel", "bias"}, "basis": [bases, D, D'], "coefficient": [R,
      bases]}``; all by Glorot, but for the bias, which is 0.

    Examples:
      >>> import jax
      >>> params = init_rgcn_basis(jax.random.key(0), 4, 2, relations=5, bases=3)
      >>> params["basis"].shape, params["coefficient"].shape
      ((3, 4, 2), (5, 3))
    """
    keys = jax.random.split(key, 3)
    init = nn.initializers.glorot_uniform
    return {
        "self": init_dense(keys[0], width_in, width_out),
        "basis": init(batch_axis=(0,))(keys[1], (bases, width_in, width_out)),
        "coefficient": init()(keys[2], (relations, bases)),
    }


def init_rgcn_block(
    key: jax.Array, width_in: int, width_out: int, *, relations: int, blocks: int
) -> Params:
    """Parameters of `rgcn` whose matrices are block-diagonal.

    Args:
      key: a PRNG key.
      width_in: D of the nodes.
      width_out: D' of the result.
      relations: R.
      blocks: number of blocks on the diagonal; divides both widths.

    Returns:
      ``{"self": {"kernel", "bias"}, "block": [R, blocks, D / blocks, D' / blocks]}``;
      kernels and blocks by Glorot, bias 0.

    Raises:
      ValueError: the blocks do not divide the widths.

    Examples:
      >>> import jax
      >>> params = init_rgcn_block(jax.random.key(0), 4, 2, relations=5, blocks=2)
      >>> params["block"].shape
      (5, 2, 2, 1)
    """
    if blocks < 1 or width_in % blocks or width_out % blocks:
        raise ValueError(
            f"blocks {blocks} must divide both widths {width_in} and {width_out}"
        )
    first, second = jax.random.split(key)
    init = nn.initializers.glorot_uniform(batch_axis=(0, 1))
    shape = (relations, blocks, width_in // blocks, width_out // blocks)
    return {
        "self": init_dense(first, width_in, width_out),
        "block": init(second, shape),
    }


def rgcn(
    params: Params,
    graph: jraph.GraphsTuple,
    nodes: jax.Array,
    *,
    activation: Callable[[jax.Array], jax.Array] = jax.nn.relu,
) -> jax.Array:
    """Relational graph convolution, with a matrix for each relation.

    ``h_i' = s(W_self h_i + sum over r, over j in N_r(i) of W_r h_j / |N_r(i)| + b)``,
    where N_r(i) are the senders of the edges of relation r into i.

    The matrices W_r come from bases or from blocks, and the sum is taken over one basis
    or one block after the other: no array of a vector or a matrix an edge is kept for
    the derivative.  Bases take as many passes over the edges as there are bases; blocks
    make an array ``[N * R, D' / blocks]``.

    Args:
      params: from `init_rgcn_basis` or `init_rgcn_block`.
      graph: N nodes, E edges with ``edges["relation"]`` ``[E]`` int.  The weights say
        which edges count; their size is not read, as the layer has its own
        normalisation.
      nodes: ``[N, D]``, h.
      activation: s, applied elementwise.

    Returns:
      ``[N, D']``.

    Raises:
      ValueError: shapes do not fit, the parameters have neither bases nor blocks, or
        the graph has no senders, receivers or relations.

    Examples:
      >>> import jax.numpy as jnp, jraph
      >>> graph = jraph.GraphsTuple(
      ...     nodes=None, edges={"relation": jnp.array([0, 0, 1])}, globals=None,
      ...     senders=jnp.array([1, 2, 2]), receivers=jnp.array([0, 0, 0]),
      ...     n_node=jnp.array([3]), n_edge=jnp.array([3]),
      ... )
      >>> params = {
      ...     "self": {"kernel": jnp.array([[1.0]]), "bias": jnp.array([0.5])},
      ...     "basis": jnp.array([[[10.0]]]),
      ...     "coefficient": jnp.array([[1.0], [10.0]]),
      ... }
      >>> rgcn(params, graph, jnp.array([[1.0], [2.0], [4.0]])).tolist()
      [[431.5], [2.5], [4.5]]

    References:
      Schlichtkrull et al., Modeling relational data with graph convolutional networks,
      ESWC 2018, equations 2 to 4.
    """
    if ("basis" in params) == ("block" in params):
        raise ValueError(
            f"parameters {sorted(params)} must have one of 'basis' and 'block': see "
            "init_rgcn_basis and init_rgcn_block"
        )
    nodes = jnp.asarray(nodes)
    own = dense("nodes", nodes, params["self"])
    has_bases = "basis" in params
    num_relations = len(params["coefficient" if has_bases else "block"])
    edges, relation = read_relations(graph, nodes.dtype, num_relations)
    share = _share(edges, relation, nodes, num_relations)
    sum_edges = _sum_bases if has_bases else _sum_blocks
    received = sum_edges(params, nodes, edges, relation, share)
    return activation(own + received)


def _share(
    edges: Edges, relation: jax.Array, nodes: jax.Array, num_relations: int
) -> jax.Array:
    """One over the edges ``[E]`` with the relation and receiver of each that counts."""
    group = relation * len(nodes) + edges.receivers
    # One group at least: indexing refuses an empty array, even where there is no edge.
    number = jax.ops.segment_sum(
        edges.counts.astype(jnp.int32), group, max(num_relations * len(nodes), 1)
    )
    wide = jnp.promote_types(nodes.dtype, jnp.float32)
    share = 1 / jnp.maximum(number, 1)[group].astype(wide)
    return jnp.where(edges.counts, share, 0)


def _sum_bases(
    params: Params,
    nodes: jax.Array,
    edges: Edges,
    relation: jax.Array,
    share: jax.Array,
) -> jax.Array:
    """``sum_b sum_e share_e c_rb V_b h_j``: a sum over edges for each basis b."""
    dtype = jnp.result_type(nodes, params["basis"])
    wide = jnp.promote_types(dtype, jnp.float32)

    # Projected again for the derivative: [bases, N, D'] would be kept otherwise.
    @jax.checkpoint
    def add(total: jax.Array, basis: tuple[jax.Array, jax.Array]):
        kernel, coefficient = basis
        received = neighbour_sum(
            project("nodes", nodes, kernel),
            share * rows_of(coefficient, relation),
            edges.senders,
            edges.receivers,
            num_receivers=len(nodes),
            layout=edges.layout,
        )
        return total + received.astype(wide), None

    start = jnp.zeros((len(nodes), params["basis"].shape[-1]), wide)
    total, _ = jax.lax.scan(add, start, (params["basis"], params["coefficient"].T))
    return total.astype(dtype)


def _sum_blocks(
    params: Params,
    nodes: jax.Array,
    edges: Edges,
    relation: jax.Array,
    share: jax.Array,
) -> jax.Array:
    """For each block, one sum over edges that are sent by pairs (node, relation)."""
    num_relations, num, width_in, width_out = params["block"].shape
    if nodes.shape[1] != num * width_in:
        raise ValueError(
            f"nodes {nodes.shape} do not fit the blocks {params['block'].shape}: the "
            "last axis of the one must be the second times the third of the other"
        )
    senders = edges.senders * num_relations + relation
    # The edges are still sorted by receiver, but by sender in another order.
    layout = None if edges.layout is None else Layout(edges.layout.row_pointer)

    def one(block: tuple[jax.Array, jax.Array]) -> jax.Array:
        columns, kernel = block
        sent = jnp.einsum("nf,rfd->nrd", columns, kernel)
        return neighbour_sum(
            sent.reshape(len(nodes) * num_relations, width_out),
            share,
            senders,
            edges.receivers,
            num_receivers=len(nodes),
            layout=layout,
        )

    columns = nodes.reshape(len(nodes), num, width_in)
    out = jax.lax.map(
        one, (jnp.moveaxis(columns, 1, 0), jnp.moveaxis(params["block"], 1, 0))
    )
    return jnp.moveaxis(out, 0, 1).reshape(len(nodes), num * width_out)
