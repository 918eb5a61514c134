"""Fusions: the order of modalities, how parameters start, extremes by hand, errors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax import layers

NAMES = ("audio", "image", "text")
N, D = 8, 3
# Widths F differ where a fusion projects, and are D where it does not.
WIDTHS = {"audio": 2, "image": 4, "text": 3}
SAME = dict.fromkeys(NAMES, D)
# Row r lacks the modalities whose bit of r is 0: all eight patterns, 0 the empty one.
PRESENT = {name: (np.arange(N) >> bit) % 2 == 1 for bit, name in enumerate(NAMES)}


def key():
    return jax.random.key(7)


def init_experts(num_shared, num_specific, widths):
    return layers.init_fuse_experts(
        key(),
        widths,
        D,
        hidden=5,
        num_shared=num_shared,
        num_specific=num_specific,
    )


WEIGHTS = {"audio": 0.5, "image": -2.0, "text": 3.0}
# name: (parameters, widths, fusion of parameters, modalities, context and masks)
FUSIONS = {
    "sum": (
        lambda: dict(WEIGHTS),
        SAME,
        lambda p, m, x, s: layers.fuse_sum(m, p, s),
    ),
    "sum_normalised": (
        lambda: dict(WEIGHTS),
        SAME,
        lambda p, m, x, s: layers.fuse_sum(m, p, s, normalise=True),
    ),
    "mean": (dict, SAME, lambda p, m, x, s: layers.fuse_mean(m, s)),
    "concat": (
        lambda: layers.init_fuse_concat(key(), WIDTHS, D),
        WIDTHS,
        lambda p, m, x, s: layers.fuse_concat(p, m, s),
    ),
    "gated": (
        lambda: layers.init_fuse_gated(key(), WIDTHS, D),
        WIDTHS,
        lambda p, m, x, s: layers.fuse_gated(p, m, s),
    ),
    "bilinear": (
        lambda: layers.init_fuse_bilinear(key(), WIDTHS, D, rank=4),
        WIDTHS,
        lambda p, m, x, s: layers.fuse_bilinear(p, m, s),
    ),
    "attention": (
        lambda: layers.init_fuse_attention(key(), D, 4),
        SAME,
        lambda p, m, x, s: layers.fuse_attention(p, m, s),
    ),
    "common": (
        lambda: layers.init_fuse_common(key(), NAMES, D, 4),
        SAME,
        lambda p, m, x, s: layers.fuse_common(p, m, x, s),
    ),
    "experts": (
        lambda: init_experts(2, 1, SAME),
        SAME,
        lambda p, m, x, s: layers.fuse_experts(p, m, s),
    ),
    "experts_shared": (
        lambda: init_experts(2, 0, SAME),
        SAME,
        lambda p, m, x, s: layers.fuse_experts(p, m, s),
    ),
    "experts_specific": (
        lambda: init_experts(0, 2, WIDTHS),
        WIDTHS,
        lambda p, m, x, s: layers.fuse_experts(p, m, s),
    ),
}
each_fusion = pytest.mark.parametrize("name", FUSIONS)


def setting(name):
    """Parameters without a 0 (biases count), modalities and context of a fusion."""
    rng = np.random.default_rng(11)
    make, widths, fuse = FUSIONS[name]
    params = jax.tree.map(
        lambda x: jnp.asarray(x + 0.3 * rng.normal(size=np.shape(x)), jnp.float32),
        make(),
    )
    modalities = {
        m: jnp.asarray(rng.normal(size=(N, widths[m])), jnp.float32) for m in NAMES
    }
    return params, modalities, jnp.asarray(rng.normal(size=(N, D)), jnp.float32), fuse


def masks():
    return {m: jnp.asarray(PRESENT[m]) for m in NAMES}


@each_fusion
def test_the_order_of_a_dictionary_does_not_matter(name):
    """The very same program is traced."""
    params, modalities, content, fuse = setting(name)

    def traced(order):
        def call(*trees):
            first, *rest = ({k: x[k] for k in order(x)} for x in trees)
            return fuse(first, rest[0], content, rest[1])

        return str(jax.make_jaxpr(call)(params, modalities, masks()))

    assert traced(reversed) == traced(list)


@pytest.mark.parametrize(
    "name", ["sum_normalised", "bilinear", "attention", "common", "experts_shared"]
)
def test_masked_equals_left_out_bit_for_bit(name):
    params, modalities, content, fuse = setting(name)
    some = {m: modalities[m] for m in ("audio", "text")}
    masked = {**some, "image": jnp.full_like(modalities["image"], jnp.nan)}
    gone = {"image": jnp.zeros(N, bool)}
    np.testing.assert_array_equal(
        fuse(params, masked, content, gone), fuse(params, some, content, None)
    )


@pytest.mark.parametrize(
    "init",
    [
        lambda w: layers.init_fuse_concat(key(), w, D),
        lambda w: layers.init_fuse_gated(key(), w, D),
        lambda w: layers.init_fuse_bilinear(key(), w, D, rank=4),
        lambda w: layers.init_fuse_common(key(), w, D, 4),
        lambda w: init_experts(0, 2, w),
    ],
)
def test_init_ignores_the_order_and_draws_distinct_numbers(init):
    params, other = init(WIDTHS), init({m: WIDTHS[m] for m in reversed(NAMES)})
    assert jax.tree.structure(params) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, params, other)
    drawn = np.concatenate([np.ravel(x) for x in jax.tree.leaves(params)])
    drawn = drawn[drawn != 0]
    assert len(np.unique(drawn)) == len(drawn)


def test_concat_starts_as_one_glorot_matrix():
    params = layers.init_fuse_concat(key(), {"a": 300, "b": 100}, 50)
    for kernel in params["kernels"].values():
        bound = np.sqrt(6 / (400 + 50))
        assert 0.99 * bound < np.abs(kernel).max() <= bound


def test_experts_start_like_single_layers():
    """Glorot by the widths of one expert, however many there are."""
    first = init_experts(200, 0, SAME)["shared"]["first"]["kernel"]
    bound = np.sqrt(6 / (D + 5))
    assert 0.99 * bound < np.abs(first).max() <= bound


def test_attention_ignores_a_masked_logit_of_ten_thousand():
    params = {
        "kernel": jnp.array([[1e3]]),
        "bias": jnp.zeros(1),
        "query": jnp.array([1e4]),
    }
    # Logits of +1e4, -1e4 and -1e4: the first wins, or the others share.
    modalities = {
        "a": jnp.array([[1.0], [1.0]]),
        "b": jnp.array([[-2.0], [-2.0]]),
        "c": jnp.array([[-4.0], [-4.0]]),
    }
    present = {"a": jnp.array([True, False])}
    fused = layers.fuse_attention(params, modalities, present)
    assert fused.tolist() == [[1.0], [-3.0]]


def test_sum_of_weights_zero():
    modalities = {"a": jnp.ones((2, 1)), "b": jnp.full((2, 1), 3.0)}
    weights = {"a": jnp.array(1.0), "b": jnp.array(-1.0)}
    present = {"b": jnp.array([True, False])}

    def fuse(weights):
        return layers.fuse_sum(modalities, weights, present, normalise=True)

    assert fuse(weights).tolist() == [[0.0], [1.0]]
    grads = jax.grad(lambda w: fuse(w).sum())(weights)
    assert all(np.isfinite(x) for x in grads.values())


def test_integers_are_weighted_as_numbers():
    modalities = {"a": jnp.array([[1]]), "b": jnp.array([[2]])}
    fused = layers.fuse_sum(modalities, {"a": 0.5, "b": 0.25})
    assert fused.tolist() == [[1.0]]


@pytest.mark.parametrize("held", [np.nan, np.inf])
def test_film_without_a_condition_is_the_node(held):
    rng = np.random.default_rng(3)
    params = layers.init_film(key(), 2, D)
    nodes, condition = (jnp.asarray(rng.normal(size=(N, w))) for w in (D, 2))
    missing = np.arange(N) % 3 == 0

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=(0, 1, 2), has_aux=True)
    def run(params, nodes, condition):
        out = layers.film(params, nodes, condition, jnp.asarray(~missing))
        return jnp.sum(out**2), out

    (_, out), grads = run(params, nodes, condition)
    (_, other), other_grads = run(
        params, nodes, jnp.where(missing[:, None], held, condition)
    )
    np.testing.assert_array_equal(out[missing], nodes[missing])
    np.testing.assert_array_equal(out, other)
    jax.tree.map(np.testing.assert_array_equal, grads, other_grads)
    assert not np.asarray(grads[2])[missing].any()
    np.testing.assert_array_equal(grads[1][missing], 2 * nodes[missing])
    # Without a mask, every node has its condition.
    whole = layers.film(params, nodes, condition)
    np.testing.assert_allclose(whole[~missing], out[~missing], rtol=1e-6)
    assert not np.array_equal(whole[missing], nodes[missing])


@each_fusion
def test_what_every_fusion_refuses(name):
    params, modalities, content, fuse = setting(name)

    def refused(message, modalities=modalities, present=None, content=content):
        with pytest.raises(ValueError, match=message):
            fuse(params, modalities, content, present)

    refused("at least one", {})
    refused(
        r"masks for \['video'\].*'audio', 'image', 'text'",
        present={"video": jnp.ones(N, bool)},
    )
    text = modalities["text"]
    refused(r"text \(7, 3\).*audio \(8, \d\)", {**modalities, "text": text[:7]})
    refused(r"text \(3,\).*audio \(8, \d\)", {**modalities, "text": text[0]})
    refused(r"text \(1, 8, 3\) must be \[N, F\]", {"text": text[None]})
    refused(r"mask of text \(7,\).*\(8, 3\)", present={"text": jnp.ones(7, bool)})
    wide = jnp.zeros((N, 9))
    refused(r"text \(8, 9\).*\(\d", {**modalities, "text": wide})
    # Alone it fits the others, and only the parameters can tell.
    if name not in ("sum", "sum_normalised", "mean"):
        refused(r"\(8, 9\).*\(\d", {"text": wide}, content=jnp.zeros((N, 9)))
    if name not in ("mean", "attention"):
        refused(r"\['video'\].*'audio', 'image', 'text'", {**modalities, "video": text})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: layers.fuse_sum({"a": jnp.zeros((2, 3))}, {"a": jnp.zeros(2)}),
            r"weight of a \(2,\).*\(2, 3\)",
        ),
        (
            lambda: layers.film(
                layers.init_film(key(), 2, 3), jnp.zeros((4, 2)), jnp.zeros((4, 2))
            ),
            r"nodes \(4, 2\).*\(4, 3\)",
        ),
        (
            lambda: layers.film(
                layers.init_film(key(), 2, 3), jnp.zeros((4, 3)), jnp.zeros((4, 3))
            ),
            r"condition \(4, 3\).*\(2, 3\)",
        ),
        (
            lambda: layers.film(
                layers.init_film(key(), 2, 3),
                jnp.zeros((4, 3)),
                jnp.zeros((4, 2)),
                jnp.ones(3, bool),
            ),
            r"condition \(3,\).*\(4, 2\)",
        ),
        (
            lambda: layers.fuse_common(
                layers.init_fuse_common(key(), ["a"], 3, 2),
                {"a": jnp.zeros((4, 3))},
                jnp.zeros((5, 3)),
            ),
            r"content \(5, 3\).*\(4, 3\)",
        ),
        (lambda: init_experts(0, 0, SAME), "num_shared 0 and num_specific 0"),
        (lambda: init_experts(-1, 2, SAME), "num_shared -1"),
        (lambda: init_experts(1, 1, WIDTHS), r"one width.*'audio': 2"),
    ],
)
def test_shapes_that_do_not_fit_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_experts_check_their_own_width():
    params = init_experts(1, 0, SAME)
    params["shared"] = init_experts(1, 0, dict.fromkeys(NAMES, 2))["shared"]
    with pytest.raises(ValueError, match=r"text \(8, 3\).*experts \(1, 2, 5\)"):
        layers.fuse_experts(params, {"text": jnp.zeros((N, 3))})
