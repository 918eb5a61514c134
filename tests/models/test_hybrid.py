"""The hybrid of tower and graph: its equations, what it shares, and what it learns."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads
from models.towers import TOWER, WEIGHTS, tokens_of

from recjax.data import make_context, synthetic
from recjax.evaluation import recommend
from recjax.lists import item_lists
from recjax.models import (
    Attended,
    Hybrid,
    LightGCN,
    Tuned,
    with_histories,
    with_tower,
)
from recjax.objectives import BPR, Softmax
from recjax.sampling import make_batch
from recjax.training import init_state, make_epoch
from recjax.types import Feature, Interactions, Spec, prepare

USERS, ITEMS, F, D = 24, 20, 5, 4
COLD, SILENT = 19, 3  # an item without interactions, and one without a text
LOG = synthetic(num_users=USERS, num_items=ITEMS, num_groups=2, rows_per_user=6)
KEPT = LOG.interactions.items != COLD
TRAIN = Interactions(LOG.interactions.users[KEPT], LOG.interactions.items[KEPT])
SPEC = Spec(USERS, ITEMS, features=(("text", F),))
TUNED = Tuned(TOWER, rank=2, unfreeze=("layers.query.bias",), rows=0, chunk=6)


@pytest.fixture(scope="module")
def plain():
    """Texts of which one is missing, a tower and its inputs."""
    values = np.random.default_rng(2).normal(size=(ITEMS, F)).astype(np.float32)
    present = np.arange(ITEMS) != SILENT
    values[SILENT] = np.nan
    context = make_context(TRAIN, SPEC, features={"text": Feature(values, present)})
    return with_tower(context, WEIGHTS, tokens_of(ITEMS))


def some(params, key=0):
    """Parameters like these, none of which is 0."""
    leaves, tree = jax.tree.flatten(params)
    rng = np.random.default_rng(key)
    leaves = [jnp.asarray(rng.normal(size=x.shape) / 2, jnp.float32) for x in leaves]
    return jax.tree.unflatten(tree, leaves)


def ready(model, plain):
    context = prepare(model, plain)
    params = some(model.init(jax.random.key(0), SPEC))
    return params, model.refresh(params, context, jax.random.key(1))


def batch_of(model, context, size=12):
    rows = jnp.arange(size) * 5 % context.users.shape[0]
    weight = jnp.where(jnp.arange(size) == 7, 0.0, 1.0)
    users, items = context.users[rows], context.items[rows]
    key = jax.random.key(4)
    return make_batch(key, context, users, items, weight, model.num_negatives)


@functools.partial(jax.jit, static_argnums=0)
def value_and_grad(model, params, context, batch):
    def loss(params):
        return model.loss(params, context, batch, jax.random.key(0))[0]

    return jax.value_and_grad(loss)(params)


def assert_close(left, right, rtol=1e-5, atol=1e-6):
    def one(x, y):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=atol)

    jax.tree.map(one, left, right)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def adjacency():
    matrix = np.zeros((USERS + ITEMS, USERS + ITEMS))
    for user, item in set(zip(TRAIN.users, TRAIN.items, strict=True)):
        matrix[user, USERS + item] = matrix[USERS + item, user] = 1
    degree = np.maximum(matrix.sum(1), 1)
    return matrix / np.sqrt(degree[:, None] * degree)


def smooth(nodes, layers):
    powers = [np.linalg.matrix_power(adjacency(), k) @ nodes for k in range(layers + 1)]
    return sum(powers) / (layers + 1)


MODELS = {
    "sum": Hybrid(dim=D, layers=2),
    "gated": Hybrid(dim=D, fusion="gated"),
    "concat bpr": Hybrid(dim=D, fusion="concat", objective=BPR(2)),
    "apart, past": Hybrid(dim=D, fusion="apart", skip="own", layers=2),
    "one projection": Hybrid(dim=D, skip="shared"),
    "one block": Hybrid(dim=D, attended=Attended("shared", history=3)),
    "two blocks": Hybrid(dim=D, attended=Attended("own", history=3)),
    "tower, all": Hybrid(dim=D, text=dataclasses.replace(TUNED, refreshed="all")),
    "tower, batch": Hybrid(dim=D, text=TUNED),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=list(MODELS))
def test_derivatives_reach_tower_table_and_graph(model, plain):
    params, context = ready(model, plain)
    batch = batch_of(model, context)
    _, grads = value_and_grad(model, params, context, batch)
    for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
        assert np.isfinite(leaf).all(), path
        assert np.abs(leaf).max() > 0, path
    # The bank is held still: its derivative is none of the parameters'.
    if model.text.tower is None or model.text.refreshed == "all":

        @jax.jit
        def loss(params):
            return model.loss(params, context, batch, jax.random.key(0))[0]

        check_grads(loss, (params,), order=1, modes=("rev",), rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize("name", ["sum", "apart, past", "one projection"])
def test_vectors_are_their_equations(name, plain):
    model = MODELS[name]
    params, context = ready(model, plain)
    nodes = np.asarray(params["nodes"], np.float64)
    text = np.nan_to_num(np.asarray(plain.features["text"].values, np.float64))
    projected = text @ np.asarray(params["project"], np.float64)
    if model.fusion == "apart":
        nodes[USERS:, D // 2 :] = projected
    else:
        nodes[USERS:] += projected
    expected = smooth(nodes, model.layers)
    if model.skip != "none":
        kernel = params["skip" if model.skip == "own" else "project"]
        expected[USERS:] += text @ np.asarray(kernel, np.float64)
    found = model.embed(params, context)
    assert_close(found.users, unit(expected[:USERS]), 1e-4)
    assert_close(found.items, unit(expected[USERS:]), 1e-4)


def test_without_texts_it_is_lightgcn(plain):
    nobody = Feature(plain.features["text"].values, jnp.zeros(ITEMS, bool))
    context = plain._replace(features={"text": nobody})
    model, other = MODELS["sum"], LightGCN(dim=D, layers=2)
    params, batch = some(model.init(jax.random.key(0), SPEC)), batch_of(other, context)
    nodes = {"nodes": params["nodes"]}
    assert_close(model.embed(params, context), other.embed(nodes, context))
    found, grads = value_and_grad(model, params, context, batch)
    expected, others = value_and_grad(other, nodes, context, batch)
    assert_close((found, grads["nodes"]), (expected, others["nodes"]))


def test_sharing_is_one_parameter_in_two_places(plain):
    """Two copies of it give the same, and its derivative is the sum of theirs."""
    for one, two, place, copy in (
        ("one projection", "two projections", "project", "skip"),
        ("one block", "two blocks", "block", "history_block"),
    ):
        shared = MODELS[one]
        own = "own" if copy == "skip" else Attended("own", history=3)
        field = "skip" if copy == "skip" else "attended"
        apart = dataclasses.replace(shared, **{field: own})
        params, context = ready(shared, plain)
        batch = batch_of(shared, context)
        copied = params | {copy: params[place]}
        found, grads = value_and_grad(shared, params, context, batch)
        expected, others = value_and_grad(apart, copied, context, batch)
        np.testing.assert_allclose(found, expected, rtol=1e-6, err_msg=two)
        total = jax.tree.map(jnp.add, others[place], others[copy])
        assert_close(grads[place], total)
        different = params | {copy: some(params[place], key=5)}
        changed, _ = value_and_grad(apart, different, context, batch)
        assert abs(changed - expected) > 1e-4, two
        assert_close(shared.embed(params, context), apart.embed(copied, context))


def test_it_starts_as_the_frozen_tower(plain):
    changes = TUNED.init(jax.random.key(0))
    expected = jax.jit(TOWER.encode)(WEIGHTS, tokens_of(ITEMS)[:6])
    rows = jnp.arange(6)
    found = jax.jit(TUNED.vectors)(changes, plain, rows)
    np.testing.assert_array_equal(found, expected)
    moved = TUNED.vectors(some(changes), plain, rows)
    assert np.abs(moved - expected).max() > 1e-3


@pytest.mark.parametrize("name", ["tower, all", "tower, batch"])
def test_what_the_tower_makes_of_no_text_is_of_no_effect(plain, name):
    model, tokens = MODELS[name], tokens_of(ITEMS)
    other = tokens.copy()
    other[SILENT] = (tokens[SILENT] + 1) % TOWER.words
    silent = np.arange(ITEMS) != SILENT

    def run(tokens, present=None):
        params, context = ready(model, with_tower(plain, WEIGHTS, tokens, present))
        batch = batch_of(model, context)
        found = value_and_grad(model, params, context, batch)
        return found, model.embed(params, context)

    assert_close(run(tokens, silent), run(other, silent))
    moved = np.abs(run(tokens)[1].items - run(other)[1].items)
    assert moved.max() > 1e-3


@pytest.mark.parametrize("chunk", [1, 7, 20, 1000])
def test_chunks_change_nothing(plain, chunk):
    whole = MODELS["tower, all"]
    model = dataclasses.replace(
        whole, text=dataclasses.replace(whole.text, chunk=chunk)
    )
    params, context = ready(whole, plain)
    batch = batch_of(model, context)
    assert_close(
        value_and_grad(model, params, context, batch),
        value_and_grad(whole, params, context, batch),
    )
    assert_close(model.embed(params, context), whole.embed(params, context))


def test_a_fresh_bank_is_exact_and_an_old_one_is_read(plain):
    banked, whole = MODELS["tower, batch"], MODELS["tower, all"]
    params, context = ready(banked, plain)
    batch = batch_of(banked, context)
    found, grads = value_and_grad(banked, params, context, batch)
    expected, others = value_and_grad(whole, params, context, batch)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    for name in ("nodes", "project"):
        assert_close(grads[name], others[name])
    # After a step, the items of the batch are as the tower sees them, the others not.
    moved = params | {"tower": some(params["tower"], key=3)}
    text = banked.text.texts(moved["tower"], context, batch).values
    now = banked.text.vectors(moved["tower"], context)
    fresh = np.isin(np.arange(ITEMS), batch.items[batch.weight > 0])
    assert fresh.any() and not fresh.all()
    np.testing.assert_allclose(text[fresh], now[fresh], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(text[~fresh], context.prepared["bank"][~fresh])
    assert np.abs(text - now)[~fresh].max() > 1e-3


def test_only_so_many_rows_pass_the_tower(plain):
    model = MODELS["tower, batch"]
    few = dataclasses.replace(model, text=dataclasses.replace(TUNED, rows=2))
    params, context = ready(few, plain)
    moved = params | {"tower": some(params["tower"], key=3)}
    batch = batch_of(few, context)
    text = few.text.texts(moved["tower"], context, batch).values
    changed = np.abs(text - context.prepared["bank"]).max(1) > 1e-6
    assert set(np.flatnonzero(changed)) <= set(np.asarray(batch.items[:2]))
    assert changed.any()


def test_frozen_weights_are_no_parameters_and_never_move(plain):
    model = MODELS["tower, batch"]
    adam = optax.adam(0.05)
    context = prepare(model, plain)
    state = init_state(model, adam, SPEC, jax.random.key(0))
    shapes = {leaf.shape for leaf in jax.tree.leaves((state.params, state.opt_state))}
    assert WEIGHTS["word"].shape not in shapes
    assert WEIGHTS["layers"]["query"]["kernel"].shape not in shapes
    start = jax.tree.map(jnp.copy, state.params["tower"])
    state, _ = make_epoch(model, adam, batch_size=16)(state, context)
    jax.tree.map(np.testing.assert_array_equal, context.prepared["tower"], WEIGHTS)
    delta = state.params["tower"]["delta"]
    assert set(delta["layers"]) == {"query"} and set(delta["layers"]["query"]) == {
        "bias"
    }
    for old, new in zip(
        *map(jax.tree.leaves, (start, state.params["tower"])), strict=True
    ):
        assert np.abs(old - new).max() > 1e-3
    weights = model.text.weights(state.params["tower"], context)
    np.testing.assert_array_equal(weights["word"], WEIGHTS["word"])


@pytest.mark.parametrize("name", ["sum", "tower, batch", "one block"])
def test_a_film_that_nobody_took_is_ranked_by_its_text(name, plain):
    model = MODELS[name]
    params, context = ready(model, plain)
    params["nodes"] = params["nodes"].at[USERS + COLD].set(0.0)
    kept = model.init(jax.random.key(0), SPEC)["nodes"][USERS + COLD]
    np.testing.assert_array_equal(kept, 0)
    state = model.embed(params, context)
    if name != "one block":
        text = model.text.texts(params.get("tower", {}), context)
        x = text.values[COLD] @ params["project"]
        assert_close(state.items[COLD], unit(np.asarray(x)), 1e-4)
    # Whoever took nothing but that film is recommended it.
    lists = item_lists(np.array([0]), np.array([COLD]), 1)
    found, _ = recommend(
        model, params, context, histories=lists, k=3, filter_seen=False, state=state
    )
    assert found[0, 0] == COLD or name == "one block"


def test_training_leaves_a_cold_residual_at_0(plain):
    model = MODELS["sum"]
    adam = optax.adam(0.05)
    state = init_state(model, adam, SPEC, jax.random.key(0))
    state, _ = make_epoch(model, adam, batch_size=16)(state, prepare(model, plain))
    residual = np.abs(state.params["nodes"][USERS : USERS + ITEMS]).max(1)
    assert residual[COLD] == 0 and residual[:COLD].min() > 0


def test_histories_are_the_last_items_by_time():
    train = Interactions(
        np.array([0, 0, 0, 1]),
        np.array([4, 2, 7, 5]),
        times=np.array([30, 10, 20, 1]),
    )
    context = make_context(train, Spec(3, 8))
    found = with_histories(context, train, length=2).prepared["histories"]
    assert found.items.tolist() == [[7, 4], [0, 5], [0, 0]]
    assert found.present.tolist() == [[True, True], [False, True], [False, False]]


def test_the_order_of_a_history_matters(plain):
    model = MODELS["one block"]
    params, _ = ready(model, plain)
    found = []
    for sign in (1, -1):
        train = TRAIN._replace(times=sign * np.arange(TRAIN.num_rows))
        context = prepare(model, with_histories(plain, train, length=3))
        found.append(model.embed(params, context))
    assert np.abs(found[0].users - found[1].users).max() > 1e-3
    np.testing.assert_array_equal(found[0].items, found[1].items)


def test_what_does_not_fit_is_refused(plain):
    with pytest.raises(ValueError, match=r"present \(3, 3\) .* each of 20 items"):
        with_tower(plain, WEIGHTS, tokens_of(3))
    with pytest.raises(ValueError, match=r"present \(4,\) .* each of 20 items"):
        with_tower(plain, WEIGHTS, tokens_of(ITEMS), np.ones(4, bool))
    with pytest.raises(ValueError, match="choose fusion 'sum' or skip 'own'"):
        Hybrid(fusion="gated", skip="shared")
    with pytest.raises(ValueError, match="dim 5 must be a multiple of heads 2"):
        Hybrid(dim=5, attended=Attended("own"))
    bare = make_context(TRAIN, Spec(USERS, ITEMS))
    model = MODELS["tower, all"]
    params = model.init(jax.random.key(0), SPEC)
    with pytest.raises(ValueError, match="the context holds no 'tower'"):
        model.embed(params, bare)
    with pytest.raises(ValueError, match=r"no parameter is called 'layers\.norm'"):
        Hybrid(text=Tuned(TOWER, unfreeze=("layers.norm",))).init(
            jax.random.key(0), SPEC
        )


def test_softmax_is_the_default_and_any_objective_goes():
    assert Hybrid().objective == Softmax() and Hybrid().num_negatives == 0
    assert Hybrid(objective=BPR(3)).num_negatives == 3
