"""The neighbour sum against a dense product: values, derivatives, batches, types."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh
from jax.test_util import check_grads

from recjax.sparse import (
    edge_dot,
    general_layout,
    list_sum,
    make_layout,
    neighbour_sum,
    take_rows,
)
from recjax.types import ItemLists

IMPLEMENTATIONS = (None, "csr", "segment", "pallas")


def random_edges(rng, num_senders=7, num_receivers=5, num_edges=23, *, symmetric=False):
    """Sorted random edges with repeats; some receivers without any."""
    senders = rng.integers(0, num_senders, num_edges)
    receivers = rng.choice([0, 1, 3, 4], num_edges)
    weight = rng.normal(size=num_edges).astype(np.float32)
    if symmetric:
        num_receivers = num_senders
        senders, receivers = (
            np.concatenate([senders, receivers]),
            np.concatenate([receivers, senders]),
        )
        weight = np.concatenate([weight, weight])
    order = np.lexsort((senders, receivers))
    edges = (weight[order], senders[order], receivers[order])
    layout = make_layout(
        *edges[1:],
        num_senders=num_senders,
        num_receivers=num_receivers,
        symmetric=symmetric,
    )
    dense = np.zeros((num_receivers, num_senders), np.float64)
    np.add.at(dense, (edges[2], edges[1]), edges[0])
    return edges, layout, dense


def over(senders, receivers, dense, layout, implementation=None):
    """`neighbour_sum` over these edges, of features and weights."""
    return functools.partial(
        neighbour_sum,
        senders=senders,
        receivers=receivers,
        num_receivers=len(dense),
        layout=layout,
        implementation=implementation,
    )


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("symmetric", [False, True])
def test_equals_the_dense_product(rng, implementation, symmetric):
    edges, layout, dense = random_edges(rng, symmetric=symmetric)
    x = rng.normal(size=(7, 3)).astype(np.float32)
    weight, *ends = edges
    out = over(*ends, dense, layout, implementation)(x, weight)
    np.testing.assert_allclose(out, dense @ x, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("symmetric", [False, True])
def test_derivatives_equal_those_of_the_dense_product(rng, implementation, symmetric):
    (weight, senders, receivers), layout, dense = random_edges(rng, symmetric=symmetric)
    x = rng.normal(size=(7, 3)).astype(np.float32)
    target = rng.normal(size=(len(dense), 3)).astype(np.float32)

    def loss(x, weight):
        out = over(senders, receivers, dense, layout, implementation)(x, weight)
        return jnp.sum(out * target)

    grad_x, grad_weight = jax.jit(jax.grad(loss, (0, 1)))(x, weight)
    np.testing.assert_allclose(grad_x, dense.T @ target, rtol=1e-5, atol=1e-5)
    by_edge = np.sum(target[receivers] * x[senders], axis=1)
    np.testing.assert_allclose(grad_weight, by_edge, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_numeric_derivatives_in_float64(rng, implementation):
    (weight, senders, receivers), layout, dense = random_edges(rng)
    with jax.enable_x64(True):
        x = jnp.asarray(rng.normal(size=(7, 3)))
        weight = jnp.asarray(weight, jnp.float64)

        def function(x, weight):
            return over(senders, receivers, dense, layout, implementation)(x, weight)

        assert function(x, weight).dtype == jnp.float64
        check_grads(function, (x, weight), order=1, modes=["rev"])


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_vmap_over_features_and_over_weights_equals_a_loop(rng, implementation):
    (weight, senders, receivers), layout, dense = random_edges(rng)
    xs = rng.normal(size=(4, 7, 3)).astype(np.float32)
    weights = np.stack([weight, 2 * weight, -weight, 0 * weight])

    def one(x, weight):
        return over(senders, receivers, dense, layout, implementation)(x, weight)

    shared = jax.vmap(one, (0, None))(xs, weight)
    np.testing.assert_allclose(shared, dense @ xs, rtol=1e-5, atol=1e-5)
    both = jax.vmap(one)(xs, weights)
    expected = np.stack([one(x, w) for x, w in zip(xs, weights, strict=True)])
    np.testing.assert_allclose(both, expected, rtol=1e-5, atol=1e-5)
    # The derivative is batched too.
    grads = jax.vmap(jax.grad(lambda x: jnp.sum(one(x, weight) ** 2)))(xs)
    np.testing.assert_allclose(grads, 2 * dense.T @ (dense @ xs), rtol=1e-4, atol=1e-4)


def test_bfloat16_features_are_summed_in_float32():
    # 256 + 1 is 256 in bfloat16: adding 1 at a time would stay at 256.
    x = jnp.concatenate([jnp.array([256.0]), jnp.ones(256)])[:, None]
    x = x.astype(jnp.bfloat16)
    senders, receivers = np.arange(257), np.zeros(257, np.int64)
    layout = make_layout(senders, receivers, num_senders=257, num_receivers=1)
    for implementation in IMPLEMENTATIONS:
        out = neighbour_sum(
            x,
            jnp.ones(257, jnp.bfloat16),
            senders,
            receivers,
            num_receivers=1,
            layout=layout,
            implementation=implementation,
        )
        assert out.dtype == jnp.bfloat16
        assert float(out[0, 0]) == 512.0


def test_the_feature_derivative_keeps_nothing_of_size_edges_by_width(rng):
    # 50,000 edges x 64 floats would be 12.8 MB; nodes x 64 are 0.03 MB.
    num, edges = 100, 50_000
    senders = rng.integers(0, num, edges)
    receivers = np.sort(rng.integers(0, num, edges))
    layout = make_layout(senders, receivers, num_senders=num, num_receivers=num)

    def loss(x, weight, layout):
        out = neighbour_sum(
            x,
            weight,
            senders,
            receivers,
            num_receivers=num,
            layout=layout,
            implementation="csr",
        )
        return jnp.sum(jnp.sin(out))

    compiled = (
        jax.jit(jax.grad(loss))
        .lower(jnp.ones((num, 64)), jnp.ones(edges), layout)
        .compile()
    )
    assert compiled.memory_analysis().temp_size_in_bytes < 3_000_000


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("symmetric", [False, True])
def test_heads_have_weights_of_their_own(rng, implementation, symmetric):
    """Also over a symmetric pattern, whose weights here are not symmetric."""
    (_, senders, receivers), layout, dense = random_edges(rng, symmetric=symmetric)
    weight = rng.normal(size=(len(senders), 2)).astype(np.float32)
    x = rng.normal(size=(7, 2, 3)).astype(np.float32)
    target = rng.normal(size=(len(dense), 2, 3)).astype(np.float32)
    matrix = np.zeros((2, *dense.shape))
    np.add.at(matrix, (slice(None), receivers, senders), weight.T)

    def function(x, weight):
        return over(
            senders, receivers, dense, general_layout(layout, senders), implementation
        )(x, weight)

    out, pull = jax.vjp(jax.jit(function), x, weight)
    expected = np.einsum("hrs,shd->rhd", matrix, x)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)
    grad_x, grad_weight = pull(target)
    expected = np.einsum("hrs,rhd->shd", matrix, target)
    np.testing.assert_allclose(grad_x, expected, rtol=1e-5, atol=1e-5)
    expected = np.einsum("ehd,ehd->eh", x[senders], target[receivers])
    np.testing.assert_allclose(grad_weight, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("with_layout", [False, True])
@pytest.mark.parametrize("shape", [(3,), (2, 3)])
def test_edge_dot_and_its_derivatives(rng, shape, with_layout):
    (_, senders, receivers), layout, dense = random_edges(rng)
    x = rng.normal(size=(7, *shape)).astype(np.float32)
    y = rng.normal(size=(len(dense), *shape)).astype(np.float32)
    grad = rng.normal(size=(len(senders), *shape[:-1])).astype(np.float32)

    def function(x, y):
        return edge_dot(
            x, y, senders, receivers, layout=layout if with_layout else None
        )

    out, pull = jax.vjp(jax.jit(function), x, y)
    expected = np.sum(x[senders] * y[receivers], axis=-1)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)
    grad_x, grad_y = pull(grad)
    expected = np.zeros_like(x)
    np.add.at(expected, senders, grad[..., None] * y[receivers])
    np.testing.assert_allclose(grad_x, expected, rtol=1e-5, atol=1e-5)
    expected = np.zeros_like(y)
    np.add.at(expected, receivers, grad[..., None] * x[senders])
    np.testing.assert_allclose(grad_y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("symmetric", [False, True, None])
def test_derivatives_of_derivatives(rng, symmetric):
    (weight, senders, receivers), layout, dense = random_edges(
        rng, symmetric=bool(symmetric)
    )
    with jax.enable_x64(True):
        x = jnp.asarray(rng.normal(size=(7, 2)))

        def function(x, scale):
            out = neighbour_sum(
                x,
                # Symmetric weights stay symmetric.
                scale * weight,
                senders,
                receivers,
                num_receivers=len(dense),
                layout=None if symmetric is None else layout,
            )
            return jnp.sum(jnp.sin(out))

        check_grads(function, (x, jnp.asarray(0.7)), order=2, modes=["rev"])


def test_edges_in_any_order_keep_nothing_for_the_derivative(rng):
    senders, receivers = rng.integers(0, 100, (2, 50_000))

    def loss(x, weight):
        out = neighbour_sum(x, weight, senders, receivers, num_receivers=100)
        return jnp.sum(jnp.sin(out))

    residuals = jax.eval_shape(
        lambda x, weight: jax.vjp(loss, x, weight)[1],
        jnp.ones((100, 64)),
        jnp.ones(50_000),
    )
    assert max(leaf.size for leaf in jax.tree.leaves(residuals)) <= 50_000


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_the_same_bits_every_time(rng, implementation):
    (weight, senders, receivers), layout, dense = random_edges(rng)
    x = rng.normal(size=(7, 3)).astype(np.float32)

    @jax.jit
    def run(x):
        out, pull = jax.vjp(
            lambda x: over(senders, receivers, dense, layout, implementation)(
                x, weight
            ),
            x,
        )
        return out, pull(out)[0]

    first = jax.tree.map(np.array, run(x))
    for _ in range(3):
        jax.tree.map(np.testing.assert_array_equal, run(x), first)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_pallas_lowers_for_gpus_without_one(rng, dtype):
    (weight, senders, receivers), layout, dense = random_edges(rng)

    def loss(x):
        out = over(senders, receivers, dense, layout, "pallas")(x, weight)
        return jnp.sum(out.astype(jnp.float32) ** 2)

    shape = jax.ShapeDtypeStruct((7, 48), dtype)
    device = AbstractDevice("NVIDIA H100 80GB HBM3", num_cores=132, platform="gpu")
    mesh = AbstractMesh((1,), ("device",), abstract_device=device)
    with jax.sharding.use_abstract_mesh(mesh):
        traced = jax.jit(jax.grad(loss)).trace(shape)
        lowered = traced.lower(lowering_platforms=("cuda",))
    assert lowered.as_text().count("gpu$xla.gpu.triton") == 2


def test_pallas_walks_rows_of_any_length(rng):
    # One receiver with most of the edges, widths that are no power of two.
    receivers = np.sort(np.append(np.zeros(300, int), rng.integers(0, 9, 40)))
    senders = rng.integers(0, 20, len(receivers))
    weight = rng.normal(size=len(receivers)).astype(np.float32)
    layout = make_layout(senders, receivers, num_senders=20, num_receivers=9)
    for width in (1, 5, 16):
        x = rng.normal(size=(20, width)).astype(np.float32)
        csr, pallas = (
            neighbour_sum(
                x,
                weight,
                senders,
                receivers,
                num_receivers=9,
                layout=layout,
                implementation=implementation,
            )
            for implementation in ("csr", "pallas")
        )
        np.testing.assert_allclose(pallas, csr, rtol=1e-4, atol=1e-5)


def test_no_edges_and_trailing_axes():
    empty = np.zeros(0, np.int32)
    layout = make_layout(empty, empty, num_senders=2, num_receivers=3)
    for implementation in IMPLEMENTATIONS:
        out = neighbour_sum(
            jnp.ones((2, 2, 2)),
            jnp.zeros(0),
            empty,
            empty,
            num_receivers=3,
            layout=layout,
            implementation=implementation,
        )
        np.testing.assert_array_equal(out, np.zeros((3, 2, 2)))


def test_unsorted_edges_are_summed_without_a_layout():
    out = neighbour_sum(
        jnp.array([1.0, 10.0]),
        jnp.array([1.0, 1.0, 3.0]),
        jnp.array([0, 1, 1]),
        jnp.array([1, 0, 1]),
        num_receivers=2,
    )
    assert out.tolist() == [10.0, 31.0]


def test_rows_are_taken_and_their_derivatives_added(rng):
    x = rng.normal(size=(5, 2)).astype(np.float32)
    rows = np.array([3, 0, 3])

    def with_indexing(x):
        return jnp.sum(jnp.sin(x)) + jnp.sum(x[rows] ** 3)

    def with_take_rows(x):
        x, taken = take_rows(x, rows)
        return jnp.sum(jnp.sin(x)) + jnp.sum(taken**3)

    expected = jax.grad(with_indexing)(x)
    np.testing.assert_allclose(jax.grad(with_take_rows)(x), expected, rtol=1e-5)
    with pytest.raises(ValueError, match="vector of integers"):
        take_rows(x, jnp.array([0.0]))


def test_list_sum_weighs_each_entry():
    lists = ItemLists(jnp.array([0, 2, 2, 3]), jnp.array([0, 1, 1]))
    x = jnp.array([[1.0], [10.0]])
    out = list_sum(x, lists, jnp.array([1.0, 2.0, 0.5]))
    assert out.ravel().tolist() == [21.0, 0.0, 5.0]


@pytest.mark.parametrize(
    ("senders", "receivers", "symmetric", "message"),
    [
        ([0, 1], [1, 0], False, "sorted by receiver"),
        ([0, 9], [0, 1], False, "senders run from 0 to 9"),
        ([0, 1], [0, 7], False, "receivers run from 0 to 7"),
        ([0], [1], True, "no reverse edge"),
        ([0, 1], [1], False, r"\(2,\) and receivers \(1,\)"),
    ],
)
def test_make_layout_refuses(senders, receivers, symmetric, message):
    with pytest.raises(ValueError, match=message):
        make_layout(
            np.array(senders),
            np.array(receivers),
            num_senders=3,
            num_receivers=3,
            symmetric=symmetric,
        )


def test_neighbour_sum_refuses():
    one = jnp.ones(1)
    index = jnp.zeros(1, jnp.int32)
    with pytest.raises(ValueError, match="needs a layout"):
        neighbour_sum(one, one, index, index, num_receivers=1, implementation="csr")
    with pytest.raises(ValueError, match="'dense'"):
        neighbour_sum(one, one, index, index, num_receivers=1, implementation="dense")
    with pytest.raises(ValueError, match=r"weight \(2,\)"):
        neighbour_sum(one, jnp.ones(2), index, index, num_receivers=1)
    layout = make_layout(
        np.zeros(1, int), np.zeros(1, int), num_senders=1, num_receivers=1
    )
    with pytest.raises(ValueError, match="num_receivers"):
        neighbour_sum(one, one, index, index, num_receivers=4, layout=layout)
    with pytest.raises(ValueError, match=r"x \(1,\) must be \[senders, H"):
        neighbour_sum(one, jnp.ones((1, 2)), index, index, num_receivers=1)
    with pytest.raises(ValueError, match="int32 must be floating"):
        neighbour_sum(index, one, index, index, num_receivers=1)
    with pytest.raises(ValueError, match=r"x \(1, 2\) and y \(1, 3\)"):
        edge_dot(jnp.ones((1, 2)), jnp.ones((1, 3)), index, index)
