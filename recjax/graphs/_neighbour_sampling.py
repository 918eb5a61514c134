"""Some neighbours of each node, on device: key in, static shapes out.

The weight of a drawn edge is that of the graph over the chance of drawing it, so that
a sum over the drawn neighbours has the sum over all neighbours as its mean.
"""

from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import jraph

from recjax.graphs._fields import edges_of
from recjax.lists import search_row
from recjax.sampling import uniform_below

SampleBy: TypeAlias = Literal["uniform", "weight"]

# Integer weights of a row sum to about this much: room for exact uint32 arithmetic.
_ROW_MASS = 2.0**30


class Neighbours(NamedTuple):
    """Drawn neighbours of B nodes, F each.

    Attributes:
      nodes: ``[B, F]`` int32; 0 where there is none.
      edges: ``[B, F]`` int32, their places in the graph; 0 where there is none.
      weight: ``[B, F]``; 0 where there is none.
      where: ``[B, F]`` bool, whether there is one.
    """

    nodes: jax.Array
    edges: jax.Array
    weight: jax.Array
    where: jax.Array


def add_edge_mass(graph: jraph.GraphsTuple) -> jraph.GraphsTuple:
    """The graph with what drawing by weight needs, made once.

    ``edges["mass"]`` is, at each edge, the sum of the integer weights of the edges of
    its receiver up to this one.  The weights of a receiver are scaled to sum to about
    2^30 and rounded, to at least 1 where they are not 0.

    Args:
      graph: E edges sorted by receiver, with a layout; no weight is negative.

    Returns:
      The graph; ``mass`` is ``[E]`` uint32.

    Raises:
      ValueError: the graph has no layout.

    Examples:
      >>> import numpy as np
      >>> from recjax.graphs import make_graph
      >>> from recjax.types import Spec
      >>> pairs = (np.array([0, 0]), np.array([0, 1]))
      >>> graph = add_edge_mass(make_graph(pairs, Spec(1, 2)))
      >>> (graph.edges["mass"] / 2**30).tolist()  # of user 0, item 0, item 1
      [0.5, 1.0, 1.0, 1.0]
    """
    _, receivers, weight, _ = edges_of(graph)
    pointer = _row_pointer(graph)
    if not weight.shape[0]:
        mass = jnp.zeros(0, jnp.uint32)
    else:
        total = jax.ops.segment_sum(
            weight, receivers, pointer.shape[0] - 1, indices_are_sorted=True
        )
        scaled = weight * (_ROW_MASS / jnp.where(total > 0, total, 1.0))[receivers]
        whole = jnp.maximum(jnp.round(scaled), 1.0).astype(jnp.uint32)
        whole = jnp.where(weight > 0, whole, 0)
        # The running sum over all edges wraps; its differences in a row are exact.
        running = jnp.cumsum(whole, dtype=jnp.uint32)
        before = jnp.where(pointer[:-1] > 0, running[pointer[:-1] - 1], 0)
        mass = running - before[receivers]
    edges: Any = graph.edges or {}
    return graph._replace(edges={**edges, "mass": mass})


