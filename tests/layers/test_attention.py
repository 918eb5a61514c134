"""Attention over neighbours, over all nodes and along sequences, against loops."""

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest
from jax.test_util import check_grads

from recjax import layers
from recjax.data.graph import make_graph
from recjax.types import Spec

# Node 2 has no edge; 4 has masked ones only.
N, E, H, D, F = 7, 19, 2, 3, 4
# Each takes parameters, a graph, nodes [N, F], edge features [E, F] and a mask [E].
ALONG_EDGES = {
    "graph": lambda p, g, x, f, w: layers.graph_attention(
        g, x @ p["q"], x @ p["k"], x @ p["v"], bias=f[:, 0], where=w
    ),
    "graph_heads": lambda p, g, x, f, w: layers.graph_attention(
        g, *(heads(x @ p[n]) for n in "qkv"), bias=f[:, :H], where=w, scale=0.7
    ).reshape(-1, H * 2),
    "gat": lambda p, g, x, f, w: layers.gat(
        p["gat"], g, x, edge_features=f, where=w, negative_slope=0.3
    ),
    "gat_mean": lambda p, g, x, f, w: layers.gat(
        p["gat"], g, x, edge_features=f, where=w, concat=False
    ),
    "gatv2": lambda p, g, x, f, w: layers.gatv2(
        p["gatv2"], g, x, edge_features=f, where=w, negative_slope=0.3
    ),
    "gatv2_mean": lambda p, g, x, f, w: layers.gatv2(
        p["gatv2"], g, x, edge_features=f, where=w, concat=False
    ),
}
# Each takes queries and keys [S, H, D], values [S, H, D] and a mask [S].
AMONG_NODES = {
    "full": lambda q, k, v, w: layers.full_attention(q, k, v, where=w, block_size=3),
    "linear": lambda q, k, v, w: layers.linear_attention(q, k, v, where=w),
    "sequence": lambda q, k, v, w: sequence(q, k, v, w, causal=False),
    "causal": lambda q, k, v, w: sequence(q, k, v, w, causal=True),
}
along_edges = pytest.mark.parametrize("name", ALONG_EDGES)
among_nodes = pytest.mark.parametrize("name", AMONG_NODES)


