"""Counts of shared groups against the dense product, for any chunk size."""

import tracemalloc

import numpy as np
import pytest

from recjax.graphs import co_occurrence_graph, cosine_neighbours


def random_pairs(seed=0):
    """Users and items: some repeated, user 3 and item 5 without any, a busy item 0."""
    rng = np.random.default_rng(seed)
    users = np.concatenate([rng.integers(0, 25, 120), np.arange(25)])
    items = np.concatenate([rng.integers(0, 18, 120), np.zeros(25, int)])
    keep = (users != 3) & (items != 5)
    return users[keep], items[keep]


def by_hand(nodes, groups, num, k=None, min_count=1, include_self=False):
    matrix = np.zeros((num, groups.max() + 1))
    matrix[nodes, groups] = 1
    counts = matrix @ matrix.T
    if not include_self:
        np.fill_diagonal(counts, 0)
    counts[counts < min_count] = 0
    if k is not None:
        order = np.argsort(-counts, axis=1, kind="stable")
        np.put_along_axis(counts, order[:, k:], 0, 1)
    return counts


@pytest.mark.parametrize("chunk_size", [1, 40, 2**20])
@pytest.mark.parametrize(
    "settings",
    [{}, {"include_self": True}, {"min_count": 3}, {"k": 4}, {"k": 2, "min_count": 2}],
    ids=str,
)
def test_counts_are_those_of_the_dense_product(dense, check_form, settings, chunk_size):
    users, items = random_pairs()
    for pairs, num in (((items, users), 18), ((users, items), 25)):
        graph = co_occurrence_graph(
            pairs, num, normalisation="none", chunk_size=chunk_size, **settings
        )
        check_form(graph, num, symmetric="k" not in settings)
        np.testing.assert_array_equal(dense(graph), by_hand(*pairs, num, **settings))
        assert np.all(graph.edges["weight"] > 0)


@pytest.mark.parametrize("chunk_size", [1, 2**20])
def test_the_largest_may_be_of_scaled_counts(dense, chunk_size):
    users, items = random_pairs()
    scale = np.random.default_rng(1).uniform(0.1, 2, 18)
    graph = co_occurrence_graph(
        (items, users),
        18,
        k=3,
        scale=scale,
        normalisation="none",
        chunk_size=chunk_size,
    )
    counts = by_hand(items, users, 18)
    order = np.argsort(-counts * scale, axis=1, kind="stable")
    np.put_along_axis(counts, order[:, 3:], 0, 1)
    np.testing.assert_array_equal(dense(graph), counts)


@pytest.mark.parametrize("k", [None, 3])
@pytest.mark.parametrize("normalisation", ["symmetric", "row", (0.6, -0.1)])
def test_weights_are_by_the_counts_that_are_kept(dense, check_form, normalisation, k):
    users, items = random_pairs()
    counts = by_hand(users, items, 25, k=k)
    to, of = {"symmetric": (0.5, 0.5), "row": (1, 0)}.get(normalisation, normalisation)
    degree = np.maximum(counts.sum(1), 1)
    graph = co_occurrence_graph((users, items), 25, k=k, normalisation=normalisation)
    check_form(graph, 25, symmetric=k is None and to == of)
    expected = degree[:, None] ** -to * counts * degree[None] ** -of
    np.testing.assert_allclose(dense(graph), expected, rtol=1e-6)


def test_the_order_of_pairs_and_the_names_of_groups_do_not_matter(rng):
    users, items = random_pairs()
    order = rng.permutation(len(users))
    names = rng.permutation(25) * 10**12 - 5
    graph = co_occurrence_graph((items, users), 18, k=3)
    other = co_occurrence_graph((items[order], names[users[order]]), 18, k=3)
    for have, want in zip(
        (other.senders, other.receivers, other.edges["weight"]),
        (graph.senders, graph.receivers, graph.edges["weight"]),
        strict=True,
    ):
        np.testing.assert_array_equal(have, want)


def test_items_by_the_neighbours_that_they_share_as_in_mmhcl(rng, dense):
    """``H H^T`` for ``H = [S_image | S_text]``, diagonal included."""
    members, hyperedges, product = [], [], 0
    for modality in range(2):
        features = rng.normal(size=(12, 3)).astype(np.float32)
        neighbours = np.asarray(cosine_neighbours(features, 3, include_self=True)[0])
        members.append(np.repeat(np.arange(12), 3))
        hyperedges.append(neighbours.ravel() + 12 * modality)
        incidence = np.zeros((12, 12))
        np.put_along_axis(incidence, neighbours, 1, 1)
        product = product + incidence @ incidence.T
    pairs = np.concatenate(members), np.concatenate(hyperedges)
    graph = co_occurrence_graph(pairs, 12, include_self=True, normalisation="none")
    np.testing.assert_array_equal(dense(graph), product)


def test_memory_does_not_grow_with_the_square_of_the_nodes(rng):
    # A dense matrix of 20,000 nodes takes 1.6 GB in bytes of 32 bits.
    num = 20_000
    pairs = rng.integers(0, num, 60_000), rng.integers(0, 4_000, 60_000)
    tracemalloc.start()
    graph = co_occurrence_graph(pairs, num, k=5, chunk_size=2**15)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(graph.senders) <= 5 * num
    assert peak < 40e6


def test_a_row_of_more_pairs_than_a_chunk_holds(dense):
    # Node 0 shares group g with every node of it: 300 pairs in chunks of 7.
    nodes = np.concatenate(
        [np.zeros(100, int), 1 + np.arange(100), 101 + np.arange(100)]
    )
    groups = np.tile(np.arange(100), 3)
    pairs = nodes, groups // 2
    graph = co_occurrence_graph(pairs, 201, normalisation="none", chunk_size=7)
    np.testing.assert_array_equal(dense(graph), by_hand(*pairs, 201))


def test_ids_beyond_sixteen_bits():
    pairs = np.array([70_000, 99_999, 2]), np.array([5, 5, 6])
    graph = co_occurrence_graph(pairs, 100_000, normalisation="none")
    assert graph.receivers.tolist() == [70_000, 99_999]
    assert graph.senders.tolist() == [99_999, 70_000]


@pytest.mark.parametrize("num", [0, 1, 4])
def test_no_pairs_or_nothing_shared(check_form, num):
    none = np.zeros(0, int)
    check_form(co_occurrence_graph((none, none), num), num, symmetric=True)
    alone = np.arange(num)
    graph = co_occurrence_graph((alone, alone), num)
    check_form(graph, num, symmetric=True)
    assert len(graph.senders) == 0
    graph = co_occurrence_graph((alone, alone), num, include_self=True)
    assert graph.edges["weight"].tolist() == [1.0] * num


def test_refuses():
    users, items = random_pairs()
    with pytest.raises(ValueError, match=r"node ids run from 0 to 17, .* them, 10"):
        co_occurrence_graph((items, users), 10)
    with pytest.raises(ValueError, match=r"nodes \(.*\) and groups \(3,\)"):
        co_occurrence_graph((items, users[:3]), 18)
    for setting in ("k", "min_count", "chunk_size"):
        with pytest.raises(ValueError, match=f"{setting} = 0 must be positive"):
            co_occurrence_graph((items, users), 18, **{setting: 0})
    for scale in (np.ones(3), np.zeros(18)):
        with pytest.raises(ValueError, match="scale"):
            co_occurrence_graph((items, users), 18, k=2, scale=scale)
    with pytest.raises(ValueError, match="'mean'"):
        co_occurrence_graph((items, users), 18, normalisation="mean")
