"""Reductions over edges against a loop over receivers; masks, padding, derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from recjax import layers

NUM, EDGES = 6, 17
REDUCTIONS = {
    "max": layers.segment_max,
    "min": layers.segment_min,
    "mean": layers.segment_mean,
    "softmax": layers.segment_softmax,
}
BY_HAND = {
    "max": lambda x: x.max(0),
    "min": lambda x: x.min(0),
    "mean": lambda x: x.mean(0),
    "softmax": lambda x: np.exp(x - x.max(0)) / np.exp(x - x.max(0)).sum(0),
}
each = pytest.mark.parametrize("name", REDUCTIONS)


def edges(rng, shape=()):
    """Values, unsorted receivers (2 has none) and a mask (4 keeps none)."""
    values = rng.normal(size=(EDGES, *shape)).astype(np.float32)
    receivers = rng.choice([0, 1, 3, 4, 5], EDGES)
    where = (rng.random(EDGES) < 0.7) & (receivers != 4)
    return values, receivers, where


def by_hand(name, values, receivers, where):
    shape = values.shape if name == "softmax" else (NUM, *values.shape[1:])
    out = np.zeros(shape)
    for r in range(NUM):
        mine = np.flatnonzero((receivers == r) & where)
        if len(mine):
            found = BY_HAND[name](values[mine].astype(np.float64))
            out[mine if name == "softmax" else r] = found
    return out


@each
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_values(rng, name, shape):
    values, receivers, where = edges(rng, shape)
    reduce = REDUCTIONS[name]
    out = reduce(values, receivers, num_receivers=NUM)
    whole = np.ones(EDGES, bool)
    np.testing.assert_allclose(
        out, by_hand(name, values, receivers, whole), rtol=1e-5, atol=1e-6
    )
    out = reduce(values, receivers, num_receivers=NUM, where=where)
    np.testing.assert_allclose(
        out, by_hand(name, values, receivers, where), rtol=1e-5, atol=1e-6
    )


@each
def test_sorted_equals_unsorted(rng, name):
    values, receivers, where = edges(rng)
    order = np.argsort(receivers, kind="stable")
    args = (values[order], receivers[order])
    out = [
        REDUCTIONS[name](*args, num_receivers=NUM, where=where[order], is_sorted=x)
        for x in (False, True)
    ]
    np.testing.assert_array_equal(*out)


@each
@pytest.mark.parametrize("held", [np.nan, np.inf, -np.inf, 1e30])
def test_masked_equals_removed(rng, name, held):
    """Value and derivative, whatever the masked edges hold."""
    values, receivers, where = edges(rng, (2,))
    filled = np.where(where[:, None], values, held)
    reduce = REDUCTIONS[name]
    masked, pull = jax.vjp(
        lambda x: reduce(x, receivers, num_receivers=NUM, where=where), filled
    )
    removed, pull_removed = jax.vjp(
        lambda x: reduce(x, receivers[where], num_receivers=NUM), values[where]
    )
    seed = rng.normal(size=masked.shape).astype(np.float32)
    kept = where if name == "softmax" else slice(None)
    np.testing.assert_array_equal(masked[kept], removed)
    (grad,), (grad_removed,) = pull(seed), pull_removed(seed[kept])
    np.testing.assert_allclose(grad[where], grad_removed, rtol=1e-6)
    assert not np.asarray(grad)[~where].any()
    if name == "softmax":
        assert not np.asarray(masked)[~where].any()


@each
def test_receivers_that_do_not_exist_count_as_masked(rng, name):
    values, receivers, where = edges(rng)
    for elsewhere in (NUM, NUM + 5, -1):
        out = REDUCTIONS[name](
            values, np.where(where, receivers, elsewhere), num_receivers=NUM
        )
        np.testing.assert_allclose(
            out, by_hand(name, values, receivers, where), rtol=1e-5, atol=1e-6
        )


@each
def test_order_of_edges(rng, name):
    values, receivers, where = edges(rng)
    order = rng.permutation(EDGES)
    out = REDUCTIONS[name](values, receivers, num_receivers=NUM, where=where)
    moved = REDUCTIONS[name](
        values[order], receivers[order], num_receivers=NUM, where=where[order]
    )
    if name == "softmax":
        out = out[order]
    np.testing.assert_allclose(moved, out, rtol=1e-6, atol=1e-7)


@each
def test_jit_vmap_and_one_trace(rng, name):
    values, receivers, where = edges(rng, (2,))
    traces = []

    def one(values, where):
        traces.append(None)
        return REDUCTIONS[name](values, receivers, num_receivers=NUM, where=where)

    jitted = jax.jit(one)
    out = jitted(values, where)
    jitted(2 * values, ~where)
    assert len(traces) == 1
    np.testing.assert_allclose(out, one(values, where), rtol=1e-6, atol=1e-7)
    stack, masks = np.stack([values, -values, 2 * values]), np.stack([where] * 3)
    masks[1] = ~where
    loop = np.stack([one(x, w) for x, w in zip(stack, masks, strict=True)])
    np.testing.assert_allclose(jax.vmap(one)(stack, masks), loop, rtol=1e-6, atol=1e-7)


@each
def test_numeric_derivatives_in_float64(rng, name):
    values, receivers, where = edges(rng, (2,))
    with jax.enable_x64(True):
        values = jnp.asarray(values, jnp.float64)

        def function(values):
            return REDUCTIONS[name](values, receivers, num_receivers=NUM, where=where)

        assert function(values).dtype == jnp.float64
        check_grads(function, (values,), order=1, modes=["rev"])


@pytest.mark.parametrize("name", ["max", "min"])
def test_equal_values_share_the_derivative(name):
    grad = jax.grad(
        lambda x: REDUCTIONS[name](x, jnp.zeros(3, int), num_receivers=1)[0]
    )(jnp.array([1.0, 1.0, 1.0]))
    np.testing.assert_allclose(grad, np.full(3, 1 / 3), rtol=1e-6)


@pytest.mark.parametrize("name", ["mean", "softmax"])
def test_bfloat16_is_summed_in_float32(name):
    # 256 + 1 is 256 in bfloat16, and 256 of 257 equal shares would be too large.
    values = jnp.ones(1024, jnp.bfloat16)
    out = REDUCTIONS[name](values, jnp.zeros(1024, int), num_receivers=1)
    assert out.dtype == jnp.bfloat16
    expected = 1.0 if name == "mean" else 2.0**-10
    np.testing.assert_array_equal(out.astype(jnp.float32), expected)


@each
def test_bfloat16_is_near_float32(rng, name):
    values, receivers, where = edges(rng)
    out = REDUCTIONS[name](
        values.astype(jnp.bfloat16), receivers, num_receivers=NUM, where=where
    )
    assert out.dtype == jnp.bfloat16
    # Two roundings to 8 bits.
    np.testing.assert_allclose(
        out.astype(jnp.float32),
        by_hand(name, values, receivers, where),
        rtol=2**-6,
        atol=2**-7,
    )


@each
def test_nothing_counts(name):
    reduce = REDUCTIONS[name]
    rows = 2 if name == "softmax" else NUM
    none, two = np.zeros(0, np.int32), np.array([1, 1])
    empty = reduce(jnp.zeros((0, 3)), none, num_receivers=NUM)
    assert empty.shape == ((0, 3) if name == "softmax" else (NUM, 3))
    assert not np.asarray(empty).any()
    assert reduce(jnp.zeros(2), two, num_receivers=0).shape == (
        (2,) if name == "softmax" else (0,)
    )

    def masked(x):
        return reduce(x, two, num_receivers=NUM, where=np.zeros(2, bool))

    out, pull = jax.vjp(masked, jnp.array([1.0, -2.0]))
    np.testing.assert_array_equal(out, np.zeros(rows))
    np.testing.assert_array_equal(pull(jnp.ones(rows))[0], np.zeros(2))


def test_softmax_of_infinite_and_large_logits():
    logits = jnp.array([-jnp.inf, -jnp.inf, 1e4, -1e4, -jnp.inf, 1e4, -1e4, -1e4])
    receivers = jnp.array([0, 0, 1, 1, 1, 1, 2, 2])

    def function(x):
        return layers.segment_softmax(x, receivers, num_receivers=4)

    out, pull = jax.vjp(function, logits)
    np.testing.assert_array_equal(out, [0, 0, 0.5, 0, 0, 0.5, 0.5, 0.5])
    (grad,) = pull(jnp.arange(8.0))
    np.testing.assert_allclose(
        grad, [0, 0, -0.75, 0, 0, 0.75, -0.25, 0.25], rtol=1e-6, atol=1e-6
    )


@each
def test_refuses(name):
    reduce, two = REDUCTIONS[name], jnp.zeros(2, int)
    with pytest.raises(ValueError, match=r"values \(3,\) and receivers \(2,\)"):
        reduce(jnp.ones(3), two, num_receivers=1)
    with pytest.raises(ValueError, match=r"values \(2, 2\) and receivers \(2, 2\)"):
        reduce(jnp.ones((2, 2)), jnp.zeros((2, 2), int), num_receivers=1)
    with pytest.raises(ValueError, match=r"where \(1,\) .* receivers \(2,\)"):
        reduce(jnp.ones(2), two, num_receivers=1, where=jnp.ones(1, bool))
    with pytest.raises(ValueError, match="int32 must be floating"):
        reduce(jnp.ones(2, jnp.int32), two, num_receivers=1)
