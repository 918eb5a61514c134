"""The graph in which each user is linked to k items, without a sparse layout."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp


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


def drop_entries(
    key: jax.Array, graphs: Mapping[str, GeneratedGraph], *, rate: float
) -> dict[str, GeneratedGraph]:
    """`drop_generated` for the graph of each modality."""
    return {
        name: drop_generated(jax.random.fold_in(key, number), graphs[name], rate=rate)
        for number, name in enumerate(sorted(graphs))
    }


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
