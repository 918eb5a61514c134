"""Propagation without parameters against dense matrix powers."""

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest
from jax.test_util import check_grads

from recjax import layers
from recjax.sparse import make_layout

# Node 2 receives nothing, node 4 sends nothing.
N, E, D = 6, 15, 3
SMOOTHERS = {
    "mean": lambda g, x, c: layers.propagate(g, x, depth=3),
    "sum": lambda g, x, c: layers.propagate(g, x, depth=3, combine="sum"),
    "weights": lambda g, x, c: layers.propagate(
        g, x, depth=3, combine=jnp.stack([c, 2 * c, -c, c**2])
    ),
    "pagerank": lambda g, x, c: layers.personalised_pagerank(g, x, depth=3, restart=c),
    "normalised": lambda g, x, c: layers.propagate_normalised(
        g, x, depth=3, self_weight=c
    ),
}
each = pytest.mark.parametrize("name", SMOOTHERS)


def make(weight, senders, receivers, num=N, *, layout=False):
    extra = {}
    if layout:
        order = np.lexsort((senders, receivers))
        weight, senders, receivers = (x[order] for x in (weight, senders, receivers))
        extra["layout"] = make_layout(
            senders, receivers, num_senders=num, num_receivers=num
        )
    return jraph.GraphsTuple(
        nodes=None,
        edges={"weight": jnp.asarray(weight)},
        globals=extra,
        senders=jnp.asarray(senders, jnp.int32),
        receivers=jnp.asarray(receivers, jnp.int32),
        n_node=jnp.array([num]),
        n_edge=jnp.array([len(senders)]),
    )


def edges(rng):
    """Unsorted edges with repeats."""
    weight = rng.normal(size=E).astype(np.float32)
    return weight, rng.choice([0, 1, 2, 3, 5], E), rng.choice([0, 1, 3, 4, 5], E)


def dense(weight, senders, receivers, num=N):
    matrix = np.zeros((num, num))
    np.add.at(matrix, (receivers, senders), weight)
    return matrix


def by_hand(name, matrix, x, c):
    powers = [np.linalg.matrix_power(matrix, k) @ x for k in range(4)]
    if name == "mean":
        return sum(powers) / 4
    if name == "sum":
        return sum(powers)
    if name == "weights":
        return sum(w * p for w, p in zip((c, 2 * c, -c, c**2), powers, strict=True))
    if name == "pagerank":
        out = x
        for _ in range(3):
            out = (1 - c) * matrix @ out + c * x
        return out
    layer, found = x, []
    for _ in range(3):
        length = np.linalg.norm(layer, axis=1, keepdims=True)
        layer = matrix @ (layer / np.where(length > 0, length, 1))
        found.append(layer)
    return c * x + (1 - c) * np.mean(found, 0)


@each
@pytest.mark.parametrize("layout", [False, True])
def test_values(rng, name, layout):
    parts, x = edges(rng), rng.normal(size=(N, D)).astype(np.float32)
    x[5] = 0
    out = jax.jit(SMOOTHERS[name])(make(*parts, layout=layout), x, 0.3)
    np.testing.assert_allclose(
        out,
        by_hand(name, dense(*parts), x.astype(np.float64), 0.3),
        rtol=1e-4,
        atol=1e-5,
    )


@each
@pytest.mark.parametrize("layout", [False, True])
def test_numeric_derivatives_in_float64(rng, name, layout):
    with jax.enable_x64(True):
        weight, *ends = edges(rng)
        x = jnp.asarray(rng.normal(size=(N, D)))

        def function(weight, x, c):
            graph = make(np.zeros(E), *ends, layout=layout)
            return SMOOTHERS[name](graph._replace(edges={"weight": weight}), x, c)

        args = (jnp.asarray(weight, jnp.float64), x, jnp.asarray(0.3))
        assert function(*args).dtype == jnp.float64
        check_grads(jax.jit(function), args, order=1, modes=["rev"])


@each
def test_order_of_edges_and_padding(rng, name):
    """Padding edges of weight 0, and padding nodes, change nothing."""
    weight, senders, receivers = edges(rng)
    x = rng.normal(size=(N, D)).astype(np.float32)
    run = jax.jit(SMOOTHERS[name])
    out = run(make(weight, senders, receivers), x, 0.3)
    order = rng.permutation(E)
    moved = run(make(weight[order], senders[order], receivers[order]), x, 0.3)
    np.testing.assert_allclose(moved, out, rtol=1e-4, atol=1e-5)
    padded = make(
        np.pad(weight, (0, 4)),
        np.pad(senders, (0, 4), constant_values=N),
        np.concatenate([receivers, [0, 1, N, N]]),
        N + 1,
    )
    filled = np.pad(x, ((0, 1), (0, 0)), constant_values=7)
    np.testing.assert_allclose(run(padded, filled, 0.3)[:N], out, rtol=1e-4, atol=1e-5)


@each
def test_no_edges_and_no_nodes(name):
    none = np.zeros(0, np.float32), np.zeros(0, int), np.zeros(0, int)
    x = np.array([[1.0, 2.0], [0.0, 0.0]], np.float32)
    out = SMOOTHERS[name](make(*none, 2), x, 0.3)
    np.testing.assert_allclose(out, by_hand(name, np.zeros((2, 2)), x, 0.3), rtol=1e-6)
    assert SMOOTHERS[name](make(*none, 0), x[:0], 0.3).shape == (0, 2)


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
        graph = make(weight, np.array(senders), np.array(receivers), len(x))
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
    graph = make(np.ones(2, np.float32), np.array([0, 1]), np.array([1, 0]), 2)

    def run(x):
        return layers.propagate_normalised(graph, x, depth=1, self_weight=0.25)

    out, pull = jax.vjp(run, jnp.array([[0.0, 0.0], [0.0, 2.0]]))
    np.testing.assert_allclose(out, [[0, 0.75], [0, 0.5]], rtol=1e-6)
    (grad,) = pull(jnp.ones((2, 2)))
    # The row of length 2 turns: (1 - c) / 2 along the first axis, nothing along it.
    np.testing.assert_allclose(grad, [[0.25, 0.25], [0.625, 0.25]], rtol=1e-6)


def test_a_row_that_is_no_number_is_not_hidden():
    graph = make(np.ones(1, np.float32), np.array([0]), np.array([1]), 2)
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
