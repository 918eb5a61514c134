"""Graphs: what makes one, on the host, and what changes one, on device.

Every constructor gives a `jraph.GraphsTuple` of NumPy arrays: edges sorted by receiver
and then by sender, ``edges["weight"]`` with their weights, and ``globals["layout"]``
with the `recjax.sparse.Layout` that makes neighbour sums fast.
"""

from recjax.graphs._add import add_graphs
from recjax.graphs._assemble import Normalisation
from recjax.graphs._bipartite import make_graph
from recjax.graphs._co_occurrence import co_occurrence_graph
from recjax.graphs._dropout import drop_edges, drop_nodes, prune_edges
from recjax.graphs._neighbour_sampling import (
    Neighbours,
    SampleBy,
    add_edge_mass,
    sample_neighbours,
)
from recjax.graphs._neighbours import cosine_neighbours, neighbour_graph
from recjax.graphs._normalise import normalise_edges
from recjax.graphs._relation_graph import relation_graph
from recjax.graphs._subgraph import sample_subgraph, subgraph_size

__all__ = [
    "Neighbours",
    "Normalisation",
    "SampleBy",
    "add_edge_mass",
    "add_graphs",
    "co_occurrence_graph",
    "cosine_neighbours",
    "drop_edges",
    "drop_nodes",
    "make_graph",
    "neighbour_graph",
    "normalise_edges",
    "prune_edges",
    "relation_graph",
    "sample_neighbours",
    "sample_subgraph",
    "subgraph_size",
]
