"""Hyperedges that are given: ``H H^T`` links nodes by how many of them they share.

It is taken as two sums, over H^T and back: the matrix itself has an entry for each pair
of nodes in a hyperedge, which is many times as much.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recjax.graphs import cosine_neighbours
from recjax.layers import hypergraph_smooth
from recjax.sparse import Layout, list_sum, make_layout, neighbour_sum
from recjax.types import Feature, ItemLists


class Hyperedges(NamedTuple):
    """A hypergraph of N nodes and Q hyperedges with m memberships.

    Attributes:
      members: ``[m]`` int32, a node.
      ids: ``[m]`` int32, the hyperedge that it is a member of, ascending.
      sizes: ``[Q]`` float32, members of each hyperedge.
      row_sums: ``[N, 1]`` float32, of H H^T.
      diagonal: ``[N, 1]`` float32, of H H^T.
      layout: of the memberships.
    """

    members: Any
    ids: Any
    sizes: Any
    row_sums: Any
    diagonal: Any
    layout: Layout


def make_hyperedges(
    members: np.ndarray, ids: np.ndarray, *, num_nodes: int, num_hyperedges: int
) -> Hyperedges:
    """The hypergraph of distinct memberships; on the host.

    Args:
      members: ``[m]`` int.
      ids: ``[m]`` int, hyperedges.
      num_nodes: N.
      num_hyperedges: Q.

    Returns:
      The hypergraph, as NumPy arrays.

    Examples:
      >>> edges = make_hyperedges([0, 1], [0, 0], num_nodes=3, num_hyperedges=1)
      >>> edges.row_sums.ravel().tolist(), edges.diagonal.ravel().tolist()
      ([2.0, 2.0, 0.0], [1.0, 1.0, 0.0])
    """
    members, ids = np.asarray(members, np.int32), np.asarray(ids, np.int32)
    order = np.lexsort((members, ids))
    members, ids = members[order], ids[order]
    sizes = np.bincount(ids, minlength=num_hyperedges).astype(np.float32)
    row_sums = np.bincount(members, sizes[ids], minlength=num_nodes)
    diagonal = np.bincount(members, minlength=num_nodes)
    return Hyperedges(
        members,
        ids,
        sizes,
        row_sums.astype(np.float32)[:, None],
        diagonal.astype(np.float32)[:, None],
        make_layout(members, ids, num_senders=num_nodes, num_receivers=num_hyperedges),
    )


def neighbour_hyperedges(features: dict[str, Feature], k: int) -> Hyperedges:
    """Hyperedges of items: for each item and modality, those that have it near.

    Args:
      features: item features by name, M of them.
      k: nearest items of an item by cosine, itself among them.

    Returns:
      The hypergraph with Q = M I, as NumPy arrays; an item is in no hyperedge of a
      modality that it lacks.
    """
    names = sorted(features)
    members, ids, num_items = [], [], len(features[names[0]].present)
    for number, name in enumerate(names):
        values, present = features[name]
        near, _ = cosine_neighbours(values, k, present=present, include_self=True)
        item, place = np.nonzero(np.asarray(near) >= 0)
        members.append(item)
        ids.append(np.asarray(near)[item, place] + number * num_items)
    return make_hyperedges(
        np.concatenate(members),
        np.concatenate(ids),
        num_nodes=num_items,
        num_hyperedges=len(names) * num_items,
    )


def mix_symmetric(edges: Hyperedges, nodes: jax.Array) -> jax.Array:
    """``D^-1/2 H H^T D^-1/2 x``, with D the row sums.

    Args:
      edges: the hypergraph.
      nodes: ``[N, D]``, x.

    Returns:
      ``[N, D]``; 0 for nodes without a hyperedge.
    """
    # Weights equal to the sizes take the D_e of the smoothing back, and make its D_v
    # the row sums.
    return hypergraph_smooth(
        nodes,
        edges.members,
        edges.ids,
        num_hyperedges=edges.sizes.shape[0],
        weight=edges.sizes,
        layout=edges.layout,
    )


def mix_others(edges: Hyperedges, nodes: jax.Array) -> jax.Array:
    """``D^-1 (H H^T - diagonal) x``: a mean over others, by shared hyperedges.

    Args:
      edges: the hypergraph.
      nodes: ``[N, D]``, x.

    Returns:
      ``[N, D]``; 0 for nodes that share nothing.

    Examples:
      >>> edges = make_hyperedges([0, 1], [0, 0], num_nodes=3, num_hyperedges=1)
      >>> mix_others(edges, jnp.array([[1.0], [5.0], [7.0]])).round(4).tolist()
      [[5.0], [1.0], [0.0]]
    """
    root = jnp.sqrt(edges.row_sums)
    total = root * mix_symmetric(edges, root * nodes) - edges.diagonal * nodes
    return _ratio(total, edges.row_sums - edges.diagonal)


def mix_newcomers(edges: Hyperedges, nodes: jax.Array, lists: ItemLists) -> jax.Array:
    """`mix_others` for nodes that are not in the hypergraph.

    Args:
      edges: the hypergraph.
      nodes: ``[N, D]``, x.
      lists: the hyperedges of each of B newcomers.

    Returns:
      ``[B, D]``.

    Examples:
      >>> edges = make_hyperedges([0, 1], [0, 0], num_nodes=3, num_hyperedges=1)
      >>> lists = ItemLists(jnp.array([0, 1, 1]), jnp.array([0]))
      >>> mix_newcomers(edges, jnp.array([[1.0], [5.0], [7.0]]), lists).tolist()
      [[3.0], [0.0]]
    """
    received = neighbour_sum(
        nodes,
        jnp.ones(edges.members.shape, nodes.dtype),
        edges.members,
        edges.ids,
        num_receivers=edges.sizes.shape[0],
        layout=edges.layout,
    )
    return _ratio(list_sum(received, lists), list_sum(edges.sizes[:, None], lists))


def _ratio(x: jax.Array, counts: jax.Array) -> jax.Array:
    """``x / counts``, and 0 where nothing was counted."""
    return jnp.where(counts > 0, x / jnp.maximum(counts, 1), 0)
