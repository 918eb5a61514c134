"""Models of items with features, against their equations in dense NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.data import make_context
from recjax.graphs import prune_edges
from recjax.lists import item_lists
from recjax.models import BM3, FREEDOM, LATTICE, MGCN, MMGCN, VBPR, LightGCN
from recjax.models._item_graph import fixed_graph, item_graphs
from recjax.objectives import BPR, SampledSoftmax, Softmax
from recjax.sampling import make_batch
from recjax.sparse import graph_sum
from recjax.types import Feature, Interactions, Spec, prepare

USERS, ITEMS, K = 9, 12, 3
WIDTHS = {"audio": 4, "image": 6}
SPEC = Spec(USERS, ITEMS, 0, tuple(WIDTHS.items()))
SMALL = {"neighbours": K, "init_scale": 0.5}
MODELS = {
    "bm3": BM3(dim=5, layers=2, init_scale=0.5),
    "freedom": FREEDOM(dim=5, feature_weight=0.5, **SMALL),
    "lattice": LATTICE(dim=5, content_dim=3, raw_share=0.4, l2=0.1, **SMALL),
    "mgcn": MGCN(dim=5, contrast=0.3, l2=0.1, **SMALL),
    "mmgcn": MMGCN(dim=5, content_dim=4, layers=2, l2=0.1),
    "vbpr": VBPR(dim=5, content_dim=3, l2=0.1, init_scale=0.5),
}


def features_of(rng):
    """Item 2 has no image, item 5 no audio, item 7 neither; nobody took item 11."""
    missing = {"audio": [5, 7], "image": [2, 7]}
    features = {}
    for name, width in WIDTHS.items():
        # A common direction, so that most cosines are positive.
        values = (1 + rng.normal(size=(ITEMS, width))).astype(np.float32)
        present = ~np.isin(np.arange(ITEMS), missing[name])
        features[name] = Feature(np.where(present[:, None], values, 0), present)
    return features


@pytest.fixture
def context(rng):
    matrix = rng.random((USERS, ITEMS)) < 0.35
    matrix[0, :6], matrix[:, 11] = True, False
    return make_context(
        Interactions(*np.nonzero(matrix)), SPEC, features=features_of(rng)
    )


@pytest.fixture(params=MODELS)
def model(request):
    return MODELS[request.param]


def init(model):
    """Parameters that are all away from 0, as biases are not at the start."""
    params = model.init(jax.random.key(0), SPEC)
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    noise = [
        x + 0.3 * jax.random.normal(k, x.shape)
        for x, k in zip(leaves, keys, strict=True)
    ]
    return jax.tree.unflatten(tree, noise)


def batch_of(model, context):
    rows = jnp.arange(7)
    return make_batch(
        jax.random.key(2),
        context,
        context.users[rows],
        context.items[rows],
        jnp.ones(7),
        model.num_negatives,
    )


def loss_of(model, params, context, batch):
    return model.loss(params, context, batch, jax.random.key(3))[0]


def host(tree):
    """On the host, in float64 where it is floating."""

    def wide(x):
        x = np.asarray(x)
        return x.astype(np.float64) if np.issubdtype(x.dtype, np.floating) else x

    return jax.tree.map(wide, tree)


def dense(graph, num):
    matrix = np.zeros((num, num))
    np.add.at(matrix, (graph.receivers, graph.senders), graph.edges["weight"])
    return matrix


def unit(x):
    norm = np.linalg.norm(x, axis=-1, keepdims=True)
    return x / np.where(norm > 0, norm, 1)


def project(params, feature):
    out = feature.values @ params["kernel"] + params.get("bias", 0)
    return np.where(feature.present[:, None], out, 0)


def nearest(values, present, *, weighted):
    """Dense matrix of the K nearest, and its symmetric normalisation."""
    cosine = unit(values) @ unit(values).T
    cosine[~present], cosine[:, ~present] = -np.inf, -np.inf
    order = np.argsort(-cosine, axis=1, kind="stable")[:, :K]
    matrix = np.zeros_like(cosine)
    rows = np.flatnonzero(present)[:, None]
    matrix[rows, order[present]] = cosine[rows, order[present]] if weighted else 1
    matrix = np.maximum(matrix, 0)
    return matrix, symmetric(matrix)


def symmetric(matrix):
    degree = matrix.sum(1)
    root = np.where(degree > 0, np.where(degree > 0, degree, 1) ** -0.5, 0)
    return root[:, None] * matrix * root


def smooth(context, nodes, depth):
    """LightGCN's mean of the layers, apart."""
    matrix = dense(context.graph, USERS + ITEMS)
    powers = [np.linalg.matrix_power(matrix, k) @ nodes for k in range(depth + 1)]
    mean = sum(powers) / (depth + 1)
    return mean[:USERS], mean[USERS:]


