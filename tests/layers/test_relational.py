"""Relational convolution against a loop over edges with the matrices written out."""

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest
from jax.test_util import check_grads

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


def make(weight, senders, receivers, relation, num=N, *, layout=None):
    """With a layout of its own, or one that promises symmetric weights."""
    extra, parts = {}, (weight, senders, receivers, relation)
    if layout == "symmetric":
        # The relation of a reverse edge is another.
        flipped = weight, receivers, senders, (relation + 1) % R
        parts = tuple(np.concatenate(pair) for pair in zip(parts, flipped, strict=True))
    if layout:
        order = np.lexsort((parts[1], parts[2]))
        parts = tuple(x[order] for x in parts)
        extra["layout"] = make_layout(
            parts[1],
            parts[2],
            num_senders=num,
            num_receivers=num,
            symmetric=layout == "symmetric",
        )
    weight, senders, receivers, relation = parts
    return jraph.GraphsTuple(
        nodes=None,
        edges={
            "weight": jnp.asarray(weight),
            "relation": jnp.asarray(relation, jnp.int32),
        },
        globals=extra,
        senders=jnp.asarray(senders, jnp.int32),
        receivers=jnp.asarray(receivers, jnp.int32),
        n_node=jnp.array([num]),
        n_edge=jnp.array([len(senders)]),
    )


def setting(rng, name, dtype=jnp.float32):
    """Parameters, of which none is 0, and nodes."""
    params = jax.tree.map(
        lambda x: jnp.asarray(x + rng.normal(size=x.shape) / 4, dtype),
        INIT[name](jax.random.key(1)),
    )
    return params, jnp.asarray(rng.normal(size=(N, IN)), dtype)


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


def by_hand(params, graph, nodes):
    nodes, kernels = np.asarray(nodes, np.float64), matrices(params)
    own = jax.tree.map(lambda x: np.asarray(x, np.float64), params["self"])
    out = nodes @ own["kernel"] + own["bias"]
    senders, receivers = np.asarray(graph.senders), np.asarray(graph.receivers)
    relation = np.asarray(graph.edges["relation"])
    weight = np.asarray(graph.edges["weight"])
    for i in range(len(nodes)):
        for r in range(R):
            mine = np.flatnonzero((receivers == i) & (relation == r) & (weight != 0))
            for e in mine:
                out[i] += nodes[senders[e]] @ kernels[r] / len(mine)
    return np.tanh(out)


@each
@pytest.mark.parametrize("layout", [None, "own", "symmetric"])
def test_values(rng, name, layout):
    params, nodes = setting(rng, name)
    graph = make(*edges(rng), layout=layout)
    out = jax.jit(run)(params, graph, nodes)
    expected = by_hand(params, graph, nodes)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)


@each
@pytest.mark.parametrize("layout", [None, "own", "symmetric"])
def test_numeric_derivatives_in_float64(rng, name, layout):
    with jax.enable_x64(True):
        graph = make(*edges(rng), layout=layout)
        args = setting(rng, name, jnp.float64)
        function = jax.jit(lambda params, nodes: run(params, graph, nodes))
        assert function(*args).dtype == jnp.float64
        check_grads(function, args, order=1, modes=["rev"])


@each
def test_order_of_edges(rng, name):
    params, nodes = setting(rng, name)
    parts, order = edges(rng), rng.permutation(E)
    function = jax.jit(lambda graph: run(params, graph, nodes))
    moved = function(make(*(x[order] for x in parts)))
    np.testing.assert_allclose(moved, function(make(*parts)), rtol=1e-4, atol=1e-5)


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
def test_padded_equals_unpadded(rng, name):
    """Values and derivatives; what does not count is as if it were removed."""
    params, nodes = setting(rng, name)
    parts = edges(rng)
    weight, _, _, relation = parts
    counts = (weight != 0) & (relation >= 0) & (relation < R)
    assert 0 < (~counts).sum() < E
    seed = jnp.asarray(rng.normal(size=(N, OUT)), jnp.float32)

    @jax.jit
    def both(graph):
        out, pull = jax.vjp(lambda *x: run(x[0], graph, x[1]), params, nodes)
        return out, pull(seed)

    removed = both(make(*(x[counts] for x in parts)))
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5),
        both(make(*parts)),
        removed,
    )


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
def test_no_edges_and_no_nodes(rng, name):
    params, nodes = setting(rng, name)
    none = [np.zeros(0, np.float32)] + [np.zeros(0, int)] * 3
    out = run(params, make(*none), nodes)
    expected = by_hand(params, make(*none), nodes)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)
    assert run(params, make(*none, 0), nodes[:0]).shape == (0, OUT)


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
    graph = make(weight, *ends, relation, num, layout="own")
    nodes = jax.ShapeDtypeStruct((num, width), jnp.float32)

    def loss(params, nodes, graph):
        return jnp.sum(run(params, graph, nodes))

    compiled = jax.jit(jax.grad(loss, (0, 1))).lower(params, nodes, graph).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 16_000_000


def test_bfloat16_shares_are_taken_in_float32():
    # 1 / 257 is 1 / 256 in bfloat16.
    num = 257
    ends = np.arange(1, num + 1), np.zeros(num, int)
    graph = make(np.ones(num), *ends, np.zeros(num, int), num + 1)
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