def sample_neighbours(
    key: jax.Array,
    graph: jraph.GraphsTuple,
    nodes: jax.Array,
    num: int,
    *,
    by: SampleBy = "uniform",
    replace: bool = False,
    where: jax.Array | None = None,
) -> Neighbours:
    """Draws up to F of the edges that each node receives.

    With x a feature a node, ``sum over f of weight[b, f] x[nodes[b, f]]`` has the
    mean, over keys, ``sum over edges e of node b of weight_e x[senders_e]``.  Without
    replacement a node with at most F neighbours gets them all, and the two are equal.

    * uniform: every edge alike, weights times d / F for d edges;
    * by weight: in proportion to the edges' weights, which must not be negative.  With
      replacement a draw with chance p weighs ``w / (F p)``.  Without, the next draw is
      from what the ones before have left, and draw j of F weighs
      ``w / F ((1 - p_1 - ... - p_(j-1)) / p_j + F - j)``.

    Its work is O(B F^2) and a search of O(log d), whatever the size of the graph.

    Args:
      key: a PRNG key; the same key draws the same edges.
      graph: edges sorted by receiver, with a layout; by weight after `add_edge_mass`.
      nodes: ``[B]`` int, the receivers.
      num: F.
      by: as above.
      replace: whether an edge may be drawn again.
      where: ``[B]`` bool, nodes that are there; None for all.

    Returns:
      The neighbours.

    Raises:
      ValueError: F is not positive, or the graph lacks a layout or the masses.

    Examples:
      >>> import jax, numpy as np
      >>> from recjax.graphs import make_graph
      >>> from recjax.types import Spec
      >>> pairs = (np.array([0, 0, 0]), np.array([0, 1, 2]))
      >>> graph = make_graph(pairs, Spec(1, 3), normalisation="none")
      >>> drawn = sample_neighbours(jax.random.key(0), graph, np.array([0, 2]), 2)
      >>> drawn.nodes.tolist(), drawn.weight.tolist()
      ([[2, 3], [0, 0]], [[1.5, 1.5], [1.0, 0.0]])

    References:
      Hamilton et al., GraphSAGE, NeurIPS 2017, algorithm 2; Bentley and Floyd, A sample
      of brilliance, CACM 1987 (uniform, without replacement); Des Raj, Some estimators
      in sampling with varying probabilities without replacement, JASA 1956.
    """
    if num < 1:
        raise ValueError(f"num {num} neighbours of a node must be at least 1")
    if by not in ("uniform", "weight"):
        raise ValueError(f"by {by!r}: use 'uniform' or 'weight'")
    senders, _, weight, _ = edges_of(graph)
    pointer = _row_pointer(graph)
    mass = graph.edges.get("mass") if isinstance(graph.edges, dict) else None
    if by == "weight" and mass is None:
        raise ValueError(
            "drawing by weight needs the masses of the edges: put them in once by "
            "graph = recjax.graphs.add_edge_mass(graph)"
        )
    nodes = jnp.asarray(nodes, jnp.int32)
    shape = (len(nodes), num)
    if not senders.shape[0]:
        none = jnp.zeros(shape, jnp.int32)
        return Neighbours(none, none, none.astype(weight.dtype), none.astype(bool))
    if where is not None:
        nodes = jnp.where(where, nodes, 0)
    degree = pointer[nodes + 1] - pointer[nodes]
    if where is not None:
        degree = jnp.where(where, degree, 0)
    if by == "uniform":
        place, factor = _uniform(key, degree, num, replace)
    else:
        draw = _by_weight_again if replace else _by_weight
        place, factor = draw(key, jnp.asarray(mass), pointer, nodes, degree, num)
    there = factor > 0
    edges = jnp.where(there, pointer[nodes][:, None] + place, 0)
    drawn = jnp.where(there, weight[edges] * factor.astype(weight.dtype), 0)
    return Neighbours(jnp.where(there, senders[edges], 0), edges, drawn, there)


def _row_pointer(graph: jraph.GraphsTuple) -> jax.Array:
    layout = edges_of(graph).layout
    if layout is None:
        raise ValueError(
            "drawing neighbours needs to know where each node's edges lie: put a "
            'layout from recjax.sparse.make_layout into globals["layout"]'
        )
    return jnp.asarray(layout.row_pointer)


def _uniform(key, degree, num, replace):
    """Places ``[B, F]`` in the rows and factors of the weights."""
    degree = jnp.broadcast_to(degree[:, None], (len(degree), num))
    column = jnp.arange(num)[None]
    if replace:
        high = degree.astype(jnp.uint32)
        place = uniform_below(key, high.shape, high).astype(jnp.int32)
        return place, degree / num
    # Of d places F: draw i is below d - F + i + 1, and where that was drawn before, it
    # is d - F + i itself.
    last = jnp.maximum(degree - num, 0) + column
    draws = uniform_below(key, last.shape, (last + 1).astype(jnp.uint32))
    draws = draws.astype(jnp.int32)

    def add(i, chosen):
        again = jnp.any(chosen == draws[:, i, None], axis=1)
        return chosen.at[:, i].set(jnp.where(again, last[:, i], draws[:, i]))

    chosen = jax.lax.fori_loop(0, num, add, jnp.full(last.shape, -1, jnp.int32))
    place = jnp.where(degree > num, chosen, column)
    factor = jnp.maximum(degree / num, 1.0)
    return place, jnp.where(column < degree, factor, 0.0)


