"""Drawn neighbours: their odds, their weights, the form of the graphs they make."""

import functools
import itertools

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest

from recjax.graphs import (
    add_edge_mass,
    drop_edges,
    make_graph,
    sample_neighbours,
    sample_subgraph,
    subgraph_size,
)
from recjax.layers import propagate, propagate_rows
from recjax.sparse import graph_sum, neighbour_sum
from recjax.types import Spec

WAYS = list(itertools.product(("uniform", "weight"), (False, True)))
each_way = pytest.mark.parametrize(("by", "replace"), WAYS)


def random_graph(seed=0, users=20, items=16, rows=90):
    """Some nodes without a neighbour, some with many."""
    rng = np.random.default_rng(seed)
    pairs = (
        (users * rng.random(rows) ** 2).astype(int),
        (items * rng.random(rows)).astype(int),
    )
    return add_edge_mass(make_graph(pairs, Spec(users, items + 2)))


GRAPH = random_graph()
NUM = GRAPH.globals["layout"].row_pointer.shape[0] - 1
DEGREE = np.diff(GRAPH.globals["layout"].row_pointer)


def star(weights):
    """User 0 with an item for each weight."""
    count = len(weights)
    pairs = np.zeros(count, int), np.arange(count)
    graph = make_graph(pairs, Spec(1, count), normalisation="none")
    weight = np.concatenate([weights, weights]).astype(np.float32)
    return add_edge_mass(graph._replace(edges={"weight": weight}))


@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def draw_many(keys, graph, nodes, num, by, replace):
    return jax.vmap(
        lambda key: sample_neighbours(key, graph, nodes, num, by=by, replace=replace)
    )(keys)


@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def propagate_many(keys, graph, seeds, fanouts, by, replace):
    """What ``propagate`` gives the seeds, over many drawn graphs, of whole vectors."""
    x = jnp.sin(jnp.arange(NUM * 2.0)).reshape(NUM, 2)

    def one(key):
        drawn = sample_subgraph(key, graph, seeds, fanouts, by=by, replace=replace)
        own = x.at[drawn.nodes["id"]].get(mode="fill", fill_value=0)
        rows = jnp.arange(len(seeds))
        return propagate_rows(drawn, own, rows, depth=len(fanouts))

    return jax.vmap(one)(keys), propagate(graph, x, depth=len(fanouts))[seeds]


@functools.partial(jax.jit, static_argnums=4)
def draw_graph(key, graph, seeds, where, fanouts):
    return sample_subgraph(key, graph, seeds, fanouts, where=where)


def assert_mean(draws, expected, errors=5.0):
    """The mean of draws is within some standard errors of what is expected."""
    draws = np.asarray(draws, np.float64)
    error = draws.std(0, ddof=1) / np.sqrt(len(draws))
    assert error.max() < 0.05 * np.abs(expected).max(), "too few draws"
    assert np.all(np.abs(draws.mean(0) - expected) <= errors * error + 1e-5)


@each_way
def test_a_drawn_sum_has_the_whole_sum_as_its_mean(by, replace):
    nodes = np.arange(NUM)
    keys = jax.random.split(jax.random.key(1), 3000)
    drawn = draw_many(keys, GRAPH, nodes, 3, by, replace)
    x = np.cos(np.arange(NUM))
    assert np.isin(drawn.edges[drawn.where], np.arange(len(GRAPH.senders))).all()
    np.testing.assert_array_equal(
        np.asarray(GRAPH.senders)[drawn.edges[drawn.where]], drawn.nodes[drawn.where]
    )
    assert np.all(np.asarray(drawn.weight)[~np.asarray(drawn.where)] == 0)
    # By weight every term of a sum of weights is the same: x must vary.
    sums = np.einsum("kbf,kbf->kb", drawn.weight, x[drawn.nodes])
    assert_mean(sums, np.asarray(graph_sum(GRAPH, jnp.asarray(x, jnp.float32))))


@each_way
def test_a_drawn_graph_propagates_without_bias(by, replace):
    seeds = np.array([0, 3, 20, 25, 3, 1, 22])
    keys = jax.random.split(jax.random.key(2), 2000)
    # 7 and 21 slots of hops 0 and 1, and a second one with each node once.
    drawn, whole = propagate_many(keys, GRAPH, seeds, (3, 2), by, replace)
    assert 7 * 3 * 2 > NUM > 7 * 3
    assert_mean(drawn, np.asarray(whole))


