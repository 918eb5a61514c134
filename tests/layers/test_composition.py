"""Messages of a node and a relation: what `tests/contract` leaves open."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from edge_graph import edge_graph

from recjax import layers

# Node 2 has no edge.
N, E, R, IN, OUT = 7, 20, 3, 4, 5
each = pytest.mark.parametrize("compose", ["multiply", "subtract"])


def run(params, graph, nodes, relations, compose):
    return layers.relation_message_passing(
        params, graph, nodes, relations, compose=compose, activation=jnp.tanh
    )


def edges(rng):
    """Weight, senders, receivers, relation; unsorted, with repeats."""
    senders, receivers = rng.choice([0, 1, 3, 4, 5, 6], (2, E))
    weight = rng.normal(size=E) * (rng.random(E) < 0.8)
    relation = rng.integers(0, R, E)
    # Neither of these is a relation.
    relation[:2], weight[:2] = (-1, R), 1
    return weight.astype(np.float32), senders, receivers, relation


def make(*edges, num=N):
    return edge_graph(*edges, num=num)


def setting(rng):
    """Parameters, of which none is 0, nodes and relations."""
    params = layers.init_relation_message_passing(jax.random.key(1), IN, OUT)
    params = jax.tree.map(
        lambda x: jnp.asarray(x + rng.normal(size=x.shape) / 4, jnp.float32), params
    )
    nodes, relations = rng.normal(size=(N, IN)), rng.normal(size=(R, IN))
    return params, *(jnp.asarray(x, jnp.float32) for x in (nodes, relations))


@each
def test_features_of_edges_are_relations_of_their_own(rng, compose):
    params, nodes, relations = setting(rng)
    weight, senders, receivers, relation = edges(rng)
    relation = np.clip(relation, 0, R - 1)
    out, updated = run(
        params, make(weight, senders, receivers, relation), nodes, relations, compose
    )
    features = relations[relation]
    found, edges_updated = run(
        params, make(weight, senders, receivers), nodes, features, compose
    )
    np.testing.assert_allclose(found, out, rtol=1e-4, atol=1e-5)
    expected = np.where((weight != 0)[:, None], updated[relation], 0)
    np.testing.assert_allclose(edges_updated, expected, rtol=1e-4, atol=1e-5)


@each
def test_features_of_padding_edges_are_not_seen(rng, compose):
    params, nodes, _ = setting(rng)
    weight, senders, receivers, _ = edges(rng)
    counts = weight != 0
    features = jnp.asarray(rng.normal(size=(E, IN)), jnp.float32)
    graph = make(weight, senders, receivers)

    @jax.jit
    def both(features):
        out, pull = jax.vjp(
            lambda p, x, z: run(p, graph, x, z, compose), params, nodes, features
        )
        return out, pull(jax.tree.map(jnp.ones_like, out))

    held = both(jnp.where(counts[:, None], features, jnp.nan))
    jax.tree.map(np.testing.assert_array_equal, held, both(features))
    assert not np.asarray(held[1][2])[~counts].any()


def test_products_do_not_see_what_padding_nodes_hold(rng):
    params, nodes, relations = setting(rng)
    weight, senders, *rest = edges(rng)
    # Node 2 sends along edges of weight 0 alone.
    graph = make(weight, np.where(weight == 0, 2, senders), *rest)

    @jax.jit
    def both(nodes):
        (out, _), pull = jax.vjp(
            lambda x, z: run(params, graph, x, z, "multiply"), nodes, relations
        )
        seed = jnp.ones((N, OUT)).at[2].set(0), jnp.zeros((R, OUT))
        return out, *pull(seed)

    kept = np.arange(N) != 2
    (out, grad, table), (held, held_grad, held_table) = (
        both(x) for x in (nodes, nodes.at[2].set(jnp.nan))
    )
    np.testing.assert_array_equal(held[kept], out[kept])
    np.testing.assert_array_equal(held_grad[kept], grad[kept])
    np.testing.assert_array_equal(held_table, table)


@each
def test_no_edges_and_no_nodes(rng, compose):
    params, nodes, relations = setting(rng)
    none = [np.zeros(0, np.float32)] + [np.zeros(0, np.int32)] * 3
    out, updated = run(params, make(*none), nodes, relations, compose)
    own = nodes @ params["self"]["kernel"] + params["self"]["bias"][None]
    np.testing.assert_allclose(out, np.tanh(own), rtol=1e-5, atol=1e-6)
    assert updated.shape == (R, OUT)
    out, updated = run(params, make(*none[:3]), nodes, relations[:0], compose)
    np.testing.assert_allclose(out, np.tanh(own), rtol=1e-5, atol=1e-6)
    assert updated.shape == (0, OUT)
    out, updated = run(params, make(*none, num=0), nodes[:0], relations, compose)
    assert out.shape == (0, OUT)


def test_products_are_gathered_again_for_the_derivative():
    """[E, D] is 26 MB; kept for nodes and relations it would be twice that."""
    num, many, width = 1000, 200_000, 32
    params = jax.eval_shape(
        lambda key: layers.init_relation_message_passing(key, width, width),
        jax.random.key(0),
    )
    ends = np.random.default_rng(0).integers(0, num, (2, many))
    graph = make(np.ones(many, np.float32), *ends, ends[0] % R, num=num)
    nodes, relations = (
        jax.ShapeDtypeStruct((rows, width), jnp.float32) for rows in (num, R)
    )

    def kept(params, graph, nodes, relations):
        return jax.vjp(lambda *x: run(params, graph, *x, "multiply"), nodes, relations)[
            1
        ]

    leaves = jax.tree.leaves(jax.eval_shape(kept, params, graph, nodes, relations))
    assert max(x.size for x in leaves) < many * width


@each
def test_bfloat16_is_summed_in_float32(compose):
    # 256 + 1 + 1 + 1 is 256 in bfloat16; 259 rounds to 260, but 259 - 4 is 255.
    num = 4
    senders, receivers = np.arange(1, num + 1), np.zeros(num, int)
    graph = make(np.ones(num), senders, receivers, np.zeros(num, int), num=num + 1)
    params = layers.init_relation_message_passing(jax.random.key(0), 1, 1)
    params = jax.tree.map(lambda x: jnp.ones_like(x, jnp.bfloat16), params)
    params["self"] = jax.tree.map(jnp.zeros_like, params["self"])
    nodes = jnp.array([[0], [256], [1], [1], [1]], jnp.bfloat16)
    z = jnp.ones((1, 1), jnp.bfloat16)
    out, updated = layers.relation_message_passing(
        params, graph, nodes, z, compose=compose
    )
    assert out.dtype == updated.dtype == jnp.bfloat16
    assert out[0, 0] == (260 if compose == "multiply" else 255)


@each
def test_refuses(rng, compose):
    params, nodes, relations = setting(rng)
    graph = make(*edges(rng))

    def call(graph=graph, nodes=nodes, relations=relations, compose=compose):
        return run(params, graph, nodes, relations, compose)

    with pytest.raises(ValueError, match="compose 'add': use 'multiply' or 'subtract'"):
        call(compose="add")
    with pytest.raises(ValueError, match=r"relations \(3, 2\) .* nodes \(7, 4\)"):
        call(relations=relations[:, :2])
    with pytest.raises(ValueError, match=r"nodes \(7, 2\) does not fit the kernel"):
        call(nodes=nodes[:, :2], relations=relations[:, :2])
    with pytest.raises(ValueError, match=r"relations \(3, 4\) .* senders \(20,\)"):
        call(graph._replace(edges=None))
    with pytest.raises(ValueError, match=r"relation'\] \(20,\) of type float32"):
        call(graph._replace(edges={"relation": jnp.zeros(E)}))
    with pytest.raises(ValueError, match="the graph has no edges"):
        call(graph._replace(receivers=None))
