"""MMHCL against its equations with dense matrices."""

import dataclasses

import jax
import jax.numpy as jnp
import multimodal
import numpy as np
import pytest
from multimodal import ITEMS, SPEC, USERS, adjacency, interactions, unit

from recjax.lists import item_lists
from recjax.models import MMHCL, LightGCN
from recjax.objectives import BPR
from recjax.sampling import make_batch
from recjax.types import prepare

MODEL = MMHCL(dim=6, neighbours=3)


@pytest.fixture(scope="module")
def context():
    return prepare(MODEL, multimodal.context())


@pytest.fixture(scope="module")
def params():
    return MODEL.init(jax.random.key(0), SPEC)


@pytest.fixture(scope="module")
def batch(context):
    rows = jnp.array([0, 3, 5, 5, 11])
    users, items = context.users[rows], context.items[rows]
    return make_batch(jax.random.key(1), context, users, items, jnp.ones(5), 1)


def item_matrix():
    matrix = np.zeros((ITEMS, ITEMS))
    for values, present in multimodal.features().values():
        cosine = unit(values.astype(np.float64)) @ unit(values.astype(np.float64)).T
        cosine[:, ~present] = -np.inf
        near = np.zeros((ITEMS, ITEMS))
        for i in np.flatnonzero(present):
            near[i, np.argsort(-cosine[i])[:3]] = 1
        matrix += near @ near.T
    return multimodal.normalise(matrix)


def user_matrix():
    matrix = interactions() @ interactions().T
    np.fill_diagonal(matrix, 0)
    return matrix / np.maximum(matrix.sum(1, keepdims=True), 1)


def reference(params):
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    powers = [np.linalg.matrix_power(adjacency(), k) for k in range(3)]
    nodes = sum(powers) @ params["nodes"] / 3
    users = np.linalg.matrix_power(user_matrix(), 3) @ params["users"]
    items = np.linalg.matrix_power(item_matrix(), 2) @ params["items"]
    return nodes[:USERS] + unit(users), nodes[USERS:] + unit(items), users, items


def test_vectors_are_the_equations(context, params):
    users, items, *_ = reference(params)
    found = MODEL.embed(params, context)
    np.testing.assert_allclose(found.users, users, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.items, items, rtol=1e-4, atol=1e-5)


def grace(left, right):
    left, right = unit(left), unit(right)
    mass = np.exp(left @ left.T / 0.6) + np.exp(left @ right.T / 0.6)
    mass = mass.sum(1) - np.exp((left**2).sum(1) / 0.6)
    return np.mean(np.log(mass) - (left * right).sum(1) / 0.6)


def test_loss_is_the_equation_over_all_rows(context, params, batch):
    users, items, of_users, of_items = reference(params)
    u, i, j = users[batch.users], items[batch.items], items[batch.negatives[:, 0]]
    expected = np.log1p(np.exp((u * j).sum(1) - (u * i).sum(1))).mean()
    expected += 1e-3 * ((u**2).sum() + (i**2).sum() + (j**2).sum()) / 2 / 5
    expected += 0.03 * grace(users, of_users) + 0.07 * grace(items, of_items)
    loss, _ = MODEL.loss(params, context, batch, jax.random.key(0))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_contrast_of_some_rows_is_unbiased(context, params, batch):
    model = dataclasses.replace(MODEL, contrast_rows=4)

    def aux(model, key):
        return model.loss(params, context, batch, key)[1]

    whole = aux(MODEL, jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), 2000)
    drawn = jax.vmap(lambda key: aux(model, key))(keys)
    for name in ("user_contrast", "item_contrast"):
        values = np.asarray(drawn[name])
        error = values.std() / len(keys) ** 0.5
        assert error > 0
        assert abs(values.mean() - whole[name]) < 4 * error


def test_every_parameter_learns(context, params, batch):
    def loss(params):
        return MODEL.loss(params, context, batch, jax.random.key(0))[0]

    assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(jax.grad(loss)(params)))


def test_what_an_absent_item_holds_does_not_matter(context, params):
    held = prepare(MODEL, multimodal.context(multimodal.features(held=7.0)))
    jax.tree.map(
        np.testing.assert_array_equal,
        MODEL.embed(params, context),
        MODEL.embed(params, held),
    )


def test_without_hypergraphs_it_is_lightgcn(context, params):
    # A zero vector has no direction to add.
    bare = params | {"users": 0 * params["users"], "items": 0 * params["items"]}
    lightgcn = LightGCN(dim=6, layers=2, objective=BPR())
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6),
        MODEL.embed(bare, context),
        lightgcn.embed(params, context),
    )


def test_a_newcomer_takes_the_mean_of_those_with_its_items(context, params):
    histories = item_lists(np.array([0, 0, 1]), np.array([1, 6, 7]), 3)
    state = MODEL.embed(params, context)
    found = MODEL.fold_in(params, context, state, histories).users
    lightgcn = LightGCN(dim=6, layers=2, objective=BPR())
    own = lightgcn.fold_in(params, context, state, histories).users
    known = np.linalg.matrix_power(user_matrix(), 2) @ np.asarray(params["users"])
    rows = np.zeros((3, ITEMS))
    rows[0, [1, 6]], rows[1, 7] = 1, 1
    shared = rows @ interactions().T
    mixed = shared / np.maximum(shared.sum(1, keepdims=True), 1) @ known
    np.testing.assert_allclose(found, own + unit(mixed), rtol=1e-4, atol=1e-6)
    assert not found[2].any()


def test_it_asks_for_features():
    with pytest.raises(ValueError, match="at least one"):
        MODEL.prepare(multimodal.context({}))
