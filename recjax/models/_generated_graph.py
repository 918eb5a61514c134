"""The graph in which each user is linked to k items, without a sparse layout."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jraph

from recjax.layers import newcomer_sum
from recjax.models._nodes import split_nodes
from recjax.sparse import graph_sum
from recjax.types import Context, Embeddings, ItemLists


class GeneratedGraph(NamedTuple):
    """Weights of the edges of U users with k items each, and of loops.

    Attributes:
      items: ``[U, k]`` int32.
      to_users: ``[U, k]``, of the edges from items to users.
      to_items: ``[U, k]``, of the edges from users to items.
      loops: ``[U + I]``, of the edge of each node to itself.
    """

    items: jax.Array
    to_users: jax.Array
    to_items: jax.Array
    loops: jax.Array


def make_generated_graph(items: jax.Array, num_items: int) -> GeneratedGraph:
    """The graph with loops, symmetrically normalised.

    Args:
      items: ``[U, k]`` int, distinct for each user.
      num_items: I.

    Returns:
      The graph; an edge weighs ``1 / sqrt(d_u d_i)``, loops count in the degrees.

    Examples:
      >>> graph = make_generated_graph(jnp.array([[1], [1]]), 2)
      >>> graph.loops.round(2).tolist(), graph.to_users.round(2).tolist()
      ([0.5, 0.5, 1.0, 0.33], [[0.41], [0.41]])
    """
    num_users, k = items.shape
    of_items = 1.0 + jnp.zeros(num_items).at[items.ravel()].add(1.0)
    of_users = jnp.full(num_users, 1.0 + k)
    weight = jax.lax.rsqrt(of_users[:, None] * of_items[items])
    return GeneratedGraph(
        items, weight, weight, 1 / jnp.concatenate([of_users, of_items])
    )


def drop_generated(
    key: jax.Array, graph: GeneratedGraph, *, rate: float
) -> GeneratedGraph:
    """Drops each entry by itself, loops and both directions, and rescales the rest."""
    keys = jax.random.split(key, 3)
    weights = [
        jnp.where(jax.random.bernoulli(k, 1 - rate, x.shape), x / (1 - rate), 0)
        for k, x in zip(keys, graph[1:], strict=True)
    ]
    return GeneratedGraph(graph.items, *weights)


def generated_sum(graph: GeneratedGraph, nodes: jax.Array) -> jax.Array:
    """The product of the graph's matrix with nodes.

    Args:
      graph: the graph.
      nodes: ``[U + I, D]``.

    Returns:
      ``[U + I, D]``.

    Examples:
      >>> graph = make_generated_graph(jnp.array([[0]]), 1)
      >>> generated_sum(graph, jnp.array([[2.0], [4.0]])).tolist()
      [[3.0], [3.0]]
    """
    num_users, k = graph.items.shape
    users, items = nodes[:num_users], nodes[num_users:]
    received = jnp.einsum("uk,ukd->ud", graph.to_users, items[graph.items])
    sent = (graph.to_items[:, :, None] * users[:, None]).reshape(num_users * k, -1)
    total = jax.ops.segment_sum(sent, graph.items.ravel(), len(items))
    return graph.loops[:, None] * nodes + jnp.concatenate([received, total])


def generated_newcomer_sum(
    graph: GeneratedGraph, items: jax.Array, best: jax.Array
) -> jax.Array:
    """Rows of that product for users who joined later, without their loop.

    Args:
      graph: the graph of the users who are known.
      items: ``[I, D]``.
      best: ``[B, k]`` int, the items of newcomers.

    Returns:
      ``[B, D]``.
    """
    of_items = graph.loops[-len(items) :][best]
    weight = jnp.sqrt(of_items / (1 + best.shape[1]))
    return jnp.einsum("bk,bkd->bd", weight, items[best])


def looped_newcomer_sum(
    own: jax.Array, items: jax.Array, counts: jax.Array, histories: ItemLists
) -> jax.Array:
    """What newcomers receive in a graph with loops, items held still.

    Args:
      own: ``[B, D]`` of the newcomers.
      items: ``[I, D]``.
      counts: ``[I]`` training users of each item, without its loop.
      histories: B lists.

    Returns:
      ``[B, D]``.
    """
    size = jnp.diff(histories.pointer).astype(items.dtype)[:, None]
    total = newcomer_sum(items, counts + 1, histories)
    return total * jnp.sqrt(size / (size + 1)) + own / (size + 1)


def generated_views(
    graph: jraph.GraphsTuple,
    graphs: Mapping[str, GeneratedGraph],
    nodes: jax.Array,
    looks: Mapping[str, jax.Array],
    context: Context,
) -> list[Embeddings]:
    """For each modality m, ``c + A c`` with ``c = G_m [U; n_m]``.

    Args:
      graph: A.
      graphs: G by modality.
      nodes: ``[U + I, D]``, of which the users' rows are U.
      looks: n ``[I, D]`` by modality.
      context: the training data.

    Returns:
      A view a modality, in the order of their names; one product with A serves all.
    """
    users = split_nodes(nodes, context).users
    views = jnp.stack(
        [
            generated_sum(graphs[m], jnp.concatenate([users, looks[m]]))
            for m in sorted(looks)
        ],
        axis=1,
    )
    both = split_nodes(views + graph_sum(graph, views), context)
    return [Embeddings(*(x[:, m] for x in both)) for m in range(len(looks))]
