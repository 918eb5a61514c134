"""Fusions: values written out, missing modalities, order, derivatives, errors."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

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


def setting(name, dtype=jnp.float32):
    """Parameters without a 0 (biases count), modalities and context of a fusion."""
    rng = np.random.default_rng(11)
    make, widths, fuse = FUSIONS[name]
    params = jax.tree.map(
        lambda x: jnp.asarray(x + 0.3 * rng.normal(size=np.shape(x)), dtype), make()
    )
    modalities = {m: jnp.asarray(rng.normal(size=(N, widths[m])), dtype) for m in NAMES}
    return params, modalities, jnp.asarray(rng.normal(size=(N, D)), dtype), fuse


def masks():
    return {m: jnp.asarray(PRESENT[m]) for m in NAMES}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    powers = np.exp(x)
    return powers / powers.sum()


def logit(params, row):
    return np.tanh(row @ params["kernel"] + params["bias"]) @ params["query"]


def by_hand(name, params, rows, content):
    """The fusion of one node that has the given rows, and nothing else."""
    if not rows:
        return np.zeros(D)
    if name in ("sum", "sum_normalised"):
        mass = sum(params[m] for m in rows) if name == "sum_normalised" else 1
        return sum(params[m] * rows[m] for m in rows) / mass
    if name == "mean":
        return sum(rows.values()) / len(rows)
    if name == "concat":
        whole = [rows.get(m, np.zeros(WIDTHS[m])) for m in NAMES]
        kernel = np.concatenate([params["kernels"][m] for m in NAMES])
        return np.concatenate(whole) @ kernel + params["bias"]
    if name == "gated":
        out = np.zeros(D)
        for m, row in rows.items():
            gate = row @ params[m]["gate"]["kernel"] + params[m]["gate"]["bias"]
            out += sigmoid(gate) * (row @ params[m]["value"]["kernel"])
        return out
    if name == "bilinear":
        product = np.ones(4)
        for m, row in rows.items():
            product = product * (row @ params["factors"][m])
        return product @ params["kernel"]
    if name == "attention":
        share = softmax(np.array([logit(params, row) for row in rows.values()]))
        return sum(a * row for a, row in zip(share, rows.values(), strict=True))
    if name == "common":
        attention = params["attention"]
        share = softmax(np.array([logit(attention, row) for row in rows.values()]))
        common = sum(a * row for a, row in zip(share, rows.values(), strict=True))
        out = common.copy()
        for m, row in rows.items():
            gate = content @ params["gates"][m]["kernel"] + params["gates"][m]["bias"]
            out += (row - common) * sigmoid(gate)
        return out / (len(rows) + 1)
    out = np.zeros(D)
    for m, row in rows.items():
        gate = softmax(row @ params["gates"][m]["kernel"] + params["gates"][m]["bias"])
        experts = []
        for group in (params.get("shared"), params.get("specific", {}).get(m)):
            if group is None:
                continue
            for e in range(len(group["first"]["bias"])):
                hidden = row @ group["first"]["kernel"][e] + group["first"]["bias"][e]
                hidden = np.maximum(hidden, 0)
                experts.append(
                    hidden @ group["second"]["kernel"][e] + group["second"]["bias"][e]
                )
        assert len(experts) == len(gate)
        out += sum(g * y for g, y in zip(gate, experts, strict=True))
    return out


@each_fusion
def test_values(name):
    with jax.enable_x64(True):
        params, modalities, content, fuse = setting(name, jnp.float64)
        fused = fuse(params, modalities, content, masks())
        whole = fuse(params, modalities, content, None)
    params = jax.tree.map(np.asarray, params)
    for r in range(N):
        rows = {m: np.asarray(modalities[m])[r] for m in NAMES}
        had = {m: row for m, row in rows.items() if PRESENT[m][r]}
        np.testing.assert_allclose(
            fused[r], by_hand(name, params, had, np.asarray(content)[r]), rtol=1e-12
        )
        np.testing.assert_allclose(
            whole[r], by_hand(name, params, rows, np.asarray(content)[r]), rtol=1e-12
        )


@each_fusion
@pytest.mark.parametrize("held", [np.nan, np.inf, -1e30, 0.0])
def test_masked_equals_removed(name, held):
    """Bit for bit, for every set of modalities: value and all derivatives."""
    params, modalities, content, fuse = setting(name)
    seed = jnp.asarray(np.random.default_rng(2).normal(size=(N, D)), jnp.float32)

    def run(modalities, present):
        fused, pull = jax.vjp(
            lambda p, m, x: fuse(p, m, x, present), params, modalities, content
        )
        return fused, *pull(seed)

    for size in range(1, len(NAMES)):
        for some in itertools.combinations(NAMES, size):
            removed = run({m: modalities[m] for m in some}, None)
            filled = {
                m: modalities[m] if m in some else jnp.full_like(modalities[m], held)
                for m in NAMES
            }
            gone = {m: jnp.zeros(N, bool) for m in NAMES if m not in some}
            masked = run(filled, gone)
            np.testing.assert_array_equal(masked[0], removed[0])
            jax.tree.map(np.testing.assert_array_equal, masked[1], removed[1])
            for m in NAMES:
                expected = removed[2][m] if m in some else jnp.zeros_like(filled[m])
                np.testing.assert_array_equal(masked[2][m], expected)
            np.testing.assert_array_equal(masked[3], removed[3])


@each_fusion
@pytest.mark.parametrize("held", [np.nan, np.inf, -1e30])
def test_what_a_masked_row_holds_does_not_matter(name, held):
    """With all patterns of presence in one call."""
    params, modalities, content, fuse = setting(name)
    filled = {
        m: jnp.where(jnp.asarray(PRESENT[m])[:, None], modalities[m], held)
        for m in NAMES
    }

    def loss(params, modalities, content):
        return jnp.sum(fuse(params, modalities, content, masks()) ** 2)

    run = jax.value_and_grad(loss, argnums=(0, 1, 2))
    value, grads = run(params, modalities, content)
    other, other_grads = run(params, filled, content)
    assert float(value) == float(other)
    jax.tree.map(np.testing.assert_array_equal, grads, other_grads)
    for m in NAMES:
        assert not np.asarray(grads[1][m])[~PRESENT[m]].any()
        assert np.isfinite(grads[1][m]).all()
        assert np.asarray(grads[1][m])[PRESENT[m]].any()


@each_fusion
def test_no_modality_gives_zero_and_teaches_nothing(name):
    params, modalities, content, fuse = setting(name)
    modalities = {m: jnp.full_like(x, jnp.nan) for m, x in modalities.items()}
    none = {m: jnp.zeros(N, bool) for m in NAMES}
    fused, pull = jax.vjp(
        lambda p, m, x: fuse(p, m, x, none), params, modalities, content
    )
    np.testing.assert_array_equal(fused, np.zeros((N, D)))
    for grad in jax.tree.leaves(pull(jnp.ones_like(fused))):
        np.testing.assert_array_equal(grad, np.zeros_like(grad))


@each_fusion
def test_order_of_dictionary_and_of_nodes(name):
    params, modalities, content, fuse = setting(name)
    fused = fuse(params, modalities, content, masks())
    for names in itertools.permutations(NAMES):
        other = fuse(
            {k: params[k] for k in reversed(params)},
            {m: modalities[m] for m in names},
            content,
            {m: masks()[m] for m in reversed(names)},
        )
        np.testing.assert_array_equal(other, fused)
    order = np.random.default_rng(1).permutation(N)
    moved = fuse(
        params,
        {m: x[order] for m, x in modalities.items()},
        content[order],
        {m: x[order] for m, x in masks().items()},
    )
    np.testing.assert_allclose(moved, fused[order], rtol=1e-5, atol=1e-6)


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


@each_fusion
def test_compiled_once_and_equal(name):
    params, modalities, content, fuse = setting(name)
    traces = []

    @jax.jit
    def compiled(params, modalities, content, present):
        traces.append(name)
        return fuse(params, modalities, content, present)

    present = masks()
    fused = compiled(params, modalities, content, present)
    np.testing.assert_allclose(
        fused, fuse(params, modalities, content, present), rtol=1e-5, atol=1e-6
    )
    other = {m: ~present[m] for m in reversed(NAMES)}
    fused = compiled(params, {m: modalities[m] for m in other}, content, other)
    np.testing.assert_allclose(
        fused, fuse(params, modalities, content, other), rtol=1e-5, atol=1e-6
    )
    assert len(traces) == 1


@each_fusion
def test_vmap_is_a_loop(name):
    params, modalities, content, fuse = setting(name)
    batch = jax.tree.map(lambda x: jnp.stack([x, -x, 2 * x]), (modalities, content))
    present = {m: jnp.stack([x, ~x, x]) for m, x in masks().items()}
    mapped = jax.vmap(fuse, (None, 0, 0, 0))(params, *batch, present)
    for b in range(3):
        one = jax.tree.map(lambda x, b=b: x[b], (*batch, present))
        np.testing.assert_allclose(mapped[b], fuse(params, *one), rtol=1e-5, atol=1e-6)


@each_fusion
def test_derivatives(name):
    with jax.enable_x64(True):
        params, modalities, content, fuse = setting(name, jnp.float64)
        check_grads(
            lambda p, m, x: fuse(p, m, x, masks()),
            (params, modalities, content),
            order=1,
            modes=["fwd", "rev"],
        )


@each_fusion
def test_bfloat16(name):
    """Eight bits of mantissa: within 5 % of the largest entry of the result."""
    params, modalities, content, fuse = setting(name)
    if name == "sum_normalised":
        params = {m: jnp.abs(w) for m, w in params.items()}  # no cancelling
    # Both start from the rounded inputs, so that the arithmetic alone differs.
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), (params, modalities, content))
    exact = fuse(*jax.tree.map(lambda x: x.astype(jnp.float32), half), masks())
    fused = fuse(*half, masks())
    assert fused.dtype == jnp.bfloat16
    scale = float(jnp.abs(exact).max())
    np.testing.assert_allclose(fused.astype(jnp.float32), exact, atol=0.05 * scale)


@pytest.mark.parametrize("name", ["attention", "common", "gated", "experts"])
@pytest.mark.parametrize("size", [1e4, -1e4])
def test_extreme_logits(name, size):
    """Gates and attention at saturation, also where the masked logit is the top."""
    params, modalities, content, fuse = setting(name)
    if name == "attention":
        params["query"] = jnp.full_like(params["query"], size)
    elif name == "common":
        params["attention"]["query"] = jnp.full(4, size)
        params["gates"] = jax.tree.map(lambda x: x * size, params["gates"])
    elif name == "gated":
        for m in NAMES:
            params[m]["gate"] = jax.tree.map(lambda x: x * size, params[m]["gate"])
    else:
        params["gates"] = jax.tree.map(lambda x: x * size, params["gates"])

    def loss(params, modalities):
        fused = fuse(params, modalities, content, masks())
        return jnp.sum(fused**2), fused

    run = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
    (_, fused), grads = run(params, modalities)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((fused, grads)))
    assert not np.asarray(fused[0]).any()
    if name != "gated":  # all gates of a node may be shut
        assert np.asarray(fused[1:]).any(axis=1).all()


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


def film_setting(dtype=jnp.float32):
    rng = np.random.default_rng(3)
    params = jax.tree.map(
        lambda x: jnp.asarray(x + 0.3 * rng.normal(size=x.shape), dtype),
        layers.init_film(key(), 2, D),
    )
    nodes, condition = rng.normal(size=(N, D)), rng.normal(size=(N, 2))
    present = jnp.asarray(np.arange(N) % 3 != 0)
    return params, jnp.asarray(nodes, dtype), jnp.asarray(condition, dtype), present


def test_film_values_and_derivatives():
    with jax.enable_x64(True):
        params, nodes, condition, present = film_setting(jnp.float64)
        out = layers.film(params, nodes, condition, present)
        whole = layers.film(params, nodes, condition)
        check_grads(
            lambda *xs: layers.film(*xs, present),
            (params, nodes, condition),
            order=1,
            modes=["fwd", "rev"],
        )
    gamma, beta = (
        np.asarray(condition) @ np.asarray(params[part]["kernel"])
        + np.asarray(params[part]["bias"])[None]
        for part in ("gamma", "beta")
    )
    expected = gamma * np.asarray(nodes) + beta
    np.testing.assert_allclose(whole, expected, rtol=1e-12)
    expected = np.where(np.asarray(present)[:, None], expected, nodes)
    np.testing.assert_allclose(out, expected, rtol=1e-12)


@pytest.mark.parametrize("held", [np.nan, np.inf, 1e30])
def test_film_without_a_condition_is_the_node(held):
    params, nodes, condition, present = film_setting()

    def loss(params, nodes, condition):
        out = layers.film(params, nodes, condition, present)
        return jnp.sum(out**2), out

    run = jax.grad(loss, argnums=(0, 1, 2), has_aux=True)
    grads, out = run(params, nodes, condition)
    filled = jnp.where(present[:, None], condition, held)
    other_grads, other = run(params, nodes, filled)
    missing = ~np.asarray(present)
    np.testing.assert_array_equal(np.asarray(out)[missing], np.asarray(nodes)[missing])
    np.testing.assert_array_equal(out, other)
    jax.tree.map(np.testing.assert_array_equal, grads, other_grads)
    assert not np.asarray(grads[2])[missing].any()
    np.testing.assert_array_equal(
        np.asarray(grads[1])[missing], 2 * np.asarray(nodes)[missing]
    )
    # The rows alone that have a condition teach the parameters.
    kept = np.flatnonzero(present)
    removed = jax.grad(
        lambda p: jnp.sum(layers.film(p, nodes[kept], condition[kept]) ** 2)
    )(params)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6),
        grads[0],
        removed,
    )


def test_film_compiles_maps_and_keeps_its_type():
    params, nodes, condition, present = film_setting()
    traces = []

    @jax.jit
    def compiled(*args):
        traces.append(1)
        return layers.film(*args)

    out = layers.film(params, nodes, condition, present)
    for mask in (present, ~present):
        np.testing.assert_allclose(
            compiled(params, nodes, condition, mask),
            layers.film(params, nodes, condition, mask),
            rtol=1e-5,
            atol=1e-6,
        )
    assert len(traces) == 1
    order = np.random.default_rng(1).permutation(N)
    moved = layers.film(params, nodes[order], condition[order], present[order])
    np.testing.assert_allclose(moved, out[order], rtol=1e-5, atol=1e-6)
    pairs = [jnp.stack([x, x[::-1]]) for x in (nodes, condition, present)]
    mapped = jax.vmap(layers.film, (None, 0, 0, 0))(params, *pairs)
    for b in range(2):
        one = layers.film(params, *(x[b] for x in pairs))
        np.testing.assert_allclose(mapped[b], one, rtol=1e-5, atol=1e-6)
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), (params, nodes, condition))
    rounded = layers.film(*half, present)
    assert rounded.dtype == jnp.bfloat16
    exact = layers.film(*jax.tree.map(lambda x: x.astype(jnp.float32), half), present)
    np.testing.assert_allclose(
        rounded.astype(jnp.float32), exact, atol=0.05 * float(jnp.abs(exact).max())
    )


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
