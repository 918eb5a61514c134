"""Sums of weighted neighbour features: the one sparse product recjax is built on."""

from recjax.sparse._graph_sum import graph_sum, list_sum
from recjax.sparse._layout import Layout, Transpose, general_layout, make_layout
from recjax.sparse._matrix import (
    SparseMatrix,
    gram,
    sparse_matrix,
    sparse_product,
)
from recjax.sparse._neighbour_sum import Implementation, edge_dot, neighbour_sum
from recjax.sparse._read_edges import GraphEdges, read_edges
from recjax.sparse._shards import Exchange, Shards, make_shards
from recjax.sparse._svd import truncated_svd
from recjax.sparse._take_rows import take_rows

__all__ = [
    "Exchange",
    "GraphEdges",
    "Implementation",
    "Layout",
    "Shards",
    "SparseMatrix",
    "Transpose",
    "edge_dot",
    "general_layout",
    "gram",
    "graph_sum",
    "list_sum",
    "make_layout",
    "make_shards",
    "neighbour_sum",
    "read_edges",
    "sparse_matrix",
    "sparse_product",
    "take_rows",
    "truncated_svd",
]