@pytest.mark.parametrize(("by", "hops"), [("uniform", 2), ("weight", 1)])
def test_it_is_exact_where_every_neighbour_is_drawn(by, hops):
    most, seeds = int(DEGREE.max()), np.arange(NUM)
    keys = jax.random.split(jax.random.key(3), 2)
    drawn, whole = propagate_many(keys, GRAPH, seeds, (most,) * hops, by, False)
    np.testing.assert_allclose(drawn, np.stack([whole] * 2), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("by", ["uniform", "weight"])
def test_nothing_is_drawn_twice_without_replacement(by):
    nodes = np.arange(NUM)
    keys = jax.random.split(jax.random.key(4), 500)
    drawn = draw_many(keys, GRAPH, nodes, 4, by, False)
    counts = np.asarray(drawn.where).sum(-1)
    assert np.all(counts == np.minimum(DEGREE, 4))
    edges = np.where(drawn.where, drawn.edges, -1 - np.arange(4))
    assert all(len(set(row)) == 4 for row in edges.reshape(-1, 4).tolist())
    again = draw_many(keys, GRAPH, nodes, 4, by, True)
    assert np.all(np.asarray(again.where).sum(-1) == np.where(DEGREE > 0, 4, 0))


@pytest.mark.parametrize("replace", [False, True])
def test_uniform_draws_take_every_edge_alike(replace):
    keys = jax.random.split(jax.random.key(5), 20_000)
    drawn = draw_many(keys, star(np.ones(7)), np.array([0]), 3, "uniform", replace)
    nodes = np.asarray(drawn.nodes)[:, 0] - 1
    for column in (*nodes.T, nodes.ravel()):
        share = np.bincount(column, minlength=7) / len(column)
        if replace or len(column) > 20_000:
            np.testing.assert_allclose(share, 1 / 7, atol=4 * 0.35 / np.sqrt(20_000))
    sets = {tuple(sorted(row)) for row in nodes.tolist()}
    assert len(sets) == (84 if replace else 35), "any three of seven"


def test_draws_by_weight_have_their_odds():
    weights = np.array([1.0, 5.0, 0.0, 2.0, 4.0])
    graph, keys = star(weights), jax.random.split(jax.random.key(6), 40_000)
    chance = weights / weights.sum()
    near = 4 * 0.5 / np.sqrt(len(keys))
    again = draw_many(keys, graph, np.array([0]), 2, "weight", True).nodes[:, 0] - 1
    for column in again.T:
        share = np.bincount(column, minlength=5) / len(keys)
        np.testing.assert_allclose(share, chance, atol=near)
    once = np.asarray(
        draw_many(keys, graph, np.array([0]), 3, "weight", False).nodes[:, 0] - 1
    )
    # One after the other, each from what is left.
    found = np.zeros((5, 5, 5))
    np.add.at(found, tuple(once.T), 1 / len(keys))
    for a, b, c in itertools.permutations(range(5), 3):
        left = 1 - chance[a], 1 - chance[a] - chance[b]
        expected = chance[a] * chance[b] / left[0] * chance[c] / left[1]
        assert abs(found[a, b, c] - expected) < near
    assert found.sum() == pytest.approx(1)


def test_edges_without_weight_are_never_drawn_by_weight():
    view = add_edge_mass(drop_edges(jax.random.key(0), GRAPH, rate=0.5))
    weight = np.asarray(view.edges["weight"])
    keys = jax.random.split(jax.random.key(7), 500)
    for replace in (False, True):
        drawn = draw_many(keys, view, np.arange(NUM), 4, "weight", replace)
        assert np.all(weight[drawn.edges[drawn.where]] > 0)
        with_some = np.bincount(view.receivers, weight > 0, minlength=NUM) > 0
        assert np.array_equal(np.asarray(drawn.where).any((0, 2)), with_some)


def test_masses_are_exact_where_their_sum_over_all_edges_wraps():
    mass = np.asarray(GRAPH.edges["mass"]).astype(np.int64)
    pointer = np.asarray(GRAPH.globals["layout"].row_pointer)
    weight = np.asarray(GRAPH.edges["weight"], np.float64)
    assert (DEGREE > 0).sum() * 2**30 > 2**32
    for start, end in itertools.pairwise(pointer):
        own = np.diff(mass[start:end], prepend=0)
        share = weight[start:end] / max(weight[start:end].sum(), 1e-9)
        np.testing.assert_allclose(own / 2**30, share, atol=1e-6)


def test_the_key_alone_decides():
    seeds, where = jnp.array([0, 35, 21, 3]), jnp.array([True, True, False, True])
    first, again, other = (
        draw_graph(jax.random.key(key), GRAPH, seeds, where, (2, 3))
        for key in (3, 3, 4)
    )
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert (first.nodes["id"] != other.nodes["id"]).any()


@pytest.mark.parametrize("fanouts", [(), (2, 3), (40,)])
def test_what_is_there_comes_first_and_edges_are_sorted(fanouts):
    seeds, where = jnp.array([0, 35, 21, 3]), jnp.array([True, True, False, True])
    drawn = draw_graph(jax.random.key(3), GRAPH, seeds, where, fanouts)
    total, num_edges = subgraph_size(4, NUM, fanouts)
    ids, senders, receivers = (
        np.asarray(x) for x in (drawn.nodes["id"], drawn.senders, drawn.receivers)
    )
    assert (len(ids), len(senders)) == (total, num_edges)
    assert ids[:4].tolist() == [0, 35, NUM, 3]
    assert drawn.n_node.sum() == total and drawn.n_edge.sum() == num_edges
    real, count = int(drawn.n_edge[0]), int(drawn.n_node[0])
    assert np.all(ids[4:count] < NUM) and np.all(ids[count:] == NUM)
    assert count < total, "jraph wants a node that padding may point to"
    weight = np.asarray(drawn.edges["weight"])
    assert np.all(weight[:real] > 0) and np.all(weight[real:] == 0)
    assert np.all(senders[real:] == total - 1) and np.all(receivers[real:] == total - 1)
    assert senders[:real].max(initial=0) < count and np.all(np.diff(receivers) >= 0)
    np.testing.assert_array_equal(
        jraph.get_edge_padding_mask(drawn), np.arange(num_edges) < real
    )
    # The edges are those of the whole graph.
    known = set(zip(GRAPH.senders.tolist(), GRAPH.receivers.tolist(), strict=True))
    pairs = zip(ids[senders[:real]], ids[receivers[:real]], strict=True)
    assert {(int(s), int(r)) for s, r in pairs} <= known
    assert 2 not in receivers[:real], "a seed that is not there receives nothing"


@pytest.mark.parametrize("fanouts", [(2, 3), (40,)])
def test_its_layout_serves_both_directions(fanouts):
    seeds, where = jnp.array([0, 35, 21, 3]), jnp.array([True, True, False, True])
    drawn = draw_graph(jax.random.key(3), GRAPH, seeds, where, fanouts)
    layout = drawn.globals["layout"]
    is_tree = subgraph_size(4, NUM, fanouts)[0] == 1 + 4 + 4 * 2 + 4 * 2 * 3
    assert (layout.transpose is not None) == is_tree
    x = jax.random.normal(jax.random.key(0), (len(drawn.nodes["id"]), 3))

    @functools.partial(jax.jit, static_argnums=1)
    def both(layout, implementation):
        def run(x):
            return neighbour_sum(
                x,
                drawn.edges["weight"],
                drawn.senders,
                drawn.receivers,
                num_receivers=len(x),
                layout=layout,
                implementation=implementation,
            )

        out, pull = jax.vjp(run, x)
        return out, *pull(jnp.cos(out))

    for found, expected in zip(both(layout, "csr"), both(None, "segment"), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_graph_without_edges_gives_seeds_alone():
    nothing = np.zeros(0, int)
    graph = add_edge_mass(make_graph((nothing, nothing), Spec(2, 1)))
    for by, replace in WAYS:
        drawn = sample_neighbours(
            jax.random.key(0), graph, np.array([1]), 2, by=by, replace=replace
        )
        assert not drawn.where.any() and not drawn.weight.any()
    drawn = draw_graph(
        jax.random.key(0), graph, jnp.array([1]), jnp.ones(1, bool), (2,)
    )
    assert drawn.n_node.tolist() == [1, 3] and drawn.n_edge.tolist() == [0, 2]


def test_what_cannot_be_drawn_is_refused():
    plain = GRAPH._replace(edges={"weight": GRAPH.edges["weight"]})
    key, nodes = jax.random.key(0), np.array([0])
    with pytest.raises(ValueError, match="add_edge_mass"):
        sample_neighbours(key, plain, nodes, 2, by="weight")
    with pytest.raises(ValueError, match="num 0"):
        sample_neighbours(key, plain, nodes, 0)
    with pytest.raises(ValueError, match="'degree'"):
        sample_neighbours(key, plain, nodes, 1, by="degree")
    with pytest.raises(ValueError, match="layout"):
        sample_neighbours(key, plain._replace(globals=None), nodes, 1)
