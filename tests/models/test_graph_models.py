"""NGCF, LightGCN++, the graph transformer and UltraGCN against dense NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.data import make_context
from recjax.lists import item_lists
from recjax.models import NGCF, GraphTransformer, LightGCNPP, UltraGCN
from recjax.models.ngcf import _drop
from recjax.objectives import BPR, Softmax
from recjax.sampling import make_batch
from recjax.types import Interactions, Spec, prepare

SPEC = Spec(9, 7, 2)
KEY = jax.random.key(7)
ENCODERS = {
    "ngcf": NGCF(dim=6, layers=2, dropout=0.0, objective=BPR(), l2=0.1),
    "lightgcn++": LightGCNPP(dim=6, layers=3, l2=0.1),
    "transformer": GraphTransformer(dim=6, heads=2, objective=BPR(), l2=0.1),
}


@pytest.fixture(scope="module")
def plain():
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 9, 30), rng.integers(0, 7, 30)
    attributes = np.array([0, 1, 2, 5]), np.array([0, 0, 1, 1])
    return make_context(Interactions(users, items), SPEC, attributes=attributes)


def parameters(model, spec=SPEC, seed=2):
    """Numbers in the shapes of the model's, none of them 0."""
    shapes = jax.eval_shape(lambda: model.init(KEY, spec))
    leaves, tree = jax.tree.flatten(shapes)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    return jax.tree.unflatten(
        tree,
        [
            jax.random.normal(key, leaf.shape) / 2
            for key, leaf in zip(keys, leaves, strict=True)
        ],
    )


def batch_of(model, context, weight=(1, 1, 1, 1, 0)):
    rows = jnp.arange(len(weight)) * 3
    return make_batch(
        jax.random.key(1),
        context,
        context.users[rows],
        context.items[rows],
        jnp.array(weight, jnp.float32),
        model.num_negatives,
    )


def dense(context):
    graph = jax.device_get(context.graph)
    matrix = np.zeros((18, 18))
    matrix[graph.receivers, graph.senders] = graph.edges["weight"]
    return matrix


def unit(x):
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    return x / np.where(length == 0, 1, length)


def assert_embeds(model, context, params, expected, tolerance=1e-4):
    found = model.embed(params, context)
    close = {"rtol": tolerance, "atol": 1e-5}
    np.testing.assert_allclose(found.users, expected[:9], **close)
    np.testing.assert_allclose(found.items, expected[9:16], **close)


def as_numpy(params):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), params)


def ngcf_layers(params, matrix):
    params = as_numpy(params)
    h, beside = params["nodes"], [params["nodes"]]
    for layer in params["layers"]:
        received = matrix @ h
        out = (h + received) @ layer["sum"]["kernel"] + layer["sum"]["bias"]
        out += (received * h) @ layer["product"]["kernel"]
        h = np.where(out > 0, out, 0.2 * out)
        beside.append(unit(h))
    return np.concatenate(beside, axis=1)


def test_ngcf_is_its_equations(plain):
    model = NGCF(dim=6, layers=3)
    params = parameters(model)
    expected = ngcf_layers(params, dense(plain))
    assert expected.shape == (18, 24)
    assert_embeds(model, plain, params, expected)


def test_ngcf_drops_out_in_training_only(plain):
    model = NGCF(dim=6, layers=2, dropout=0.5)
    params, batch = parameters(model), batch_of(model, plain)
    losses = [
        float(model.loss(params, plain, batch, jax.random.key(seed))[0])
        for seed in (0, 0, 1)
    ]
    assert losses[0] == losses[1] != losses[2]


def test_dropout_keeps_the_mean():
    x = jnp.ones((400, 50))
    dropped = np.asarray(_drop(KEY, x, 0.2))
    assert set(np.unique(dropped)) == {0.0, 1.25}
    # Of 20,000 numbers: five standard deviations are 0.014.
    assert abs((dropped == 0).mean() - 0.2) < 0.014
    np.testing.assert_array_equal(_drop(KEY, x, 0.0), x)


def test_lightgcnpp_is_its_equations(plain):
    model = LightGCNPP(dim=6, layers=2, alpha=0.7, beta=-0.2, gamma=0.3)
    context, params = prepare(model, plain), parameters(model)
    there = dense(plain) != 0
    degree = there.sum(1)
    weights = there * degree[:, None] ** -0.7 * degree**0.2
    nodes = as_numpy(params)["nodes"]
    first = weights @ unit(nodes)
    second = weights @ unit(first)
    assert_embeds(model, context, params, 0.3 * nodes + 0.7 * (first + second) / 2)


