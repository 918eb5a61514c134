"""Popular and ItemKNN against brute force in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.data.graph import make_context
from recjax.evaluation import recommend
from recjax.lists import item_lists
from recjax.models.item_knn import ItemKNN
from recjax.models.popular import Popular
from recjax.types import Interactions, Spec

USERS, ITEMS = 30, 45


@pytest.fixture
def matrix(rng):
    """A binary training matrix; user 3 and item 5 have no interaction."""
    matrix = rng.random((USERS, ITEMS)) < 0.15
    matrix[3], matrix[:, 5] = False, False
    return matrix


def context_of(matrix):
    users, items = np.nonzero(matrix)
    return make_context(Interactions(users, items), Spec(*matrix.shape))


def brute_force_knn(matrix, neighbours, shrink):
    """Dense similarities [I, I], cut to the nearest of each row, lowest id first."""
    x = matrix.astype(np.float64)
    degree = x.sum(axis=0)
    norm = np.sqrt(degree[:, None] * degree) + shrink
    similarity = np.where(norm > 0, x.T @ x / np.maximum(norm, 1e-30), 0.0)
    np.fill_diagonal(similarity, 0.0)
    # In float32, as the model has them: equal similarities must stay equal.
    similarity = similarity.astype(np.float32)
    for row in similarity:
        order = np.lexsort((np.arange(len(row)), -row))
        row[order[neighbours:]] = 0.0
    return similarity


class TestPopular:
    def test_scores_are_training_counts(self, matrix):
        context, model = context_of(matrix), Popular()
        params = model.solve(context)
        state = model.embed(params, context)
        items = jnp.array([5, 0, 44, 0])
        scores = jax.jit(model.score)(params, state, jnp.array([0, 3, 7]), items)
        expected = np.tile(matrix.sum(axis=0)[np.asarray(items)], (3, 1))
        np.testing.assert_array_equal(scores, expected)

    def test_newcomers_get_the_list_of_everyone(self, matrix):
        context, model = context_of(matrix), Popular()
        params = model.solve(context)
        best = np.argsort(-matrix.sum(axis=0), kind="stable")
        histories = item_lists(np.array([1, 1]), best[:2], 2)
        items, _ = recommend(model, params, context, histories=histories, k=5)
        assert items.tolist() == [best[:5].tolist(), best[2:7].tolist()]


class TestItemKNN:
    @pytest.mark.parametrize(
        ("neighbours", "shrink"), [(4, 0.0), (100, 0.0), (7, 3.5), (1, 0.0)]
    )
    def test_is_brute_force(self, matrix, neighbours, shrink):
        context = context_of(matrix)
        model = ItemKNN(neighbours=neighbours, shrink=shrink)
        params = model.solve(context)
        similarity = brute_force_knn(matrix, neighbours, shrink)
        # Row j of the parameters holds the items that have j among their neighbours.
        pointer = np.asarray(params["pointer"])
        found = np.zeros((ITEMS, ITEMS))
        for j in range(ITEMS):
            row = slice(pointer[j], pointer[j + 1])
            assert (np.diff(params["items"][row]) > 0).all()
            assert (params["weights"][row] > 0).all()
            found[np.asarray(params["items"][row]), j] = params["weights"][row]
        np.testing.assert_allclose(found, similarity, rtol=1e-6)
        state = model.embed(params, context)
        scores = model.score(params, state, jnp.arange(USERS), jnp.arange(ITEMS))
        expected = matrix @ similarity.T
        np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)
        assert (scores[3] == 0).all()
        assert (scores[:, 5] == 0).all()

    def test_scores_by_arithmetic(self):
        # Items 0 and 1 share two users of 2 and 3; items 1 and 2 share one of 3 and 2.
        train = Interactions(
            np.array([0, 0, 1, 1, 2, 2, 3]), np.array([0, 1, 0, 1, 1, 2, 2])
        )
        context = make_context(train, Spec(num_users=4, num_items=3))
        model = ItemKNN(shrink=1.0)
        params = model.solve(context)
        state = model.embed(params, context)
        scores = model.score(params, state, jnp.array([2, 3]), jnp.arange(3))
        s01, s12 = 2 / (np.sqrt(2 * 3) + 1), 1 / (np.sqrt(3 * 2) + 1)
        expected = [[s01, s12, s12], [0, s12, 0]]
        np.testing.assert_allclose(scores, expected, rtol=1e-6)

    def test_any_items_in_any_order(self, matrix):
        context, model = context_of(matrix), ItemKNN(neighbours=10)
        params = model.solve(context)
        state = model.embed(params, context)
        users = jnp.array([7, 3, 7, 29])
        whole = model.score(params, state, users, jnp.arange(ITEMS))
        items = jnp.array([40, 2, 2, 11, 40, 8])  # repeated items too
        scores = model.score(params, state, users, items)
        np.testing.assert_array_equal(scores, whole[:, items])

    def test_blocks_of_items_and_positions(self, matrix, monkeypatch):
        context, model = context_of(matrix), ItemKNN(neighbours=10)
        expected = model.solve(context)
        state = model.embed(expected, context)
        users, items = jnp.arange(USERS), jnp.arange(ITEMS)
        scores = model.score(expected, state, users, items)
        # Blocks far smaller than the data; the last one is not full.
        monkeypatch.setattr("recjax.models.item_knn._SOLVE_NUMBERS", 7 * ITEMS)
        monkeypatch.setattr("recjax.models.item_knn._POSITIONS", 5)
        monkeypatch.setattr("recjax.models._item_matrix._POSITIONS", 5)
        monkeypatch.setattr("recjax.models._item_matrix._ENTRIES", 4)
        jax.clear_caches()
        params = model.solve(context)
        jax.tree.map(np.testing.assert_array_equal, params, expected)
        again = model.score(params, state, users, items)
        np.testing.assert_array_equal(again, scores)
        jax.clear_caches()

    def test_newcomers_are_scored_like_known_users(self, matrix):
        context, model = context_of(matrix), ItemKNN(neighbours=10)
        params = model.solve(context)
        known, _ = recommend(model, params, context, users=[4, 3, 20], k=8)
        users, items = np.nonzero(matrix[[4, 3, 20]])
        histories = item_lists(users, items, 3)
        new, _ = recommend(model, params, context, histories=histories, k=8)
        np.testing.assert_array_equal(known, new)

    def test_a_newcomer_with_an_empty_history(self, matrix):
        context, model = context_of(matrix), ItemKNN()
        params = model.solve(context)
        nobody = item_lists(np.array([], int), np.array([], int), 1)
        items, scores = recommend(model, params, context, histories=nobody, k=3)
        assert items.tolist() == [[0, 1, 2]]
        assert scores.tolist() == [[0.0, 0.0, 0.0]]

    def test_no_item_by_item_array(self):
        # 20,000 items: [I, I] would be 1.6 GB.
        num_items = 20_000
        train = Interactions(np.zeros(50, int), np.arange(50))
        context = make_context(train, Spec(num_users=100, num_items=num_items))
        compiled = jax.jit(ItemKNN(neighbours=5).solve).lower(context).compile()
        assert compiled.memory_analysis().temp_size_in_bytes < 200e6
