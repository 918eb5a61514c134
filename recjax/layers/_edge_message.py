"""Message passing over edges with features of their own, which it updates too."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import jraph

from recjax.layers._dense import dense, init_dense, project
from recjax.layers._edges import read_relations, rows_of
from recjax.types import Params


def init_edge_message_passing(
    key: jax.Array, width_in: int, width_out: int, *, width_edge: int
) -> Params:
    """Parameters of `edge_message_passing`.

    Args:
      key: a PRNG key.
      width_in: D of the nodes and of the relations.
      width_out: D' of all results.
      width_edge: F of the edge features.

    Returns:
      ``{"self", "edge": {"kernel", "bias"}, "sender", "receiver", "relation",
      "next_relation": {"kernel"}}``; kernels by Glorot, biases 0.

    Examples:
      >>> import jax
      >>> params = init_edge_message_passing(jax.random.key(0), 4, 2, width_edge=3)
      >>> params["edge"]["kernel"].shape, params["sender"]["kernel"].shape
      ((3, 2), (4, 2))
    """
    keys = jax.random.split(key, 6)
    init = nn.initializers.glorot_uniform()
    names = ("sender", "receiver", "relation", "next_relation")
    return {
        "self": init_dense(keys[0], width_in, width_out),
        "edge": init_dense(keys[1], width_edge, width_out),
    } | {
        name: {"kernel": init(key, (width_in, width_out))}
        for name, key in zip(names, keys[2:], strict=True)
    }


def edge_message_passing(
    params: Params,
    graph: jraph.GraphsTuple,
    nodes: jax.Array,
    relations: jax.Array,
    features: jax.Array,
    *,
    activation: Callable[[jax.Array], jax.Array] = jax.nn.relu,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """One layer that updates nodes, relations and the features of edges.

    ``f_e' = s(W_edge f_e + W_snd h_j + W_rcv h_i + W_rel z_e + b)`` for an edge e from
    j to i with the relation vector z_e, then ``h_i' = s(W_self h_i + c + sum over edges
    e into i of w_e f_e')`` and ``z' = W_next z``.  What stands on an edge (its age, a
    count, seconds of dwelling) so takes part in every message, and comes out as a
    vector that the next layer takes.

    An edge counts where its weight is not 0 and its relation is one of the R.

    Args:
      params: from `init_edge_message_passing`.
      graph: N nodes, E edges, with ``edges["relation"]`` ``[E]`` int.
      nodes: ``[N, D]``, h.
      relations: ``[R, D]``, z.
      features: ``[E, F]``, f.
      activation: s, applied elementwise.

    Returns:
      Nodes ``[N, D']``, relations ``[R, D']`` and edge features ``[E, D']``, which are
      0 for edges that do not count.

    Raises:
      ValueError: shapes do not fit, the relations of the edges are missing or no
        integers, or the graph has no senders or receivers.

    Examples:
      >>> import jax.numpy as jnp, jraph
      >>> graph = jraph.GraphsTuple(
      ...     nodes=None, edges={"relation": jnp.array([0])}, globals=None,
      ...     senders=jnp.array([1]), receivers=jnp.array([0]),
      ...     n_node=jnp.array([2]), n_edge=jnp.array([1]),
      ... )
      >>> one, none = {"kernel": jnp.array([[1.0]])}, {"bias": jnp.array([0.0])}
      >>> params = {"self": one | none, "edge": one | none, "sender": one,
      ...     "receiver": one, "relation": one, "next_relation": one}
      >>> nodes, relations, features = edge_message_passing(
      ...     params, graph, jnp.array([[1.0], [2.0]]), jnp.array([[10.0]]),
      ...     jnp.array([[100.0]]),
      ... )
      >>> nodes.tolist(), features.tolist()
      ([[114.0], [2.0]], [[113.0]])

    References:
      Battaglia et al., Relational inductive biases, deep learning, and graph networks,
      2018, algorithm 1 (edges, then nodes); Vashishth et al., CompGCN, ICLR 2020 (the
      vectors of relations).
    """
    nodes, relations, features = (jnp.asarray(x) for x in (nodes, relations, features))
    if relations.ndim != 2 or relations.shape[1:] != nodes.shape[1:]:
        raise ValueError(
            f"relations {relations.shape} must be rows of the width of nodes "
            f"{nodes.shape}"
        )
    edges, relation = read_relations(graph, nodes.dtype, len(relations))
    if features.ndim != 2 or len(features) != len(edges.senders):
        raise ValueError(
            f"features {features.shape} must have one row an edge, as senders "
            f"{edges.senders.shape}"
        )
    counts = edges.counts[:, None]

    # Gathered again for the derivative: each of these is [E, D'].
    @jax.checkpoint
    def update(nodes: jax.Array, relations: jax.Array, features: jax.Array):
        # Before any arithmetic: NaN times 0 is NaN, in derivatives too.
        features = jnp.where(counts, features, 0)
        out = dense("features", features, params["edge"])
        for name, table, rows in (
            ("sender", nodes, edges.senders),
            ("receiver", nodes, edges.receivers),
            ("relation", relations, relation),
        ):
            sent = project(name, table, params[name]["kernel"])
            out += jnp.where(counts, rows_of(sent, rows), 0)
        return jnp.where(counts, activation(out), 0)

    features = update(nodes, relations, features)
    wide = jnp.promote_types(features.dtype, jnp.float32)
    received = jax.ops.segment_sum(
        features.astype(wide) * edges.weight[:, None],
        edges.receivers,
        len(nodes),
        indices_are_sorted=edges.layout is not None,
    ).astype(features.dtype)
    return (
        activation(dense("nodes", nodes, params["self"]) + received),
        project("relations", relations, params["next_relation"]["kernel"]),
        features,
    )
