"""LGMRec against its equations with dense matrices."""

import dataclasses

import jax
import jax.numpy as jnp
import multimodal
import numpy as np
import pytest
from multimodal import ITEMS, SPEC, USERS, adjacency, interactions, nce, unit

from recjax.lists import item_lists
from recjax.models import LGMRec, LightGCN
from recjax.models._learned_hyperedges import depend_on_hyperedges
from recjax.objectives import BPR
from recjax.sampling import make_batch
from recjax.types import prepare

MODEL = LGMRec(dim=6, hyperedges=3, hyperedge_layers=2, modality_layers=1)


@pytest.fixture(scope="module")
def context():
    return prepare(MODEL, multimodal.context())


@pytest.fixture(scope="module")
def params():
    return MODEL.init(jax.random.key(0), SPEC)


def softmax(x):
    x = np.exp(x - x.max(1, keepdims=True))
    return x / x.sum(1, keepdims=True)


def reference(params, kept=None):
    """E*, and G of each modality; ``kept`` scales the entries of H."""
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    powers = [np.linalg.matrix_power(adjacency(), k) for k in range(3)]
    own = sum(powers) @ params["nodes"] / 3
    local, parts = own.copy(), []
    for name, (values, present) in multimodal.features().items():
        weights, matrix = params["modalities"][name], interactions()
        count = matrix @ present
        mean = matrix @ values / np.maximum(count, 1)[:, None]
        local += unit(adjacency() @ np.concatenate([mean, values]) @ weights["kernel"])
        logits = np.concatenate([matrix @ values, values]) @ weights["hyperedges"]
        rows = softmax(logits / 0.2) * np.concatenate([count > 0, present])[:, None]
        through = rows[USERS:].T
        twice = through @ through.T @ through
        parts.append(rows @ twice @ own[USERS:])
    return local + 0.3 * unit(sum(parts)), parts


def test_vectors_are_the_equations(context, params):
    expected, _ = reference(params)
    found = jnp.concatenate(MODEL.embed(params, context))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("contrasted", [2, 5])
def test_loss_is_the_equation(context, params, monkeypatch, contrasted):
    """Without noise and dropout."""
    model = dataclasses.replace(MODEL, contrast_rows=contrasted)
    rows = jnp.array([0, 3, 5, 5, 11])
    users, items = context.users[rows], context.items[rows]
    batch = make_batch(jax.random.key(1), context, users, items, jnp.ones(5), 1)
    monkeypatch.setattr(
        "recjax.models._learned_hyperedges.depend_on_hyperedges",
        lambda key, *args, **kwargs: depend_on_hyperedges(None, *args, **kwargs),
    )
    nodes, (left, right) = reference(params)
    u, i = nodes[batch.users], nodes[USERS + batch.items]
    j = nodes[USERS + batch.negatives[:, 0]]
    expected = np.log1p(np.exp((u * j).sum(1) - (u * i).sum(1))).mean()
    expected += 1e-6 * ((u**2).sum() + (i**2).sum() + (j**2).sum()) / 2 / 5
    for ids, all_of in ((users, slice(USERS)), (USERS + items, slice(USERS, None))):
        ids = ids[:contrasted]
        contrast = nce(left[ids], right[ids], right[all_of], 0.2).mean()
        expected += 0.2 * contrast
    loss, _ = model.loss(params, context, batch, jax.random.key(0))
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


def test_noise_and_dropout_are_for_training(context, params):
    logits, has = jnp.zeros((2000, 3)), jnp.ones(2000, bool)
    rows = depend_on_hyperedges(
        jax.random.key(0), logits, has, temperature=0.2, dropout=0.25
    )
    # By symmetry each hyperedge has a third, whatever the noise; dropout keeps that.
    np.testing.assert_allclose(rows.mean(0), 1 / 3, atol=0.03)
    np.testing.assert_allclose((rows == 0).mean(), 0.25, atol=0.03)
    assert (rows > 0.9).mean() > 0.1
    jax.tree.map(
        np.testing.assert_array_equal,
        MODEL.embed(params, context),
        MODEL.embed(params, context),
    )


def test_every_parameter_learns(context, params):
    batch = make_batch(
        jax.random.key(1), context, context.users, context.items, jnp.ones(()), 1
    )
    batch = batch._replace(weight=jnp.ones(len(batch.users)))

    def loss(params):
        return MODEL.loss(params, context, batch, jax.random.key(0))[0]

    assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(jax.grad(loss)(params)))


def test_what_an_absent_item_holds_does_not_matter(context, params):
    held = prepare(MODEL, multimodal.context(multimodal.features(held=np.nan)))
    jax.tree.map(
        np.testing.assert_array_equal,
        MODEL.embed(params, context),
        MODEL.embed(params, held),
    )


def test_without_matrices_it_is_lightgcn(context, params):
    model = dataclasses.replace(MODEL, global_weight=0.0)
    zero = jax.tree.map(jnp.zeros_like, params["modalities"])
    lightgcn = LightGCN(dim=6, layers=2, objective=BPR())
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6),
        model.embed(params | {"modalities": zero}, context),
        lightgcn.embed(params, context),
    )


@pytest.mark.parametrize("depth", [0, 1])
def test_a_newcomer_is_a_user_of_the_graph_without_a_vector(depth):
    """Exactly so where its arrival changes no other node: it is in the graph."""
    model = dataclasses.replace(MODEL, modality_layers=depth)
    context = prepare(model, multimodal.context())
    params = model.init(jax.random.key(0), SPEC)
    params["nodes"] = params["nodes"].at[6].set(0.0)
    items = np.flatnonzero(interactions()[6])
    histories = item_lists(np.zeros(len(items), int), items, 2)
    state = model.embed(params, context)
    found = model.fold_in(params, context, state, histories)
    assert len(items) > 1
    np.testing.assert_allclose(found.users[0], state.users[6], rtol=1e-4, atol=1e-6)
    assert not found.users[1].any()
    assert found.items.shape == (ITEMS, 6)
