"""ModalGCN against its equations in dense NumPy, and what each part alone is."""

import dataclasses

import jax
import numpy as np
import pytest

from recjax.data import make_context, synthetic
from recjax.lists import item_lists
from recjax.models import LightGCN, ModalGCN
from recjax.models._lateness import item_lateness
from recjax.objectives import BPR, Softmax
from recjax.sampling import make_batch
from recjax.types import Feature, Interactions, Spec, prepare

LOG = synthetic(num_users=14, num_items=11, num_groups=2, rows_per_user=4)
SPEC = Spec(14, 11, features=(("image", 5), ("sound", 3)))
MODEL = ModalGCN(
    dim=6,
    layers=2,
    neighbours=3,
    modal_weight=0.7,
    smoothing=0.4,
    lateness=0.3,
    objective=Softmax(temperature=0.5, log_q=0.6),
)


@pytest.fixture(scope="module")
def plain():
    rng = np.random.default_rng(3)
    features = {}
    for name, width in SPEC.features:
        present = np.arange(11) != width
        values = rng.normal(size=(11, width)).astype(np.float32)
        features[name] = Feature(np.where(present[:, None], values, 0), present)
    return make_context(LOG.interactions, SPEC, features=features)


@pytest.fixture(scope="module")
def params():
    return ModalGCN(dim=6, init_scale=1.0).init(jax.random.key(0), SPEC)


@pytest.fixture(scope="module")
def batch(plain):
    return make_batch(
        jax.random.key(1), plain, plain.users[:9], plain.items[:9], np.ones(9), 0
    )


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def interactions(context):
    """A, dense."""
    ties = np.zeros((25, 25))
    ties[context.users, 14 + np.asarray(context.items)] = 1
    ties += ties.T
    degree = np.maximum(ties.sum(1), 1)
    return ties / np.sqrt(degree[:, None] * degree[None])


def alike(context):
    """S, dense, from pairs of items one by one."""
    total = np.zeros((11, 11))
    for feature in context.features.values():
        there = np.flatnonzero(feature.present)
        x = np.asarray(feature.values, np.float64)[there]
        x = unit((x - x.mean(0)) / x.std(0))
        near = np.zeros((11, 11))
        for place, item in enumerate(there):
            cosines = x @ x[place]
            cosines[place] = -2
            near[item, there[np.argsort(-cosines)[:3]]] = 1
        near = np.maximum(near, near.T)
        degree = np.maximum(near.sum(1), 1)
        total += near / np.sqrt(degree[:, None] * degree[None])
    return total / len(context.features)


def test_vectors_are_those_of_the_equations(plain, params):
    table, ties = np.asarray(params["nodes"], np.float64), interactions(plain)
    mean = (table + ties @ table + ties @ ties @ table) / 3
    mean[14:] += 0.7 * alike(plain) @ table[14:]
    vectors = unit(mean)
    expected = unit(vectors + 0.4 * unit(ties @ ties @ vectors))
    found = np.concatenate(MODEL.embed(params, prepare(MODEL, plain)))
    np.testing.assert_allclose(found[:, :-1], expected, rtol=1e-4, atol=1e-5)


def test_scores_grow_with_an_items_lists_their_number_and_lengths(params):
    # Users 0 and 1 have one item, 2 and 3 two, 4 eleven, which are too many to count.
    users = np.array([0, 1, 2, 2, 3, 3] + 11 * [4])
    items = np.array([0, 0, 0, 1, 2, 1, *range(11)])
    context = make_context(Interactions(users, items), SPEC._replace(features=()))
    plain = dataclasses.replace(MODEL, lateness=0.0, objective=Softmax())
    everyone, all_items = np.arange(14), np.arange(11)

    def scores(model):
        ready = prepare(model, context)
        state = model.embed(params, ready)
        joined = model.fold_in(params, ready, state, ready.seen)
        return [model.score(params, x, everyone, all_items) for x in (state, joined)]

    log = np.log(2)
    mean = 4 * log / 6
    sums = np.array([0 + 0 + log, 2 * log, log] + 8 * [0])
    counts = np.array([3, 2, 1] + 8 * [0])
    late = (sums + 2 * mean) / (counts + 2) - mean
    assert late[0] < 0 < late[2] < late[1]
    # User 4 took every item.
    expected = 0.3 * late + 0.2 * np.log(counts + 1)
    for found, without in zip(scores(MODEL), scores(plain), strict=True):
        np.testing.assert_allclose(
            found - without, np.tile(expected, (14, 1)), rtol=1e-4, atol=1e-6
        )


