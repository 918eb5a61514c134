"""Propagation without parameters: what `tests/contract` leaves open."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from edge_graph import edge_graph

from recjax import layers

# Node 2 receives nothing, node 4 sends nothing.
N, E, D = 6, 15, 3


def make(*edges, num=N):
    return edge_graph(*edges, num=num)


def edges(rng):
    """Unsorted edges with repeats."""
    weight = rng.normal(size=E).astype(np.float32)
    return weight, rng.choice([0, 1, 2, 3, 5], E), rng.choice([0, 1, 3, 4, 5], E)


def dense(weight, senders, receivers, num=N):
    matrix = np.zeros((num, num))
    np.add.at(matrix, (receivers, senders), weight)
    return matrix


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_layers_and_their_combination(rng, depth):
    parts, x = edges(rng), rng.normal(size=(N, D)).astype(np.float32)
    graph = make(*parts)
    every = layers.propagate_layers(graph, x, depth=depth)
    assert len(every) == depth + 1
    for k, layer in enumerate(every):
        expected = np.linalg.matrix_power(dense(*parts), k) @ x
        np.testing.assert_allclose(layer, expected, rtol=1e-4, atol=1e-5)
    mean = layers.propagate(graph, x, depth=depth)
    np.testing.assert_allclose(mean, sum(every) / len(every), rtol=1e-5, atol=1e-6)
    total = layers.propagate(graph, x, depth=depth, combine="sum")
    np.testing.assert_allclose(total, sum(every), rtol=1e-5, atol=1e-6)
    last = layers.propagate(graph, x, depth=depth, combine=np.eye(depth + 1)[depth])
    np.testing.assert_allclose(last, every[-1], rtol=1e-6, atol=1e-7)


def test_equal_weights_are_the_mean(rng):
    graph, x = make(*edges(rng)), rng.normal(size=(N, D)).astype(np.float32)
    out = layers.propagate(graph, x, depth=3, combine=jnp.full(4, 0.25))
    mean = layers.propagate(graph, x, depth=3)
    np.testing.assert_allclose(out, mean, rtol=1e-5, atol=1e-6)


def test_bfloat16_is_summed_in_float32():
    """256 + 1 is 256 in bfloat16."""

    def run(function, weight, senders, receivers, x, **settings):
        weight = np.array(weight, np.float32)
        graph = make(weight, np.array(senders), np.array(receivers), num=len(x))
        out = function(graph, jnp.array(x, jnp.bfloat16)[:, None], **settings)
        assert out.dtype == jnp.bfloat16
        return float(out[0, 0])

    chain = ([1, 1, 1, 1], [1, 2, 3, 4], [0, 1, 2, 3], [256, 1, 1, 1, 1])
    assert run(layers.propagate, *chain, depth=4, combine="sum") == 260
    assert run(layers.propagate, *chain, depth=4) == 52
    loop = ([1], [0], [0], [1])
    weights = jnp.array([256.0, 1, 1, 1, 1])
    assert run(layers.propagate, *loop, depth=4, combine=weights) == 260
    # Node 0 receives 256 from node 1 in the first layer, then 1 from node 2, which
    # is 0 at first and then receives from node 3.
    late = ([256, 1, 1, 1], [1, 2, 3, 3], [0, 0, 2, 3], [0, 1, 0, 1])
    found = run(layers.propagate_normalised, *late, depth=9, self_weight=0.0)
    assert found == jnp.bfloat16(264 / 9)


def test_pagerank_restarts(rng):
    parts, x = edges(rng), rng.normal(size=(N, D)).astype(np.float32)
    graph, matrix = make(*parts), dense(*parts)

    @jax.jit
    def run(graph, restart):
        return layers.personalised_pagerank(graph, x, depth=40, restart=restart)

    np.testing.assert_array_equal(run(graph, 1.0), x)
    small = graph._replace(
        edges={"weight": graph.edges["weight"] / np.abs(matrix).sum(1).max()}
    )
    matrix = matrix / np.abs(matrix).sum(1).max()
    limit = 0.4 * np.linalg.solve(np.eye(N) - 0.6 * matrix, x)
    np.testing.assert_allclose(run(small, 0.4), limit, rtol=1e-4, atol=1e-5)
    never = layers.personalised_pagerank(graph, x, depth=2, restart=0.0)
    np.testing.assert_allclose(
        never, layers.propagate_layers(graph, x, depth=2)[2], rtol=1e-5, atol=1e-6
    )
    start = layers.personalised_pagerank(graph, x, depth=0, restart=0.5)
    np.testing.assert_array_equal(start, x)


def test_only_the_direction_of_a_row_is_sent(rng):
    """Rows of any length, where a square would be infinite or 0."""
    graph, x = make(*edges(rng)), rng.normal(size=(N, D)).astype(np.float32)
    run = jax.jit(
        lambda x: layers.propagate_normalised(graph, x, depth=2, self_weight=0)
    )
    size = np.array([1e-30, 1e30, 1e-3, 1.0, 1e19, 1e-19], np.float32)[:, None]
    np.testing.assert_allclose(run(size * x), run(x), rtol=1e-4, atol=1e-5)
    out = layers.propagate_normalised(graph, x, depth=2, self_weight=1.0)
    np.testing.assert_array_equal(out, x)


def test_a_row_of_zeros_sends_zeros_with_a_finite_derivative():
    graph = make(np.ones(2, np.float32), np.array([0, 1]), np.array([1, 0]), num=2)

    def run(x):
        return layers.propagate_normalised(graph, x, depth=1, self_weight=0.25)

    out, pull = jax.vjp(run, jnp.array([[0.0, 0.0], [0.0, 2.0]]))
    np.testing.assert_allclose(out, [[0, 0.75], [0, 0.5]], rtol=1e-6)
    (grad,) = pull(jnp.ones((2, 2)))
    # The row of length 2 turns: (1 - c) / 2 along the first axis, nothing along it.
    np.testing.assert_allclose(grad, [[0.25, 0.25], [0.625, 0.25]], rtol=1e-6)


def test_a_row_that_is_no_number_is_not_hidden():
    graph = make(np.ones(1, np.float32), np.array([0]), np.array([1]), num=2)
    out = layers.propagate_normalised(
        graph, np.array([[np.nan], [1.0]], np.float32), depth=1, self_weight=0.5
    )
    assert np.isnan(out).all()


def test_refuses(rng):
    graph, x = make(*edges(rng)), jnp.ones((N, D))
    with pytest.raises(ValueError, match="depth -1 must be at least 0"):
        layers.propagate(graph, x, depth=-1)
    with pytest.raises(ValueError, match="depth -1 must be at least 0"):
        layers.propagate_layers(graph, x, depth=-1)
    with pytest.raises(ValueError, match="combine 'max': use 'mean', 'sum' or weights"):
        layers.propagate(graph, x, depth=1, combine="max")
    with pytest.raises(ValueError, match=r"combine \(3,\) .* depth \+ 1 = 3*2"):
        layers.propagate(graph, x, depth=1, combine=jnp.ones(3))
    with pytest.raises(ValueError, match="depth -1 must be at least 0"):
        layers.personalised_pagerank(graph, x, depth=-1, restart=0.5)
    with pytest.raises(ValueError, match=r"restart 1.5 must be between 0 and 1"):
        layers.personalised_pagerank(graph, x, depth=1, restart=1.5)
    with pytest.raises(ValueError, match=r"restart \(6,\) must be a scalar"):
        layers.personalised_pagerank(graph, x, depth=1, restart=jnp.ones(N))
    with pytest.raises(ValueError, match="depth 0 must be at least 1"):
        layers.propagate_normalised(graph, x, depth=0, self_weight=0.5)
    with pytest.raises(ValueError, match="self_weight -1 must be between 0 and 1"):
        layers.propagate_normalised(graph, x, depth=1, self_weight=-1)
    with pytest.raises(ValueError, match="the graph has no edges"):
        layers.propagate(graph._replace(senders=None), x, depth=1)
