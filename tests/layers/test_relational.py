"""Relational convolution: what `tests/contract` leaves open."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from edge_graph import edge_graph

from recjax import layers
from recjax.sparse import make_layout

# Node 2 has no edge; into 4 there are edges that do not count only.
N, E, R, IN, OUT = 7, 24, 3, 4, 6
INIT = {
    "basis": lambda key: layers.init_rgcn_basis(key, IN, OUT, relations=R, bases=2),
    "block": lambda key: layers.init_rgcn_block(key, IN, OUT, relations=R, blocks=2),
}
each = pytest.mark.parametrize("name", INIT)


def run(params, graph, nodes):
    return layers.rgcn(params, graph, nodes, activation=jnp.tanh)


def edges(rng):
    """Weight, senders, receivers, relation; unsorted, with repeats."""
    receivers = rng.choice([0, 1, 3, 4, 5, 6], E)
    receivers[:4] = 4
    senders = rng.choice([0, 1, 3, 4, 5, 6], E)
    weight = rng.normal(size=E) * (rng.random(E) < 0.8)
    relation = rng.integers(0, R, E)
    # Neither of these counts, and the others into node 4 weigh 0.
    relation[:2] = -1, R
    weight[:2] = 1
    weight[2:] *= receivers[2:] != 4
    return weight.astype(np.float32), senders, receivers, relation


def make(*edges, num=N):
    return edge_graph(*edges, num=num)


def setting(rng, name):
    """Parameters, of which none is 0, and nodes."""
    params = jax.tree.map(
        lambda x: jnp.asarray(x + rng.normal(size=x.shape) / 4, jnp.float32),
        INIT[name](jax.random.key(1)),
    )
    return params, jnp.asarray(rng.normal(size=(N, IN)), jnp.float32)


def matrices(params):
    """One matrix [IN, OUT] a relation."""
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    if "basis" in params:
        return np.einsum("rb,bio->rio", params["coefficient"], params["basis"])
    out = np.zeros((R, IN, OUT))
    for r, blocks in enumerate(params["block"]):
        for b, block in enumerate(blocks):
            height, width = block.shape
            rows = slice(b * height, (b + 1) * height)
            out[r, rows, b * width : (b + 1) * width] = block
    return out


@each
def test_order_of_relations(rng, name):
    params, nodes = setting(rng, name)
    weight, senders, receivers, relation = edges(rng)
    relation = np.clip(relation, 0, R - 1)
    key = "coefficient" if name == "basis" else "block"
    function = jax.jit(run)
    out = function(params, make(weight, senders, receivers, relation), nodes)
    order = np.array([2, 0, 1])
    other = params | {key: params[key][np.argsort(order)]}
    moved = function(other, make(weight, senders, receivers, order[relation]), nodes)
    np.testing.assert_allclose(moved, out, rtol=1e-4, atol=1e-5)


@each
def test_the_size_of_a_weight_is_not_read(rng, name):
    params, nodes = setting(rng, name)
    weight, *rest = edges(rng)
    function = jax.jit(lambda graph: run(params, graph, nodes))
    out = function(make(weight, *rest))
    sizes = function(make(-3 * np.sign(weight), *rest))
    np.testing.assert_array_equal(sizes, out)
    graph = make(np.ones(E, np.float32), *rest)
    without = graph._replace(edges={"relation": graph.edges["relation"]})
    np.testing.assert_array_equal(function(without), function(graph))


def test_blocks_are_bases_with_zeros(rng):
    params, nodes = setting(rng, "block")
    graph = make(*edges(rng))
    as_basis = {
        "self": params["self"],
        "basis": jnp.asarray(matrices(params), jnp.float32),
        "coefficient": jnp.eye(R),
    }
    np.testing.assert_allclose(
        run(as_basis, graph, nodes), run(params, graph, nodes), rtol=1e-4, atol=1e-5
    )


@each
def test_no_vector_an_edge_or_relation_is_kept(name):
    """Of [E, D], 26 MB, of [16, N, D], 20 MB, and of [N * R, D], 41 MB, none is."""
    num, many, relations, width = 10_000, 200_000, 32, 32
    sizes = {"basis": {"bases": 16}, "block": {"blocks": 16}}[name]
    init = getattr(layers, f"init_rgcn_{name}")
    params = jax.eval_shape(
        lambda key: init(key, width, width, relations=relations, **sizes),
        jax.random.key(0),
    )
    ends = np.random.default_rng(0).integers(0, num, (2, many))
    weight, relation = np.ones(many, np.float32), ends[0] % relations
    order = np.argsort(ends[1])
    ends, relation = ends[:, order], relation[order]
    layout = make_layout(*ends, num_senders=num, num_receivers=num)
    graph = make(weight, *ends, relation, num=num)._replace(globals={"layout": layout})
    nodes = jax.ShapeDtypeStruct((num, width), jnp.float32)

    def loss(params, nodes, graph):
        return jnp.sum(run(params, graph, nodes))

    compiled = jax.jit(jax.grad(loss, (0, 1))).lower(params, nodes, graph).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 16_000_000


def test_bfloat16_shares_are_taken_in_float32():
    # 1 / 257 is 1 / 256 in bfloat16.
    num = 257
    ends = np.arange(1, num + 1), np.zeros(num, int)
    graph = make(np.ones(num), *ends, np.zeros(num, int), num=num + 1)
    graph = graph._replace(edges={"relation": graph.edges["relation"]})
    params = {
        "self": {"kernel": jnp.zeros((1, 1)), "bias": jnp.zeros(1)},
        "basis": jnp.full((1, 1, 1), 3.0),
        "coefficient": jnp.ones((1, 1)),
    }
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    nodes = jnp.ones((num + 1, 1), jnp.bfloat16)
    block = {"self": params["self"], "block": params["basis"][None]}
    for given in (params, block):
        out = layers.rgcn(given, graph, nodes)
        assert out.dtype == jnp.bfloat16
        assert out[0, 0] == 3


@each
def test_refuses(rng, name):
    params, nodes = setting(rng, name)
    graph = make(*edges(rng))
    with pytest.raises(ValueError, match=rf"nodes \({N}, 2\) does not fit the kernel"):
        run(params, graph, nodes[:, :2])
    with pytest.raises(ValueError, match="the graph has no edges"):
        run(params, graph._replace(senders=None), nodes)
    for without in (None, {"weight": graph.edges["weight"]}):
        with pytest.raises(ValueError, match="the graph has no relations"):
            run(params, graph._replace(edges=without), nodes)
    for relation in (jnp.zeros(E - 1, int), jnp.zeros(E)):
        with pytest.raises(ValueError, match=r"relation'\] .* one integer an edge, as"):
            run(params, graph._replace(edges={"relation": relation}), nodes)


def test_parameters_that_do_not_fit(rng):
    params, nodes = setting(rng, "block")
    graph = make(*edges(rng))
    with pytest.raises(ValueError, match=r"\['self'\] must have one of 'basis' and"):
        run({"self": params["self"]}, graph, nodes)
    with pytest.raises(ValueError, match=r"nodes \(7, 4\) .* blocks \(3, 1, 2, 3\)"):
        run(params | {"block": params["block"][:, :1]}, graph, nodes)
    with pytest.raises(ValueError, match="blocks 4 must divide both widths 4 and 6"):
        layers.init_rgcn_block(jax.random.key(0), 4, 6, relations=2, blocks=4)
    with pytest.raises(ValueError, match="blocks 0 must divide"):
        layers.init_rgcn_block(jax.random.key(0), 4, 6, relations=2, blocks=0)