def bpr(users, items, negatives):
    difference = (users * items).sum(-1) - (users * negatives).sum(-1)
    return np.log1p(np.exp(-difference))


def half_squares(*rows):
    return sum((x**2).sum() for x in rows) / 2


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def leaky(x):
    return np.where(x > 0, x, 0.01 * x)


def assert_near(found, expected):
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)


# One function a model: users, items and what else its loss needs, by the equations.


def by_hand_vbpr(p, context):
    """Both sides of the dot product."""
    content = sum(
        project(p["content"][name], f) for name, f in context.features.items()
    )
    of_content = sum(
        project(p["content_bias"][name], f)[:, 0]
        for name, f in context.features.items()
    )
    bias = p["bias"] + of_content
    users = np.concatenate([p["users"], np.ones((USERS, 1))], axis=1)
    return users, np.concatenate([p["items"], content, bias[:, None]], axis=1)


def by_hand_freedom(model, p, context):
    users, items = smooth(context, p["nodes"], model.layers)
    share = {"audio": 0.9, "image": 0.1}
    similar = sum(
        share[name] * nearest(f.values, f.present, weighted=False)[1]
        for name, f in context.features.items()
    )
    return users, items + similar @ p["nodes"][USERS:]


def by_hand_lattice(model, p, context):
    users, items = smooth(context, p["nodes"], model.layers)
    names = sorted(WIDTHS)
    power = np.exp([p["modality"][name] for name in names])
    raw, learned = 0, 0
    for name, share in zip(names, power / power.sum(), strict=True):
        values, present = context.features[name]
        raw += share * nearest(values, present, weighted=True)[1]
        vectors = project(p["features"][name], context.features[name])
        learned += share * nearest(vectors, present, weighted=True)[0]
    graph = model.raw_share * raw + (1 - model.raw_share) * symmetric(learned)
    return users, items + unit(graph @ p["nodes"][USERS:])


def mgcn_parts(model, p, context):
    behaviour = np.concatenate(smooth(context, p["nodes"], model.layers))
    matrix = dense(context.graph, USERS + ITEMS)
    views, present, attention = [], [], p["fusion"]["attention"]
    for name in sorted(WIDTHS):
        feature = context.features[name]
        gate = sigmoid(project(p["gates"][name], feature))
        similar = nearest(feature.values, feature.present, weighted=True)[1]
        items = similar @ (p["nodes"][USERS:] * gate)
        views.append(np.concatenate([matrix[:USERS, USERS:] @ items, items]))
        present.append(np.concatenate([np.ones(USERS, bool), feature.present]))
    views, present = np.stack(views), np.stack(present)
    logits = np.tanh(views @ attention["kernel"] + attention["bias"])
    power = np.exp(logits @ attention["query"]) * present
    weight = power / np.maximum(power.sum(0), 1e-30)
    common = (weight[..., None] * views).sum(0)
    specific = 0
    for name, view, there in zip(sorted(WIDTHS), views, present, strict=True):
        gate = p["fusion"]["gates"][name]
        opened = sigmoid(behaviour @ gate["kernel"] + gate["bias"])
        specific += there[:, None] * (view - common) * opened
    return behaviour, (specific + common) / (present.sum(0) + 1)[:, None]


def by_hand_mgcn(model, p, context):
    nodes = sum(mgcn_parts(model, p, context))
    return nodes[:USERS], nodes[USERS:]


def by_hand_mmgcn(model, p, context):
    matrix = dense(context.graph, USERS + ITEMS) > 0
    mean = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    total = 0
    for name, feature in context.features.items():
        items = project(p["features"][name], feature)
        x = unit(np.concatenate([p["preferences"][name], items]))
        for number in range(model.layers):
            layer = p["layers"][name][f"layer_{number}"]
            h = leaky(mean @ x @ layer["neighbour"]["kernel"])
            own = leaky(x @ layer["self"]["kernel"] + layer["self"]["bias"])
            out = h @ layer["output"]["kernel"] + layer["output"]["bias"]
            x = leaky(out + own + p["nodes"])
        total += x / len(WIDTHS)
    return total[:USERS], total[USERS:]


