"""Reductions over edges: trailing axes, odd receivers, values by hand, errors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import layers

NUM, EDGES = 6, 17
REDUCTIONS = {
    "max": layers.segment_max,
    "min": layers.segment_min,
    "mean": layers.segment_mean,
    "softmax": layers.segment_softmax,
}
each = pytest.mark.parametrize("name", REDUCTIONS)


def edges(rng, shape=()):
    """Values, unsorted receivers (2 has none) and a mask (4 keeps none)."""
    values = rng.normal(size=(EDGES, *shape)).astype(np.float32)
    receivers = rng.choice([0, 1, 3, 4, 5], EDGES)
    where = (rng.random(EDGES) < 0.7) & (receivers != 4)
    return values, receivers, where


@each
def test_trailing_axes_are_columns(rng, name):
    values, receivers, where = edges(rng, (2, 3))
    reduce = functools.partial(
        REDUCTIONS[name], receivers=receivers, num_receivers=NUM, where=where
    )
    out = reduce(values)
    assert out.shape == (EDGES if name == "softmax" else NUM, 2, 3)
    for a, b in np.ndindex(2, 3):
        column = reduce(values[:, a, b])
        np.testing.assert_allclose(out[:, a, b], column, rtol=1e-6, atol=1e-7)


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
def test_receivers_that_do_not_exist_count_as_masked(rng, name):
    values, receivers, where = edges(rng)
    reduce = functools.partial(REDUCTIONS[name], values, num_receivers=NUM)
    expected = reduce(receivers, where=where)
    for elsewhere in (NUM, NUM + 5, -1):
        out = reduce(np.where(where, receivers, elsewhere))
        np.testing.assert_array_equal(out, expected)


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
def test_no_receivers(name):
    out = REDUCTIONS[name](jnp.zeros(2), np.array([1, 1]), num_receivers=0)
    np.testing.assert_array_equal(out, np.zeros(2 if name == "softmax" else 0))


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
