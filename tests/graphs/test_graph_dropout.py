"""Random parts of a graph: rates, counts and odds; weights that stay symmetric."""

import functools
import itertools

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest

from recjax.graphs import (
    drop_edges,
    drop_nodes,
    make_graph,
    neighbour_graph,
    normalise_edges,
    prune_edges,
)
from recjax.sparse import graph_sum
from recjax.types import Spec

DROPOUTS = (drop_edges, drop_nodes, prune_edges)
each = pytest.mark.parametrize("drop", DROPOUTS)


def random_graph(seed=0, **settings):
    rng = np.random.default_rng(seed)
    pairs = rng.integers(0, 40, 300), rng.integers(0, 30, 300)
    return make_graph(pairs, Spec(40, 31), **settings)


def weights(drop, graph, rate, num=200, **settings):
    """Weights ``[num, E]`` of many draws."""

    keys = jax.random.split(jax.random.key(7), num)
    return np.asarray(_weights(drop, keys, graph, rate, tuple(settings.items())))


@functools.partial(jax.jit, static_argnums=(0, 4))
def _weights(drop, keys, graph, rate, settings):
    return jax.vmap(
        lambda key: drop(key, graph, rate=rate, **dict(settings)).edges["weight"]
    )(keys)


def within(observed, expected, deviation):
    """Six standard deviations: once in 10^9 for a fixed key, that is never."""
    assert np.all(np.abs(observed - expected) <= 6 * deviation + 1e-9)


