"""Weights by degree on device equal those on the host, and learned ones have slopes."""

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest
from jax.test_util import check_grads

from recjax.graphs import make_graph, neighbour_graph, normalise_edges
from recjax.sparse import graph_sum
from recjax.types import Spec

NORMALISATIONS = ("symmetric", "row", "none", (0.6, -0.1))


def random_graph(rng, **settings):
    pairs = rng.integers(0, 9, 40), rng.integers(0, 7, 40)
    return make_graph(pairs, Spec(9, 8), **settings)  # the last item has no user


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_equals_the_host_whatever_the_weights_were(rng, normalisation):
    raw = random_graph(rng, normalisation=(0.2, 0.2), self_loops=True)
    expected = random_graph(
        np.random.default_rng(0), normalisation=normalisation, self_loops=True
    )
    graph = normalise_edges(raw, normalisation=normalisation)
    np.testing.assert_allclose(
        graph.edges["weight"], expected.edges["weight"], rtol=1e-6
    )
    have, want = graph.globals["layout"], expected.globals["layout"]
    assert jax.tree.structure(have) == jax.tree.structure(want)
    jax.tree.map(np.testing.assert_array_equal, have, want)


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_dropped_edges_count_no_more(rng, dense, normalisation):
    graph = random_graph(rng)
    layout = graph.globals["layout"]
    keep = rng.random(len(graph.senders)) < 0.5
    keep = keep[np.minimum(layout.reverse, np.arange(len(keep)))]
    keep[graph.receivers == 0] = keep[graph.senders == 0] = False
    weight = np.where(keep, graph.edges["weight"], 0)
    dropped = graph._replace(edges={"weight": weight, "time": weight})
    matrix = dense(graph, keep)
    degree = np.maximum(matrix.sum(1), 1)
    to, of = {"symmetric": (0.5, 0.5), "row": (1, 0), "none": (0, 0)}.get(
        normalisation, normalisation
    )
    expected = degree[:, None] ** -to * matrix * degree[None] ** -of
    out = jax.jit(normalise_edges, static_argnames="normalisation")(
        dropped, normalisation=normalisation
    )
    np.testing.assert_allclose(dense(out), expected, rtol=1e-6)
    np.testing.assert_array_equal(out.edges["time"], weight)
    # The layout fits the new weights: so does the derivative.
    x = rng.normal(size=(17, 2)).astype(np.float32)
    sums, pull = jax.vjp(lambda x: graph_sum(out, x), x)
    np.testing.assert_allclose(sums, expected @ x, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(pull(x)[0], expected.T @ x, rtol=1e-4, atol=1e-6)


def test_symmetric_weights_stay_symmetric_to_the_bit(rng):
    pairs = rng.integers(0, 50, 900), rng.integers(0, 40, 900)
    graph = make_graph(pairs, Spec(50, 40), normalisation="none")
    reverse = graph.globals["layout"].reverse
    counts = rng.random(len(reverse)).astype(np.float32)
    for given in (None, counts + counts[reverse]):
        weight = normalise_edges(graph, given).edges["weight"]
        np.testing.assert_array_equal(weight, weight[reverse])


def test_weights_are_counted_by_what_they_are(rng, dense):
    neighbours = np.array([[1, 2], [0, 3], [3, 1], [-1, -1]])
    weight = rng.random((4, 2)).astype(np.float32)
    raw = neighbour_graph(neighbours, weight, normalisation="none")
    for normalisation in NORMALISATIONS:
        expected = neighbour_graph(neighbours, weight, normalisation=normalisation)
        graph = normalise_edges(raw, raw.edges["weight"], normalisation=normalisation)
        np.testing.assert_allclose(dense(graph), dense(expected), rtol=1e-6)


def test_numeric_derivatives_with_respect_to_the_weights(rng):
    graph = random_graph(rng)
    with jax.enable_x64(True):
        weight = jnp.asarray(rng.random(len(graph.senders)) + 0.1)

        def function(weight):
            return normalise_edges(graph, weight).edges["weight"]

        assert function(weight).dtype == jnp.float64
        check_grads(function, (weight,), order=1, modes=["rev"])
    nothing = jnp.zeros(len(graph.senders))
    out, pull = jax.vjp(function, nothing)
    np.testing.assert_array_equal(out, nothing)
    assert np.isfinite(pull(nothing + 1)[0]).all()


def test_bfloat16_degrees_are_summed_in_float32():
    # 256 + 1 is 256 in bfloat16: the degree would stay at 256.
    users = np.arange(400)
    graph = make_graph((users, np.zeros(400, int)), Spec(400, 1), normalisation="none")
    weight = jnp.ones(800, jnp.bfloat16)
    out = normalise_edges(graph, weight, normalisation="row").edges["weight"]
    assert out.dtype == jnp.bfloat16
    np.testing.assert_array_equal(
        out[400:].astype(np.float32), np.float32(jnp.bfloat16(1 / 400))
    )


def test_counts_may_be_integers():
    graph = make_graph((np.array([0, 1]), np.array([0, 0])), Spec(2, 1))
    counts = np.array([3, 1, 3, 1])
    out = normalise_edges(graph, counts, normalisation="row")
    assert out.edges["weight"].tolist() == [1.0, 1.0, 0.75, 0.25]
    out = normalise_edges(graph._replace(edges={"weight": counts}))
    np.testing.assert_allclose(out.edges["weight"], [0.5**0.5] * 4, rtol=1e-6)


def test_edges_without_a_layout():
    graph = jraph.GraphsTuple(
        nodes=jnp.zeros((3, 2)),
        edges=None,
        globals=None,
        senders=jnp.array([0, 1, 2]),
        receivers=jnp.array([2, 2, 0]),
        n_node=jnp.array([3]),
        n_edge=jnp.array([3]),
    )
    out = normalise_edges(graph, normalisation="row")
    assert out.edges["weight"].tolist() == [0.5, 0.5, 1.0]
    with pytest.raises(ValueError, match="neither nodes nor a layout"):
        normalise_edges(graph._replace(nodes=None))
    with pytest.raises(ValueError, match="put them into a dict"):
        normalise_edges(graph._replace(edges=jnp.ones(3)))
    with pytest.raises(ValueError, match="senders or receivers are None"):
        normalise_edges(graph._replace(senders=None))
    with pytest.raises(ValueError, match=r"weight \(2,\) .* \(3,\)"):
        normalise_edges(graph, jnp.ones(2))
    with pytest.raises(ValueError, match=r"weight \(3, 2\) .* \(3,\)"):
        normalise_edges(graph._replace(edges={"weight": jnp.ones((3, 2))}))
    with pytest.raises(ValueError, match="'mean'"):
        normalise_edges(graph, normalisation="mean")


@pytest.mark.parametrize("num_users", [0, 2])
def test_no_edges(num_users):
    none = np.zeros(0, int)
    graph = normalise_edges(make_graph((none, none), Spec(num_users, 0)))
    assert graph.edges["weight"].shape == (0,)