def by_hand_bm3(model, p, context):
    users, items = smooth(context, p["nodes"], model.layers)
    items = items + p["nodes"][USERS:]
    layer = p["predictor"]
    return [x @ layer["kernel"] + layer["bias"] for x in (users, items)]


BY_HAND = {
    BM3: by_hand_bm3,
    FREEDOM: by_hand_freedom,
    LATTICE: by_hand_lattice,
    MGCN: by_hand_mgcn,
    MMGCN: by_hand_mmgcn,
    VBPR: lambda model, p, context: by_hand_vbpr(p, context),
}


def test_scores_are_the_equations(model, context):
    context, params = prepare(model, context), init(model)
    found = model.score(
        params, model.embed(params, context), jnp.arange(USERS), jnp.arange(ITEMS)
    )
    users, items = BY_HAND[type(model)](model, host(params), host(context))
    assert_near(found, users @ items.T)


@pytest.mark.parametrize("name", ["freedom", "lattice", "mgcn", "mmgcn"])
def test_losses_are_bpr_and_what_the_paper_adds(name, context):
    model = MODELS[name]
    context, params = prepare(model, context), init(model)
    batch = batch_of(model, context)
    p, c = host(params), host(context)
    users, items = BY_HAND[type(model)](model, p, c)
    u, i, j = users[batch.users], items[batch.items], items[batch.negatives[:, 0]]
    expected = bpr(u, i, j).mean()
    if name in ("lattice", "mgcn"):
        expected += 0.1 * half_squares(u, i, j) / 7
    if name == "mmgcn":
        tables = [p["nodes"], *p["preferences"].values()]
        rows = [table[batch.users] for table in tables]
        own = p["nodes"][USERS:]
        rows += [own[batch.items], own[batch.negatives[:, 0]]]
        expected += 0.1 * half_squares(*rows) / 7
    if name == "freedom":
        for feature_name, feature in c.features.items():
            vectors = project(p["features"][feature_name], feature)
            one, other = batch.items, batch.negatives[:, 0]
            there = feature.present[one] & feature.present[other]
            assert 0 < there.sum() < 7
            losses = bpr(u, vectors[one], vectors[other])
            expected += 0.5 * losses[there].mean()
    if name == "mgcn":
        behaviour, content = mgcn_parts(model, p, c)
        for rows in (batch.users, USERS + batch.items):
            logits = unit(content[rows]) @ unit(behaviour[rows]).T / 0.2
            nce = np.log(np.exp(logits).sum(1)) - np.diag(logits)
            expected += 0.3 * nce.mean()
    assert_near(loss_of(model, params, context, batch), expected)


def test_vbpr_loss_is_bpr_of_its_scores(context):
    model, params = MODELS["vbpr"], init(MODELS["vbpr"])
    batch = batch_of(model, context)
    users, items = by_hand_vbpr(host(params), host(context))
    one, other = items[batch.items], items[batch.negatives[:, 0]]
    own = users[batch.users]
    expected = bpr(own, one, other).mean() + 0.1 * half_squares(own, one, other) / 7
    assert_near(loss_of(model, params, context, batch), expected)


def test_bm3_loss_without_dropout_is_its_equations(context):
    model = dataclasses.replace(MODELS["bm3"], dropout=0.0)
    params = init(model)
    batch = batch_of(model, context)
    p, c = host(params), host(context)
    users, items = smooth(c, p["nodes"], model.layers)
    items = items + p["nodes"][USERS:]

    def predict(x):
        return x @ p["predictor"]["kernel"] + p["predictor"]["bias"]

    def distance(x, y):
        return (1 - (unit(x) * unit(y)).sum(1)).mean()

    u, i = users[batch.users], items[batch.items]
    expected = distance(predict(u), i) + distance(predict(i), u)
    for name, feature in c.features.items():
        there = feature.present[batch.items]
        f = project(p["features"][name], feature)[batch.items][there]
        assert 0 < there.sum() < 7
        expected += 2 * (distance(predict(f), i[there]) + distance(predict(f), f))
    expected += 0.1 * (np.linalg.norm(users) + np.linalg.norm(items)) / ITEMS
    assert_near(loss_of(model, params, context, batch), expected)


