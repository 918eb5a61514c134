"""Rows of a propagation: what the whole propagation gives, derivatives included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.graphs import make_graph
from recjax.layers import propagate, propagate_rows
from recjax.types import Spec

GRAPH = make_graph((np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2])), Spec(4, 3))


@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("size", [3, 50])  # fewer than nodes, and more
def test_rows_and_derivatives_equal_those_of_propagate(rng, depth, size):
    nodes = rng.normal(size=(7, 2)).astype(np.float32)
    rows = rng.integers(0, 7, size)
    seed = rng.normal(size=(size, 2)).astype(np.float32)

    def whole(nodes, weight):
        graph = GRAPH._replace(edges={"weight": weight})
        return propagate(graph, nodes, depth=depth)[rows]

    def only_rows(nodes, weight):
        graph = GRAPH._replace(edges={"weight": weight})
        return propagate_rows(graph, nodes, rows, depth=depth)

    args = (nodes, GRAPH.edges["weight"])
    expected, pull_expected = jax.vjp(whole, *args)
    found, pull = jax.vjp(only_rows, *args)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    for left, right in zip(pull(seed), pull_expected(seed), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)


def test_the_derivative_adds_no_arrays_of_all_nodes():
    """But for the neighbour sums, backwards work is that of the rows."""
    nodes, rows = jnp.ones((7, 2)), jnp.arange(3)

    def loss(nodes):
        return jnp.sum(propagate_rows(GRAPH, nodes, rows, depth=3))

    equations = jax.make_jaxpr(jax.grad(loss))(nodes).eqns
    wide = [e for e in equations if e.outvars[0].aval.shape == (7, 2)]
    assert not [e for e in wide if e.primitive.name in ("add", "add_any", "mul", "div")]


def test_a_negative_depth_is_refused():
    with pytest.raises(ValueError, match="depth -1"):
        propagate_rows(GRAPH, jnp.ones((7, 2)), jnp.arange(2), depth=-1)
