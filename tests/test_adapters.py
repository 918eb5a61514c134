"""Adapters of low rank, differences, and what an optimizer leaves alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax.adapters import (
    add_delta,
    init_delta,
    init_lora,
    merge_lora,
    path_mask,
    train_only,
)


def weights(dtype=jnp.float32):
    rng = np.random.default_rng(0)

    def some(*shape):
        return jnp.asarray(rng.normal(size=shape), dtype)

    return {
        "word": some(7, 4),
        "layers": {"query": {"kernel": some(3, 4, 5), "bias": some(3, 5)}},
        "head": {"kernel": some(5, 2)},
    }


TARGETS = ["*.kernel"]


def adapters(params):
    """With factors none of which is 0."""
    lora = init_lora(jax.random.key(0), params, rank=2, targets=TARGETS)
    leaves, tree = jax.tree.flatten(lora)
    rng = np.random.default_rng(1)
    return jax.tree.unflatten(
        tree, [jnp.asarray(rng.normal(size=x.shape), jnp.float32) for x in leaves]
    )


def test_merging_adds_the_product_of_each_stacked_layer():
    params = weights()
    lora = adapters(params)
    merged = merge_lora(params, lora, scale=0.5)
    factors = lora["layers"]["query"]["kernel"]
    for layer in range(3):
        change = np.asarray(factors["a"][layer]) @ np.asarray(factors["b"][layer])
        expected = params["layers"]["query"]["kernel"][layer] + 0.5 * change
        found = merged["layers"]["query"]["kernel"][layer]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(merged["word"], params["word"])
    bias = merged["layers"]["query"]["bias"]
    np.testing.assert_array_equal(bias, params["layers"]["query"]["bias"])
    assert not np.allclose(merged["head"]["kernel"], params["head"]["kernel"])


def test_at_first_nothing_changes():
    params = weights()
    lora = init_lora(jax.random.key(0), params, rank=2, targets=TARGETS)
    merged = add_delta(merge_lora(params, lora, scale=9.0), init_delta(params, ["*"]))
    jax.tree.map(np.testing.assert_array_equal, merged, params)
    assert jax.tree.structure(merged) == jax.tree.structure(params)
    for leaf in jax.tree.leaves(lora):
        assert leaf.dtype == jnp.float32
    first = lora["layers"]["query"]["kernel"]["a"]
    # No two layers start alike, nor do two kernels.
    assert np.abs(first[0] - first[1]).max() > 0.01
    assert first.std() == pytest.approx(4**-0.5, rel=0.5)


def test_derivatives_are_those_of_the_product():
    params = weights()
    lora = adapters(params)
    x = jnp.asarray(np.random.default_rng(2).normal(size=(6, 4)), jnp.float32)

    def loss(lora):
        kernel = merge_lora(params, lora, scale=0.5)["layers"]["query"]["kernel"]
        return jnp.sum(jnp.sin(x[None] @ kernel))

    grads = jax.grad(loss)(lora)["layers"]["query"]["kernel"]
    a, b = (lora["layers"]["query"]["kernel"][name] for name in "ab")
    for layer in range(3):
        kernel = params["layers"]["query"]["kernel"][layer] + 0.5 * a[layer] @ b[layer]
        outer = np.asarray(x).T @ np.cos(np.asarray(x @ kernel))
        np.testing.assert_allclose(
            grads["a"][layer], 0.5 * outer @ b[layer].T, rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(
            grads["b"][layer], 0.5 * a[layer].T @ outer, rtol=1e-4, atol=1e-5
        )


def test_shapes_are_enough_and_types_stay():
    shapes = jax.eval_shape(weights)
    lora = init_lora(jax.random.key(0), shapes, rank=2, targets=TARGETS)
    narrow = weights(jnp.bfloat16)
    merged = merge_lora(narrow, lora)
    assert {leaf.dtype for leaf in jax.tree.leaves(merged)} == {jnp.dtype("bfloat16")}


def test_differences_are_of_the_chosen_weights():
    params = weights()
    delta = init_delta(params, ["layers.*", "word"])
    assert set(delta) == {"layers", "word"}
    delta = jax.tree.map(lambda x: x + 1.0, delta)
    changed = add_delta(params, delta)
    np.testing.assert_allclose(changed["word"], params["word"] + 1, rtol=1e-6)
    np.testing.assert_array_equal(changed["head"]["kernel"], params["head"]["kernel"])
    assert init_delta(params, []) == {}


def test_what_is_masked_never_moves_and_costs_no_state():
    params = weights()
    adam = train_only(optax.adamw(0.1, weight_decay=0.1), ["layers.*.bias", "head.*"])
    state = adam.init(params)
    held = sum(leaf.size for leaf in jax.tree.leaves(state))
    assert held < 2 * params["word"].size
    start = params
    for _ in range(3):
        grads = jax.tree.map(jnp.ones_like, params)
        updates, state = adam.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    mask = path_mask(params, ["layers.*.bias", "head.*"])

    def check(moves, old, new):
        assert moves == bool(np.abs(old - new).max() > 0.1)

    jax.tree.map(check, mask, start, params)
    assert jax.tree.leaves(mask).count(True) == 2


def test_what_does_not_fit_is_refused():
    params = weights()
    key = jax.random.key(0)
    with pytest.raises(ValueError, match=r"'norm'; there are .*layers\.query"):
        init_lora(key, params, rank=2, targets=["norm"])
    with pytest.raises(ValueError, match=r"bias \(3,\) is no kernel"):
        init_lora(key, {"bias": jnp.ones(3)}, rank=2, targets=["*"])
    with pytest.raises(ValueError, match="rank 0 must be at least 1"):
        init_lora(key, params, rank=0, targets=TARGETS)
    with pytest.raises(ValueError, match="there is no weight norm to change"):
        add_delta(params, {"norm": jnp.ones(2)})
    with pytest.raises(ValueError, match=r"word \(7, 4\) and its change \(2,\) differ"):
        add_delta(params, {"word": jnp.ones(2)})