def heads(x):
    return x.reshape(*x.shape[:-1], H, x.shape[-1] // H)


def sequence(q, k, v, where, *, causal):
    where = None if where is None else where[None]
    return layers.sequence_attention(
        q[None], k[None], v[None], where=where, causal=causal
    )[0]


def make(senders, receivers, num=N):
    return jraph.GraphsTuple(
        nodes=None,
        edges=None,
        globals=None,
        senders=jnp.asarray(senders, jnp.int32),
        receivers=jnp.asarray(receivers, jnp.int32),
        n_node=jnp.array([num]),
        n_edge=jnp.array([len(senders)]),
    )


def setting(rng, dtype=jnp.float32):
    """Parameters, a graph with repeated and unsorted edges, nodes, features, mask."""
    keys = jax.random.split(jax.random.key(3), 2)
    params = {n: rng.normal(size=(F, H * 2)) / 2 for n in "qkv"} | {
        "gat": layers.init_gat(keys[0], F, D, H, width_edge=F),
        "gatv2": layers.init_gatv2(keys[1], F, D, H, width_edge=F),
    }
    params = jax.tree.map(lambda x: jnp.asarray(x, dtype), params)
    receivers = rng.choice([0, 1, 3, 4, 5, 6], E)
    receivers[:2] = 0, 4
    where = (rng.random(E) < 0.7) & (receivers != 4)
    where[0] = True
    graph = make(rng.integers(0, N, E), receivers)
    nodes, features = rng.normal(size=(N, F)), rng.normal(size=(E, F))
    return (
        params,
        graph,
        jnp.asarray(nodes, dtype),
        jnp.asarray(features, dtype),
        jnp.asarray(where),
    )


def softmax(x):
    power = np.exp(x - x.max())
    return power / power.sum()


def leaky(x, slope):
    return np.where(x > 0, x, slope * x)


def by_hand(name, params, graph, nodes, features, where):
    """Node by node and head by head, in float64."""
    params, nodes, features = jax.tree.map(
        lambda x: np.asarray(x, np.float64), (params, nodes, features)
    )
    senders, receivers = np.asarray(graph.senders), np.asarray(graph.receivers)
    slope = 0.2 if name.endswith("mean") else 0.3
    num = 1 if name == "graph" else H
    out = []
    for i in range(len(nodes)):
        mine = np.flatnonzero((receivers == i) & np.asarray(where))
        row = []
        for h in range(num):
            scores, values = [], []
            for e in mine:
                to, by, f = nodes[i], nodes[senders[e]], features[e]
                if name.startswith("graph"):
                    part = slice(None) if name == "graph" else slice(2 * h, 2 * h + 2)
                    scale = 1 / np.sqrt(H * 2) if name == "graph" else 0.7
                    q, k, v = (
                        x @ params[n][:, part]
                        for x, n in ((to, "q"), (by, "k"), (by, "v"))
                    )
                    score = scale * (q @ k) + f[h]
                elif name.startswith("gatv2"):
                    p = params["gatv2"]
                    v = by @ p["sender"][:, h]
                    hidden = to @ p["receiver"][:, h] + v + f @ p["edge"][:, h]
                    score = p["query"][h] @ leaky(hidden, slope)
                else:
                    p = params["gat"]
                    v = by @ p["kernel"][:, h]
                    score = p["receiver"][h] @ (to @ p["kernel"][:, h])
                    score += p["sender"][h] @ v + f @ p["edge"][:, h]
                    score = leaky(score, slope)
                scores.append(score)
                values.append(v)
            width = H * 2 // num if name.startswith("graph") else D
            weighed = softmax(np.array(scores)) @ values if scores else np.zeros(width)
            row.append(weighed)
        out.append(np.mean(row, 0) if name.endswith("mean") else np.concatenate(row))
    return np.stack(out)


@along_edges
def test_values(rng, name):
    params, graph, nodes, features, where = setting(rng)
    run = ALONG_EDGES[name]
    for mask in (None, where):
        out = run(params, graph, nodes, features, mask)
        counts = np.ones(E, bool) if mask is None else mask
        expected = by_hand(name, params, graph, nodes, features, counts)
        np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)
        assert not np.asarray(out)[2].any()
    assert not np.asarray(out)[4].any()


@along_edges
@pytest.mark.parametrize("held", [np.nan, np.inf, -1e30, 0.0])
def test_padded_equals_unpadded(rng, name, held):
    """Padding edges and a padding node, whatever they hold: values and derivatives."""
    params, graph, nodes, features, _ = setting(rng)
    run = ALONG_EDGES[name]
    more = 5
    senders = np.concatenate([graph.senders, np.full(more, N)])
    receivers = np.concatenate([graph.receivers, np.arange(more)])
    padded = make(senders, receivers, N + 1)
    where = jnp.arange(E + more) < E
    # The projections would spread NaN to every derivative of a parameter, with or
    # without a graph: the node's padding is finite where there are any.
    filled_nodes = jnp.pad(nodes, ((0, 1), (0, 0)), constant_values=7.0)
    filled_features = jnp.pad(features, ((0, more), (0, 0)), constant_values=held)
    out, pull = jax.vjp(
        lambda p, x, f: run(p, padded, x, f, where),
        params,
        filled_nodes,
        filled_features,
    )
    expected, pull_expected = jax.vjp(
        lambda p, x, f: run(p, graph, x, f, None), params, nodes, features
    )
    np.testing.assert_allclose(out[:N], expected, rtol=1e-6, atol=1e-7)
    assert not np.asarray(out)[N].any()
    seed = jnp.asarray(rng.normal(size=expected.shape), jnp.float32)
    grads = pull(jnp.pad(seed, ((0, 1), (0, 0)), constant_values=3.0))
    grads = (grads[0], grads[1][:N], grads[2][:E])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        grads,
        pull_expected(seed),
    )


