"""The graph of edges that a test lists."""

import jax.numpy as jnp
import jraph


def edge_graph(weight, senders, receivers, relation=None, *, num):
    """A graph of ``num`` nodes without a layout."""
    edges = {"weight": jnp.asarray(weight)}
    if relation is not None:
        edges["relation"] = jnp.asarray(relation, jnp.int32)
    return jraph.GraphsTuple(
        nodes=None,
        edges=edges,
        globals=None,
        senders=jnp.asarray(senders, jnp.int32),
        receivers=jnp.asarray(receivers, jnp.int32),
        n_node=jnp.array([num]),
        n_edge=jnp.array([len(senders)]),
    )
