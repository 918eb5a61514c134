"""The neighbourhood of a batch as a small padded graph, drawn hop by hop."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jraph

from recjax.graphs._fields import num_nodes_of
from recjax.graphs._neighbour_sampling import SampleBy, sample_neighbours
from recjax.sparse import Layout, Transpose


class _Hop(NamedTuple):
    """Slots of the nodes of a hop, and of the edges into the hop before.

    Attributes:
      nodes: ``[R]`` int32, ids.
      where: ``[R]`` bool, slots that are filled.
      senders: ``[P F]`` int32, slots of this hop, an edge each; P are the slots of the
        hop before, and edge e goes into slot ``e // F`` of it.
      weight: ``[P F]``.
      real: ``[P F]`` bool, edges that there are.
    """

    nodes: jax.Array
    where: jax.Array
    senders: jax.Array
    weight: jax.Array
    real: jax.Array


def subgraph_size(num_seeds: int, num_nodes: int, fanouts: Sequence[int]) -> tuple:
    """Nodes R and edges E of a graph from `sample_subgraph`, padding included.

    Args:
      num_seeds: B.
      num_nodes: N of the whole graph.
      fanouts: neighbours of a node in each hop.

    Returns:
      R and E.

    Examples:
      >>> subgraph_size(2, 100, (3, 5)), subgraph_size(2, 10, (3, 5))
      ((39, 36), (19, 36))
    """
    slots, nodes, edges = num_seeds, num_seeds + 1, 0
    for fanout in fanouts:
        edges += slots * fanout
        slots = min(slots * fanout, num_nodes)
        nodes += slots
    return nodes, edges


def sample_subgraph(
    key: jax.Array,
    graph: jraph.GraphsTuple,
    seeds: jax.Array,
    fanouts: Sequence[int],
    *,
    by: SampleBy = "uniform",
    replace: bool = False,
    where: jax.Array | None = None,
) -> jraph.GraphsTuple:
    """What the seeds receive over L hops, from drawn neighbours.

    Hop 0 are the seeds; hop l holds what sends to the nodes of hop l - 1, with edges
    drawn for each of these by `sample_neighbours`.  Every hop has nodes and draws of
    its own, even where a node was there before: k propagations over the drawn graph
    then give the seeds, in the mean over keys, what k propagations over the whole
    graph give them, for any k up to L.  They are equal where every fanout is at least
    the degree and nothing is replaced.

    A hop that has as many slots as the graph has nodes holds each of these once; in
    smaller hops a node may be there several times.

    Args:
      key: a PRNG key; the same key draws the same graph.
      graph: N nodes, edges sorted by receiver, with a layout.
      seeds: ``[B]`` int.
      fanouts: F of each hop, L of them.
      by: see `sample_neighbours`; by weight the graph needs `add_edge_mass`.
      replace: see `sample_neighbours`.
      where: ``[B]`` bool, seeds that are there; None for all.  The others keep their
        place and receive nothing.

    Returns:
      A graph of static size, see `subgraph_size`: the seeds in their order, then the
      other nodes, then padding; edges sorted by receiver, then padding of weight 0
      between padding nodes.  ``nodes["id"]`` are ids of the whole graph, N for padding,
      and ``n_node`` and ``n_edge`` are what there is and what is padding.

    Raises:
      ValueError: a fanout is not positive, or the graph lacks a layout or the masses.

    Examples:
      >>> import jax, numpy as np
      >>> from recjax.graphs import make_graph
      >>> from recjax.types import Spec
      >>> pairs = (np.array([0, 0, 1]), np.array([0, 1, 1]))
      >>> graph = make_graph(pairs, Spec(2, 2))
      >>> drawn = sample_subgraph(jax.random.key(0), graph, np.array([0]), (2, 1))
      >>> drawn.nodes["id"].tolist()  # user 0, its items, one user of each, padding
      [0, 2, 3, 0, 0, 4]
      >>> drawn.senders.tolist(), drawn.receivers.tolist()
      ([1, 2, 3, 4], [0, 0, 1, 2])
      >>> drawn.n_node.tolist(), drawn.n_edge.tolist()
      ([5, 1], [4, 0])

    References:
      Hamilton et al., GraphSAGE, NeurIPS 2017, algorithm 2.
    """
    num_nodes = num_nodes_of(graph)
    seeds = jnp.asarray(seeds, jnp.int32)
    filled = jnp.ones(seeds.shape, bool) if where is None else where
    hops, nodes = [], seeds
    for key_of_hop, fanout in zip(
        jax.random.split(key, max(len(fanouts), 1)), fanouts, strict=False
    ):
        drawn = sample_neighbours(
            key_of_hop, graph, nodes, fanout, by=by, replace=replace, where=filled
        )
        hop = _Hop(
            drawn.nodes.ravel(),
            drawn.where.ravel(),
            jnp.arange(drawn.nodes.size, dtype=jnp.int32),
            drawn.weight.ravel(),
            drawn.where.ravel(),
        )
        if drawn.nodes.size >= num_nodes:
            hop = _each_once(hop, num_nodes)
        hops.append(hop)
        nodes, filled = hop.nodes, hop.where
    return _join(seeds, where, hops, num_nodes)


def _each_once(hop: _Hop, num_nodes: int) -> _Hop:
    """The same edges, from one slot a node of the whole graph."""
    taken = jnp.where(hop.where, hop.nodes, num_nodes)
    there = jnp.zeros(num_nodes, bool).at[taken].set(True, mode="drop")
    ids = jnp.arange(num_nodes, dtype=jnp.int32)
    return hop._replace(nodes=ids, where=there, senders=hop.nodes)


def _join(
    seeds: jax.Array, where: jax.Array | None, hops: list[_Hop], num_nodes: int
) -> jraph.GraphsTuple:
    """One graph of the hops, what there is before what is padding."""
    size = len(seeds)
    slots = [size, *(len(hop.nodes) for hop in hops)]
    total = sum(slots) + 1
    # Seeds that are not there keep their place.
    filled = jnp.concatenate([jnp.ones(size, bool), *(hop.where for hop in hops)])
    num_filled = jnp.sum(filled, dtype=jnp.int32)
    place = jnp.where(filled, jnp.cumsum(filled, dtype=jnp.int32) - 1, total - 1)
    ids = seeds if where is None else jnp.where(where, seeds, num_nodes)
    ids = jnp.concatenate([ids, *(hop.nodes for hop in hops)])
    nodes = jnp.full(total, num_nodes, jnp.int32)
    nodes = nodes.at[place].set(jnp.where(filled, ids, num_nodes))

    senders, receivers, start = [], [], 0
    for slots_before, hop in zip(slots[:-1], hops, strict=True):
        fanout = len(hop.senders) // max(slots_before, 1)
        into = jnp.repeat(jnp.arange(slots_before, dtype=jnp.int32), fanout)
        receivers.append(into + start)
        start += slots_before
        senders.append(hop.senders + start)
    none = [jnp.zeros(0, jnp.int32)]
    real = jnp.concatenate([hop.real for hop in hops] + [jnp.zeros(0, bool)])
    weight = jnp.concatenate([hop.weight for hop in hops] + [jnp.zeros(0)])
    num_edges, num_real = len(real), jnp.sum(real, dtype=jnp.int32)
    edge = jnp.where(real, jnp.cumsum(real, dtype=jnp.int32) - 1, num_edges)

    def packed(values, rest):
        return jnp.full(num_edges, rest, values.dtype).at[edge].set(values, mode="drop")

    senders = packed(place[jnp.concatenate(senders + none)], total - 1)
    receivers = packed(place[jnp.concatenate(receivers + none)], total - 1)
    layout = Layout(_starts(receivers, total))
    if all(slots[n] < num_nodes for n in range(1, len(slots))):
        # A tree: what sends, sends once, and in the order of the edges.
        by_sender = Transpose(
            jnp.arange(num_edges, dtype=jnp.int32), _starts(senders, total), receivers
        )
        layout = layout._replace(transpose=by_sender)
    fields: dict[str, Any] = {
        "nodes": {"id": nodes},
        "edges": {"weight": packed(weight, 0)},
        "senders": senders,
        "receivers": receivers,
        "globals": {"layout": layout},
        "n_node": jnp.stack([num_filled, total - num_filled]),
        "n_edge": jnp.stack([num_real, num_edges - num_real]),
    }
    return jraph.GraphsTuple(**fields)


def _starts(ids: jax.Array, num: int) -> jax.Array:
    """Where each id begins ``[num + 1]`` in an ascending array."""
    count = jnp.zeros(num, jnp.int32).at[ids].add(1)
    return jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(count)])