@pytest.mark.parametrize("held", [np.nan, np.inf])
def test_graph_attention_ignores_what_a_masked_sender_holds(rng, held):
    x = jnp.asarray(rng.normal(size=(3, H, D)), jnp.float32).at[2].set(held)
    graph, where = make([1, 2], [0, 0], 3), jnp.array([True, False])
    out, pull = jax.vjp(
        lambda x: layers.graph_attention(graph, x, x, x, where=where), x
    )
    np.testing.assert_array_equal(out[0], x[1])
    assert np.isfinite(pull(jnp.ones((3, H, D)))[0]).all()


@along_edges
def test_order_of_edges_and_of_nodes(rng, name):
    params, graph, nodes, features, where = setting(rng)
    run = ALONG_EDGES[name]
    out = run(params, graph, nodes, features, where)
    order = rng.permutation(E)
    moved = make(graph.senders[order], graph.receivers[order])
    again = run(params, moved, nodes, features[order], where[order])
    np.testing.assert_allclose(again, out, rtol=1e-5, atol=1e-6)
    # Node i becomes node place[i].
    place = rng.permutation(N)
    moved = make(place[graph.senders], place[graph.receivers])
    again = run(params, moved, nodes[np.argsort(place)], features, where)
    np.testing.assert_allclose(again[place], out, rtol=1e-5, atol=1e-6)


@along_edges
def test_jit_vmap_and_one_trace(rng, name):
    params, graph, nodes, features, where = setting(rng)
    traces = []

    def one(params, nodes, features, where):
        traces.append(None)
        return ALONG_EDGES[name](params, graph, nodes, features, where)

    jitted = jax.jit(one)
    out = jitted(params, nodes, features, where)
    jitted(params, 2 * nodes, features, ~where)
    assert len(traces) == 1
    eager = one(params, nodes, features, where)
    np.testing.assert_allclose(out, eager, rtol=1e-5, atol=1e-6)
    stack = (jnp.stack([nodes, -nodes]), jnp.stack([features, 2 * features]))
    masks = jnp.stack([where, ~where])
    batched = jax.vmap(one, (None, 0, 0, 0))(params, *stack, masks)
    loop = [one(params, *(x[b] for x in stack), masks[b]) for b in range(2)]
    np.testing.assert_allclose(batched, np.stack(loop), rtol=1e-5, atol=1e-6)


@along_edges
def test_numeric_derivatives_in_float64(rng, name):
    with jax.enable_x64(True):
        params, graph, nodes, features, where = setting(rng, jnp.float64)

        def function(params, nodes, features):
            return ALONG_EDGES[name](params, graph, nodes, features, where)

        assert function(params, nodes, features).dtype == jnp.float64
        check_grads(function, (params, nodes, features), order=1, modes=["rev"])


@along_edges
def test_bfloat16_is_near_float32(rng, name):
    setting_ = setting(rng, jnp.bfloat16)
    out = ALONG_EDGES[name](*setting_)
    assert out.dtype == jnp.bfloat16
    # Products of two layers, each rounded to 8 bits.
    np.testing.assert_allclose(
        out.astype(jnp.float32), by_hand(name, *setting_), rtol=2**-5, atol=2**-5
    )


@along_edges
def test_degenerate_graphs_and_large_logits(rng, name):
    params, graph, nodes, features, where = setting(rng)
    run = ALONG_EDGES[name]

    def check(graph, nodes, features, where):
        out, pull = jax.vjp(
            lambda p, x, f: run(p, graph, x, f, where), params, nodes, features
        )
        grads = pull(jnp.ones_like(out))
        assert all(np.isfinite(x).all() for x in jax.tree.leaves((out, grads)))
        return out

    none = jnp.zeros((0, F))
    for num in (N, 0):
        out = check(make([], [], num), nodes[:num], none, None)
        assert len(out) == num
        assert not np.asarray(out).any()
    assert not np.asarray(check(graph, nodes, features, jnp.zeros(E, bool))).any()
    for size in (1e4, -1e4):
        check(graph, nodes, features * size, where)
        check(graph, nodes, jnp.full_like(features, size), where)


