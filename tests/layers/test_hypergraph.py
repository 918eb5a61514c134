"""Hypergraph convolution: what `tests/contract` leaves open."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import layers
from recjax.layers._hypergraph import reverse_pairs
from recjax.sparse import make_layout

# Node 2 is a member of no hyperedge, 5 of one of weight 0.  Hyperedge 1 has no member,
# 0 has one.
N, Q, D = 7, 5, 3
WEIGHT = np.array([0.5, 1.0, 2.0, 0.0, 3.0], np.float32)
with_layout = pytest.mark.parametrize("layout", [False, True])


def pairs(rng):
    """Members and hyperedges, unsorted; one pair is repeated."""
    members, hyperedges = rng.choice([0, 1, 3, 4, 6], 15), rng.choice([2, 3, 4], 15)
    members = np.concatenate([members, members[:1], [5, 0, 6]])
    return members, np.concatenate([hyperedges, hyperedges[:1], [3, 3, 0]])


def arrange(members, hyperedges, num=N, *, layout):
    """The arguments of a call, sorted where there is a layout."""
    if not layout:
        return (members, hyperedges), {}
    order = np.argsort(hyperedges, kind="stable")
    members, hyperedges = members[order], hyperedges[order]
    made = make_layout(members, hyperedges, num_senders=num, num_receivers=Q)
    return (members, hyperedges), {"layout": made}


def matrix(members, hyperedges, weight, num=N):
    """G [N, N], in float64."""
    incidence = np.zeros((num, Q))
    np.add.at(incidence, (members, hyperedges), 1)
    degree, size = incidence @ weight, incidence.sum(0)
    scale = np.where(degree > 0, np.where(degree > 0, degree, 1) ** -0.5, 0)
    half = incidence * (weight / np.maximum(size, 1))
    return scale[:, None] * (half @ incidence.T) * scale


@with_layout
def test_a_hyperedge_of_weight_0_is_as_if_it_were_removed(rng, layout):
    """Value and derivatives, whatever a node holds that is a member of it alone."""
    members, hyperedges = pairs(rng)
    kept = hyperedges != 3
    x = rng.normal(size=(N, D)).astype(np.float32)

    @jax.jit
    def both(args, extra, x):
        out, pull = jax.vjp(
            lambda *given: layers.hypergraph_smooth(
                given[0], *args, num_hyperedges=Q, weight=given[1], **extra
            ),
            x,
            WEIGHT,
        )
        return out, *pull(jnp.ones_like(out))

    removed = both(*arrange(members[kept], hyperedges[kept], layout=layout), x)
    x[5] = np.nan
    padded = both(*arrange(members, hyperedges, layout=layout), x)
    for held, expected in zip(padded, removed, strict=True):
        np.testing.assert_allclose(held, expected, rtol=1e-4, atol=1e-6)


def test_nan_does_not_pass_through_a_hyperedge_of_weight_0():
    # Node 0 is no number, and node 2 shares hyperedge 1 with it, which weighs 0.
    x = np.array([[np.nan], [1.0], [3.0]], np.float32)
    out = layers.hypergraph_smooth(
        x,
        np.array([0, 0, 2, 1, 2]),
        np.array([0, 1, 1, 2, 2]),
        num_hyperedges=3,
        weight=np.array([1.0, 0.0, 1.0]),
    )
    np.testing.assert_allclose(out[1:], [[2.0], [2.0]], rtol=1e-6)
    assert np.isnan(out[0])


@with_layout
def test_roots_of_degrees_stay_what_they_are(rng, layout):
    members, hyperedges = pairs(rng)
    args, extra = arrange(members, hyperedges, layout=layout)
    root = np.sqrt(np.bincount(members, WEIGHT[hyperedges], N))[:, None]
    out = layers.hypergraph_smooth(
        root.astype(np.float32), *args, num_hyperedges=Q, weight=WEIGHT, **extra
    )
    np.testing.assert_allclose(out, root, rtol=1e-5, atol=1e-6)


def test_the_layout_of_reversed_pairs_equals_one_that_is_made_for_them(rng):
    """Where it is not read on CPU, too."""
    (members, hyperedges), extra = arrange(*pairs(rng), layout=True)
    found = reverse_pairs(jnp.asarray(members), jnp.asarray(hyperedges), **extra)
    order = np.lexsort((hyperedges, members))
    senders, receivers = hyperedges[order], members[order]
    made = make_layout(senders, receivers, num_senders=Q, num_receivers=N)
    jax.tree.map(np.testing.assert_array_equal, found[:2], (senders, receivers))
    np.testing.assert_array_equal(found[2].row_pointer, made.row_pointer)
    order, row_pointer, sent = found[2].transpose[:3]
    np.testing.assert_array_equal(row_pointer, made.transpose.row_pointer)
    np.testing.assert_array_equal(senders[order], hyperedges)
    np.testing.assert_array_equal(receivers[order], sent)


@with_layout
def test_nothing_to_smooth(layout):
    none = np.zeros(0, np.int32), np.zeros(0, np.int32)
    args, extra = arrange(*none, layout=layout)
    x = jnp.ones((N, D))
    out = layers.hypergraph_smooth(x, *args, num_hyperedges=Q, **extra)
    np.testing.assert_array_equal(out, np.zeros((N, D)))
    args, extra = arrange(*none, 0, layout=layout)
    out = layers.hypergraph_smooth(x[:0], *args, num_hyperedges=Q, **extra)
    assert out.shape == (0, D)
    if not layout:
        out = layers.hypergraph_smooth(x, *none, num_hyperedges=0)
        np.testing.assert_array_equal(out, np.zeros((N, D)))


def test_bfloat16_is_summed_in_float32():
    # 257 members: 257 is 256 in bfloat16.
    x = jnp.full((257, 1), 3, jnp.bfloat16)
    out = layers.hypergraph_smooth(
        x, np.arange(257), np.zeros(257, int), num_hyperedges=1
    )
    assert out.dtype == jnp.bfloat16
    np.testing.assert_array_equal(out, x)


@pytest.mark.parametrize("widths", [(D, 5), (5, D)])
def test_convolution(rng, widths):
    ends = pairs(rng)
    args, extra = arrange(*ends, layout=True)
    params = layers.init_hypergraph_convolution(jax.random.key(0), *widths)
    params["bias"] = jnp.asarray(rng.normal(size=widths[1]), jnp.float32)
    x = rng.normal(size=(N, widths[0])).astype(np.float32)

    def run(x, members, hyperedges, layout):
        return layers.hypergraph_convolution(
            params,
            x,
            members,
            hyperedges,
            num_hyperedges=Q,
            weight=WEIGHT,
            layout=layout,
            activation=jnp.tanh,
        )

    out = jax.jit(run)(x, *args, extra["layout"])
    expected = matrix(*ends, WEIGHT) @ x @ np.asarray(params["kernel"])
    expected = np.tanh(expected + np.asarray(params["bias"]))
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)
    # The sums run on the narrower side of the kernel.
    jaxpr = str(jax.make_jaxpr(run)(x, *args, None))
    assert f"f32[{len(args[0])},{D}]" in jaxpr
    assert f"f32[{len(args[0])},5]" not in jaxpr


def test_refuses(rng):
    members, hyperedges = pairs(rng)
    x = jnp.ones((N, D))

    def call(*args, **settings):
        layers.hypergraph_smooth(*args, **{"num_hyperedges": Q} | settings)

    with pytest.raises(ValueError, match=r"members \(18,\) and hyperedges \(19,\)"):
        call(x, members[1:], hyperedges)
    with pytest.raises(ValueError, match=r"weight \(4,\) .* num_hyperedges is 5"):
        call(x, members, hyperedges, weight=WEIGHT[1:])
    (members, hyperedges), extra = arrange(members, hyperedges, layout=True)
    with pytest.raises(ValueError, match=r"row_pointer \(6,\) .* = 5 entries"):
        call(x, members, hyperedges, num_hyperedges=4, **extra)
    one_way = extra["layout"]._replace(transpose=None)
    with pytest.raises(ValueError, match="the layout has no transposed order"):
        call(x, members, hyperedges, layout=one_way)
    params = layers.init_hypergraph_convolution(jax.random.key(0), 2, 2)
    with pytest.raises(ValueError, match=r"nodes \(7, 3\) does not fit the kernel"):
        layers.hypergraph_convolution(params, x, members, hyperedges, num_hyperedges=Q)
