"""Messages composed of a node and of the vector of a relation, or of an edge."""

from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import jraph

from recjax.layers._dense import dense, init_dense, project
from recjax.layers._edges import Edges, read_relations, rows_of, weighted_edges
from recjax.sparse import Layout, neighbour_sum
from recjax.types import Params


def init_relation_message_passing(
    key: jax.Array, width_in: int, width_out: int
) -> Params:
    """Parameters of `relation_message_passing`.

    Args:
      key: a PRNG key.
      width_in: D of the nodes and of the relations.
      width_out: D' of both results.

    Returns:
      ``{"self": {"kernel", "bias"}, "neighbour": {"kernel"}, "relation": {"kernel"}}``;
      kernels ``[D, D']`` by Glorot, bias 0.

    Examples:
      >>> import jax
      >>> params = init_relation_message_passing(jax.random.key(0), 4, 2)
      >>> params["relation"]["kernel"].shape
      (4, 2)
    """
    keys = jax.random.split(key, 3)
    init = nn.initializers.glorot_uniform()
    return {
        "self": init_dense(keys[0], width_in, width_out),
        "neighbour": {"kernel": init(keys[1], (width_in, width_out))},
        "relation": {"kernel": init(keys[2], (width_in, width_out))},
    }


def relation_message_passing(
    params: Params,
    graph: jraph.GraphsTuple,
    nodes: jax.Array,
    relations: jax.Array,
    *,
    compose: Literal["multiply", "subtract"] = "multiply",
    activation: Callable[[jax.Array], jax.Array] = jax.nn.relu,
) -> tuple[jax.Array, jax.Array]:
    """Messages that carry a vector of their relation; both are updated.

    ``h_i' = s(W_self h_i + W_nbr sum over edges e from j to i of w_e f(h_j, z_e) + b)``
    and ``z' = W_rel z``, where z_e is the vector of the edge's relation and ``f(h, z)``
    is ``h * z`` or ``h - z``.  The sum is weighted by the graph's edges.

    An edge counts where its weight is not 0 and its relation is one of the R.

    CompGCN has one W_nbr for edges as they are given and one for their reverse edges,
    where this layer has one for both; its vector of the self loop is part of W_self and
    b here.

    Args:
      params: from `init_relation_message_passing`.
      graph: N nodes, E edges, with ``edges["relation"]`` ``[E]`` int where relations
        are shared by edges.
      nodes: ``[N, D]``, h.
      relations: ``[R, D]``, z; or ``[E, D]``, features of the edges themselves, where
        the graph has no ``edges["relation"]``.
      compose: which f.
      activation: s, applied elementwise.

    Returns:
      Nodes ``[N, D']`` and relations ``[R, D']`` or ``[E, D']``; features of edges that
      do not count become 0.

    Raises:
      ValueError: shapes do not fit, compose is unknown, the relations of the edges are
        no integers, or the graph has no senders or receivers.

    Examples:
      >>> import jax.numpy as jnp, jraph
      >>> graph = jraph.GraphsTuple(
      ...     nodes=None, edges={"relation": jnp.array([0, 1])}, globals=None,
      ...     senders=jnp.array([1, 1]), receivers=jnp.array([0, 0]),
      ...     n_node=jnp.array([2]), n_edge=jnp.array([2]),
      ... )
      >>> params = {
      ...     "self": {"kernel": jnp.array([[1.0]]), "bias": jnp.array([0.5])},
      ...     "neighbour": {"kernel": jnp.array([[10.0]])},
      ...     "relation": {"kernel": jnp.array([[2.0]])},
      ... }
      >>> nodes, relations = relation_message_passing(
      ...     params, graph, jnp.array([[1.0], [2.0]]), jnp.array([[3.0], [4.0]])
      ... )
      >>> nodes.tolist(), relations.tolist()
      ([[141.5], [2.5]], [[6.0], [8.0]])

    References:
      Vashishth et al., Composition-based multi-relational graph convolutional networks
      (CompGCN), ICLR 2020, equations 2 to 4.
    """
    if compose not in ("multiply", "subtract"):
        raise ValueError(f"compose {compose!r}: use 'multiply' or 'subtract'")
    nodes, relations = jnp.asarray(nodes), jnp.asarray(relations)
    if relations.ndim != 2 or relations.shape[1:] != nodes.shape[1:]:
        raise ValueError(
            f"relations {relations.shape} must be rows of the width of nodes "
            f"{nodes.shape}"
        )
    own = dense("nodes", nodes, params["self"])
    if isinstance(graph.edges, dict) and "relation" in graph.edges:
        edges, relation = read_relations(graph, nodes.dtype, len(relations))
    else:
        edges = weighted_edges(graph, nodes.dtype)
        relation = jnp.arange(len(edges.senders))
        if len(relations) != len(relation):
            raise ValueError(
                f"relations {relations.shape} must have one row an edge, as senders "
                f"{edges.senders.shape}: the graph has no edges['relation']"
            )
        # Before any arithmetic: NaN times 0 is NaN, in derivatives too.
        relations = jnp.where(edges.counts[:, None], relations, 0)
    combine = _sum_products if compose == "multiply" else _sum_differences
    composed = combine(nodes, relations, edges, relation)
    received = project("composed nodes", composed, params["neighbour"]["kernel"])
    return (
        activation(own + received),
        project("relations", relations, params["relation"]["kernel"]),
    )


def _sum_products(
    nodes: jax.Array, relations: jax.Array, edges: Edges, relation: jax.Array
) -> jax.Array:
    """``sum over e into i of w_e h_j * z_e``."""
    wide = jnp.promote_types(nodes.dtype, jnp.float32)

    # Gathered again for the derivative: [E, D] is far more than the nodes hold.
    @jax.checkpoint
    def total(nodes: jax.Array, relations: jax.Array, weight: jax.Array) -> jax.Array:
        # Before any arithmetic: NaN times 0 is NaN, in derivatives too.
        sent = jnp.where(edges.counts[:, None], rows_of(nodes, edges.senders), 0)
        carried = rows_of(relations, relation).astype(wide)
        messages = sent.astype(wide) * carried * weight[:, None]
        return jax.ops.segment_sum(
            messages,
            edges.receivers,
            len(nodes),
            indices_are_sorted=edges.layout is not None,
        )

    return total(nodes, relations, edges.weight).astype(nodes.dtype)


def _sum_differences(
    nodes: jax.Array, relations: jax.Array, edges: Edges, relation: jax.Array
) -> jax.Array:
    """``sum over e into i of w_e (h_j - z_e)``: two sums, no vector an edge."""
    wide, layout = jnp.promote_types(nodes.dtype, jnp.float32), edges.layout
    # Rounded after the difference and not before.
    sent = neighbour_sum(
        nodes.astype(wide),
        edges.weight,
        edges.senders,
        edges.receivers,
        num_receivers=len(nodes),
        layout=layout,
    )
    carried = neighbour_sum(
        relations.astype(wide),
        edges.weight,
        relation,
        edges.receivers,
        num_receivers=len(nodes),
        # Sorted by receiver as before, but what sends is a relation.
        layout=None if layout is None else Layout(layout.row_pointer),
    )
    return (sent - carried).astype(nodes.dtype)