def test_parameters_are_drawn_apart_and_by_their_width():
    params = layers.init_gat(jax.random.key(0), 64, 50, 8, width_edge=200)
    assert params["edge"].shape == (200, 8)
    assert not np.array_equal(params["receiver"], params["sender"])
    np.testing.assert_allclose(params["sender"].std(), 50**-0.5, rtol=0.1)
    np.testing.assert_allclose(params["edge"].std(), 200**-0.5, rtol=0.1)
    # Glorot of a matrix with 64 rows and 8 * 50 columns.
    spread = np.sqrt(2 / (64 + 400))
    np.testing.assert_allclose(params["kernel"].std(), spread, rtol=0.05)
    params = layers.init_gatv2(jax.random.key(0), 64, 50, 8, width_edge=64)
    for name in ("receiver", "sender", "edge"):
        np.testing.assert_allclose(params[name].std(), spread, rtol=0.05)
    assert not np.array_equal(params["receiver"], params["sender"])
    np.testing.assert_allclose(params["query"].std(), 50**-0.5, rtol=0.1)
    assert "edge" not in layers.init_gat(jax.random.key(0), 4, 3, 2)
    assert "edge" not in layers.init_gatv2(jax.random.key(0), 4, 3, 2)


def test_weights_and_layout_of_a_graph_of_interactions(rng):
    """Weights are not read unless added; the symmetric layout does no harm."""
    graph = make_graph((np.array([0, 0, 1]), np.array([0, 1, 1])), Spec(2, 2))
    assert graph.globals["layout"].transpose is None
    plain = make(graph.senders, graph.receivers, 4)
    x = jnp.asarray(rng.normal(size=(4, D)), jnp.float32)
    seed = jnp.asarray(rng.normal(size=(4, D)), jnp.float32)
    results = []
    for each in (graph, plain):
        out, pull = jax.vjp(lambda x, g=each: layers.graph_attention(g, x, x, x), x)
        results.append((out, pull(seed)[0]))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *results
    )
    weight = graph.edges["weight"]
    out = layers.graph_attention(
        graph, jnp.zeros_like(x), jnp.zeros_like(x), x, bias=jnp.log(weight)
    )
    share = weight / np.bincount(graph.receivers, weight)[graph.receivers]
    expected = np.zeros((4, D))
    np.add.at(expected, graph.receivers, share[:, None] * x[graph.senders])
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


def test_attention_along_edges_refuses(rng):
    params, graph, nodes, features, _ = setting(rng)
    q, attend = jnp.ones((N, H, D)), layers.graph_attention
    with pytest.raises(ValueError, match=r"queries \(7, 2, 3\) and keys \(7, 2, 2\)"):
        attend(graph, q, q[..., :2], q)
    with pytest.raises(ValueError, match=r"values \(7, 1, 3\) .* keys \(7, 2, 3\)"):
        attend(graph, q, q, q[:, :1])
    with pytest.raises(
        ValueError, match=r"bias \(19, 3\) must be \(19,\) or \(19, 2\)"
    ):
        attend(graph, q, q, q, bias=jnp.ones((E, 3)))
    with pytest.raises(ValueError, match=r"where \(3,\) .* receivers \(19,\)"):
        attend(graph, q, q, q, where=jnp.ones(3, bool))
    with pytest.raises(ValueError, match="no edges"):
        attend(graph._replace(senders=None), q, q, q)
    for layer, p in ((layers.gat, params["gat"]), (layers.gatv2, params["gatv2"])):
        with pytest.raises(ValueError, match=r"nodes \(7, 3\) .* kernel \(4, 2, 3\)"):
            layer(p, graph, nodes[:, :3], edge_features=features)
        with pytest.raises(ValueError, match=r"features \(19, 2\) .* kernel \(4, 2"):
            layer(p, graph, nodes, edge_features=features[:, :2])
        with pytest.raises(ValueError, match=r"features \(3, 4\) .* receivers \(19,\)"):
            layer(p, graph, nodes, edge_features=features[:3])
        with pytest.raises(ValueError, match="go together"):
            layer(p, graph, nodes)
        with pytest.raises(ValueError, match="go together"):
            without = {k: v for k, v in p.items() if k != "edge"}
            layer(without, graph, nodes, edge_features=features)