@each
@pytest.mark.parametrize("self_loops", [False, True])
def test_symmetric_weights_stay_symmetric_and_so_does_the_derivative(
    rng, dense, drop, self_loops
):
    graph = random_graph(self_loops=self_loops)
    x = rng.normal(size=(71, 2)).astype(np.float32)

    @jax.jit
    def step(key, graph, x):
        graph = drop(key, graph, rate=0.4)
        out, pull = jax.vjp(lambda x: graph_sum(graph, x), x)
        return graph, out, pull(jnp.sin(x))[0]

    for seed in range(3):
        view, out, grad = step(jax.random.key(seed), graph, x)
        weight = np.asarray(view.edges["weight"])
        np.testing.assert_array_equal(weight, weight[graph.globals["layout"].reverse])
        assert 0.1 < np.mean(weight == 0) < 0.9
        matrix = dense(view)
        np.testing.assert_allclose(out, matrix @ x, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(grad, matrix.T @ np.sin(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("normalisation", ["row", (0.6, -0.1)])
@each
def test_both_directions_drop_together_where_weights_are_not_symmetric(
    drop, normalisation
):
    graph = random_graph(normalisation=normalisation)
    reverse = random_graph().globals["layout"].reverse
    kept = weights(drop, graph, 0.4, num=5) != 0
    np.testing.assert_array_equal(kept, kept[:, reverse])
    assert 0 < kept.mean() < 1


@pytest.mark.parametrize("rescale", [False, True])
def test_edges_are_kept_at_the_rate_and_keep_their_weight(rescale):
    graph = random_graph()
    weight = graph.edges["weight"]
    view = weights(drop_edges, graph, 0.3, num=400, rescale=rescale)
    kept = view != 0
    expected = weight / np.float32(0.7) if rescale else weight
    np.testing.assert_allclose(
        view, np.where(kept, expected[None], 0), rtol=1e-6, atol=0
    )
    # Each edge over the draws, all edges of each draw, and pairs of edges: 0.7^2.
    deviation = np.sqrt(0.3 * 0.7)
    within(kept.mean(0), 0.7, deviation / np.sqrt(400))
    first = graph.senders < graph.receivers
    within(kept[:, first].mean(1), 0.7, deviation / np.sqrt(first.sum()))
    one_way = kept[:, first]
    both = np.mean(one_way[:, :-1] & one_way[:, 1:], axis=0)
    within(both, 0.49, np.sqrt(0.49 * 0.51 / 400))


def test_without_reverse_edges_each_edge_drops_by_itself():
    neighbours = (np.arange(60)[:, None] + [1, 3]) % 60
    graph = neighbour_graph(neighbours)
    assert graph.globals["layout"].reverse is None
    bare = graph._replace(globals=None, nodes=np.zeros(60))
    for each_graph in (graph, bare):
        kept = weights(drop_edges, each_graph, 0.5, num=300) != 0
        within(kept.mean(0), 0.5, np.sqrt(0.25 / 300))
        within(kept.mean(), 0.5, np.sqrt(0.25 / kept.size))
        matches = np.corrcoef(kept.T)[np.triu_indices(kept.shape[1], 1)]
        assert np.abs(matches).max() < 0.5, "no two edges drop together"
        pruned = weights(prune_edges, each_graph, 0.25, 5, normalisation="none")
        assert np.all(pruned.sum(1) == 90)


def test_a_dropped_node_loses_all_its_edges_and_no_others():
    graph = random_graph(self_loops=True)
    kept = weights(drop_nodes, graph, 0.25, num=400) != 0
    loops = graph.senders == graph.receivers
    nodes = kept[:, loops]  # by node
    np.testing.assert_array_equal(
        kept, nodes[:, graph.senders] & nodes[:, graph.receivers]
    )
    within(nodes.mean(0), 0.75, np.sqrt(0.75 * 0.25 / 400))


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.5, 0.9, 0.999])
def test_pruning_keeps_the_exact_number(dense, rate):
    graph = random_graph()
    num = len(graph.senders) // 2
    kept = weights(prune_edges, graph, rate, num=20) != 0
    assert np.all(kept.sum(1) == 2 * np.round(num * (1 - rate)))
    if rate == 0:
        np.testing.assert_allclose(
            weights(prune_edges, graph, rate, num=1)[0],
            graph.edges["weight"],
            rtol=1e-6,
        )


def test_pruned_weights_are_those_of_what_is_left(dense):
    graph = random_graph(self_loops=True)
    view = prune_edges(jax.random.key(0), graph, rate=0.6)
    matrix = (dense(view) != 0).astype(float)
    degree = np.maximum(matrix.sum(1), 1)
    expected = matrix / np.sqrt(degree[:, None] * degree[None])
    np.testing.assert_allclose(dense(view), expected, rtol=1e-6)
    row = prune_edges(jax.random.key(0), graph, rate=0.6, normalisation="row")
    np.testing.assert_allclose(dense(row), matrix / degree[:, None], rtol=1e-6)


def test_padding_edges_are_neither_counted_nor_kept():
    graph = random_graph()
    reverse = graph.globals["layout"].reverse
    pad = (graph.senders < 10) | (graph.receivers < 10)
    np.testing.assert_array_equal(pad, pad[reverse])
    padded = graph._replace(edges={"weight": np.where(pad, 0, graph.edges["weight"])})
    for drop in DROPOUTS:
        assert not weights(drop, padded, 0.3, num=3)[:, pad].any()
    kept = (weights(prune_edges, padded, 0.5, num=5) != 0).sum(1)
    assert np.all(kept == 2 * np.round((~pad).sum() / 2 * 0.5))
    one_way = graph._replace(edges={"weight": (graph.senders < graph.receivers) * 1.0})
    kept = weights(prune_edges, one_way, 0.5, num=2, normalisation="none").sum(1)
    assert np.all(kept == np.round(len(graph.senders) / 2 * 0.5))
    nothing = graph._replace(edges={"weight": 0 * graph.edges["weight"]})
    assert not weights(prune_edges, nothing, 0.5, num=1).any()


def by_hand(mass, num):
    """Probability that each is among ``num`` drawn in turn without replacement."""
    chance = np.zeros(len(mass))
    for order in itertools.permutations(range(len(mass)), num):
        left, product = mass.sum(), 1.0
        for one in order:
            product, left = product * mass[one] / left, left - mass[one]
        chance[list(order)] += product
    return chance


@pytest.mark.parametrize("num", [1, 2, 4])
def test_pruning_is_drawing_in_proportion_to_the_inverse_root_of_degrees(num):
    users, items = np.array([0, 0, 0, 1, 2, 2]), np.array([0, 1, 2, 0, 0, 3])
    graph = make_graph((users, items), Spec(3, 4))
    degree = np.bincount(graph.receivers)
    into_items = graph.receivers >= 3
    mass = (degree[graph.senders] * degree[graph.receivers])[into_items] ** -0.5
    assert len(set(mass)) == 4
    kept = weights(prune_edges, graph, 1 - num / 6, num=8000)[:, into_items] != 0
    chance = by_hand(mass, num)
    within(kept.mean(0), chance, np.sqrt(chance * (1 - chance) / 8000))


def test_interactions_that_are_equally_busy_are_equally_likely():
    users, items = (side.ravel() for side in np.indices((12, 10)))
    graph = make_graph((users, items), Spec(12, 10))
    kept = weights(prune_edges, graph, 0.75, num=600) != 0
    within(kept.mean(0), 0.25, np.sqrt(0.25 * 0.75 / 600))


@each
def test_the_key_decides(drop):
    graph = jax.device_put(random_graph())
    run = functools.partial(drop, rate=0.5)
    draws = [
        np.asarray(run(key, graph).edges["weight"])
        for key in map(jax.random.key, (1, 1, 2))
    ]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert np.any(draws[0] != draws[2])
    traces = []

    @jax.jit
    def compiled(key, graph, rate):
        traces.append(None)
        return drop(key, graph, rate=rate)

    view = compiled(jax.random.key(1), graph, 0.5)
    # The last bit of a product may differ: what is dropped may not.
    np.testing.assert_allclose(view.edges["weight"], draws[0], rtol=1e-6)
    np.testing.assert_array_equal(view.edges["weight"] == 0, draws[0] == 0)
    compiled(jax.random.key(2), graph, 0.25)
    assert len(traces) == 1
    assert jax.tree.structure(view) == jax.tree.structure(graph)


@each
def test_rate_zero_keeps_everything_and_other_edge_features_stay(drop):
    graph = random_graph()
    graph = graph._replace(edges={**graph.edges, "time": np.arange(len(graph.senders))})
    view = drop(jax.random.key(0), graph, rate=0.0)
    np.testing.assert_allclose(view.edges["weight"], graph.edges["weight"], rtol=1e-6)
    np.testing.assert_array_equal(view.edges["time"], graph.edges["time"])
    np.testing.assert_array_equal(view.senders, graph.senders)


@pytest.mark.parametrize("drop", [drop_edges, drop_nodes])
def test_what_a_dropped_edge_holds_reaches_no_derivative(drop):
    graph = random_graph()
    kept = weights(drop, graph, 0.5, num=1)[0] != 0
    (key,) = jax.random.split(jax.random.key(7), 1)
    held = jnp.where(kept, graph.edges["weight"], jnp.nan)

    def total(weight):
        view = drop(key, graph._replace(edges={"weight": weight}), rate=0.5)
        return jnp.sum(view.edges["weight"] ** 2)

    value, grad = jax.value_and_grad(total)(held)
    assert np.isfinite(value)
    np.testing.assert_array_equal(np.asarray(grad) != 0, kept)


def test_the_weight_type_stays():
    graph = random_graph()
    weight = graph.edges["weight"].astype(jnp.bfloat16)
    graph = graph._replace(edges={"weight": weight})
    key, rate = jax.random.key(0), jnp.float32(0.5)
    views = [drop(key, graph, rate=rate) for drop in DROPOUTS]
    views.append(drop_edges(key, graph, rate=rate, rescale=True))
    assert all(view.edges["weight"].dtype == jnp.bfloat16 for view in views)


@each
def test_float64_weights_stay_float64(drop):
    with jax.enable_x64(True):
        graph = random_graph()
        weight = graph.edges["weight"].astype(np.float64)
        view = drop(
            jax.random.key(0), graph._replace(edges={"weight": weight}), rate=0.5
        )
    assert view.edges["weight"].dtype == jnp.float64


@each
def test_no_edges_and_no_nodes(drop):
    none = np.zeros(0, int)
    for num in (0, 3):
        graph = make_graph((none, none), Spec(num, 0))
        view = drop(jax.random.key(0), graph, rate=0.5)
        assert view.edges["weight"].shape == (0,)


def test_one_interaction():
    one = make_graph((np.array([0]), np.array([0])), Spec(1, 1))
    kept = weights(drop_edges, one, 0.5, num=50)
    assert set(map(tuple, kept.tolist())) == {(0.0, 0.0), (1.0, 1.0)}
    assert weights(prune_edges, one, 0.2, num=2).tolist() == [[1, 1], [1, 1]]


@each
@pytest.mark.parametrize("rate", [-0.1, 1, 1.5, float("nan"), np.float32(1)])
def test_refuses_a_rate(drop, rate):
    with pytest.raises(ValueError, match="at least 0 and below 1"):
        drop(jax.random.key(0), random_graph(), rate=rate)


def test_refuses_a_graph_of_unknown_size():
    bare = random_graph()._replace(globals=None)
    drop_edges(jax.random.key(0), bare, rate=0.5)
    for drop in (drop_nodes, prune_edges):
        with pytest.raises(ValueError, match="neither nodes nor a layout"):
            drop(jax.random.key(0), bare, rate=0.5)
    empty = jraph.GraphsTuple(*[None] * 7)
    with pytest.raises(ValueError, match="has no edges"):
        drop_edges(jax.random.key(0), empty, rate=0.5)


def test_a_view_as_in_sgl(dense):
    view = normalise_edges(drop_edges(jax.random.key(3), random_graph(), rate=0.3))
    matrix = (dense(view) != 0).astype(float)
    degree = np.maximum(matrix.sum(1), 1)
    expected = matrix / np.sqrt(degree[:, None] * degree[None])
    np.testing.assert_allclose(dense(view), expected, rtol=1e-6)
