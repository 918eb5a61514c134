"""Vectors of length 1 where plain division breaks down."""

import jax
import jax.numpy as jnp
import numpy as np

from recjax.layers import unit_length


def test_a_zero_vector_stays_zero_with_derivative_0():
    x = jnp.array([[0.0, 0.0], [3.0, 4.0]])
    out, pull = jax.vjp(unit_length, x)
    np.testing.assert_allclose(out, [[0, 0], [0.6, 0.8]], rtol=1e-6)
    # The derivative of x / |x| is (1 - x x^T / |x|^2) / |x|.
    (grad,) = pull(jnp.array([[1.0, 1.0], [1.0, 0.0]]))
    expected = [[0, 0], [0.64 / 5, -0.48 / 5]]
    np.testing.assert_allclose(grad, expected, rtol=1e-5, atol=1e-7)


def test_squares_beyond_the_type_do_no_harm():
    x = jnp.array([[3e30, 4e30], [3e-30, 4e-30]])
    np.testing.assert_allclose(unit_length(x), [[0.6, 0.8]] * 2, rtol=1e-6)


def test_what_is_nearly_zero_counts_as_zero_and_nan_does_not():
    # 1 / |x| of these passes float32: without the limit the derivative is infinite.
    x = jnp.array([[2e-38, 0.0], [1e-40, 1e-41], [jnp.nan, 1.0]])
    out, pull = jax.vjp(unit_length, x)
    (grad,) = pull(jnp.full_like(x, 100.0))
    np.testing.assert_array_equal(out[:2], 0)
    np.testing.assert_array_equal(grad[:2], 0)
    assert np.isnan(out[2]).all()
