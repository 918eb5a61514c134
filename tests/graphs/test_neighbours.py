"""Nearest neighbours against a full sort, their graphs against dense matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.graphs import add_graphs, cosine_neighbours, make_graph, neighbour_graph
from recjax.sparse import graph_sum
from recjax.types import Spec


def by_hand(features, k, present=None, include_self=False):
    """Everything against everything in float64, then a stable sort."""
    features = np.asarray(features, np.float64)
    if present is not None:
        features = np.where(present[:, None], features, 0)
    norm = np.linalg.norm(features, axis=1)
    unit = features / np.where(norm == 0, 1, norm)[:, None]
    similarity = unit @ unit.T
    allowed = (norm != 0)[:, None] & (norm != 0)[None]
    if not include_self:
        allowed &= ~np.eye(len(norm), dtype=bool)
    key = np.where(allowed, -similarity, np.inf)
    order = np.argsort(key, axis=1, kind="stable")[:, :k]
    found = np.take_along_axis(allowed, order, 1)
    best = np.take_along_axis(similarity, order, 1)
    return np.where(found, order, -1), np.where(found, best, 0)


@pytest.mark.parametrize("include_self", [False, True])
@pytest.mark.parametrize("chunk_size", [1, 250, 1024])
def test_equals_a_full_sort(rng, include_self, chunk_size):
    # 300 rows: three chunks of 128, two of 256, or one.
    features = rng.normal(size=(300, 24)).astype(np.float32)
    features[[5, 200]] = 0
    present = rng.random(300) < 0.9
    features[~present] = np.nan
    neighbours, similarity = cosine_neighbours(
        features,
        7,
        present=present,
        include_self=include_self,
        chunk_size=chunk_size,
    )
    expected = by_hand(features, 7, present, include_self)
    np.testing.assert_array_equal(neighbours, expected[0])
    np.testing.assert_allclose(similarity, expected[1], rtol=1e-5, atol=1e-6)
    assert neighbours.dtype == jnp.int32 and similarity.dtype == jnp.float32
    gone = ~present
    gone[[5, 200]] = True
    assert np.all(np.asarray(neighbours)[gone] == -1)
    assert not np.isin(neighbours, np.flatnonzero(gone)).any()


@pytest.mark.parametrize("chunk_size", [128, 512])
def test_equal_similarities_go_to_the_lowest_id(chunk_size):
    # Four directions, cosines of exactly 1, 0 and -1, over three chunks.
    direction = np.array([[1, 0], [0, 2], [-3, 0], [0, -1]], np.float32)
    features = direction[np.arange(300) % 4]
    features[[0, 1]] = 0.0
    neighbours, similarity = cosine_neighbours(
        features, 100, include_self=True, chunk_size=chunk_size
    )
    expected = by_hand(features, 100, include_self=True)
    np.testing.assert_array_equal(neighbours, expected[0])
    np.testing.assert_array_equal(similarity, expected[1])


def test_fewer_neighbours_than_asked_for(rng):
    features = rng.normal(size=(6, 3)).astype(np.float32)
    present = np.array([True, False, True, False, False, True])
    neighbours, similarity = cosine_neighbours(features, 4, present=present)
    found = np.asarray(neighbours) >= 0
    assert found.sum(1).tolist() == [2, 0, 2, 0, 0, 2]
    assert np.all(found[:, :-1] >= found[:, 1:]), "the missing stand last"
    assert not np.asarray(similarity)[~found].any()
    absent, _ = cosine_neighbours(features, 4, present=np.zeros(6, bool))
    assert np.all(np.asarray(absent) == -1)
    narrow, _ = cosine_neighbours(np.zeros((3, 0), np.float32), 1)
    assert np.all(np.asarray(narrow) == -1)


def test_scale_does_not_matter_and_large_numbers_do_not_overflow(rng):
    features = rng.normal(size=(40, 5)).astype(np.float32)
    scale = np.logspace(-30, 30, 40, dtype=np.float32)[:, None]
    plain, scaled = (cosine_neighbours(x, 5) for x in (features, features * scale))
    np.testing.assert_array_equal(plain[0], scaled[0])
    np.testing.assert_allclose(plain[1], scaled[1], rtol=1e-5, atol=1e-6)


def test_bfloat16_features_are_compared_in_float32():
    # In bfloat16 both cosines round to 1.
    features = jnp.array([[1.0, 0.0], [1.0, 0.03], [1.0, 0.02]], jnp.bfloat16)
    neighbours, similarity = cosine_neighbours(features, 2)
    assert similarity.dtype == jnp.float32
    assert neighbours.tolist() == [[2, 1], [2, 0], [1, 0]]


def test_float64_features_stay_float64(rng):
    features = rng.normal(size=(150, 6))
    with jax.enable_x64(True):
        neighbours, similarity = cosine_neighbours(features, 4, chunk_size=1)
    assert neighbours.dtype == jnp.int32 and similarity.dtype == jnp.float64
    expected = by_hand(features, 4)
    np.testing.assert_array_equal(neighbours, expected[0])
    np.testing.assert_allclose(similarity, expected[1], rtol=1e-13)


def test_memory_is_that_of_a_block():
    # All similarities would be 64 MB; a block of 256 x 256 is 0.26 MB.
    features = jax.ShapeDtypeStruct((4096, 8), jnp.float32)
    compiled = cosine_neighbours.lower(features, 10, chunk_size=256).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 4_000_000


def test_neighbours_are_constants_of_a_derivative(rng):
    features = rng.normal(size=(5, 3)).astype(np.float32)
    grad = jax.grad(lambda x: jnp.sum(cosine_neighbours(x, 2)[1]))(features)
    assert not np.asarray(grad).any()


def test_one_row():
    neighbours, similarity = cosine_neighbours(
        np.full((1, 2), 3.0, np.float32), 1, include_self=True
    )
    assert neighbours.tolist() == [[0]]
    np.testing.assert_allclose(similarity, [[1.0]], rtol=1e-6)


def test_cosine_neighbours_refuses():
    features = np.ones((3, 2), np.float32)
    for k, include_self, most in ((0, False, 2), (3, False, 2), (4, True, 3)):
        with pytest.raises(ValueError, match=f"k = {k} must be from 1 to {most}"):
            cosine_neighbours(features, k, include_self=include_self)
    with pytest.raises(ValueError, match="k = 1 must be from 1 to 0"):
        cosine_neighbours(features[:1], 1)
    with pytest.raises(ValueError, match=r"present \(2,\) .* \(3, 2\)"):
        cosine_neighbours(features, 1, present=np.ones(2, bool))
    with pytest.raises(ValueError, match="int32"):
        cosine_neighbours(features.astype(np.int32), 1)
    with pytest.raises(ValueError, match=r"float32 \(2,\)"):
        cosine_neighbours(features[0], 1)
    with pytest.raises(ValueError, match="chunk_size = 0"):
        cosine_neighbours(features, 1, chunk_size=0)


NEIGHBOURS = np.array([[1, 2, -1], [0, 2, 3], [1, -1, -1], [-1, -1, -1], [3, 0, 1]])
COSINES = np.array(
    [[0.9, 0.2, 0], [0.9, 0.0, 0.5], [0.3, 0, 0], [0, 0, 0], [-0.4, 0.7, 0.1]]
)


def matrix_of(weight):
    matrix = np.zeros((5, 5))
    for row, column in zip(*np.nonzero(NEIGHBOURS >= 0), strict=True):
        matrix[row, NEIGHBOURS[row, column]] = max(weight[row, column], 0)
    return matrix


@pytest.mark.parametrize("symmetrise", [False, True])
@pytest.mark.parametrize("normalisation", ["symmetric", "row", "none", (0.6, -0.1)])
@pytest.mark.parametrize("weighted", [False, True])
def test_neighbour_graph_equals_the_dense_matrix(
    dense, check_form, weighted, normalisation, symmetrise
):
    weight = COSINES if weighted else None
    matrix = matrix_of(COSINES if weighted else np.ones((5, 3)))
    if symmetrise:
        matrix = np.maximum(matrix, matrix.T)
    to, of = {"symmetric": (0.5, 0.5), "row": (1, 0), "none": (0, 0)}.get(
        normalisation, normalisation
    )
    # The degree of a node is what it receives; 4 is nobody's neighbour, 3 has none.
    degree = matrix.sum(1)
    left, right = (
        np.power(degree, -x, out=np.zeros(5) + (x == 0), where=degree > 0)
        for x in (to, of)
    )
    expected = left[:, None] * matrix * right[None]
    graph = neighbour_graph(
        NEIGHBOURS, weight, normalisation=normalisation, symmetrise=symmetrise
    )
    check_form(graph, 5, symmetric=symmetrise and to == of)
    assert len(graph.senders) == np.count_nonzero(matrix)
    np.testing.assert_allclose(dense(graph), expected, rtol=1e-6)
    x = np.arange(10, dtype=np.float32).reshape(5, 2)
    out, pull = jax.vjp(lambda x: graph_sum(graph, x), x)
    np.testing.assert_allclose(out, expected @ x, rtol=1e-5)
    np.testing.assert_allclose(pull(x)[0], expected.T @ x, rtol=1e-5)


def test_the_frozen_graph_of_freedom(rng, dense):
    """With itself among k neighbours of equal weight, every weight is 1 / k."""
    features = [rng.normal(size=(30, width)).astype(np.float32) for width in (4, 6)]
    lists = [cosine_neighbours(x, 5, include_self=True)[0] for x in features]
    image, text = map(neighbour_graph, lists)
    np.testing.assert_allclose(image.edges["weight"], 0.2, rtol=1e-6)
    both = add_graphs([image, text], [0.1, 0.9])
    expected = 0.1 * dense(image) + 0.9 * dense(text)
    np.testing.assert_allclose(dense(both), expected, rtol=1e-6)
    np.testing.assert_allclose(dense(both).sum(1), 1.0, rtol=1e-5)


def test_neighbour_graph_takes_what_cosine_neighbours_gives(rng, dense):
    features = rng.normal(size=(20, 3)).astype(np.float32)
    neighbours, similarity = cosine_neighbours(features, 4)
    graph = neighbour_graph(neighbours, similarity, normalisation="none")
    expected = np.zeros((20, 20))
    np.put_along_axis(expected, np.asarray(neighbours), np.asarray(similarity), 1)
    np.testing.assert_allclose(dense(graph), np.maximum(expected, 0), rtol=1e-6)


def test_ids_beyond_sixteen_bits():
    neighbours = np.full((70_000, 1), -1, np.int32)
    neighbours[[1, 69_999], 0] = 69_999, 66_000
    graph = neighbour_graph(neighbours, symmetrise=True)
    assert graph.receivers.tolist() == [1, 66_000, 69_999, 69_999]
    assert graph.senders.tolist() == [69_999, 69_999, 1, 66_000]


def test_nobody_has_neighbours(check_form):
    graph = neighbour_graph(np.full((4, 2), -1))
    check_form(graph, 4, symmetric=False)
    assert len(graph.senders) == 0
    check_form(neighbour_graph(np.zeros((0, 3), int)), 0, symmetric=False)


def test_neighbour_graph_refuses():
    with pytest.raises(ValueError, match="neighbour ids run from 0 to 4"):
        neighbour_graph(NEIGHBOURS[:4] + (NEIGHBOURS[:4] == 3))
    with pytest.raises(ValueError, match="from -2"):
        neighbour_graph(NEIGHBOURS * 2)
    with pytest.raises(ValueError, match=r"\(5,\) must be \[N, k\]"):
        neighbour_graph(NEIGHBOURS[:, 0])
    with pytest.raises(ValueError, match=r"weight \(5, 2\) .* \(5, 3\)"):
        neighbour_graph(NEIGHBOURS, COSINES[:, 1:])
    with pytest.raises(ValueError, match="finite"):
        neighbour_graph(NEIGHBOURS, np.where(COSINES > 0.8, np.inf, COSINES))
    with pytest.raises(ValueError, match="'mean'"):
        neighbour_graph(NEIGHBOURS, normalisation="mean")


def test_sums_of_graphs(rng, dense, check_form):
    spec = Spec(9, 7)
    graphs = [
        make_graph((rng.integers(0, 9, 20), rng.integers(0, 7, 20)), spec)
        for _ in range(3)
    ]
    weights = (0.5, -2.0, 0.25)
    total = add_graphs(graphs, weights)
    check_form(total, 16, symmetric=True)
    expected = sum(w * dense(graph) for w, graph in zip(weights, graphs, strict=True))
    np.testing.assert_allclose(dense(total), expected, rtol=1e-5, atol=1e-7)
    other = neighbour_graph(rng.integers(0, 16, (16, 3)))
    mixed = add_graphs([jax.device_put(graphs[0]), other], [1.0, 1.0])
    check_form(mixed, 16, symmetric=False)
    np.testing.assert_allclose(dense(mixed), dense(graphs[0]) + dense(other), rtol=1e-6)


def test_add_graphs_refuses():
    three, four = (neighbour_graph(np.zeros((num, 1), int)) for num in (3, 4))
    with pytest.raises(ValueError, match=r"\[3, 4\] nodes"):
        add_graphs([three, four], [1.0, 1.0])
    for graphs, weights in (([], []), ([three], [1.0, 2.0]), ([three], [np.nan])):
        with pytest.raises(ValueError, match="one finite weight for each graph"):
            add_graphs(graphs, weights)
