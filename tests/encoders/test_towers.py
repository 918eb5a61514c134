"""Towers against transformers (stored vectors), and what must not change a vector."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.encoder_parity import (
    encode_small,
    make_images,
    make_tokens,
    make_weights,
    write_model,
)
from recjax import encoders
from recjax.encoders import Bert, Decoder, Tokens, VisionTransformer
from recjax.encoders._blocks import pool

# Written by: python -m benchmarks.encoder_parity --store tests/encoders
STORED = json.loads((Path(__file__).parent / "towers.json").read_text())

SIZES = {"dim": 8, "depth": 2, "heads": 4, "hidden": 12, "length": 16}
BERT = Bert(vocabulary=20, positions=18, relative_buckets=8, **SIZES)
DECODER = Decoder(vocabulary=20, key_heads=2, head_dim=4, head_norm=True, **SIZES)
VISION = VisionTransformer(image=8, patch=4, width=8, depth=2, heads=2, hidden=12)
TEXT_TOWERS = [
    BERT,
    dataclasses.replace(BERT, pooling="cls", normalise=False, first_position=2),
    DECODER,
    dataclasses.replace(DECODER, pooling="mean", projection_bias=True),
]


def large(tower, seed=0):
    """Parameters of a size at which everything matters."""
    params = tower.init(jax.random.key(seed))
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    leaves = [
        x + 0.3 * jax.random.normal(key, x.shape)
        for x, key in zip(leaves, keys, strict=True)
    ]
    return jax.tree.unflatten(tree, leaves)


def texts(*lengths, width, left=False):
    """The same texts of these lengths whatever the width and the side of padding."""
    ids = np.full((len(lengths), width), 19, np.int32)
    mask = np.zeros(ids.shape, bool)
    for row, length in enumerate(lengths):
        some = np.random.default_rng(row).integers(0, 19, length)
        place = slice(width - length, width) if left else slice(0, length)
        ids[row, place], mask[row, place] = some, True
    return Tokens(ids, mask)


@pytest.mark.parametrize("kind", STORED)
def test_vectors_are_those_of_transformers(kind, tmp_path):
    entry = STORED[kind]
    write_model(tmp_path, entry["config"], make_weights(entry["shapes"]))
    np.testing.assert_allclose(encode_small(tmp_path), entry["vectors"], atol=3e-6)


def test_stored_vectors_differ_from_text_to_text():
    for entry in STORED.values():
        vectors = np.array(entry["vectors"])
        near = vectors @ vectors.T - 2 * np.eye(len(vectors))
        assert near.max() < 0.999


@pytest.mark.parametrize("tower", TEXT_TOWERS, ids=str)
def test_padding_and_company_change_nothing(tower):
    params = large(tower)
    encode = jax.jit(tower.encode)
    expected = encode(params, texts(5, 2, 7, width=7))
    assert np.ptp(np.asarray(expected), axis=0).max() > 0.1
    for other in (texts(5, 2, 7, width=12), texts(5, 2, 7, width=9, left=True)):
        np.testing.assert_allclose(encode(params, other), expected, atol=2e-6)
    alone = encode(params, Tokens(*(x[:1] for x in texts(5, 2, 7, width=7))))
    np.testing.assert_allclose(alone, expected[:1], atol=2e-6)


@pytest.mark.parametrize("tower", TEXT_TOWERS, ids=str)
def test_texts_side_by_side_are_as_alone(tower):
    params = large(tower)
    alone = texts(5, 2, 7, width=7)
    own = [ids[mask] for ids, mask in zip(*alone, strict=True)]
    # In the first row two of them, padding, and one more; in the second one alone.
    ids, mask = np.full((2, 16), 19, np.int32), np.zeros((2, 16), np.int32)
    for row, start, number, which in ((0, 0, 1, 1), (0, 2, 2, 0), (0, 9, 3, 2)):
        ids[row, start : start + len(own[which])] = own[which]
        mask[row, start : start + len(own[which])] = number
    ids[1, 3:8], mask[1, 3:8] = own[0], 1
    states = tower.states(params, Tokens(ids, mask))
    found = pool(states, mask, tower.pooling, normalise=tower.normalise, texts=4)
    assert found.shape == (2, 4, 8)
    expected = tower.encode(params, alone)
    np.testing.assert_allclose(found[0, :3], expected[np.array([1, 0, 2])], atol=2e-6)
    np.testing.assert_allclose(found[1, 0], expected[0], atol=2e-6)
    assert not found[0, 3].any() and not found[1, 1:].any()


@pytest.mark.parametrize("tower", TEXT_TOWERS, ids=str)
def test_a_text_without_tokens_is_zero_and_has_no_derivative(tower):
    params = large(tower)
    tokens = texts(3, 0, width=4)
    assert not np.asarray(tower.encode(params, tokens))[1].any()

    def of_empty(params):
        return jnp.sum(tower.encode(params, tokens)[1])

    for leaf in jax.tree.leaves(jax.grad(of_empty)(params)):
        assert not np.asarray(leaf).any()


@pytest.mark.parametrize("tower", [*TEXT_TOWERS[::2], VISION], ids=str)
def test_derivatives_are_differences_and_the_same_with_remat(tower):
    params = large(tower)
    given = make_images()[:, :8, :8] if tower is VISION else texts(5, 3, width=6)
    weight = jax.random.normal(jax.random.key(7), tower.encode(params, given).shape)

    def loss(params, tower=tower):
        return jnp.sum(tower.encode(params, given) * weight)

    slope = jax.grad(loss)(params)
    lean = dataclasses.replace(tower, remat=True)
    for one, other in zip(
        jax.tree.leaves(slope),
        jax.tree.leaves(jax.grad(lambda p: loss(p, lean))(params)),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, atol=1e-5)
    for path, leaf in jax.tree_util.tree_flatten_with_path(slope)[0]:
        # A key's bias moves all scores of a query alike: softmax does not see it.
        if "['key']['bias']" not in jax.tree_util.keystr(path):
            assert np.abs(leaf).max() > 1e-6, path
    way = jax.tree.map(lambda x: x / 50, large(tower, seed=5))
    ahead, behind = (
        loss(jax.tree.map(lambda p, w, s=sign: p + s * w, params, way))
        for sign in (0.1, -0.1)
    )
    along = sum(jax.tree.leaves(jax.tree.map(jnp.vdot, slope, way)))
    np.testing.assert_allclose((ahead - behind) / 0.2, along, rtol=0.02, atol=1e-3)


def test_remat_keeps_less_for_the_derivative():
    def kept(tower):
        params = tower.init(jax.random.key(0))
        tokens = texts(*[16] * 8, width=16)

        def loss(params):
            return jnp.sum(tower.encode(params, tokens))

        compiled = jax.jit(jax.grad(loss)).lower(params).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    deep = dataclasses.replace(BERT, depth=12, hidden=64)
    assert kept(dataclasses.replace(deep, remat=True)) < 0.5 * kept(deep)


@pytest.mark.parametrize("tower", [BERT, DECODER], ids=str)
def test_narrow_parameters_give_near_vectors_in_float32(tower):
    params = large(tower)
    narrow = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    tokens = texts(5, 2, width=6)
    assert tower.states(narrow, tokens).dtype == jnp.bfloat16
    found = tower.encode(narrow, tokens)
    assert found.dtype == jnp.float32
    near = np.sum(np.asarray(found * tower.encode(params, tokens)), axis=1)
    assert near.min() > 0.99


def test_a_decoder_does_not_look_ahead_and_bert_does():
    one, other = texts(6, width=6), texts(6, width=6)
    other.ids[0, -1] = (other.ids[0, -1] + 1) % 19
    for tower, looks in ((DECODER, False), (BERT, True)):
        params = large(tower)
        first, second = (tower.states(params, x)[0] for x in (one, other))
        assert not np.allclose(first[-1], second[-1])
        assert np.allclose(first[:-1], second[:-1]) != looks


def test_ids_outside_the_vocabulary_do_not_pass_for_others():
    for tower in (BERT, DECODER):
        tokens = Tokens(np.array([[3, 20]], np.int32), np.ones((1, 2), bool))
        assert np.isnan(tower.encode(large(tower), tokens)).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Bert(dim=10, heads=4), "multiple of heads 4"),
        (lambda: Bert(positions=10, length=12), "at most the 10 positions"),
        (lambda: Decoder(heads=4, key_heads=3), "multiple of key_heads 3"),
        (lambda: Decoder(head_dim=5), "head_dim 5 must be even"),
        (lambda: VisionTransformer(image=10, patch=4), "multiple of patch 4"),
        (lambda: VisionTransformer(width=10, heads=4), "multiple of heads 4"),
        (lambda: BERT.encode(large(BERT), texts(19, width=19)), "18 positions"),
        (lambda: VISION.encode(large(VISION), make_images()), r"must be \[B, 8, 8, 3"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_tokens_of_parity_are_of_mixed_lengths():
    assert make_tokens().mask.sum(axis=1).tolist() == [40, 17, 1, 3]
    assert encoders.Tokens is Tokens
