"""DiffMM against its equations with dense matrices, and its diffusion."""

import dataclasses

import jax
import jax.numpy as jnp
import multimodal
import numpy as np
import pytest
from multimodal import ITEMS, SPEC, USERS, adjacency, interactions, nce, unit

from recjax.lists import item_lists
from recjax.models import DiffMM, Diffusion
from recjax.models._denoiser import denoise, denoiser_loss, init_denoiser
from recjax.models._diffusion import (
    generate,
    make_schedule,
    noise_rows,
    rows_of_users,
)
from recjax.models._generated_graph import (
    drop_generated,
    generated_sum,
    make_generated_graph,
)
from recjax.sampling import make_batch
from recjax.types import prepare

MODEL = DiffMM(dim=6, diffusion=Diffusion(hidden=7, users=5))
SCHEDULE = make_schedule(5, 1e-5, 2e-3)


@pytest.fixture(scope="module")
def params():
    params = MODEL.init(jax.random.key(0), SPEC)
    return params | {"weights": jnp.array([0.3, -0.5])}


@pytest.fixture(scope="module")
def context():
    return prepare(MODEL, multimodal.context())


@pytest.fixture(scope="module")
def batch(context):
    rows = jnp.array([0, 3, 5, 5, 11])
    users, items = context.users[rows], context.items[rows]
    return make_batch(jax.random.key(1), context, users, items, jnp.ones(5), 1)


@pytest.fixture(scope="module")
def denoiser():
    params = init_denoiser(jax.random.key(1), ITEMS, 8)
    # Large enough for the bend of tanh to matter, and for the row as against the time.
    params["input"]["kernel"] *= 3
    params["input"]["time"] /= 3
    return params


def test_schedule_is_that_of_the_released_code():
    expected = {
        "signal": [0.99990, 0.99940, 0.99891, 0.99841, 0.99791],
        "clean": [1, 0.833, 0.454, 0.313, 0.238],
        "noisy": [0, 0.167, 0.546, 0.687, 0.762],
        "weight": [1, 8326, 760, 285, 149],
    }
    for name, values in expected.items():
        tolerance = {"weight": 0.5, "signal": 6e-6}.get(name, 6e-4)
        found = getattr(SCHEDULE, name)
        np.testing.assert_allclose(found, values, rtol=0, atol=tolerance)


def dense_denoise(params, rows, step):
    angles = step * 10000.0 ** (-np.arange(5) / 5)
    time = np.concatenate([np.cos(angles), np.sin(angles)])
    time = time @ params["embedding"]["kernel"] + params["embedding"]["bias"]
    first, last = params["input"], params["output"]
    both = np.concatenate([first["kernel"], first["time"]])
    rows = np.concatenate([rows, np.tile(time, (len(rows), 1))], axis=1)
    return np.tanh(rows @ both + first["bias"]) @ last["kernel"].T + last["bias"]


def dense_generate(params, rows, k):
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    for t in range(4, -1, -1):
        clean = dense_denoise(params, rows, t)
        rows = SCHEDULE.clean[t] * clean + SCHEDULE.noisy[t] * rows
    return np.argsort(-rows, axis=1)[:, :k]


