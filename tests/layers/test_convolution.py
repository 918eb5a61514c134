"""Graph convolutions: what `tests/contract` leaves open, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from edge_graph import edge_graph

from recjax import layers

# Node 2 has no edge; into 4 there are edges of weight 0 only.
N, E, WIDE, NARROW = 7, 20, 4, 3
INIT = {
    "gcn_up": lambda k: layers.init_gcn(k, NARROW, WIDE),
    "gcn_down": lambda k: layers.init_gcn(k, WIDE, NARROW),
    "mean_up": lambda k: layers.init_graph_sage(k, NARROW, WIDE),
    "mean_down": lambda k: layers.init_graph_sage(k, WIDE, NARROW),
    "max": lambda k: layers.init_graph_sage(k, WIDE, NARROW, width_pool=5),
    "gin": lambda k: layers.init_gin(k, WIDE, NARROW, hidden=5),
    "ngcf": lambda k: layers.init_ngcf(k, WIDE, NARROW),
}
RUN = {
    "gcn": lambda p, g, x: layers.gcn(p, g, x, activation=jnp.tanh),
    "mean": lambda p, g, x: layers.graph_sage(p, g, x, activation=jnp.tanh),
    "max": lambda p, g, x: layers.graph_sage(
        p, g, x, aggregate="max", activation=jnp.tanh
    ),
    "gin": lambda p, g, x: layers.gin(p, g, x, activation=jnp.tanh),
    "ngcf": lambda p, g, x: layers.ngcf(p, g, x, negative_slope=0.3),
}
each = pytest.mark.parametrize("name", INIT)


def run(name, params, graph, nodes):
    return RUN[name.split("_")[0]](params, graph, nodes)


def width_of(name):
    return NARROW if name.endswith("up") else WIDE


def edges(rng):
    """Unsorted edges with repeats, some of weight 0."""
    receivers = rng.choice([0, 1, 3, 4, 5, 6], E)
    receivers[:3] = 4
    senders = rng.choice([0, 1, 3, 4, 5, 6], E)
    weight = rng.normal(size=E) * (rng.random(E) < 0.7) * (receivers != 4)
    return weight.astype(np.float32), senders, receivers


def make(*edges, num=N):
    return edge_graph(*edges, num=num)


def setting(rng, name):
    """Parameters, of which none is 0, and nodes."""
    params = INIT[name](jax.random.key(1))
    params = jax.tree.map(
        lambda x: jnp.asarray(x + rng.normal(size=x.shape) / 4, jnp.float32), params
    )
    return params, jnp.asarray(rng.normal(size=(N, width_of(name))), jnp.float32)


@pytest.mark.parametrize("name", ["gcn_up", "mean_up"])
def test_values_where_the_sum_runs_before_the_product(rng, name):
    params, nodes = setting(rng, name)
    weight, senders, receivers = edges(rng)
    total, params = np.zeros((N, NARROW)), jax.tree.map(np.asarray, params)
    if name == "mean_up":
        weight = (weight != 0) * 1.0
    np.add.at(total, receivers, weight[:, None] * np.asarray(nodes)[senders])
    if name == "gcn_up":
        expected = total @ params["kernel"] + params["bias"]
    else:
        mean = total / np.maximum(np.bincount(receivers, weight, N), 1)[:, None]
        expected = nodes @ params["self"]["kernel"] + params["self"]["bias"][None]
        expected += mean @ params["neighbour"]["kernel"]
    out = run(name, params, make(weight, senders, receivers), nodes)
    np.testing.assert_allclose(out, np.tanh(expected), rtol=1e-4, atol=1e-5)


def test_maximum_does_not_see_what_padding_holds(rng):
    params, nodes = setting(rng, "max")
    graph = make(*edges(rng))
    graph = graph._replace(senders=graph.senders.at[0].set(2))
    assert graph.edges["weight"][0] == 0

    @jax.jit
    def both(nodes):
        out, pull = jax.vjp(lambda x: run("max", params, graph, x), nodes)
        return out, *pull(jnp.ones((N, NARROW)).at[2].set(0))

    # Node 2 sends along an edge of weight 0 alone.
    for out, held in zip(both(nodes), both(nodes.at[2].set(jnp.nan)), strict=True):
        kept = np.arange(N) != 2
        np.testing.assert_array_equal(held[kept], out[kept])


@pytest.mark.parametrize("name", ["gcn_down", "max"])
def test_weights_of_1_where_there_are_none(rng, name):
    params, nodes = setting(rng, name)
    _, *ends = edges(rng)
    graph = make(np.ones(E, np.float32), *ends)
    expected = run(name, params, graph, nodes)
    for without in (None, {}):
        out = run(name, params, graph._replace(edges=without), nodes)
        np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["mean_up", "max"])
def test_graph_sage_does_not_read_the_size_of_a_weight(rng, name):
    params, nodes = setting(rng, name)
    weight, *ends = edges(rng)
    function = jax.jit(lambda graph: run(name, params, graph, nodes))
    sign = np.sign(weight)
    np.testing.assert_array_equal(
        function(make(weight, *ends)), function(make(-5 * sign, *ends))
    )


def test_mean_equals_message_passing_over_row_normalised_weights(rng):
    params, nodes = setting(rng, "mean_down")
    weight, senders, receivers = edges(rng)
    counts = (weight != 0).astype(np.float32)
    number = np.maximum(np.bincount(receivers, counts, N), 1)
    rows = (counts / number[receivers]).astype(np.float32)
    expected = layers.message_passing(params, make(rows, senders, receivers), nodes)
    out = layers.graph_sage(params, make(weight, senders, receivers), nodes)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)


def test_gin_tells_neighbourhoods_apart_that_means_do_not():
    params = layers.init_gin(jax.random.key(0), 1, 2, hidden=8)
    # Node 0 has one neighbour, node 1 has two of the same kind.
    ends = np.array([2, 2, 3]), np.array([0, 1, 1])
    out = layers.gin(params, make(np.ones(3), *ends, num=4), jnp.ones((4, 1)))
    assert np.abs(out[0] - out[1]).max() > 0.01


@pytest.mark.parametrize("name", ["gcn_up", "gcn_down", "mean_up", "mean_down"])
def test_sums_run_on_the_narrower_side(rng, name):
    params, nodes = setting(rng, name)
    graph = make(*edges(rng))
    jaxpr = str(jax.make_jaxpr(lambda x: run(name, params, graph, x))(nodes))
    assert f"f32[{E},{NARROW}]" in jaxpr
    assert f"f32[{E},{WIDE}]" not in jaxpr


def test_mean_of_bfloat16_is_taken_in_float32():
    # 257 is 256 in bfloat16, as the number of neighbours and as their sum.
    num = 257
    graph = make(np.ones(num), np.arange(1, num + 1), np.zeros(num, int), num=num + 1)
    params = {
        "self": {"kernel": jnp.zeros((1, 1)), "bias": jnp.zeros(1)},
        "neighbour": {"kernel": jnp.ones((1, 1))},
    }
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    out = layers.graph_sage(params, graph, jnp.full((num + 1, 1), 3, jnp.bfloat16))
    assert out.dtype == jnp.bfloat16
    assert out[0, 0] == 3


@each
def test_refuses(rng, name):
    params, nodes = setting(rng, name)
    graph = make(*edges(rng))
    with pytest.raises(ValueError, match=rf"nodes \({N}, 2\) does not fit the kernel"):
        run(name, params, graph, nodes[:, :2])
    with pytest.raises(ValueError, match="the graph has no edges"):
        run(name, params, graph._replace(senders=None), nodes)


def test_graph_sage_refuses(rng):
    params, nodes = setting(rng, "mean_down")
    graph = make(*edges(rng))
    with pytest.raises(ValueError, match="aggregate 'sum': use 'mean' or 'max'"):
        layers.graph_sage(params, graph, nodes, aggregate="sum")
    with pytest.raises(ValueError, match=r"aggregate 'max' .* \['neighbour', 'self'\]"):
        layers.graph_sage(params, graph, nodes, aggregate="max")
    with pytest.raises(ValueError, match=r"aggregate 'mean' .* 'pool'"):
        layers.graph_sage(setting(rng, "max")[0], graph, nodes)
    with pytest.raises(ValueError, match=r"weight \(20, 2\) must .* senders \(20,\)"):
        layers.graph_sage(
            params, graph._replace(edges={"weight": jnp.ones((E, 2))}), nodes
        )
