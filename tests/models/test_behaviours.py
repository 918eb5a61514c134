"""Models of several behaviours are their equations, in dense NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.data import Triples, make_context, make_relation_context
from recjax.lists import item_lists
from recjax.models import (
    CRGCN,
    GFCF,
    MBGCN,
    RGCN,
    BehaviourFilter,
    BehaviourGCN,
    CoVisit,
    LightGCN,
    RelationAttention,
)
from recjax.objectives import BPR, Softmax
from recjax.sampling import make_batch
from recjax.types import Interactions, Spec

USERS, ITEMS, ROWS = 12, 9, 90
NAMES = ("view", "cart", "buy")
RNG = np.random.default_rng(0)
LOG = Interactions(
    RNG.integers(0, USERS - 1, ROWS).astype(np.int32),  # The last user did nothing.
    RNG.integers(0, ITEMS - 1, ROWS).astype(np.int32),
    times=np.sort(RNG.integers(0, 4000, ROWS)),
    relations=RNG.integers(0, 3, ROWS).astype(np.int32),
)
SPEC, CONTEXT = make_relation_context(LOG, Spec(USERS, ITEMS), names=NAMES)
# R_b, 1 where user u did b to item i.
DONE = np.zeros((3, USERS, ITEMS))
DONE[LOG.relations, LOG.users, LOG.items] = 1


def scores_of(model, params, context=CONTEXT):
    state = model.embed(params, context)
    return np.asarray(model.score(params, state, jnp.arange(USERS), jnp.arange(ITEMS)))


def events():
    """Distinct events with the time of the latest: user, item, behaviour, time."""
    latest = {}
    for user, item, time, kind in zip(
        LOG.users, LOG.items, LOG.times, LOG.relations, strict=True
    ):
        latest[user, item, kind] = time
    return [(*key, time) for key, time in latest.items()]


def pairs(weights, scale):
    """W of CoVisit, pair by pair."""
    rows, graph = events(), np.zeros((ITEMS, ITEMS))
    kernel = np.zeros((len(rows), len(rows)))
    for a, (user, _, _, time) in enumerate(rows):
        for b, (other, _, _, then) in enumerate(rows):
            if a != b and user == other and abs(time - then) <= 8 * scale:
                kernel[a, b] = np.exp(-abs(time - then) / scale)
    crowd = 1 + kernel.sum(1)
    for a, (_, i, kind, _) in enumerate(rows):
        for b, (_, j, other, _) in enumerate(rows):
            if i != j:
                value = kernel[a, b] / np.sqrt(crowd[a] * crowd[b])
                graph[i, j] += weights[kind] * weights[other] * value
    return graph


@pytest.mark.parametrize("known", [1.0, 0.0])
def test_co_visit_is_its_equations(known):
    weights, of_pairs, step = (1.0, 2.0, 5.0), (1.0, 0.5, 0.25), 0.3
    model = CoVisit(weights, of_pairs, scale=50.0, second_step=step, known=known)
    graph = pairs(of_pairs, 50.0)
    x = np.einsum("b,bui->ui", weights, DONE)
    root = np.where(graph.sum(1) > 0, np.maximum(graph.sum(1), 1e-9) ** -0.5, 0)
    smooth = root[:, None] * graph * root
    expected = x @ graph + step * x @ graph @ smooth
    expected = np.where(x > 0, known * expected, expected)
    assert np.abs(expected).max() > 1
    found = scores_of(model, model.solve(CONTEXT))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_co_visit_of_what_happened_at_any_distance_is_empty():
    apart = LOG._replace(times=np.arange(ROWS) * 10_000)
    _, context = make_relation_context(apart, Spec(USERS, ITEMS), names=NAMES)
    model = CoVisit(scale=1.0)
    assert not scores_of(model, model.solve(context), context).any()


def test_newcomers_to_filters_are_scored_by_their_items():
    lists = item_lists(np.array([0, 0, 2, 2]), np.array([3, 7, 3, 7]), 3)
    for model in (CoVisit(scale=300.0), BehaviourFilter(rank=4)):
        params = model.solve(CONTEXT)
        state = model.fold_in(params, CONTEXT, None, lists)
        found = np.asarray(model.score(params, state, jnp.arange(3), jnp.arange(ITEMS)))
        np.testing.assert_array_equal(found[0], found[2])
        assert found[0].any() and not found[1].any()


def test_behaviour_filter_is_its_equations():
    weights = (1.0, 2.0, 5.0)
    model = BehaviourFilter(weights, alpha=0.8, ideal_weight=0.4, rank=3)
    x = np.einsum("b,bui->ui", weights, DONE)
    of_users, of_items = (np.maximum(x.sum(axis), 1e-30) for axis in (1, 0))

    def scaled(user, item):
        return np.where(x > 0, of_users[:, None] ** user * x * of_items**item, 0)

    half, root = scaled(-0.5, -0.5), np.where(x.sum(0) > 0, of_items, 1) ** 0.5
    v = np.linalg.svd(half)[2][:3].T
    expected = x @ scaled(-0.8, -0.2).T @ scaled(-0.8, -0.2)
    expected += 0.4 * (x / root) @ v @ v.T * root
    found = scores_of(model, model.solve(CONTEXT))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_behaviour_filter_of_one_behaviour_is_gf_cf():
    rows = Interactions(LOG.users, LOG.items)
    context = make_context(rows, Spec(USERS, ITEMS))
    found, expected = (
        scores_of(model, model.solve(context), context)
        for model in (BehaviourFilter(rank=4), GFCF(rank=4))
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("weights", [(1.0, 2.0), (1.0, 2.0, -1.0), (1, 2, np.inf)])
def test_weights_are_one_a_behaviour(weights):
    with pytest.raises(ValueError, match="each of the 3 behaviours"):
        BehaviourFilter(weights).solve(CONTEXT)


def test_models_say_what_they_need():
    plain = make_context(Interactions(LOG.users, LOG.items), Spec(USERS, ITEMS))
    with pytest.raises(ValueError, match="needs the times of the rows"):
        CoVisit().solve(plain)
    for kind in (BehaviourGCN, CRGCN, MBGCN, RGCN, RelationAttention):
        model = kind(dim=4)
        with pytest.raises(ValueError, match=f"{kind.__name__} needs typed edges"):
            model.init(jax.random.key(0), Spec(USERS, ITEMS))
        params = model.init(jax.random.key(0), SPEC)
        with pytest.raises(ValueError, match="no relations: make the context"):
            model.embed(params, plain)


def raw(weights):
    """The weighted matrix of all nodes, both directions."""
    x = np.einsum("b,bui->ui", weights, DONE)
    zeros = np.zeros((USERS, USERS)), np.zeros((ITEMS, ITEMS))
    return np.block([[zeros[0], x], [x.T, zeros[1]]])


def power(degree, exponent):
    return np.where(degree > 0, np.maximum(degree, 1e-30) ** -exponent, 0)


def symmetric(matrix):
    root = power(matrix.sum(1), 0.5)
    return root[:, None] * matrix * root


def row_mean(matrix):
    return power(matrix.sum(1), 1.0)[:, None] * matrix


def only(behaviour):
    return raw(np.eye(3)[behaviour])


def test_behaviour_gcn_weighs_its_relations():
    model = BehaviourGCN(dim=4, objective=BPR())
    params = model.init(jax.random.key(0), SPEC)
    omega = np.array([0.3, -1.0, 0.7])
    params["relation"] = jnp.asarray(omega, jnp.float32)
    matrix, nodes = symmetric(raw(np.exp(omega))), np.asarray(params["nodes"])
    expected = (nodes + matrix @ nodes + matrix @ matrix @ nodes) / 3
    found = np.concatenate(model.embed(params, CONTEXT))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_behaviour_gcn_starts_as_a_lightgcn_and_learns_its_weights():
    model = BehaviourGCN(dim=4, objective=BPR(), init_scale=0.3)
    params = model.init(jax.random.key(0), SPEC)
    plain = LightGCN(dim=4, layers=2, objective=BPR())
    np.testing.assert_allclose(
        scores_of(model, params), scores_of(plain, params), rtol=1e-5, atol=1e-6
    )
    rows = jnp.arange(20)
    batch = make_batch(
        jax.random.key(1),
        CONTEXT,
        CONTEXT.users[rows],
        CONTEXT.items[rows],
        jnp.ones(20),
        1,
        CONTEXT.relations[rows],
    )

    def loss(omega):
        changed = params | {"relation": omega}
        return model.loss(changed, CONTEXT, batch, jax.random.key(0))[0]

    slope = jax.grad(loss)(params["relation"])
    for place in range(3):
        step = 0.05 * jnp.eye(3)[place]
        numeric = (loss(step) - loss(-step)) / 0.1
        np.testing.assert_allclose(slope[place], numeric, rtol=0.05, atol=1e-5)
    assert np.abs(slope).max() > 1e-4


def test_crgcn_is_a_cascade():
    model = CRGCN(dim=4, layers=2, objective=BPR(), auxiliary=0.4, init_scale=0.3)
    params = model.init(jax.random.key(0), SPEC)
    turn = RNG.normal(size=(3, 4, 4))
    params["transform"] = jnp.asarray(turn, jnp.float32)
    nodes = np.asarray(params["nodes"], np.float64)
    stages = []
    for behaviour in range(3):
        matrix = symmetric(only(behaviour))
        received = matrix @ matrix @ nodes @ turn[behaviour]
        length = np.linalg.norm(received, axis=1, keepdims=True)
        nodes = nodes + received / np.where(length > 1e-9, length, 1)
        stages.append(nodes)
    found = np.concatenate(model.embed(params, CONTEXT))
    np.testing.assert_allclose(found, nodes, rtol=1e-4, atol=1e-5)
    # The objective of a pair is on the vectors of its own behaviour.
    batch = make_batch(
        jax.random.key(1),
        CONTEXT,
        CONTEXT.users,
        CONTEXT.items,
        jnp.ones(len(CONTEXT.users)),
        1,
        CONTEXT.relations,
    )
    _, logs = model.loss(params, CONTEXT, batch, jax.random.key(0))
    terms = []
    for user, item, other, kind in zip(
        batch.users, batch.items, batch.negatives[:, 0], batch.relations, strict=True
    ):
        of = stages[int(kind)]
        margin = of[int(user)] @ (of[USERS + int(item)] - of[USERS + int(other)])
        terms.append((1.0 if kind == 2 else 0.4) * np.log1p(np.exp(-margin)))
    np.testing.assert_allclose(logs["objective"], np.mean(terms), rtol=1e-4)


def test_mbgcn_is_its_equations():
    model = MBGCN(dim=4, item_weight=0.7, objective=BPR(), init_scale=0.3)
    params = model.init(jax.random.key(0), SPEC)
    w = np.array([0.2, -0.5, 0.9])
    turn, kernel = RNG.normal(size=(3, 4, 4)), RNG.normal(size=(4, 4))
    params["behaviour"] = jnp.asarray(w, jnp.float32)
    params["item"] = jnp.asarray(turn, jnp.float32)
    params["propagate"] = jnp.asarray(kernel, jnp.float32)
    nodes = np.asarray(params["nodes"], np.float64)
    total = nodes + row_mean(raw(np.exp(w))) @ nodes @ kernel
    users, items = [total[:USERS]], [total[USERS:]]
    # A user's share of a behaviour is as the paper has it.
    counts = DONE.sum(2)
    share = np.exp(w)[:, None] * counts / np.maximum((np.exp(w) @ counts), 1e-30)
    mean = (
        np.einsum("bui,id->bud", DONE, nodes[USERS:])
        / np.maximum(counts, 1)[:, :, None]
    )
    own = np.einsum("bu,bud->ud", share, mean) @ kernel
    np.testing.assert_allclose(total[:USERS], nodes[:USERS] + own, rtol=1e-6, atol=1e-9)
    for behaviour in range(3):
        matrix = row_mean(only(behaviour))
        alike = matrix @ matrix @ nodes @ turn[behaviour]
        users.append((matrix @ alike)[:USERS])
        items.append(0.7 * alike[USERS:])
    expected = np.concatenate(users, 1), np.concatenate(items, 1)
    found = model.embed(params, CONTEXT)
    np.testing.assert_allclose(found.users, expected[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.items, expected[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", [RGCN(dim=4), RelationAttention(dim=4)])
def test_lists_are_of_the_target_and_pairs_of_their_behaviour(model):
    params = model.init(jax.random.key(0), SPEC)
    name = "relation" if isinstance(model, RGCN) else "behaviour"
    before = scores_of(model, params)
    params[name] = params[name].at[0].set(5.0)
    np.testing.assert_array_equal(scores_of(model, params), before)
    rows = jnp.arange(16)

    def loss(kinds):
        batch = make_batch(
            jax.random.key(1),
            CONTEXT,
            CONTEXT.users[rows],
            CONTEXT.items[rows],
            jnp.ones(16),
            0,
            kinds,
        )
        vectors = params | {name: RNG_VECTORS}
        return float(model.loss(vectors, CONTEXT, batch, jax.random.key(0))[0])

    views, buys = jnp.zeros(16, int), jnp.full(16, 2)
    assert abs(loss(views) - loss(buys)) > 1e-4


RNG_VECTORS = jnp.asarray(RNG.normal(size=(3, 4)), jnp.float32)


def test_attributes_reach_a_ranker_by_their_edges():
    """An item that nobody took is near the users of the items it is like."""
    users = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    items = np.array([0, 1, 0, 1, 2, 3, 2, 3])
    # Items 4 and 5 are new, of the makers of the first two and of the others.
    makers = Triples(
        heads=4 + np.arange(6),
        relations=np.zeros(6, np.int64),
        tails=10 + np.array([0, 0, 1, 1, 0, 1]),
        names=("maker",),
        nodes=("maker=a", "maker=b"),
    )
    spec, context = make_relation_context(
        Interactions(users, items), Spec(4, 6), names=("buy",), triples=makers
    )
    model = BehaviourGCN(dim=256, layers=3, objective=Softmax(0.2), init_scale=1.0)
    params = model.init(jax.random.key(0), spec)
    state = model.embed(params, context)
    scores = model.score(params, state, jnp.arange(4), jnp.array([4, 5]))
    assert (scores[:2, 0] > scores[:2, 1]).all()
    assert (scores[2:, 1] > scores[2:, 0]).all()
