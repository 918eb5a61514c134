"""One contract for every closed form, and the equations of each in dense NumPy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.data.graph import make_context
from recjax.evaluation import evaluate, recommend
from recjax.lists import item_lists
from recjax.models import BSPM, EASE, EDLAE, GFCF, IALS, ItemKNN, TurboCF
from recjax.types import Interactions, Spec

USERS, ITEMS = 70, 45

MODELS = {
    "bspm": BSPM(rank=5),
    "ease": EASE(l2=3.0),
    "edlae": EDLAE(dropout=0.3, l2=2.0),
    "gf_cf": GFCF(rank=5),
    "ials": IALS(dim=6, sweeps=3),
    "item_knn": ItemKNN(neighbours=10),
    "turbo_cf": TurboCF(),
    "turbo_cf, power 1": TurboCF(power=1.0),
    "turbo_cf, order 2": TurboCF(order=2),
    "turbo_cf, order 3": TurboCF(power=1.0, order=3),
}


def interactions():
    """A binary training matrix; user 3 and item 5 have no interaction."""
    matrix = np.random.default_rng(0).random((USERS, ITEMS)) < 0.12
    # A few busy items, a long list, and many lengths of lists.
    matrix[:, 7] |= np.random.default_rng(1).random(USERS) < 0.6
    matrix[40, :40] = True
    matrix[3], matrix[:, 5] = False, False
    return matrix


MATRIX = interactions()
X = MATRIX.astype(np.float64)


def context_of(matrix):
    users, items = np.nonzero(matrix)
    return make_context(Interactions(users, items), Spec(*matrix.shape))


def all_scores(model, matrix):
    context = context_of(matrix)
    params = model.solve(context)
    users, items = (jnp.arange(size) for size in matrix.shape)
    return np.asarray(
        model.score(params, model.embed(params, context), users, items), np.float64
    )


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return MODELS[request.param]


@pytest.fixture(scope="module")
def solved(model):
    context = context_of(MATRIX)
    params = model.solve(context)
    state = model.embed(params, context)
    scores = model.score(params, state, jnp.arange(USERS), jnp.arange(ITEMS))
    return context, params, state, np.asarray(scores)


def test_scores_of_a_block_do_not_depend_on_the_block(model, solved):
    _, params, state, scores = solved
    users = jnp.array([7, 3, 7, 69])
    items = jnp.array([40, 2, 2, 11, 40, 8])
    for ids in (items, jnp.tile(items, 9)):
        found = model.score(params, state, users, ids)
        expected = scores[np.ix_(users, ids)]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_compiled_equals_eager(model, solved):
    context, params, _, scores = solved

    def run(params, context):
        state = model.embed(params, context)
        return model.score(params, state, jnp.arange(USERS), jnp.arange(ITEMS))

    np.testing.assert_allclose(
        jax.jit(run)(params, context), scores, rtol=1e-5, atol=1e-6
    )


def test_solving_twice_gives_the_same(model, solved):
    context, params, _, _ = solved
    jax.tree.map(np.testing.assert_array_equal, model.solve(context), params)


def test_newcomers_are_scored_like_known_users(model, solved):
    context, params, state, scores = solved
    known = [40, 3, 20]
    histories = item_lists(*np.nonzero(MATRIX[known]), 3)
    folded = jax.jit(model.fold_in)(params, context, state, histories)
    found = model.score(params, folded, jnp.arange(3), jnp.arange(ITEMS))
    np.testing.assert_allclose(found, scores[known], rtol=1e-5, atol=1e-6)
    assert (found[1] == 0).all(), "an empty list says nothing"


def test_nobody_with_a_history(model, solved):
    context, params, _, _ = solved
    nobody = item_lists(np.array([], int), np.array([], int), 2)
    items, scores = recommend(model, params, context, histories=nobody, k=3)
    assert items.tolist() == [[0, 1, 2]] * 2
    assert (scores == 0).all()


def test_names_of_users_and_items_do_not_matter(model, solved):
    if isinstance(model, IALS | ItemKNN):
        pytest.skip("items are drawn for by number, or equals ordered by it")
    rows, columns = np.random.default_rng(2).permutation(USERS), np.arange(ITEMS)[::-1]
    found = all_scores(model, MATRIX[np.ix_(rows, columns)])
    scores = solved[3][np.ix_(rows, columns)]
    np.testing.assert_allclose(found, scores, rtol=1e-3, atol=1e-4)


def test_it_ranks_what_it_knows_first(model, solved):
    context, params, _, scores = solved
    seen = jax.tree.map(np.asarray, context.seen)
    nothing = item_lists(np.zeros(0, int), np.zeros(0, int), USERS)
    report = evaluate(
        model,
        params,
        context,
        seen,
        seen=nothing,
        metrics=("auc",),
    )
    # By brute force: the share of (known, unknown) pairs in the right order.
    areas = []
    for user in np.flatnonzero(MATRIX.any(axis=1)):
        known, other = scores[user, MATRIX[user]], scores[user, ~MATRIX[user]]
        order = np.sign(known[:, None] - other[None])
        areas.append((order.mean() + 1) / 2)
    np.testing.assert_allclose(report["auc"], np.mean(areas), atol=2e-3)
    assert report["auc"] > 0.6


# The equations, with dense matrices.


def power(counts, exponent):
    return np.maximum(counts, 1.0) ** exponent


def normalised(user_power, item_power):
    users, items = power(X.sum(1), user_power), power(X.sum(0), item_power)
    return users[:, None] * X * items[None]


def ideal(rank):
    """``D^(-1/2) V V^T D^(1/2)``."""
    right = np.linalg.svd(normalised(-0.5, -0.5))[2][:rank].T
    root = power(X.sum(0), 0.5)
    return (right / root[:, None]) @ (right * root[:, None]).T


@pytest.mark.parametrize("rank", [1, 8, 45])
def test_gf_cf_is_its_equation(rank):
    a = normalised(-0.5, -0.5)
    expected = X @ a.T @ a + 0.7 * X @ ideal(rank)
    found = all_scores(GFCF(rank=rank, ideal_weight=0.7), MATRIX)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_gf_cf_takes_no_more_vectors_than_there_are():
    found = all_scores(GFCF(), MATRIX)
    np.testing.assert_array_equal(found, all_scores(GFCF(rank=45), MATRIX))


@pytest.mark.parametrize("time", [0.0, 1.0, 2.5])
def test_bspm_is_a_step_of_runge_kutta(time):
    a = normalised(-0.5, -0.5)
    p = a.T @ a
    y = X @ p + 0.4 * X @ ideal(7)
    k1 = -y @ p
    k2 = -(y + time / 2 * k1) @ p
    k3 = -(y + time / 2 * k2) @ p
    k4 = -(y + time * k3) @ p
    expected = y + time / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    model = BSPM(rank=7, ideal_weight=0.4, time=time)
    np.testing.assert_allclose(
        all_scores(model, MATRIX), expected, rtol=1e-3, atol=1e-4
    )


def test_bspm_without_sharpening_is_gf_cf():
    found = all_scores(BSPM(rank=9, ideal_weight=0.3, time=0.0), MATRIX)
    expected = all_scores(GFCF(rank=9), MATRIX)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize(("alpha", "s"), [(0.5, 1.0), (0.6, 0.7), (0.9, 0.5)])
def test_turbo_cf_is_its_equation(order, alpha, s):
    b = normalised(-alpha, alpha - 1)
    p = (b.T @ b) ** s
    filters = {
        1: p,
        2: 2 * p - p @ p,
        3: p + 0.01 * (-p @ p @ p + 10 * p @ p - 29 * p),
    }
    found = all_scores(TurboCF(alpha=alpha, power=s, order=order), MATRIX)
    np.testing.assert_allclose(found, X @ filters[order], rtol=1e-4, atol=1e-4)


def test_turbo_cf_of_power_one_holds_no_pairs():
    pairs = TurboCF(power=0.999999).solve(context_of(MATRIX))
    assert "matrix" in TurboCF(power=1.0).solve(context_of(MATRIX))
    b = normalised(-0.6, -0.4)
    assert len(pairs["items"]) == np.count_nonzero(b.T @ b)


def autoencoder_loss(weights, ridge):
    return ((X - X @ weights) ** 2).sum() + (ridge[:, None] * weights**2).sum()


def test_ease_is_the_best_of_all_matrices_with_a_zero_diagonal():
    model = EASE(l2=3.0)
    weights = np.asarray(model.solve(context_of(MATRIX))["weights"], np.float64)
    assert (np.diag(weights) == 0).all()
    # The derivative is 0 beside the diagonal, where nothing is free.
    slope = X.T @ (X @ weights - X) + 3.0 * weights
    np.fill_diagonal(slope, 0.0)
    np.testing.assert_allclose(slope, 0.0, atol=1e-4)
    np.testing.assert_allclose(all_scores(model, MATRIX), X @ weights, atol=1e-5)


def test_edlae_minimises_the_expected_loss_over_all_masks():
    x = np.array([[1, 1, 0], [1, 1, 1], [0, 1, 1], [1, 0, 0.0], [1, 0, 1]])
    p, l2 = 0.3, 0.5
    model = EDLAE(dropout=p, l2=l2)
    found = model.solve(context_of(x > 0))["weights"]
    masks = np.array(list(itertools.product([0.0, 1.0], repeat=3)))

    def loss(weights):
        total = p * l2 * (weights**2).sum()
        for mask in masks:
            chance = np.prod(np.where(mask > 0, 1 - p, p))
            error = x - (x * mask) @ weights / (1 - p)
            total += chance * ((1 - mask) * error**2).sum()
        return total

    best = loss(np.asarray(found, np.float64))
    for row, column, step in itertools.product(range(3), range(3), (-0.01, 0.01)):
        if row != column:
            other = np.array(found, np.float64)
            other[row, column] += step
            assert loss(other) > best


def test_edlae_without_dropout_is_ease():
    np.testing.assert_array_equal(
        all_scores(EDLAE(dropout=0.0, l2=3.0), MATRIX), all_scores(EASE(3.0), MATRIX)
    )


def ials_side(model, other, matrix):
    """The vectors of the rows of a matrix, one system a row."""
    rows = []
    for row in matrix:
        known = other[row]
        ridge = (
            model.l2
            * (len(known) + model.unobserved_weight * len(other))
            ** model.frequency_power
        )
        left = known.T @ known + model.unobserved_weight * other.T @ other
        rows.append(
            np.linalg.solve(left + ridge * np.eye(other.shape[1]), known.sum(0))
        )
    return np.array(rows)


@pytest.mark.parametrize("frequency_power", [0.0, 1.0])
def test_ials_alternates(frequency_power):
    model = IALS(
        dim=4, sweeps=2, l2=0.1, frequency_power=frequency_power, init_scale=1.0
    )
    context = context_of(MATRIX)
    start = IALS(dim=4, sweeps=0, init_scale=1.0).solve(context)["items"]
    np.testing.assert_allclose(start.std(), 0.5, atol=0.05)
    items = np.asarray(start, np.float64)
    for _ in range(2):
        users = ials_side(model, items, MATRIX)
        items = ials_side(model, users, MATRIX.T)
    params = model.solve(context)
    np.testing.assert_allclose(params["items"], items, rtol=2e-3, atol=1e-4)
    state = model.embed(params, context)
    users = ials_side(model, np.asarray(state.items, np.float64), MATRIX)
    np.testing.assert_allclose(state.users, users, rtol=1e-3, atol=1e-4)


def test_ials_lowers_its_objective_and_ends_where_it_is_flat():
    def loss(users, items):
        model = IALS()
        scores = users @ items.T
        total = (MATRIX * (scores - 1) ** 2).sum() + 0.1 * (scores**2).sum()
        for vectors, counts, others in (
            (users, X.sum(1), ITEMS),
            (items, X.sum(0), USERS),
        ):
            ridge = model.l2 * (counts[:, None] + 0.1 * others)
            total += (ridge * vectors**2).sum()
        return total

    context, losses = context_of(MATRIX), []
    for sweeps in (0, 1, 2, 4, 8, 100):
        model = IALS(dim=5, sweeps=sweeps)
        state = model.embed(model.solve(context), context)
        users, items = (np.asarray(x, np.float64) for x in state)
        losses.append(loss(users, items))
    assert (np.diff(losses) < 0).all()
    slope = jax.grad(
        lambda x: (
            ((MATRIX * (x @ items.T - 1) ** 2).sum())
            + 0.1 * ((x @ items.T) ** 2).sum()
            + (0.003 * (X.sum(1)[:, None] + 0.1 * ITEMS) * x**2).sum()
        )
    )(jnp.asarray(users))
    assert np.abs(slope).max() < 1e-3


def test_ials_by_small_chunks(monkeypatch):
    context, model = context_of(MATRIX), IALS(dim=4, sweeps=2)
    whole = model.solve(context)["items"]
    # Three rows, and three segments of two entries, at a time; the last are not full.
    monkeypatch.setattr("recjax.models.ials._NUMBERS", 3 * 16)
    monkeypatch.setattr("recjax.models.ials._SEGMENT", 2)
    jax.clear_caches()
    found = model.solve(context)["items"]
    jax.clear_caches()
    np.testing.assert_allclose(found, whole, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "model", [EASE(l2=0.0), EDLAE(dropout=1.0), EDLAE(l2=0.0), IALS(l2=0.0)]
)
def test_settings_without_a_solution_are_refused(model):
    with pytest.raises(ValueError, match="must be"):
        model.solve(context_of(MATRIX))


@pytest.mark.parametrize("model", [GFCF(rank=4), BSPM(rank=4), TurboCF(power=1.0)])
def test_no_item_by_item_array(model):
    # 20,000 items: [I, I] would be 1.6 GB.
    num_items = 20_000
    train = Interactions(np.zeros(50, int), np.arange(50))
    context = make_context(train, Spec(100, num_items))
    compiled = jax.jit(model.solve).lower(context).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 200e6