def test_bm3_targets_receive_no_gradient(context):
    """With p = 0 every term is a constant, so that targets alone could have one."""
    model = dataclasses.replace(MODELS["bm3"], norm_weight=0.0)
    params = init(model)
    params["predictor"] = jax.tree.map(jnp.zeros_like, params["predictor"])
    batch = batch_of(model, context)
    grads = jax.grad(loss_of, argnums=1)(model, params, context, batch)
    for name in ("nodes", "features"):
        assert all((leaf == 0).all() for leaf in jax.tree.leaves(grads[name]))


def test_bm3_dropout_is_drawn_by_the_key(context):
    model, params = MODELS["bm3"], init(MODELS["bm3"])
    batch = batch_of(model, context)
    first, again, other = (
        float(model.loss(params, context, batch, jax.random.key(k))[0])
        for k in (0, 0, 1)
    )
    assert first == again != other


def test_gradients_reach_every_parameter(model, context):
    """The id and preference tables of MMGCN among them, unlike in released code."""
    context, params = prepare(model, context), init(model)
    batch = batch_of(model, context)
    grads = jax.grad(loss_of, argnums=1)(model, params, context, batch)
    for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
        assert np.isfinite(leaf).all(), path
        # In a difference of two items' scores a bias of both cancels out.
        idle = isinstance(model, FREEDOM) and path[-1].key == "bias"
        assert (np.abs(leaf).max() > 0) != idle, path


@pytest.mark.parametrize("name", ["features", "modality", "nodes"])
def test_lattice_gradients_are_those_of_finite_differences(name, context):
    """Through cosines, degrees and shares, along edges that stay where they are."""
    model, params = MODELS["lattice"], init(MODELS["lattice"])
    context = model.refresh(params, prepare(model, context), jax.random.key(0))
    batch, rng = batch_of(model, context), np.random.default_rng(0)
    way = jax.tree.map(lambda x: rng.normal(size=x.shape), params[name])

    def along(step):
        moved = jax.tree.map(lambda x, d: x + step * d, params[name], way)
        return loss_of(model, params | {name: moved}, context, batch)

    grads = jax.grad(loss_of, argnums=1)(model, params, context, batch)[name]
    slope = sum(jax.tree.leaves(jax.tree.map(jnp.vdot, grads, way)))
    found = (along(1e-2) - along(-1e-2)) / 2e-2
    np.testing.assert_allclose(found, slope, rtol=2e-2, atol=1e-4)


def test_what_stands_in_an_absent_row_does_not_matter(model, context):
    params = init(model)
    batch = batch_of(model, context)

    def results(context):
        context = prepare(model, context)
        value = jax.value_and_grad(loss_of, argnums=1)(model, params, context, batch)
        return model.embed(params, context), value

    garbage = {
        name: f._replace(values=jnp.where(f.present[:, None], f.values, jnp.nan))
        for name, f in context.features.items()
    }
    left, right = results(context), results(context._replace(features=garbage))
    jax.tree.map(np.testing.assert_array_equal, left, right)


def test_half_precision_features_are_taken(model, context):
    """Tables of images often are; parameters and scores stay float32."""
    params = init(model)
    half = {
        name: f._replace(values=f.values.astype(jnp.float16))
        for name, f in context.features.items()
    }
    context = prepare(model, context._replace(features=half))
    state = model.embed(params, context)
    assert state.users.dtype == state.items.dtype == jnp.float32
    assert loss_of(model, params, context, batch_of(model, context)).dtype == (
        jnp.float32
    )


def test_a_dataset_without_features_is_refused(model):
    with pytest.raises(ValueError, match="needs item features"):
        model.init(jax.random.key(0), Spec(USERS, ITEMS))