def dense_by_hand(name, q, k, v, where):
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    where = np.asarray(where)
    out = np.zeros_like(v)
    for i in np.flatnonzero(where):
        mine = np.flatnonzero(where & ((name != "causal") | (np.arange(len(q)) <= i)))
        for h in range(q.shape[1]):
            if name == "linear":
                f, g = (
                    np.where(x > 0, x + 1, np.exp(x)) for x in (q[i, h], k[mine, h])
                )
                share = g @ f / max(np.sum(g @ f), 1e-300)
            else:
                share = softmax(k[mine, h] @ q[i, h] / np.sqrt(q.shape[-1]))
            out[i, h] = share @ v[mine, h]
    return out


def triple(rng, num=8, dtype=jnp.float32):
    q, k, v = (jnp.asarray(rng.normal(size=(num, H, D)), dtype) for _ in range(3))
    return q, k, v, jnp.arange(num) % 3 != 0


@among_nodes
def test_values_over_all(rng, name):
    q, k, v, where = triple(rng)
    for mask in (None, where):
        out = AMONG_NODES[name](q, k, v, mask)
        counts = np.ones(len(q), bool) if mask is None else mask
        expected = dense_by_hand(name, q, k, v, counts)
        np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("attend", [layers.full_attention, layers.linear_attention])
