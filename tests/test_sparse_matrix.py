"""Products with sparse matrices and their singular values, against dense NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.lists import item_lists, multi_hot, transpose_lists, walk_entries
from recjax.sparse import gram, list_sum, sparse_matrix, sparse_product, truncated_svd


def lists_of(dense):
    return item_lists(*np.nonzero(dense), len(dense))


@pytest.fixture
def dense(rng):
    """Row 3 and column 5 are empty."""
    dense = rng.random((37, 70)) < 0.2
    dense[3], dense[:, 5] = False, False
    return dense


def test_products_and_gram(dense, rng):
    r, c = rng.random(37), rng.random(70)
    matrix = sparse_matrix(
        lists_of(dense), 70, row_weight=jnp.array(r), column_weight=jnp.array(c)
    )
    expected = r[:, None] * dense * c[None]
    assert matrix.shape == (37, 70)
    assert matrix.transposed.shape == (70, 37)
    x, y = rng.normal(size=(70, 3)), rng.normal(size=(37, 2))
    np.testing.assert_allclose(sparse_product(matrix, x), expected @ x, rtol=1e-4)
    found = sparse_product(matrix.transposed, y)
    np.testing.assert_allclose(found, expected.T @ y, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        gram(matrix), expected.T @ expected, rtol=1e-4, atol=1e-6
    )


def test_lists_there_and_back(dense):
    lists = lists_of(dense)
    columns = transpose_lists(lists, 70)
    again = transpose_lists(columns, 37)
    np.testing.assert_array_equal(again.pointer, lists.pointer)
    np.testing.assert_array_equal(again.items, lists.items)
    rows = jnp.array([4, 3, 4])
    np.testing.assert_array_equal(multi_hot(lists, rows, 70), dense[np.asarray(rows)].T)


@pytest.mark.parametrize("block", [1, 3, 512])
def test_a_walk_visits_every_entry_once(dense, block):
    rows = jnp.array([9, 3, 0])

    def visit(counts, place, item, real):
        return counts.at[jnp.where(real, place, 3), item].add(1, mode="drop")

    zeros = jnp.zeros((3, 70), jnp.int32)
    found = walk_entries(visit, zeros, lists_of(dense), rows, block=block)
    np.testing.assert_array_equal(found, dense[np.asarray(rows)])


def test_list_sum_has_derivatives_in_features_and_weights(dense, rng):
    lists = lists_of(dense)
    x, weight = rng.normal(size=(70, 4)), rng.normal(size=len(lists.items))
    full = np.zeros(dense.shape)
    full[np.nonzero(dense)] = weight
    seed = rng.normal(size=(37, 4))
    out, pull = jax.vjp(lambda x, w: list_sum(x, lists, w), x, weight)
    np.testing.assert_allclose(out, full @ x, rtol=1e-4, atol=1e-5)
    of_x, of_weight = pull(jnp.asarray(seed, out.dtype))
    np.testing.assert_allclose(of_x, full.T @ seed, rtol=1e-4, atol=1e-5)
    expected = (seed @ x.T)[np.nonzero(dense)]
    np.testing.assert_allclose(of_weight, expected, rtol=1e-4, atol=1e-5)


def assert_svd(dense, rank, *, size=None, tolerance=1e-4):
    matrix = sparse_matrix(lists_of(dense > 0), dense.shape[1])
    left, values, right = truncated_svd(matrix, rank, jax.random.key(0), size=size)
    expected = np.linalg.svd(dense.astype(float), compute_uv=False)[:rank]
    np.testing.assert_allclose(values, expected, atol=tolerance * expected[0])
    real = np.asarray(values > 0)
    for vectors in (left[:, real], right[:, real]):
        np.testing.assert_allclose(
            vectors.T @ vectors, np.eye(real.sum()), atol=10 * tolerance
        )
    # They belong together.
    residual = dense @ right - left * values[None]
    np.testing.assert_allclose(residual, 0.0, atol=10 * tolerance * expected[0])
    assert (np.asarray(left)[:, ~real] == 0).all()
    assert (np.asarray(right)[:, ~real] == 0).all()


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("rank", [1, 11, 37])
def test_small_matrices_are_exact(dense, rank, transposed):
    assert_svd(dense.T if transposed else dense, rank)


@pytest.mark.parametrize("transposed", [False, True])
def test_large_matrices_by_a_krylov_space(rng, transposed):
    dense = rng.random((500, 600)) < 0.02 * np.linspace(0.2, 3, 600)[None]
    dense = dense.T if transposed else dense
    # 64 to 256 of 500 directions: a flat spectrum, which is the hardest.
    assert_svd(dense, 10, size=256)
    values = np.linalg.svd(dense.astype(float), compute_uv=False)
    matrix = sparse_matrix(lists_of(dense), dense.shape[1])
    worse = truncated_svd(matrix, 10, jax.random.key(0), size=64)[1]
    assert (worse[3:] < values[3:10] - 1e-3).all(), "a smaller space is worse"


def test_a_space_larger_than_the_rank(rng):
    """20 distinct rows: all that is left after them is rounding."""
    rows = rng.random((20, 400)) < 0.1
    dense = np.tile(rows, (20, 1))
    assert_svd(dense, 30, size=256)


def test_more_equal_values_than_the_block_is_wide(rng):
    """100 groups of users and items that share nothing: the largest value 100 times."""
    dense = np.kron(np.eye(100), np.ones((4, 4)))
    dense = np.pad(dense, ((0, 0), (0, 200)))
    dense[:, 400:] = rng.random((400, 200)) < 0.01
    assert_svd(dense, 120, size=352)


def test_a_rank_that_is_not_there(dense):
    matrix = sparse_matrix(lists_of(dense), 70)
    for rank in (0, 38):
        with pytest.raises(ValueError, match="rank"):
            truncated_svd(matrix, rank, jax.random.key(0))