@pytest.mark.parametrize("name", ["freedom", "lattice", "mgcn", "bm3", "mmgcn"])
def test_newcomers_receive_as_users_without_vectors_of_their_own(name):
    """Exactly so for a user whose arrival changes no item's vector."""
    # User 1 has the list of user 0 and vectors of 0; the newcomer brings that list.
    train = Interactions(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]))
    spec = Spec(2, 2, 0, (("image", 3),))
    values = np.array([[1.0, 0.2, 0.1], [0.4, 1.0, 0.3]], np.float32)
    features = {"image": Feature(values, np.ones(2, bool))}
    model = dataclasses.replace(MODELS[name], layers=3)
    context = prepare(model, make_context(train, spec, features=features))
    params = model.init(jax.random.key(0), spec)
    params["nodes"] = params["nodes"].at[1].set(0.0)
    if name == "mmgcn":
        table = params["preferences"]["image"]
        params["preferences"]["image"] = table.at[1].set(0.0)
    state = model.embed(params, context)
    lists = item_lists(np.array([0, 0]), np.array([0, 1]), 1)
    folded = model.fold_in(params, context, state, lists)
    np.testing.assert_allclose(folded.users[0], state.users[1], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(folded.items, state.items)


def test_vbpr_newcomers_have_the_least_squares_scores(context):
    model, params = MODELS["vbpr"], init(MODELS["vbpr"])
    state = model.embed(params, context)
    lists = item_lists(np.array([0, 0]), np.array([3, 8]), 1)
    user = host(model.fold_in(params, context, state, lists).users[0])
    assert user[-1] == 1
    items = host(state.items)
    row = np.zeros(ITEMS)
    row[[3, 8]] = 1
    # The minimiser of |scores - row|^2 + |p|^2 + |t|^2 has a zero derivative.
    slope = items[:, :-1].T @ (items @ user - row) + user[:-1]
    np.testing.assert_allclose(slope, 0, atol=1e-4)


@pytest.mark.parametrize("objective", [Softmax(), SampledSoftmax(num_negatives=4)])
@pytest.mark.parametrize("name", ["freedom", "lattice", "mgcn", "mmgcn", "vbpr"])
def test_cosine_objectives_score_by_cosine(name, objective, context):
    model = dataclasses.replace(MODELS[name], objective=objective)
    context, params = prepare(model, context), init(model)
    state = model.embed(params, context)
    lists = item_lists(np.array([0, 0]), np.array([3, 8]), 1)
    folded = model.fold_in(params, context, state, lists)
    for vectors in (*state, folded.users):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert np.isfinite(loss_of(model, params, context, batch_of(model, context)))


def test_freedom_without_its_item_graph_is_lightgcn(context, rng):
    """One item a neighbour of itself alone: S is the identity."""
    model = FREEDOM(dim=5, neighbours=1, drop=0.0, feature_weight=0.0)
    full = {
        name: Feature(jnp.asarray(rng.normal(size=f.values.shape)), f.present | True)
        for name, f in context.features.items()
    }
    context = prepare(model, context._replace(features=full))
    params = model.init(jax.random.key(0), SPEC)
    nodes = {"nodes": params["nodes"]}
    plain = LightGCN(dim=5, layers=2, objective=BPR()).embed(nodes, context)
    found = model.embed(params, context)
    assert_near(found.users, plain.users)
    assert_near(found.items, plain.items + params["nodes"][USERS:])
    batch = batch_of(model, context)
    again = model.refresh(params, context, jax.random.key(0))
    assert loss_of(model, params, again, batch) == loss_of(
        model, params, context, batch
    )


def test_freedom_trains_on_a_pruned_graph_and_scores_on_the_whole(context):
    model, params = MODELS["freedom"], init(MODELS["freedom"])
    context = prepare(model, context)
    key = jax.random.key(5)
    epoch = model.refresh(params, context, key)
    expected = prune_edges(key, context.graph, rate=0.8)
    np.testing.assert_array_equal(epoch.graph.edges["weight"], expected.edges["weight"])
    kept = int((epoch.graph.edges["weight"] > 0).sum())
    assert kept == 2 * round(0.2 * len(context.users))
    batch = batch_of(model, context)
    assert loss_of(model, params, epoch, batch) != loss_of(
        model, params, context, batch
    )
    # The item graph is the same, and so is everything else.
    rest = epoch._replace(graph=context.graph)
    jax.tree.map(np.testing.assert_array_equal, rest, context)


@pytest.mark.parametrize(
    ("weight", "names", "shares"),
    [
        (0.1, ("audio", "image"), {"audio": 0.9, "image": 0.1}),
        (0.1, ("image",), {"image": 1.0}),
        (0.1, ("audio", "text"), {"audio": 0.5, "text": 0.5}),
        (0.4, ("audio", "image", "text"), {"audio": 0.3, "image": 0.4, "text": 0.3}),
    ],
)
def test_freedom_shares_the_item_graph_among_features(weight, names, shares, context):
    tables = context.features | {"text": context.features["audio"]}
    context = context._replace(features={name: tables[name] for name in names})
    model = FREEDOM(neighbours=K, image_weight=weight)
    found = dense(prepare(model, context).prepared["item_graph"], ITEMS)
    expected = sum(
        share * nearest(*host(tables[name]), weighted=False)[1]
        for name, share in shares.items()
    )
    assert_near(found, expected)


def test_lattice_finds_its_edges_anew_with_every_epoch(context):
    model, params = MODELS["lattice"], init(MODELS["lattice"])
    context = prepare(model, context)
    refresh = jax.jit(model.refresh)
    other = jax.tree.map(lambda x: x[::-1] if x.ndim == 2 else x, params)
    first, second = (refresh(p, context, jax.random.key(0)) for p in (params, other))
    edges = [c.prepared["learned"]["image"] for c in (first, second)]
    assert edges[0].senders.shape == edges[1].senders.shape == (ITEMS * K,)
    assert (edges[0].senders != edges[1].senders).any()
    batch = batch_of(model, context)
    # Without an epoch's context, the edges are those of the moment.
    values = [loss_of(model, params, c, batch) for c in (first, context)]
    np.testing.assert_allclose(*values, rtol=1e-6)
    assert loss_of(model, params, second, batch) != values[0]
    # Scoring sees nothing of the epoch.
    states = [model.embed(params, c) for c in (second, context)]
    jax.tree.map(np.testing.assert_array_equal, *states)


def test_a_fixed_graph_sums_like_its_matrix(rng):
    neighbours = rng.integers(0, 6, (6, 4))
    neighbours[2, 1:], neighbours[4] = -1, -1
    graph = fixed_graph(jnp.asarray(neighbours, jnp.int32))
    matrix = np.zeros((6, 6))
    for row, column in zip(*np.nonzero(neighbours >= 0), strict=True):
        matrix[row, neighbours[row, column]] += 1
    x = rng.normal(size=(6, 2)).astype(np.float32)
    np.testing.assert_allclose(graph_sum(graph, x), matrix @ x, rtol=1e-5, atol=1e-6)
    grad = jax.grad(lambda x: jnp.sum(graph_sum(graph, x) * x[::-1]))(x)
    expected = matrix.T @ x[::-1] + (matrix @ x)[::-1]
    np.testing.assert_allclose(grad, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("standardise", [False, True])
def test_item_graphs_are_their_matrices(weighted, standardise, context):
    graphs = item_graphs(context, k=K, weighted=weighted, standardise=standardise)
    assert list(graphs) == ["audio", "image"]
    for name, (values, present) in host(context.features).items():
        if standardise:
            there = values[present]
            values = (values - there.mean(0)) / there.std(0)
            values = np.where(present[:, None], values, 0)
        expected = nearest(values, present, weighted=weighted)[1]
        assert_near(dense(graphs[name], ITEMS), expected)


def test_item_graphs_without_themselves_and_of_few_items(context):
    for graph in item_graphs(context, k=50, include_self=False).values():
        assert (graph.senders != graph.receivers).all()
    both = item_graphs(context, k=K, symmetrise=True)["image"]
    matrix = dense(both, ITEMS)
    np.testing.assert_array_equal(matrix, matrix.T)
    with pytest.raises(ValueError, match="no item features"):
        item_graphs(context._replace(features={}), k=K)


def test_a_constant_column_and_no_row_can_be_standardised(context):
    values = np.array(context.features["image"].values)
    values[:, 0] = 7.0
    image = Feature(values, np.array(context.features["image"].present))
    none = Feature(values, np.zeros(ITEMS, bool))
    graphs = item_graphs(
        context._replace(features={"image": image, "none": none}),
        k=K,
        standardise=True,
    )
    assert np.isfinite(graphs["image"].edges["weight"]).all()
    assert len(graphs["image"].senders) == K * image.present.sum()
    assert len(graphs["none"].senders) == 0