def test_denoiser_is_its_equations(denoiser):
    rows = np.random.default_rng(0).normal(size=(3, ITEMS))
    found = denoise(denoiser, rows, jnp.array([4, 0, 2]), num=5)
    for row, step in enumerate((4, 0, 2)):
        expected = dense_denoise(jax.device_get(denoiser), rows[row : row + 1], step)
        np.testing.assert_allclose(found[row], expected[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("block", [4, 1024])
def test_the_way_back_is_that_over_items(denoiser, context, k, block, monkeypatch):
    monkeypatch.setattr("recjax.models._diffusion._USER_BLOCK", block)
    found = generate(denoiser, SCHEDULE, context.seen, k)
    expected = dense_generate(denoiser, interactions(), k)
    assert len(np.unique(expected[:, 0])) > 1
    np.testing.assert_array_equal(found, expected)


def test_noise_has_the_mean_and_the_variance_of_its_step():
    clean = jnp.ones((20_000, 2))
    schedule = make_schedule(3, 0.1, 0.6)
    rows, steps = noise_rows(jax.random.key(0), schedule, clean, dropout=0.0)
    assert np.bincount(steps).min() > 6000
    for t in range(3):
        here, signal = rows[steps == t], schedule.signal[t]
        np.testing.assert_allclose(here.mean(), np.sqrt(signal), atol=0.02)
        np.testing.assert_allclose(here.var(), 1 - signal, rtol=0.05, atol=1e-5)
    rows, _ = noise_rows(jax.random.key(0), schedule, clean, dropout=0.25)
    np.testing.assert_allclose((rows == 0).mean(), 0.25, atol=0.01)


def test_rows_are_those_of_the_matrix(context):
    chosen = jnp.array([8, 3, 0])
    rows = rows_of_users(
        context.users, context.items, chosen, num_users=USERS, num=ITEMS
    )
    np.testing.assert_array_equal(rows, interactions()[chosen])


def dense_graph(items):
    whole, rows = np.eye(USERS + ITEMS), np.arange(USERS)[:, None]
    whole[rows, USERS + items] = whole[USERS + items, rows] = 1
    return multimodal.normalise(whole)


def test_generated_graph_is_a_matrix(rng):
    items = np.array([rng.permutation(ITEMS)[:2] for _ in range(USERS)])
    nodes = rng.normal(size=(USERS + ITEMS, 3))
    graph = make_generated_graph(jnp.asarray(items), ITEMS)
    found = generated_sum(graph, jnp.asarray(nodes))
    np.testing.assert_allclose(found, dense_graph(items) @ nodes, rtol=1e-4, atol=1e-6)


def test_dropped_entries_are_made_up_for_by_the_rest():
    graph = make_generated_graph(jnp.zeros((4000, 1), jnp.int32), 4000)
    dropped = drop_generated(jax.random.key(0), graph, rate=0.25)
    for before, after in zip(graph[1:], dropped[1:], strict=True):
        np.testing.assert_allclose((after == 0).mean(), 0.25, atol=0.03)
        kept = after != 0
        np.testing.assert_allclose(after[kept], before[kept] / 0.75, rtol=1e-5)
    # Each direction by itself.
    both = (dropped.to_users == 0) & (dropped.to_items == 0)
    np.testing.assert_allclose(both.mean(), 0.25**2, atol=0.02)


def reference(params, graphs):
    """E, and C of each modality, from the matrix of each modality's graph."""
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    nodes, matrix = params["nodes"], adjacency(self_loops=True)
    share = np.exp(params["weights"]) / np.exp(params["weights"]).sum()
    looks, mass, mixed = {}, 0, 0
    for weight, (name, feature) in zip(
        share, multimodal.features().items(), strict=True
    ):
        projection = params["projections"][name]
        values = feature.values @ projection["kernel"] + projection["bias"]
        looks[name] = unit(values) * feature.present[:, None]
        mixed = mixed + weight * looks[name]
        mass = mass + weight * feature.present
    users, items = nodes[:USERS], nodes[USERS:]
    first = matrix @ np.concatenate([users, mixed / mass[:, None]])
    main = first + matrix @ np.concatenate([first[:USERS], items])
    views = []
    for weight, (name, graph) in zip(share, graphs.items(), strict=True):
        main = main + 0.2 * weight * graph @ nodes
        view = graph @ np.concatenate([users, looks[name]])
        views.append(view + matrix @ view)
    return main + matrix @ main + 0.5 * unit(main), views


def scoring_graphs(params):
    return {
        name: dense_graph(dense_generate(denoiser, interactions(), 1))
        for name, denoiser in params["denoisers"].items()
    }


def test_vectors_are_the_equations(context, params):
    expected, _ = reference(params, scoring_graphs(params))
    found = jnp.concatenate(MODEL.embed(params, context))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("contrast", ["main", "pairs"])
def test_loss_is_the_equations(context, params, batch, contrast):
    model = dataclasses.replace(MODEL, contrast=contrast, dropout=0.0)
    epoch = model.refresh(params, context, jax.random.key(5))
    nodes, views = reference(params, scoring_graphs(params))
    u, i = nodes[batch.users], nodes[USERS + batch.items]
    j = nodes[USERS + batch.negatives[:, 0]]
    objective = np.log1p(np.exp((u * j).sum(1) - (u * i).sum(1))).mean()
    expected = 0
    pairs = [(nodes, view) for view in views] if contrast == "main" else [tuple(views)]
    for left, right in pairs:
        for ids, whole in (
            (np.asarray(batch.users), slice(USERS)),
            (USERS + np.asarray(batch.items), slice(USERS, None)),
        ):
            expected += nce(left[ids], right[ids], right[whole], 0.5).mean()
    loss, aux = model.loss(params, epoch, batch, jax.random.key(2))
    np.testing.assert_allclose(aux["objective"], objective, rtol=1e-5)
    np.testing.assert_allclose(aux["contrast"], expected, rtol=1e-5)
    penalty = 1e-4 * np.square(params["nodes"]).sum()
    total = objective + penalty + 0.01 * expected
    np.testing.assert_allclose(loss, total, rtol=1e-5)


def test_denoiser_loss_is_its_equation(denoiser, rng):
    clean, vectors = interactions(), rng.normal(size=(ITEMS, 6))
    features = rng.normal(size=(ITEMS, 6))
    rows, steps = noise_rows(jax.random.key(0), SCHEDULE, clean, dropout=0.5)
    losses = []
    for b, t in enumerate(np.asarray(steps)):
        found = dense_denoise(jax.device_get(denoiser), np.asarray(rows)[b : b + 1], t)
        losses.append(SCHEDULE.weight[t] * np.mean((clean[b] - found) ** 2))
        losses[-1] += 0.1 * np.mean((found @ features - clean[b] @ vectors) ** 2)
    found = denoiser_loss(
        denoiser,
        SCHEDULE.weight,
        clean,
        (rows, steps),
        (features, vectors),
        signal_weight=0.1,
    )
    np.testing.assert_allclose(found, np.mean(losses), rtol=1e-4)


def test_denoisers_learn_from_their_loss_and_nothing_else_does(context, params, batch):
    epoch = MODEL.refresh(params, context, jax.random.key(5))

    def part(params, name):
        if name == "denoising":
            return MODEL.first_loss(params, context, jax.random.key(2))[0]
        return MODEL.loss(params, epoch, batch, jax.random.key(2))[1][name]

    for name in ("objective", "contrast", "denoising"):
        grads = jax.grad(part)(params, name)
        of_denoisers = grads.pop("denoisers")
        learns, does_not = of_denoisers, grads
        if name != "denoising":
            learns, does_not = grads["projections"], of_denoisers
        assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(learns))
        assert not any(np.abs(g).max() > 0 for g in jax.tree.leaves(does_not))
        assert name != "objective" or np.abs(grads["weights"]).min() > 0


def test_each_epoch_has_as_many_denoiser_steps_as_see_all_users(context):
    # Nine users, five a step.
    assert MODEL.first_steps(context) == 2
    assert DiffMM().first_steps(context) == 1


def test_an_epoch_drops_edges_and_scoring_does_not(context, params):
    one, two = (MODEL.refresh(params, context, jax.random.key(k)) for k in (0, 1))
    weights = [x.prepared["generated"]["image"].loops for x in (one, two)]
    assert (weights[0] == 0).any() and (weights[0] != weights[1]).any()
    states = [MODEL.embed(params, x) for x in (context, one, two)]
    for state in states[1:]:
        jax.tree.map(np.testing.assert_array_equal, state, states[0])


def test_what_an_absent_item_holds_does_not_matter(context, params):
    held = prepare(MODEL, multimodal.context(multimodal.features(held=np.nan)))
    jax.tree.map(
        np.testing.assert_array_equal,
        MODEL.embed(params, context),
        MODEL.embed(params, held),
    )


@pytest.mark.parametrize("k", [1, 2])
def test_a_newcomer_is_a_user_of_the_graph_without_a_vector(context, params, k):
    model = dataclasses.replace(MODEL, generated_items=k)
    params = params | {"nodes": params["nodes"].at[6].set(0.0)}
    items = np.flatnonzero(interactions()[6])
    histories = item_lists(np.zeros(len(items), int), items, 2)
    state = model.embed(params, context)
    found = model.fold_in(params, context, state, histories)
    assert len(items) > 1
    np.testing.assert_allclose(found.users[0], state.users[6], rtol=1e-4, atol=1e-6)
    assert np.isfinite(found.users[1]).all()