def transformer_layer(layer, there, h, heads, senders=None):
    """Both attentions, a head at a time; the first nodes are heard everywhere."""
    root = np.sqrt((h**2).mean(1, keepdims=True))
    scaled = h / np.where(root == 0, 1, root)
    queries, keys = scaled @ layer["query"], scaled @ layer["key"]
    width = h.shape[1] // heads
    received = np.zeros_like(h)
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        q, k, v = queries[:, part], keys[:, part], h[:, part]
        power = np.exp(q @ k.T / np.sqrt(width)) * there
        total = power.sum(1, keepdims=True)
        received[:, part] = power @ v / np.where(total == 0, 1, total)
        q, k = (np.where(x > 0, x + 1, np.exp(x)) for x in (q, k))
        power = (q @ k.T)[:, :senders]
        everywhere = power @ v[:senders] / power.sum(1, keepdims=True)
        received[:, part] += layer["gate"] * everywhere
    return (h + received) / 2


def test_graph_transformer_is_its_equations(plain):
    model = GraphTransformer(dim=6, heads=2, objective=BPR())
    params = parameters(model)
    host, there = as_numpy(params), dense(plain) != 0
    h = host["nodes"]
    for layer in host["layers"]:
        h = transformer_layer(layer, there, h, 2)
    assert_embeds(model, plain, params, h)


def test_graph_transformer_begins_as_a_lazy_walk(plain):
    """With equal attention; the gates are closed by `init`."""
    model = GraphTransformer(dim=6, layers=3, objective=BPR())
    params = model.init(KEY, SPEC)
    params["layers"] = [
        layer | {"query": jnp.zeros((6, 6))} for layer in params["layers"]
    ]
    there = (dense(plain) != 0).astype(float)
    walk = (np.eye(18) + there / np.maximum(there.sum(1, keepdims=True), 1)) / 2
    expected = np.linalg.matrix_power(walk, 3) @ np.asarray(params["nodes"])
    assert_embeds(model, plain, params, expected)


def test_graph_transformer_newcomers_listen_and_are_not_heard(plain):
    """To their list and to all trained nodes, and not to one another."""
    model = GraphTransformer(dim=6, heads=2, objective=BPR())
    params = parameters(model)
    state = model.embed(params, plain)
    lists = item_lists(np.array([0, 0, 2]), np.array([1, 4, 5]), 3)
    found = np.asarray(model.fold_in(params, plain, state, lists).users)
    host = as_numpy(params)
    there = dense(plain) != 0
    for row, items in enumerate(([1, 4], [], [5])):
        nodes, user = host["nodes"], np.zeros((1, 6))
        for layer in host["layers"]:
            both = np.concatenate([nodes, user])
            wide = np.zeros((19, 19), bool)
            wide[18, [9 + i for i in items]] = True
            user = transformer_layer(layer, wide, both, 2, senders=18)[18:]
            nodes = transformer_layer(layer, there, nodes, 2)
        np.testing.assert_allclose(found[row], user[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", ENCODERS.values(), ids=ENCODERS)
def test_training_sees_the_vectors_that_score(plain, model):
    """The rows that a loss takes are those of `embed`; every parameter learns."""
    context, params = prepare(model, plain), parameters(model)
    batch = batch_of(model, context)

    def by_embedding(params):
        state = model.embed(params, context)
        counts = np.flatnonzero(batch.weight)
        u, i, j = batch.users[counts], batch.items[counts], batch.negatives[counts, 0]
        margin = jnp.sum(state.users[u] * (state.items[i] - state.items[j]), axis=1)
        table = params["nodes"]
        squares = sum(jnp.sum(table[x] ** 2, axis=1) for x in (u, 9 + i, 9 + j))
        return jnp.mean(jax.nn.softplus(-margin) + 0.1 * squares / 2)

    def loss(params):
        return model.loss(params, context, batch, KEY)[0]

    found = jax.value_and_grad(loss)(params)
    expected = jax.value_and_grad(by_embedding)(params)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6),
        found,
        expected,
    )
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(found[1]))