def _last_mass(mass, pointer, nodes, degree):
    """The mass of each node's row ``[B]``."""
    end = mass[jnp.maximum(pointer[nodes + 1] - 1, 0)]
    return jnp.where(degree > 0, end, 0)


def _mass_around(mass, pointer, nodes, place):
    """The mass before the edge at a place of a row, and its own."""
    edge = pointer[nodes][:, None] + place
    before = jnp.where(place > 0, mass[jnp.maximum(edge - 1, 0)], 0)
    return before, mass[edge] - before


def _by_weight_again(key, mass, pointer, nodes, degree, num):
    total = _last_mass(mass, pointer, nodes, degree)[:, None]
    draws = uniform_below(key, (len(nodes), num), total)
    place = search_row(pointer, mass, nodes, draws)
    place = jnp.minimum(place, jnp.maximum(degree[:, None] - 1, 0))
    _, own = _mass_around(mass, pointer, nodes, place)
    chance = own.astype(jnp.float32) / total.astype(jnp.float32)
    return place, jnp.where(total > 0, 1 / (num * jnp.where(total > 0, chance, 1)), 0.0)


def _by_weight(key, mass, pointer, nodes, degree, num):
    """One draw after the other, each from the mass that those before have left."""
    total = _last_mass(mass, pointer, nodes, degree)
    keys = jax.random.split(key, num)
    shape = (len(nodes), num)
    # What was not drawn yet begins where no draw comes.
    far = jnp.uint32(jnp.iinfo(jnp.uint32).max)
    none = jnp.full(shape, far)

    def add(i, state):
        # Of each edge that was drawn: where its mass starts, in the row and in what the
        # edges before it have left; and how much it is.
        place, starts, closed_starts, widths, left = state
        draw = uniform_below(keys[i], (len(nodes),), left[:, i])[:, None]
        draw += jnp.sum(jnp.where(closed_starts <= draw, widths, 0), 1, keepdims=True)
        found = search_row(pointer, mass, nodes, draw)
        found = jnp.minimum(found, jnp.maximum(degree[:, None] - 1, 0))
        start, width = _mass_around(mass, pointer, nodes, found)
        there = left[:, i, None] > 0
        start, width = jnp.where(there, start, far), jnp.where(there, width, 0)
        taken = jnp.sum(jnp.where(starts < start, widths, 0), axis=1)
        closed_starts = jnp.where(starts > start, closed_starts - width, closed_starts)
        closed = jnp.where(there[:, 0], start[:, 0] - taken, far)
        return (
            place.at[:, i].set(found[:, 0]),
            starts.at[:, i].set(start[:, 0]),
            closed_starts.at[:, i].set(closed),
            widths.at[:, i].set(width[:, 0]),
            left.at[:, i + 1].set(left[:, i] - width[:, 0]),
        )

    left = jnp.zeros((len(nodes), num + 1), jnp.uint32).at[:, 0].set(total)
    zeros = jnp.zeros(shape, jnp.uint32)
    place, _, _, widths, left = jax.lax.fori_loop(
        0, num, add, (zeros.astype(jnp.int32), none, none, zeros, left)
    )
    there, all_drawn = left[:, :-1] > 0, left[:, -1:] == 0
    share = left[:, :-1] / jnp.where(there, widths, 1).astype(jnp.float32)
    factor = (share + jnp.arange(num - 1, -1, -1)[None]) / num
    return place, jnp.where(there, jnp.where(all_drawn, 1.0, factor), 0.0)