def test_what_is_trained_is_what_is_scored(plain, batch):
    """With a share of logQ: all of it, on scores that hold how popular items are."""
    model = dataclasses.replace(MODEL, smoothing=0.0, lateness=0.0, l2=0.0)
    context = prepare(model, plain)
    counts = np.asarray(plain.item_counts)
    share = counts[batch.items] / len(plain.users)
    offsets = []
    for seed in range(3):
        params = ModalGCN(dim=6, init_scale=1.0).init(jax.random.key(seed), SPEC)
        loss, _ = model.loss(params, context, batch, jax.random.key(0))
        state = model.embed(params, context)
        scores = model.score(params, state, batch.users, batch.items)
        logits = np.asarray(scores) / 0.5
        whole = np.log(np.mean(np.exp(logits - np.log(share)), axis=1))
        offsets.append(loss - np.mean(whole - np.diag(logits)))
        free = dataclasses.replace(model, objective=BPR())
        assert not free.embed(params, context).items[:, -1].any()
    # But for a number that no parameter changes.
    assert abs(offsets[0]) > 0.1
    np.testing.assert_allclose(offsets, offsets[0], rtol=1e-5)


def test_lateness_is_nothing_where_all_lists_are_long():
    users, items = np.repeat([0, 1], 11), np.tile(np.arange(11), 2)
    assert (item_lateness(users, items, 12) == 0).all()
    assert (item_lateness(users[:0], items[:0], 2) == 0).all()


def test_without_features_and_smoothing_it_is_lightgcn(plain, params, batch):
    bare = dataclasses.replace(MODEL, modal_weight=0.0, smoothing=0.0, lateness=0.0)
    other = LightGCN(dim=6, layers=2, objective=MODEL.objective)
    context = plain._replace(features={})
    for model in (bare, dataclasses.replace(MODEL, smoothing=0.0)):
        prepared = prepare(model, context)
        np.testing.assert_allclose(
            np.concatenate(model.embed(params, prepared))[:, :-1],
            np.concatenate(other.embed(params, context)),
            atol=1e-6,
        )
        key = jax.random.key(0)
        np.testing.assert_allclose(
            model.loss(params, prepared, batch, key)[0],
            other.loss(params, context, batch, key)[0],
            rtol=1e-6,
        )


def test_a_newcomer_with_a_users_list_is_blended_like_that_user(plain, params):
    """But for layer 0, which a newcomer has not: here it is zero for all users."""
    context = prepare(MODEL, plain)
    params = {"nodes": params["nodes"].at[:14].set(0)}
    state = MODEL.embed(params, context)
    found = MODEL.fold_in(params, context, state, context.seen)
    layers = dataclasses.replace(MODEL, layers=1)
    again = layers.fold_in(params, context, layers.embed(params, context), context.seen)
    np.testing.assert_allclose(
        again.users, layers.embed(params, context).users, rtol=1e-4, atol=1e-5
    )
    np.testing.assert_array_equal(found.items, state.items)
    nobody = item_lists(np.zeros(0, int), np.zeros(0, int), 2)
    alone = MODEL.fold_in(params, context, state, nobody).users
    assert (alone[:, :-1] == 0).all()


def test_the_context_must_be_prepared(plain, params):
    with pytest.raises(ValueError, match="prepare"):
        MODEL.embed(params, plain)