@pytest.mark.parametrize("objective", [BPR(), Softmax()])
@pytest.mark.parametrize(
    "model",
    [
        NGCF(dim=4, layers=2),
        LightGCNPP(dim=4, layers=3),
        GraphTransformer(dim=4, layers=2),
    ],
)
def test_newcomers_are_where_the_graph_would_put_them(model, objective):
    """Users 0 and 1 have the same items, and user 1 begins at 0."""
    spec = Spec(3, 2)
    train = Interactions(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 1]))
    model = type(model)(dim=4, layers=model.layers, objective=objective)
    context = prepare(model, make_context(train, spec))
    params = parameters(model, spec)
    params["nodes"] = params["nodes"].at[1].set(0.0)
    for layer in params.get("layers", ()):
        if "gate" in layer:
            # Through it a user of the graph is heard by itself, a newcomer is not.
            layer["gate"] = jnp.zeros(())
    lists = item_lists(np.array([0, 0]), np.array([0, 1]), 1)
    state = model.embed(params, context)
    folded = model.fold_in(params, context, state, lists)
    np.testing.assert_allclose(folded.users[0], state.users[1], rtol=1e-5, atol=1e-6)


def brute_force_omega(context, k):
    """Omega [I, I] of the k largest of each row, in float64."""
    matrix = np.zeros((9, 7))
    matrix[context.users, context.items] = 1
    counts = matrix.T @ matrix
    total, own = counts.sum(1), np.diag(counts)
    others = np.where(total > own, total - own, 1)
    omega = counts / others[:, None] * np.sqrt(total[:, None] / np.maximum(total, 1))
    np.fill_diagonal(omega, 0)
    order = np.argsort(-omega, axis=1, kind="stable")
    np.put_along_axis(omega, order[:, k:], 0, 1)
    return omega


@pytest.mark.parametrize("neighbours", [2, 10])
def test_ultragcn_prepares_the_largest_omega(plain, neighbours):
    found = UltraGCN(neighbours=neighbours).prepare(plain)
    omega = np.zeros((7, 7))
    assert found["neighbours"].shape == (7, neighbours)
    for i, (row, weight) in enumerate(
        zip(found["neighbours"], found["omega"], strict=True)
    ):
        omega[i, row[weight > 0]] = weight[weight > 0]
    expected = brute_force_omega(plain, neighbours)
    np.testing.assert_allclose(omega, expected, rtol=1e-5)


def test_ultragcn_is_its_equations(plain):
    model = UltraGCN(
        dim=5,
        num_negatives=3,
        base=0.3,
        constraint=0.8,
        negative_weight=2.0,
        item_weight=0.6,
        neighbours=4,
        l2=0.1,
    )
    context = prepare(model, plain)
    params, batch = parameters(model), batch_of(model, plain)
    nodes = as_numpy(params)["nodes"]
    assert nodes.shape == (16, 5)
    users, items = nodes[:9], nodes[9:]
    user_degree, item_degree = np.zeros(9), np.zeros(7)
    np.add.at(user_degree, np.asarray(context.users), 1)
    np.add.at(item_degree, np.asarray(context.items), 1)
    omega = brute_force_omega(context, 4)

    def minus_log_sigmoid(x):
        return np.logaddexp(0, -x)

    def weight(u, i):
        ratio = (user_degree[u] + 1) / (item_degree[i] + 1)
        return 0.3 + 0.8 * np.sqrt(ratio) / user_degree[u]

    total = 0.0
    for u, i, negatives in list(zip(*batch[:3], strict=True))[:4]:
        s = items @ users[u]
        total += weight(u, i) * minus_log_sigmoid(s[i])
        for j in negatives:
            total += 2.0 / 3 * weight(u, j) * minus_log_sigmoid(-s[j])
        total += 0.6 * (omega[i] * minus_log_sigmoid(s)).sum()
        squares = [users[u], items[i], *items[np.asarray(negatives)]]
        total += 0.1 * sum((x**2).sum() for x in squares) / 2
    loss, _ = model.loss(params, context, batch, KEY)
    np.testing.assert_allclose(loss, total / 4, rtol=1e-5)


def test_ultragcn_newcomers_are_at_the_limit(plain):
    """``e_u = sum of beta_ui e_i``, where all propagation would end."""
    model = UltraGCN(dim=5)
    params = parameters(model)
    state = model.embed(params, plain)
    lists = item_lists(np.array([1, 1, 1]), np.array([0, 3, 6]), 2)
    folded = model.fold_in(params, plain, state, lists).users
    counts = np.asarray(plain.item_counts)[[0, 3, 6]]
    beta = np.sqrt(4 / (counts + 1)) / 3
    expected = beta @ np.asarray(state.items)[[0, 3, 6]]
    np.testing.assert_allclose(folded[1], expected, rtol=1e-5)
    np.testing.assert_array_equal(folded[0], 0)


def test_heads_share_the_width():
    with pytest.raises(ValueError, match="multiple"):
        GraphTransformer(dim=6, heads=4)
    with pytest.raises(ValueError, match="layers"):
        LightGCNPP(layers=0)
