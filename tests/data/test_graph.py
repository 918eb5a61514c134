"""The graph holds each training pair both ways, with its normalised weight."""

import numpy as np
import pyarrow as pa
import pytest

from recjax.data.graph import attribute_pairs, make_context, make_graph
from recjax.sparse import graph_sum
from recjax.types import Interactions, Spec

USERS = np.array([0, 0, 1, 2, 2, 2, 0])
ITEMS = np.array([0, 1, 1, 0, 1, 3, 0])  # the last row repeats the first
SPEC = Spec(num_users=3, num_items=4)


def dense(graph):
    num = int(graph.n_node[0])
    matrix = np.zeros((num, num))
    matrix[graph.receivers, graph.senders] = graph.edges["weight"]
    return matrix


@pytest.mark.parametrize("normalisation", ["symmetric", "row", "none"])
def test_weights_are_those_of_the_dense_matrix(normalisation):
    adjacency = np.zeros((7, 7))
    adjacency[USERS, ITEMS + 3] = 1
    adjacency += adjacency.T
    degree = np.maximum(adjacency.sum(1), 1)
    expected = {
        "symmetric": adjacency / np.sqrt(degree[:, None] * degree[None]),
        "row": adjacency / degree[:, None],
        "none": adjacency,
    }[normalisation]
    graph = make_graph((USERS, ITEMS), SPEC, normalisation=normalisation)
    np.testing.assert_allclose(dense(graph), expected, rtol=1e-6)
    assert int(graph.n_edge[0]) == len(graph.senders) == 12
    x = np.arange(14, dtype=np.float32).reshape(7, 2)
    np.testing.assert_allclose(graph_sum(graph, x), expected @ x, rtol=1e-5)


def test_symmetric_weights_round_the_same_way_in_both_directions(rng):
    users, items = rng.integers(0, 50, 900), rng.integers(0, 40, 900)
    matrix = dense(make_graph((users, items), Spec(50, 40)))
    np.testing.assert_array_equal(matrix, matrix.T)


def test_attributes_are_nodes_after_the_items():
    table = pa.table(
        {"id": ["a", "b", "c", "d"], "genre": [["x", "y"], None, ["y"], []]}
    )
    pairs, names = attribute_pairs(table, ("genre",))
    assert names == ["genre=x", "genre=y"]
    spec = SPEC._replace(num_attributes=2)
    graph = make_graph((USERS, ITEMS), spec, attributes=pairs, normalisation="none")
    matrix = dense(graph)
    # Nodes: 3 users, 4 items, 2 attributes; item 0 has x and y, item 2 has y.
    assert matrix[7].nonzero()[0].tolist() == [3]
    assert matrix[8].nonzero()[0].tolist() == [3, 5]


def test_an_attribute_column_that_is_not_there():
    with pytest.raises(ValueError, match="'colour'"):
        attribute_pairs(pa.table({"id": ["a"]}), ("colour",))


def test_context_holds_distinct_pairs_counts_and_lists():
    context = make_context(Interactions(USERS, ITEMS), SPEC)
    pairs = list(zip(context.users.tolist(), context.items.tolist(), strict=True))
    assert pairs == [(0, 0), (0, 1), (1, 1), (2, 0), (2, 1), (2, 3)]
    assert context.seen.pointer.tolist() == [0, 2, 3, 6]
    assert context.item_counts.tolist() == [2, 3, 0, 1]


def test_ids_outside_the_spec_are_refused():
    with pytest.raises(ValueError, match=r"item ids run from 0 to 3, .* 2"):
        make_context(Interactions(USERS, ITEMS), Spec(3, 2))
    with pytest.raises(ValueError, match="user ids"):
        make_graph((USERS, ITEMS), Spec(2, 4))
    with pytest.raises(ValueError, match="no training interactions"):
        make_context(Interactions(USERS[:0], ITEMS[:0]), SPEC)
    with pytest.raises(ValueError, match="'mean'"):
        make_graph((USERS, ITEMS), SPEC, normalisation="mean")
