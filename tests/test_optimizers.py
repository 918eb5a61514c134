"""Lazy optimizers: those of optax where all rows are read, and nothing elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax.optimizers import (
    Rows,
    apply_updates,
    lazy_adagrad,
    lazy_adam,
    sum_rows,
)

NUM, DIM, STEPS = 12, 3, 6


def start(rng):
    return {
        "nodes": jnp.asarray(rng.normal(size=(NUM, DIM)), jnp.float32),
        "bias": jnp.asarray(rng.normal(size=4), jnp.float32),
    }


def dense_gradients(rng, share):
    """Gradients of some rows of the table, and of the rest."""
    for _ in range(STEPS):
        rows = rng.permutation(NUM)[: max(1, int(share * NUM))]
        table = np.zeros((NUM, DIM), np.float32)
        table[rows] = rng.normal(size=(len(rows), DIM))
        bias = jnp.asarray(rng.normal(size=4), jnp.float32)
        yield rows, {"nodes": jnp.asarray(table), "bias": bias}


def as_rows(rng, rows, grads):
    """The same, in pieces, in any order, beside rows that are not there."""
    ids = rng.permutation(np.concatenate([rows, rows, [NUM, NUM + 7]]))
    parts = np.zeros((len(ids), DIM), np.float32)
    for row in rows:
        first, second = np.flatnonzero(ids == row)
        parts[first] = rng.normal(size=DIM)
        parts[second] = grads["nodes"][row] - parts[first]
    parts[ids >= NUM] = np.nan
    return grads | {"nodes": Rows(jnp.asarray(ids, jnp.int32), jnp.asarray(parts))}


def run(optimizer, params, gradients):
    update = jax.jit(optimizer.update)
    state = optimizer.init(params)
    for grads in gradients:
        updates, state = update(grads, state, params)
        params = apply_updates(params, updates)
    return params


RATES = {"number": 0.1, "schedule": optax.linear_schedule(0.2, 0.0, STEPS)}


@pytest.mark.parametrize("rate", RATES)
def test_adam_is_that_of_optax_where_every_row_is_read(rng, rate):
    params, pairs = start(rng), list(dense_gradients(rng, 1.0))
    expected = run(optax.adam(RATES[rate]), params, [grads for _, grads in pairs])
    lazy = run(lazy_adam(RATES[rate]), params, [as_rows(rng, *pair) for pair in pairs])
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-5, atol=2e-6),
        lazy,
        expected,
    )


def test_adam_leaves_rows_that_are_not_read(rng):
    params, pairs = start(rng), list(dense_gradients(rng, 0.4))
    found = run(lazy_adam(0.1), params, [as_rows(rng, *pair) for pair in pairs])
    table = np.asarray(params["nodes"], np.float64)
    m, v = np.zeros_like(table), np.zeros_like(table)
    for step, (rows, grads) in enumerate(pairs, 1):
        grad = np.asarray(grads["nodes"], np.float64)[rows]
        m[rows] = 0.9 * m[rows] + 0.1 * grad
        v[rows] = 0.999 * v[rows] + 0.001 * grad**2
        first, second = m[rows] / (1 - 0.9**step), v[rows] / (1 - 0.999**step)
        table[rows] -= 0.1 * first / (np.sqrt(second) + 1e-8)
    np.testing.assert_allclose(found["nodes"], table, rtol=1e-4, atol=1e-5)
    dense = run(optax.adam(0.1), params, [grads for _, grads in pairs])
    assert np.abs(dense["nodes"] - table).max() > 0.01, "dense Adam moves them on"


def test_adagrad_is_that_of_optax_whatever_is_read(rng):
    params, pairs = start(rng), list(dense_gradients(rng, 0.4))
    expected = run(optax.adagrad(0.1), params, [grads for _, grads in pairs])
    lazy = run(lazy_adagrad(0.1), params, [as_rows(rng, *pair) for pair in pairs])
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6),
        lazy,
        expected,
    )


def test_adagrad_may_keep_one_sum_a_row(rng):
    params, pairs = start(rng), list(dense_gradients(rng, 0.4))
    found = run(
        lazy_adagrad(0.1, one_a_row=True),
        params,
        [as_rows(rng, *pair) for pair in pairs],
    )
    table, squares = np.asarray(params["nodes"], np.float64), np.full((NUM, 1), 0.1)
    for rows, grads in pairs:
        grad = np.asarray(grads["nodes"], np.float64)[rows]
        squares[rows] += (grad**2).mean(1, keepdims=True)
        table[rows] -= 0.1 * grad / np.sqrt(squares[rows] + 1e-7)
    np.testing.assert_allclose(found["nodes"], table, rtol=1e-4, atol=1e-5)


def test_summed_rows_are_distinct_and_ascend(rng):
    ids = rng.integers(0, 9, 20).astype(np.int32)
    values = rng.normal(size=(20, DIM)).astype(np.float32)
    found = sum_rows(Rows(jnp.asarray(ids), jnp.asarray(values)), 7)
    assert np.all(np.diff(found.ids) > 0)
    known = np.unique(ids[ids < 7])
    np.testing.assert_array_equal(found.ids[: len(known)], known)
    for n, row in enumerate(known):
        expected = values[ids == row].sum(0)
        np.testing.assert_allclose(found.values[n], expected, rtol=1e-5, atol=1e-6)
    assert found.ids[len(known) :].min() >= 7


@pytest.mark.parametrize("optimizer", [lazy_adam(0.1), lazy_adagrad(0.1)])
def test_a_step_costs_the_same_on_a_table_of_any_size(optimizer):
    def step(params, state, grads):
        updates, state = optimizer.update(grads, state, params)
        return apply_updates(params, updates), state

    def cost(rows):
        params = jax.ShapeDtypeStruct((rows, 8), jnp.float32)
        grads = Rows(
            jax.ShapeDtypeStruct((32,), jnp.int32),
            jax.ShapeDtypeStruct((32, 8), jnp.float32),
        )
        state = jax.eval_shape(optimizer.init, params)
        compiled = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, grads)
        compiled = compiled.compile()
        return (
            compiled.memory_analysis().temp_size_in_bytes,
            compiled.cost_analysis()["flops"],
        )

    assert cost(1000) == cost(100_000)
