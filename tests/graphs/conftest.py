"""Graphs as dense matrices, to compare with."""

import numpy as np
import pytest


@pytest.fixture
def dense():
    def to_matrix(graph, weight=None):
        num = int(graph.n_node[0])
        matrix = np.zeros((num, num))
        weight = graph.edges["weight"] if weight is None else weight
        np.add.at(matrix, (graph.receivers, graph.senders), weight)
        return matrix

    return to_matrix


@pytest.fixture
def check_form():
    """The form that every constructor promises."""

    def check(graph, num_nodes, *, symmetric):
        assert graph.n_node.tolist() == [num_nodes]
        assert graph.n_edge.tolist() == [len(graph.senders)]
        key = graph.receivers.astype(np.int64) * num_nodes + graph.senders
        assert np.all(np.diff(key) > 0), "distinct edges by receiver, then sender"
        layout = graph.globals["layout"]
        for array in (graph.senders, graph.receivers, layout.row_pointer):
            assert isinstance(array, np.ndarray) and array.dtype == np.int32
        assert graph.edges["weight"].dtype == np.float32
        assert (layout.transpose is None) == (layout.reverse is not None) == symmetric
        if symmetric:
            weight = graph.edges["weight"]
            np.testing.assert_array_equal(weight, weight[layout.reverse])
            np.testing.assert_array_equal(
                graph.senders, graph.receivers[layout.reverse]
            )

    return check
