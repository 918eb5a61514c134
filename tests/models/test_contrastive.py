"""Self-supervised models against their equations on dense matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.data import make_context
from recjax.models import NCL, SGL, DirectAU, LightGCN, SimGCL, XSimGCL
from recjax.models._contrast import batch_contrast
from recjax.models.ncl import _cluster
from recjax.objectives import BPR, Softmax
from recjax.sampling import make_batch, uniform_rows
from recjax.types import Batch, Interactions, Spec

SPEC = Spec(9, 7)
KEY = jax.random.key(7)


@pytest.fixture(scope="module")
def context():
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 9, 30), rng.integers(0, 7, 30)
    return make_context(Interactions(users, items), SPEC)


@pytest.fixture(scope="module")
def batch(context):
    """Users and items that occur twice, and a row that does not count."""
    rows = jnp.array([0, 3, 0, 5, 8, 9, 10])
    weight = jnp.array([1.0, 1, 1, 1, 1, 1, 0])
    users, items = context.users[rows], context.items[rows]
    return make_batch(jax.random.key(1), context, users, items, weight, 1)


def dense(graph):
    matrix = np.zeros((16, 16), np.float32)
    matrix[graph.receivers, graph.senders] = graph.edges["weight"]
    return jnp.asarray(matrix)


def unit(x):
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def noisy(key, x, size):
    noise = uniform_rows(key, jnp.arange(len(x)), x.shape[1])
    return x + size * jax.lax.stop_gradient(jnp.sign(x)) * unit(noise)


def noisy_layers(key, matrix, nodes, depth, size):
    layers = []
    for own in jax.random.split(key, depth):
        nodes = noisy(own, matrix @ nodes, size)
        layers.append(nodes)
    return layers


def info_nce(left, right, ids, others=None):
    """InfoNCE at temperature 1/2 of the given rows of the tables."""
    left, right = unit(left[ids]), unit(right[ids])
    others = right if others is None else unit(others)
    logits = 2 * left @ others.T
    own = 2 * jnp.sum(left * right, axis=1)
    return jnp.mean(jnp.log(jnp.exp(logits).sum(1)) - own)


def contrast(left, right, batch):
    counts = np.asarray(batch.weight) > 0
    users = np.unique(np.asarray(batch.users)[counts])
    items = 9 + np.unique(np.asarray(batch.items)[counts])
    return info_nce(left, right, users) + info_nce(left, right, items)


def bpr_with_l2(vectors, nodes, batch, l2):
    counts = np.asarray(batch.weight) > 0
    u, i = batch.users[counts], 9 + batch.items[counts]
    j = 9 + batch.negatives[counts, 0]
    margin = jnp.sum(vectors[u] * (vectors[i] - vectors[j]), axis=1)
    squares = sum(jnp.sum(nodes[rows] ** 2, axis=1) for rows in (u, i, j))
    return jnp.mean(jnp.log1p(jnp.exp(-margin)) + l2 * squares / 2)


def assert_equations(model, context, batch, reference, scale=1.0):
    """Value and derivatives of the loss, with tables of a size that noise matters."""
    params = {"nodes": scale * jax.random.normal(jax.random.key(2), (16, 6))}

    def loss(params):
        return model.loss(params, context, batch, KEY)[0]

    found = jax.value_and_grad(loss)(params)
    expected = jax.value_and_grad(reference)(params["nodes"])
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(found[1]["nodes"], expected[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("layers", "contrast_layer"), [(3, 1), (2, 2), (1, 1)])
def test_xsimgcl_is_its_equations(context, batch, layers, contrast_layer):
    model = XSimGCL(
        dim=6,
        layers=layers,
        contrast_layer=contrast_layer,
        noise=0.3,
        temperature=0.5,
        contrast=0.4,
        l2=0.1,
    )

    def reference(nodes):
        found = noisy_layers(KEY, dense(context.graph), nodes, layers, 0.3)
        mean = sum(found) / layers
        total = bpr_with_l2(mean, nodes, batch, 0.1)
        return total + 0.4 * contrast(mean, found[contrast_layer - 1], batch)

    assert_equations(model, context, batch, reference)


@pytest.mark.parametrize("layers", [1, 3])
def test_simgcl_is_its_equations(context, batch, layers):
    """Derivatives through all three passes are those of its one backward pass."""
    model = SimGCL(
        dim=6, layers=layers, noise=0.3, temperature=0.5, contrast=0.4, l2=0.1
    )

    def reference(nodes):
        matrix = dense(context.graph)
        clean = noisy_layers(KEY, matrix, nodes, layers, 0.0)
        total = bpr_with_l2(sum(clean) / layers, nodes, batch, 0.1)
        views = [
            sum(noisy_layers(key, matrix, nodes, layers, 0.3)) / layers
            for key in jax.random.split(KEY)
        ]
        return total + 0.4 * contrast(*views, batch)

    assert_equations(model, context, batch, reference)


def test_sgl_is_its_equations(context, batch):
    model = SGL(dim=6, layers=2, drop=0.4, temperature=0.5, contrast=0.4, l2=0.1)
    context = model.refresh({}, context, KEY)

    def mean(graph, nodes):
        matrix = dense(graph)
        return (nodes + matrix @ nodes + matrix @ (matrix @ nodes)) / 3

    def reference(nodes):
        total = bpr_with_l2(mean(context.graph, nodes), nodes, batch, 0.1)
        left, right = (mean(view, nodes) for view in context.prepared["views"])
        return total + 0.4 * contrast(left, right, batch)

    assert_equations(model, context, batch, reference)


def test_ncl_is_its_equations(context, batch):
    model = NCL(dim=6, temperature=0.5, structure=0.4, prototype=0.7, l2=0.1)
    rng = np.random.default_rng(0)
    sides = [
        (jnp.asarray(rng.normal(size=(3, 6)), jnp.float32), rng.integers(0, 3, num))
        for num in (9, 7)
    ]
    context = context._replace(prepared={"prototypes": jax.device_put(sides)})

    def reference(nodes):
        found = [nodes, *noisy_layers(KEY, dense(context.graph), nodes, 3, 0.0)]
        total = bpr_with_l2(sum(found) / 4, nodes, batch, 0.1)
        total += 0.4 * contrast(found[2], nodes, batch)
        counts = np.asarray(batch.weight) > 0
        for first, ids, (centres, cluster) in zip(
            (0, 9), (batch.users, batch.items), sides, strict=True
        ):
            own = np.unique(np.asarray(ids)[counts])
            table = nodes[first : first + len(cluster)]
            total += 0.7 * info_nce(table, centres[cluster], own, centres)
        return total

    assert_equations(model, context, batch, reference)


@pytest.mark.parametrize(
    ("model", "sums"),
    [
        (LightGCN(dim=6, objective=BPR()), 6),
        (XSimGCL(dim=6), 6),
        (SimGCL(dim=6), 10),
        (SGL(dim=6), 18),
        (NCL(dim=6), 6),
    ],
    ids=["lightgcn", "xsimgcl", "simgcl", "sgl", "ncl"],
)
def test_neighbour_sums_of_a_step(context, batch, model, sums):
    """Three layers forwards and backwards, and no more for noise or prototypes."""
    params = model.init(KEY, SPEC)
    if hasattr(model, "refresh"):
        context = model.refresh(params, context, KEY)

    def loss(params, context, batch):
        return model.loss(params, context, batch, KEY)[0]

    step = jax.jit(jax.value_and_grad(loss)).lower(params, context, batch)
    # On CPU a neighbour sum is a call of Eigen's.
    assert step.compile().as_text().count(" custom-call(") == sums


@pytest.mark.parametrize("layers", [0, 2])
def test_directau_is_its_equations(context, batch, layers):
    model = DirectAU(dim=6, layers=layers, gamma=0.7, l2=0.1)
    counts = np.asarray(batch.weight) > 0
    users, items = np.asarray(batch.users)[counts], 9 + np.asarray(batch.items)[counts]

    def uniformity(x):
        distance = jnp.sum((x[:, None] - x[None]) ** 2, axis=-1)
        return jnp.log(jnp.mean(jnp.exp(-2 * distance)[np.triu_indices(len(x), 1)]))

    def reference(nodes):
        found = [nodes, *noisy_layers(KEY, dense(context.graph), nodes, layers, 0.0)]
        z = unit(sum(found) / len(found))
        squares = jnp.sum(nodes[users] ** 2 + nodes[items] ** 2, axis=1)
        alignment = jnp.sum((z[users] - z[items]) ** 2, axis=1)
        total = jnp.mean(alignment + 0.1 * squares / 2)
        return total + 0.35 * (uniformity(z[users]) + uniformity(z[items]))

    none = batch._replace(negatives=batch.negatives[:, :0])
    assert_equations(model, context, none, reference)


def test_directau_scores_by_cosines_or_by_dot_products(context):
    params = {"nodes": jax.random.normal(KEY, (16, 6))}
    lengths = [
        np.linalg.norm(DirectAU(dim=6, cosine=c).embed(params, context).items, axis=1)
        for c in (True, False)
    ]
    np.testing.assert_allclose(lengths[0], 1, rtol=1e-5)
    assert np.ptp(lengths[1]) > 0.1


@pytest.mark.parametrize("kind", [SimGCL, XSimGCL])
@pytest.mark.parametrize("objective", [BPR(), Softmax()])
def test_the_table_is_no_part_of_the_mean(context, kind, objective):
    model = kind(dim=6, layers=2, objective=objective)
    params = {"nodes": jax.random.normal(KEY, (16, 6))}
    matrix = dense(context.graph)
    first = matrix @ params["nodes"]
    mean = (first + matrix @ first) / 2
    mean = unit(mean) if objective.cosine else mean
    found = model.embed(params, context)
    np.testing.assert_allclose(found.users, mean[:9], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.items, mean[9:], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("model", [LightGCN, SGL, NCL, SimGCL, XSimGCL])
def test_newcomers_are_where_the_graph_would_put_them(model):
    """Users 0 and 1 have the same items, and user 1 begins at 0."""
    train = Interactions(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 1]))
    context = make_context(train, Spec(3, 2))
    model = model(dim=3, objective=BPR())
    params = model.init(KEY, Spec(3, 2))
    params["nodes"] = params["nodes"].at[1].set(0.0)
    state = model.embed(params, context)
    histories = context.seen._replace(
        pointer=context.seen.pointer[:2], items=context.seen.items[:2]
    )
    folded = model.fold_in(params, context, state, histories)
    np.testing.assert_allclose(folded.users[0], state.users[1], rtol=1e-5)


def test_a_batch_counts_everything_once():
    """Rows twice, and rows that do not count, change no contrast."""
    keys = jax.random.split(KEY, 2)
    left, right = (jax.random.normal(key, (6, 4)) for key in keys)
    none = jnp.zeros((3, 0), jnp.int32)
    once = Batch(jnp.arange(3), jnp.arange(3) + 4, none, jnp.ones(3))
    expected = batch_contrast(left, right, once, temperature=0.5)
    rows = jnp.array([2, 0, 0, 1, 2])
    weight = jnp.array([1.0, 1, 1, 1, 0])
    both = jnp.concatenate([rows, rows + 3])
    twice = Batch(once.users[rows], once.items[rows], none, weight)
    found = batch_contrast(left[both], right[both], twice, temperature=0.5)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_contrast_of_some_rows_is_their_part_of_the_mean():
    keys = jax.random.split(jax.random.key(0))
    left, right = (jax.random.normal(key, (16, 4)) for key in keys)
    none = jnp.zeros((8, 0), jnp.int32)
    batch = Batch(jnp.arange(8), jnp.arange(8), none, jnp.ones(8))
    whole = batch_contrast(left, right, batch, temperature=0.5)
    parts = []
    for first in (0, 2, 4, 6):
        turned = (np.arange(8) + first) % 8
        both = np.concatenate([turned, 8 + turned])
        one = Batch(batch.users[turned], batch.items[turned], none, batch.weight)
        part = batch_contrast(left[both], right[both], one, temperature=0.5, rows=2)
        parts.append(part)
    assert np.ptp(parts) > 0.01
    np.testing.assert_allclose(np.mean(parts), whole, rtol=1e-6)


def test_views_of_sgl(context):
    model = SGL(drop=0.5)
    refreshed = model.refresh({}, context, KEY)
    left, right = (dense(view) for view in refreshed.prepared["views"])
    whole = dense(context.graph)
    for view in left, right:
        there = np.asarray(view != 0, float)
        assert (there <= (whole != 0)).all() and 0 < there.sum() < (whole != 0).sum()
        degree = np.maximum(there.sum(1), 1)
        expected = there / np.sqrt(degree[:, None] * degree)
        np.testing.assert_allclose(view, expected, rtol=1e-5)
    assert (left != right).any()
    again = model.refresh({}, context, jax.random.key(8)).prepared["views"]
    assert (dense(again[0]) != left).any()
    params = {"nodes": jax.random.normal(KEY, (16, 6))}
    jax.tree.map(
        np.testing.assert_array_equal,
        model.embed(params, refreshed),
        model.embed(params, context),
    )


@pytest.mark.parametrize("model", [SGL(dim=6), NCL(dim=6)])
def test_a_context_without_refresh_is_refused(context, batch, model):
    params = model.init(KEY, SPEC)
    with pytest.raises(ValueError, match="prepare"):
        model.loss(params, context, batch, KEY)


def test_clusters_are_found():
    """Three bundles of directions, of any length."""
    rng = np.random.default_rng(0)
    axes = np.eye(3)[rng.integers(0, 3, 60)]
    vectors = axes + 0.05 * rng.normal(size=(60, 3))
    vectors *= rng.uniform(0.1, 10, (60, 1))
    found = []
    for seed in range(6):
        centres, cluster = _cluster(
            jax.random.key(seed), jnp.asarray(vectors, jnp.float32), num=3, steps=8
        )
        np.testing.assert_allclose(np.linalg.norm(centres, axis=1), 1, rtol=1e-5)
        cosines = vectors @ np.asarray(centres).T
        np.testing.assert_array_equal(cluster, cosines.argmax(1))
        pure = [len(np.unique(axes[cluster == c], axis=0)) == 1 for c in range(3)]
        found.append(all(pure))
    # Lloyd's steps find the best clusters from some starts and not from others.
    assert any(found)


def test_more_clusters_than_vectors(context):
    model = NCL(dim=6, clusters=1000)
    params = model.init(KEY, SPEC)
    context = model.refresh(params, context, KEY)
    users, items = context.prepared["prototypes"]
    assert users[0].shape == (9, 6) and items[0].shape == (7, 6)
    assert len(np.unique(users[1])) == 9


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: SimGCL(layers=0),
        lambda: NCL(layers=1),
        lambda: XSimGCL(layers=2, contrast_layer=3),
        lambda: XSimGCL(contrast_layer=0),
    ],
)
def test_layers_that_there_are_not(wrong):
    with pytest.raises(ValueError, match="layer"):
        wrong()
