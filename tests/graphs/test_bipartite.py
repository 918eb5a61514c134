"""The graph holds each training pair both ways, with its normalised weight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.graphs import make_graph
from recjax.sparse import graph_sum
from recjax.types import Spec

USERS = np.array([0, 0, 1, 2, 2, 2, 0])
ITEMS = np.array([0, 1, 1, 0, 1, 3, 0])  # the last row repeats the first
SPEC = Spec(num_users=3, num_items=4)
EXPONENTS = {
    "symmetric": (0.5, 0.5),
    "row": (1.0, 0.0),
    "none": (0.0, 0.0),
    (0.6, -0.1): (0.6, -0.1),
    (0.25, 0.25): (0.25, 0.25),
}


def adjacency(self_loops=False):
    matrix = np.zeros((7, 7))
    matrix[USERS, ITEMS + 3] = 1
    return matrix + matrix.T + self_loops * np.eye(7)


def weighted(matrix, to, of):
    degree = np.maximum(matrix.sum(1), 1)
    return degree[:, None] ** -to * matrix * degree[None] ** -of


@pytest.mark.parametrize("self_loops", [False, True])
@pytest.mark.parametrize("normalisation", EXPONENTS)
def test_weights_are_those_of_the_dense_matrix(
    dense, check_form, normalisation, self_loops
):
    to, of = EXPONENTS[normalisation]
    graph = make_graph(
        (USERS, ITEMS), SPEC, normalisation=normalisation, self_loops=self_loops
    )
    check_form(graph, 7, symmetric=to == of)
    expected = weighted(adjacency(self_loops), to, of)
    np.testing.assert_allclose(dense(graph), expected, rtol=1e-6)
    assert int(graph.n_edge[0]) == 12 + 7 * self_loops


@pytest.mark.parametrize("normalisation", ["symmetric", (0.6, -0.1)])
def test_sums_and_their_derivatives_are_those_of_the_dense_matrix(normalisation):
    graph = make_graph(
        (USERS, ITEMS), SPEC, normalisation=normalisation, self_loops=True
    )
    expected = weighted(adjacency(self_loops=True), *EXPONENTS[normalisation])
    x = np.arange(14, dtype=np.float32).reshape(7, 2)
    out, pull = jax.vjp(lambda x: graph_sum(graph, x), x)
    np.testing.assert_allclose(out, expected @ x, rtol=1e-5)
    np.testing.assert_allclose(pull(jnp.sin(x))[0], expected.T @ np.sin(x), rtol=1e-4)


def test_a_node_on_its_own_keeps_itself_by_its_self_loop(dense):
    graph = make_graph((USERS, ITEMS), SPEC, self_loops=True)
    np.testing.assert_array_equal(dense(graph)[5], np.eye(7)[5])


@pytest.mark.parametrize("normalisation", ["symmetric", (0.3, 0.3)])
def test_symmetric_weights_round_the_same_way_in_both_directions(
    rng, dense, normalisation
):
    pairs = rng.integers(0, 50, 900), rng.integers(0, 40, 900)
    matrix = dense(make_graph(pairs, Spec(50, 40), normalisation=normalisation))
    np.testing.assert_array_equal(matrix, matrix.T)


def test_attributes_are_nodes_after_the_items(dense):
    attributes = np.array([0, 0, 2]), np.array([0, 1, 1])
    spec = SPEC._replace(num_attributes=2)
    graph = make_graph(
        (USERS, ITEMS), spec, attributes=attributes, normalisation="none"
    )
    matrix = dense(graph)
    assert matrix[7].nonzero()[0].tolist() == [3]
    assert matrix[8].nonzero()[0].tolist() == [3, 5]
    np.testing.assert_array_equal(matrix[:7, :7], adjacency())


def test_ids_beyond_sixteen_bits_do_not_wrap_around():
    users, items = np.array([99_999, 70_000], np.int32), np.array([80_000, 3], np.int32)
    graph = make_graph((users, items), Spec(100_000, 90_000), normalisation="none")
    assert graph.receivers.tolist() == [70_000, 99_999, 100_003, 180_000]
    assert graph.senders.tolist() == [100_003, 180_000, 70_000, 99_999]


@pytest.mark.parametrize("spec", [Spec(2, 3), Spec(0, 0)])
def test_no_pairs(check_form, spec):
    none = np.zeros(0, np.int32)
    graph = make_graph((none, none), spec)
    check_form(graph, sum(spec[:2]), symmetric=True)
    out = graph_sum(graph, np.ones((sum(spec[:2]), 2), np.float32))
    assert not np.asarray(out).any()


def test_refuses():
    with pytest.raises(ValueError, match=r"user ids run from 0 to 2, .* them, 2"):
        make_graph((USERS, ITEMS), Spec(2, 4))
    with pytest.raises(ValueError, match="item ids run from 0 to 3"):
        make_graph((USERS, ITEMS), Spec(3, 3))
    with pytest.raises(ValueError, match="attribute ids"):
        make_graph((USERS, ITEMS), SPEC, attributes=(ITEMS, ITEMS))
    with pytest.raises(ValueError, match=r"user ids \(7,\) and item ids \(6,\)"):
        make_graph((USERS, ITEMS[1:]), SPEC)
    with pytest.raises(ValueError, match="float64"):
        make_graph((USERS * 1.0, ITEMS), SPEC)
    for unknown in ("mean", None, (0.5,), (0.5, np.nan)):
        with pytest.raises(ValueError, match=r"normalisation .* two exponents"):
            make_graph((USERS, ITEMS), SPEC, normalisation=unknown)
