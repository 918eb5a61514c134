"""Losses: values written out, agreement of the softmaxes, and errors."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from recjax import losses


def softplus(x):
    return math.log(1 + math.exp(x))


def test_bpr_value():
    value = losses.bpr_loss(
        jnp.array([2.0, -1.0]), jnp.array([[0.5, 1.0], [0.0, -3.0]])
    )
    rows = [
        (softplus(0.5 - 2.0) + softplus(1.0 - 2.0)) / 2,
        (softplus(0.0 + 1.0) + softplus(-3.0 + 1.0)) / 2,
    ]
    np.testing.assert_allclose(value, sum(rows) / 2, rtol=1e-6)


def test_bce_value():
    value = losses.bce_loss(jnp.array([2.0, -1.0, 0.5]), jnp.array([1.0, 1.0, 0.0]))
    expected = (softplus(-2.0) + softplus(1.0) + softplus(0.5)) / 3
    np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_full_softmax_value():
    scores = jnp.array([[1.0, 2.0, 3.0]])
    total = math.exp(1) + math.exp(2) + math.exp(3)
    np.testing.assert_allclose(
        losses.full_softmax_loss(scores, jnp.array([1])), math.log(total) - 2, rtol=1e-6
    )


def test_sampled_softmax_value():
    value = losses.sampled_softmax_loss(
        jnp.array([1.0]), jnp.array([[0.0, 2.0]]), jnp.log(jnp.array([[0.25, 0.5]]))
    )
    total = math.exp(1) + (math.exp(0) / 0.25 + math.exp(2) / 0.5) / 2
    np.testing.assert_allclose(value, math.log(total) - 1, rtol=1e-6)


def test_in_batch_softmax_value():
    scores = jnp.array([[1.0, 2.0], [0.0, 3.0]])
    value = losses.in_batch_softmax_loss(scores, jnp.log(jnp.array([0.25, 0.5])))
    first = math.log((math.exp(1) / 0.25 + math.exp(2) / 0.5) / 2) - 1
    second = math.log((math.exp(0) / 0.25 + math.exp(3) / 0.5) / 2) - 3
    np.testing.assert_allclose(value, (first + second) / 2, rtol=1e-6)


@pytest.mark.parametrize("size", [5, 8, 13])
def test_dots_in_blocks_are_those_of_the_matrix(rng, size, monkeypatch):
    monkeypatch.setattr("recjax.losses._log_sum_exp._ROWS", 5)
    users, items = rng.normal(size=(2, size, 3))
    log_q = rng.normal(size=size)
    where = np.arange(size) % 4 != 1

    def fused(users, items, log_q):
        return losses.in_batch_dot_softmax_loss(users, items, log_q, where=where)

    def plain(users, items, log_q):
        return losses.in_batch_softmax_loss(users @ items.T, log_q, where=where)

    with jax.enable_x64(True):
        args = tuple(map(jnp.asarray, (users, items, log_q)))
        found, expected = (
            jax.value_and_grad(f, argnums=(0, 1, 2))(*args) for f in (fused, plain)
        )
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-12),
            found,
            expected,
        )
        # The written derivative can be derived again.
        check_grads(fused, args, order=2, modes=["rev"])


def test_l2_says_what_it_divides_by():
    rows = jnp.array([[3.0, 4.0], [1.0, 0.0]])
    assert float(losses.batch_l2_loss(rows, rows)) == 2 * (25 + 1) / 2 / 2
    assert float(losses.batch_l2_loss(rows, where=jnp.array([1.0, 0.0]))) == 25 / 2
    assert float(losses.batch_l2_loss(rows[:, None], where=jnp.zeros(2))) == 0
    assert float(losses.table_l2_loss(rows, rows)) == 2 * (25 + 1)


@pytest.fixture(scope="module")
def skewed():
    """A catalogue of 12 items with skewed popularity, and vectors for it."""
    rng = np.random.default_rng(3)
    users, items = rng.normal(size=(6, 4)), rng.normal(size=(12, 4))
    share = 1.0 / np.arange(1, 13) ** 1.5
    return jnp.asarray(users), jnp.asarray(items), share / share.sum()


def test_in_batch_softmax_agrees_with_the_full_one(skewed):
    """Value and derivative, as the batch grows; the wrong sign is far off."""
    users, items, share = skewed
    num = 3_000
    rng = np.random.default_rng(5)
    drawn = rng.choice(12, num, p=share)
    rows = users[rng.integers(0, 6, num)]

    def full(items):
        return losses.full_softmax_loss(rows @ items.T, jnp.asarray(drawn))

    def in_batch(items, sign):
        log_q = sign * jnp.log(jnp.asarray(share))[drawn]
        return losses.in_batch_softmax_loss(rows @ items[drawn].T, log_q)

    value, grad = jax.value_and_grad(full)(items)
    close, close_grad = jax.value_and_grad(in_batch)(items, 1.0)
    wrong, wrong_grad = jax.value_and_grad(in_batch)(items, -1.0)
    assert abs(close - value) < 0.05 < 1.0 < abs(wrong - value)
    assert float(jnp.abs(close_grad - grad).max()) < 0.02
    assert float(jnp.abs(wrong_grad - grad).max()) > 0.1


def test_sampled_softmax_agrees_with_the_full_one(skewed):
    """Likewise, as the number of negatives grows."""
    users, items, share = skewed
    positive = np.array([0, 3, 11, 7, 7, 1])
    others = share[None] * (np.arange(12)[None] != positive[:, None])
    others /= others.sum(1, keepdims=True)
    rng = np.random.default_rng(5)
    drawn = np.stack([rng.choice(12, 20_000, p=row) for row in others])
    drawn_q = jnp.log(jnp.asarray(np.take_along_axis(others, drawn, axis=1)))

    def full(items):
        return losses.full_softmax_loss(users @ items.T, jnp.asarray(positive))

    def sampled(items, sign):
        own = jnp.sum(users * items[positive], axis=1)
        of_drawn = jnp.einsum("bd,bmd->bm", users, items[drawn])
        return losses.sampled_softmax_loss(own, of_drawn, sign * drawn_q)

    value, grad = jax.value_and_grad(full)(items)
    close, close_grad = jax.value_and_grad(sampled)(items, 1.0)
    wrong, wrong_grad = jax.value_and_grad(sampled)(items, -1.0)
    assert abs(close - value) < 0.05 < 0.5 < abs(wrong - value)
    assert float(jnp.abs(close_grad - grad).max()) < 0.02
    assert float(jnp.abs(wrong_grad - grad).max()) > 0.1


def test_reduce_fn():
    rows = losses.bpr_loss(jnp.zeros(2), jnp.zeros((2, 1)), reduce_fn=None)
    np.testing.assert_allclose(rows, [math.log(2)] * 2, rtol=1e-6)
    total = losses.bpr_loss(
        jnp.zeros(3), jnp.zeros((3, 1)), where=jnp.array([1, 1, 0]), reduce_fn=jnp.sum
    )
    np.testing.assert_allclose(total, 2 * math.log(2), rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.bpr_loss(jnp.zeros(2), jnp.zeros((3, 1))), r"\(2,\).*\(3, 1\)"),
        (lambda: losses.bce_loss(jnp.zeros(2), jnp.zeros(3)), r"\(2,\).*\(3,\)"),
        (
            lambda: losses.full_softmax_loss(jnp.zeros((2, 3)), jnp.zeros(3, int)),
            r"\(2, 3\).*\(3,\)",
        ),
        (
            lambda: losses.in_batch_softmax_loss(jnp.zeros((2, 3)), jnp.zeros(2)),
            r"\(2, 3\).*\(2,\)",
        ),
        (
            lambda: losses.sampled_softmax_loss(
                jnp.zeros(2), jnp.zeros((2, 3)), jnp.zeros((2, 1))
            ),
            r"\(2, 1\).*\(2, 3\)",
        ),
        (
            lambda: losses.bpr_loss(
                jnp.zeros(2), jnp.zeros((2, 1)), where=jnp.ones((2, 1))
            ),
            r"where \(2, 1\)",
        ),
        (
            lambda: losses.batch_l2_loss(jnp.zeros((2, 3)), where=jnp.ones(3)),
            r"where \(3,\).*\(2, 3\)",
        ),
    ],
)
def test_shapes_that_do_not_fit_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