def test_one_head_and_values_of_another_width(rng, attend):
    q, k, v, where = triple(rng)
    wide = jnp.concatenate([v, 2 * v], -1)
    out = attend(q, k, wide, where=where)
    single = attend(q[:, 1], k[:, 1], wide[:, 1], where=where)
    assert single.shape == (8, 2 * D)
    np.testing.assert_allclose(single, out[:, 1], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(out[..., D:], 2 * out[..., :D], rtol=1e-6)


@among_nodes
@pytest.mark.parametrize("held", [np.nan, np.inf, -1e30])
def test_masked_node_equals_removed(rng, name, held):
    """Value and derivatives, whatever the masked nodes hold."""
    q, k, v, where = triple(rng)
    run = AMONG_NODES[name]
    filled = [jnp.where(where[:, None, None], x, held) for x in (q, k, v)]
    out, pull = jax.vjp(lambda *x: run(*x, where), *filled)
    kept = [x[where] for x in (q, k, v)]
    expected, pull_expected = jax.vjp(lambda *x: run(*x, None), *kept)
    np.testing.assert_allclose(out[where], expected, rtol=1e-5, atol=1e-6)
    assert not np.asarray(out)[~where].any()
    seed = jnp.asarray(rng.normal(size=out.shape), jnp.float32)
    for grad, other in zip(pull(seed), pull_expected(seed[where]), strict=True):
        np.testing.assert_allclose(grad[where], other, rtol=1e-4, atol=1e-5)
        assert not np.asarray(grad)[~where].any()


@pytest.mark.parametrize("name", ["full", "linear", "sequence"])
def test_order_of_all_nodes(rng, name):
    q, k, v, where = triple(rng)
    order = rng.permutation(8)
    out = AMONG_NODES[name](q, k, v, where)
    moved = AMONG_NODES[name](q[order], k[order], v[order], where[order])
    np.testing.assert_allclose(moved, out[order], rtol=1e-5, atol=1e-6)


@among_nodes
def test_jit_vmap_and_one_trace_over_all(rng, name):
    q, k, v, where = triple(rng)
    traces = []

    def one(q, k, v, where):
        traces.append(None)
        return AMONG_NODES[name](q, k, v, where)

    jitted = jax.jit(one)
    out = jitted(q, k, v, where)
    jitted(k, q, v, ~where)
    assert len(traces) == 1
    np.testing.assert_allclose(out, one(q, k, v, where), rtol=1e-5, atol=1e-6)
    stack = [jnp.stack(pair) for pair in ((q, k), (k, q), (v, -v), (where, ~where))]
    loop = np.stack([one(*(x[b] for x in stack)) for b in range(2)])
    np.testing.assert_allclose(jax.vmap(one)(*stack), loop, rtol=1e-5, atol=1e-6)

    def grads(*args):
        return jax.grad(lambda *x: jnp.sum(one(*x) ** 2), (0, 1, 2))(*args)

    batched = jax.vmap(grads)(*stack)
    for b in range(2):
        for grad, single in zip(batched, grads(*(x[b] for x in stack)), strict=True):
            np.testing.assert_allclose(grad[b], single, rtol=1e-4, atol=1e-5)


@among_nodes
def test_numeric_derivatives_over_all_in_float64(rng, name):
    with jax.enable_x64(True):
        q, k, v, where = triple(rng, dtype=jnp.float64)

        def function(q, k, v):
            return AMONG_NODES[name](q, k, v, where)

        assert function(q, k, v).dtype == jnp.float64
        if name in ("full", "linear"):
            check_grads(function, (q, k, v), order=1, modes=["rev"])
        else:
            # JAX takes this softmax in float32 whatever the input: longer steps.
            check_grads(
                function,
                (q, k, v),
                order=1,
                modes=["rev"],
                eps=1e-2,
                atol=1e-3,
                rtol=1e-3,
            )


@among_nodes
def test_bfloat16_over_all_is_near_float32(rng, name):
    q, k, v, where = triple(rng, dtype=jnp.bfloat16)
    out = AMONG_NODES[name](q, k, v, where)
    assert out.dtype == jnp.bfloat16
    expected = dense_by_hand(name, q, k, v, where)
    # The result is rounded to 8 bits, and for sequences so are the weights.
    np.testing.assert_allclose(
        out.astype(jnp.float32), expected, rtol=2**-7, atol=2**-7
    )


@among_nodes
def test_nothing_takes_part_and_large_logits_over_all(rng, name):
    q, k, v, where = triple(rng)
    run = AMONG_NODES[name]

    def check(q, k, v, where):
        out, pull = jax.vjp(lambda *x: run(*x, where), q, k, v)
        grads = pull(jnp.ones_like(out))
        assert all(np.isfinite(x).all() for x in (out, *grads))
        return out

    assert not np.asarray(check(q, k, v, jnp.zeros(8, bool))).any()
    assert check(q[:0], k[:0], v[:0], where[:0]).shape == (0, H, D)
    for size in (1e4, -1e4):
        out = check(q * size, k, v, where)
        expected = dense_by_hand(name, q * size, k, v, where)
        np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)
        # No feature of these queries or keys is above 0, or none below.
        check(jnp.full_like(q, size), jnp.full_like(k, abs(size)), v, where)
        check(jnp.full_like(q, -1e4), jnp.full_like(k, size), v, where)


@pytest.mark.parametrize("block_size", [1, 2, 3, 5, 7, 8, 100])
def test_full_attention_does_not_depend_on_the_block_size(rng, block_size):
    q, k, v, where = triple(rng)
    # The first blocks hold masked keys only.
    where = where & (jnp.arange(8) > 3)
    seed = jnp.asarray(rng.normal(size=v.shape), jnp.float32)

    def run(size):
        out, pull = jax.vjp(
            lambda *x: layers.full_attention(*x, where=where, block_size=size), q, k, v
        )
        return out, *pull(seed)

    for found, expected in zip(run(block_size), run(8), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_full_attention_derivative_equals_that_of_the_dense_softmax(rng):
    """At logits near 1e4 too, where their logarithmic sum would be 1e-3 off."""
    q, k, v, _ = triple(rng)
    for far in (0.0, 120.0):
        q, k = q + far, k + far

        def dense(q, k, v):
            scores = jnp.einsum("qhd,khd->hqk", q, k) * D**-0.5
            return jnp.einsum("hqk,khd->qhd", jax.nn.softmax(scores), v)

        seed = jnp.asarray(rng.normal(size=v.shape), jnp.float32)
        out, pull = jax.vjp(lambda *x: AMONG_NODES["full"](*x, None), q, k, v)
        expected, pull_expected = jax.vjp(dense, q, k, v)
        np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)
        grads, others = pull(seed), pull_expected(seed)
        # Every column of shares, and so of derivatives, is summed to 1 by the softmax.
        np.testing.assert_allclose(grads[2].sum(0), seed.sum(0), rtol=1e-5, atol=1e-5)
        if not far:
            for grad, other in zip(grads, others, strict=True):
                np.testing.assert_allclose(grad, other, rtol=1e-4, atol=1e-5)


