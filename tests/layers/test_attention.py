"""Attention over neighbours, over all nodes and along sequences, against loops."""

import functools

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest

from recjax import layers
from recjax.graphs import make_graph
from recjax.types import Spec

N, E, H, D, F = 7, 19, 2, 3, 4
# Each takes queries and keys [S, H, D], values [S, H, D] and a mask [S].
AMONG_NODES = {
    "full": lambda q, k, v, w: layers.full_attention(q, k, v, where=w, block_size=3),
    "linear": lambda q, k, v, w: layers.linear_attention(q, k, v, where=w),
    "sequence": lambda q, k, v, w: layers.sequence_attention(
        q[None], k[None], v[None], where=None if w is None else w[None]
    )[0],
}
among_nodes = pytest.mark.parametrize("name", AMONG_NODES)


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


@pytest.mark.parametrize("held", [np.nan, np.inf])
def test_graph_attention_ignores_what_a_masked_sender_holds(rng, held):
    x = jnp.asarray(rng.normal(size=(3, H, D)), jnp.float32).at[2].set(held)
    graph, where = make([1, 2], [0, 0], 3), jnp.array([True, False])

    @jax.jit
    def both(x):
        out, pull = jax.vjp(
            lambda x: layers.graph_attention(graph, x, x, x, where=where), x
        )
        return out, pull(jnp.ones_like(out))[0]

    out, grad = both(x)
    np.testing.assert_array_equal(out[0], x[1])
    assert np.isfinite(grad).all()


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

    @jax.jit
    def both(graph):
        out, pull = jax.vjp(lambda x: layers.graph_attention(graph, x, x, x), x)
        return out, pull(seed)[0]

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        both(graph),
        both(plain),
    )
    weight = graph.edges["weight"]
    out = layers.graph_attention(
        graph, jnp.zeros_like(x), jnp.zeros_like(x), x, bias=jnp.log(weight)
    )
    share = weight / np.bincount(graph.receivers, weight)[graph.receivers]
    expected = np.zeros((4, D))
    np.add.at(expected, graph.receivers, share[:, None] * x[graph.senders])
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["gat", "gatv2"])
def test_negative_slope(name):
    one, none = jnp.ones((1, 1, 1)), jnp.zeros((1, 1))
    params = {
        "gat": {"kernel": one, "receiver": none, "sender": one[0]},
        "gatv2": {"receiver": 0 * one, "sender": one, "query": one[0]},
    }[name]
    graph, nodes = make([1, 2], [0, 0], 3), jnp.array([[0.0], [-1.0], [-3.0]])
    out = getattr(layers, name)(params, graph, nodes, negative_slope=0.5)
    share = np.exp([-0.5, -1.5]) / np.exp([-0.5, -1.5]).sum()
    np.testing.assert_allclose(out[0], share @ [-1.0, -3.0], rtol=1e-5)


def test_attention_along_edges_refuses(rng):
    graph = make(rng.integers(0, N, E), rng.integers(0, N, E))
    nodes, features = jnp.ones((N, F)), jnp.ones((E, F))
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
    for layer, init in (
        (layers.gat, layers.init_gat),
        (layers.gatv2, layers.init_gatv2),
    ):
        p = init(jax.random.key(0), F, D, H, width_edge=F)
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


def triple(rng):
    q, k, v = (jnp.asarray(rng.normal(size=(8, H, D)), jnp.float32) for _ in range(3))
    return q, k, v, jnp.arange(8) % 3 != 0


def test_each_sequence_has_its_own_mask(rng):
    q, k, v = (jnp.asarray(rng.normal(size=(2, 8, H, D)), jnp.float32) for _ in "qkv")
    where = jnp.stack([jnp.arange(8) % 3 != 0, jnp.arange(8) < 5])
    out = layers.sequence_attention(q, k, v, where=where)
    for b in range(2):
        alone = AMONG_NODES["sequence"](q[b], k[b], v[b], where[b])
        np.testing.assert_allclose(out[b], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("block_size", [1, 3, 100])
def test_full_attention_does_not_depend_on_the_block_size(rng, block_size):
    q, k, v, where = triple(rng)
    # The first blocks hold masked keys only.
    where = where & (jnp.arange(8) > 3)
    seed = jnp.asarray(rng.normal(size=v.shape), jnp.float32)

    @functools.partial(jax.jit, static_argnums=0)
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
    seed = jnp.asarray(rng.normal(size=v.shape), jnp.float32)

    def dense(q, k, v):
        scores = jnp.einsum("qhd,khd->hqk", q, k) * D**-0.5
        return jnp.einsum("hqk,khd->qhd", jax.nn.softmax(scores), v)

    @functools.partial(jax.jit, static_argnums=0)
    def both(function, *args):
        out, pull = jax.vjp(function, *args)
        return out, pull(seed)

    blocks_of_3 = functools.partial(layers.full_attention, block_size=3)
    for far in (0.0, 120.0):
        q, k = q + far, k + far
        out, grads = both(blocks_of_3, q, k, v)
        expected, others = both(dense, q, k, v)
        np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)
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