def test_full_attention_keeps_nothing_of_size_nodes_by_nodes():
    """20,000 nodes: all scores would be 1,600 MB, a block of them is 4 MB."""
    nodes = jax.ShapeDtypeStruct((20_000, 16), jnp.float32)

    def loss(q, k, v):
        return jnp.sum(jnp.sin(layers.full_attention(q, k, v)))

    for function in (layers.full_attention, jax.grad(loss, (0, 1, 2))):
        compiled = jax.jit(function).lower(nodes, nodes, nodes).compile()
        assert compiled.memory_analysis().temp_size_in_bytes < 40_000_000


def test_linear_attention_keeps_nothing_of_size_nodes_by_nodes():
    nodes = jax.ShapeDtypeStruct((20_000, 16), jnp.float32)

    def loss(q, k, v):
        return jnp.sum(jnp.sin(layers.linear_attention(q, k, v)))

    compiled = jax.jit(jax.grad(loss, (0, 1, 2))).lower(nodes, nodes, nodes).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 40_000_000


def test_linear_attention_has_the_derivative_of_elu_at_0():
    v = jnp.array([[0.0], [1.0]])

    def function(k):
        return layers.linear_attention(jnp.zeros((2, 1)), k, v)[0, 0]

    # out = f(k_1) / (f(k_0) + f(k_1)), with f = 1 and f' = 1 at 0.
    grad = jax.grad(function)(jnp.zeros((2, 1)))
    np.testing.assert_allclose(grad, [[-0.25], [0.25]], rtol=1e-6)


def test_linear_attention_tells_small_features_apart():
    # exp(-20) is 2e-9, which (exp(x) - 1) + 1 loses.
    k = jnp.array([[-20.0], [-21.0]])
    out = layers.linear_attention(jnp.zeros((2, 1)), k, jnp.array([[0.0], [1.0]]))
    np.testing.assert_allclose(out[0, 0], 1 / (1 + np.e), rtol=1e-5)


@among_nodes
def test_attention_over_all_refuses(rng, name):
    q, k, v, where = triple(rng)
    run = AMONG_NODES[name]
    with pytest.raises(ValueError, match=r"queries .*8, 2, 3\) and keys .*8, 2, 2\)"):
        run(q, k[..., :2], v, None)
    with pytest.raises(ValueError, match=r"values .*8, 1, 3\) .* keys .*8, 2, 3\)"):
        run(q, k, v[:, :1], None)
    with pytest.raises(ValueError, match=r"where .*7.*\) must be .* keys .*8, 2, 3\)"):
        run(q, k, v, where[:7])
    with pytest.raises(ValueError, match=r"queries \(3,\)|queries \(1, 8, 2, 3, 1\)"):
        few = name in ("full", "linear")
        run(*(x[0, 0] if few else x[..., None] for x in (q, k, v)), None)


def test_what_only_one_of_them_refuses(rng):
    q, k, v, _ = triple(rng)
    with pytest.raises(ValueError, match="block_size 0"):
        layers.full_attention(q, k, v, block_size=0)
    with pytest.raises(ValueError, match=r"values \(1, 8, 2, 2\) .* \(1, 8, 2, 3\)"):
        layers.sequence_attention(q[None], k[None], v[None, ..., :2])
