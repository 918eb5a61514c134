"""A language model in a folder, trained along by one command, and found again."""

import json
import shutil

import jax
import numpy as np
import pyarrow as pa
import pytest

from recjax import encoders, pipeline
from recjax.cli import main
from recjax.data import load, split, synthetic, write
from recjax.inputs import build_context
from recjax.joint import Encoder, attach, identified
from recjax.models import Hybrid, Tuned
from recjax.run_config import read_encoder

DIM, DEPTH, WORDS = 8, 3, ("[PAD]", "[UNK]", "0", "1", "a", "film")


def make_folder(folder, seed=0):
    """A BERT of random numbers, as Hugging Face writes it."""
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer, models, pre_tokenizers

    rng = np.random.default_rng(seed)
    tensors = {}

    def linear(name, width_in, width_out):
        tensors[f"{name}.weight"] = rng.normal(size=(width_out, width_in)) / 3
        tensors[f"{name}.bias"] = rng.normal(size=width_out) / 3

    def norm(name):
        tensors[f"{name}.LayerNorm.weight"] = rng.normal(size=DIM)
        tensors[f"{name}.LayerNorm.bias"] = rng.normal(size=DIM)

    rows = {"word": len(WORDS), "position": 16, "token_type": 2}
    for name, number in rows.items():
        table = rng.normal(size=(number, DIM))
        tensors[f"embeddings.{name}_embeddings.weight"] = table
    norm("embeddings")
    for layer in range(DEPTH):
        own = f"encoder.layer.{layer}"
        for name in ("query", "key", "value"):
            linear(f"{own}.attention.self.{name}", DIM, DIM)
        linear(f"{own}.attention.output.dense", DIM, DIM)
        norm(f"{own}.attention.output")
        linear(f"{own}.intermediate.dense", DIM, 16)
        linear(f"{own}.output.dense", 16, DIM)
        norm(f"{own}.output")
    config = {
        "model_type": "bert",
        "vocab_size": len(WORDS),
        "hidden_size": DIM,
        "num_hidden_layers": DEPTH,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "max_position_embeddings": 16,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
    }
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    tensors = {name: x.astype(np.float32) for name, x in tensors.items()}
    save_file(tensors, str(folder / "model.safetensors"))
    known = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(known, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("RECJAX_DATA_DIR", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    log = split(synthetic(num_users=30, num_items=20, rows_per_user=8))
    return str(write(log, tmp_path_factory.mktemp("d") / "small", name="s", config={}))


def call(*words):
    """Exit code of a command."""
    try:
        main([str(word) for word in words])
    except SystemExit as stop:
        return stop.code or 0
    return 0


FAST = ["--epochs", "2", "--batch-size", "64", "--no-baselines", "--model.dim", "8"]
TEXT = ["--encoder-fields", "group", "--encoder-layers", "2", "--encoder-length", "4"]


def train(small, folder, out, *more):
    words = ["--model", "hybrid", "--encoder", folder, *TEXT, *FAST, "--out", out]
    return call("train", small, *words, *more)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_tower_cut_in_two_is_the_tower(folder, layers):
    tower, params, tokenizer = encoders.load(folder)
    tokens = encoders.tokenize(tokenizer, ["a film", "0", "", "film 1 1"], length=3)
    upper, rest, hidden = encoders.cut(tower, params, tokens, layers=layers, rows=3)
    np.testing.assert_allclose(
        upper.encode(rest, hidden), tower.encode(params, tokens), rtol=1e-5, atol=1e-6
    )
    assert "embeddings" not in rest
    shapes = jax.eval_shape(upper.init, jax.random.key(0))
    assert jax.tree.map(np.shape, shapes) == jax.tree.map(np.shape, rest)
    with pytest.raises(ValueError, match="layers 4 must be from 1 to the tower's 3"):
        encoders.cut(tower, params, tokens, layers=4)


def test_one_command_trains_it_and_others_find_it(small, folder, tmp_path, capsys):
    moved = shutil.copytree(folder, tmp_path / "moved")
    out = tmp_path / "run"
    assert train(small, moved, out) == 0
    config = json.loads((out / "config.json").read_text())
    assert config["encoder"] == {
        "type": "Encoder",
        "path": str(moved),
        "fields": ["group"],
        "template": "",
        "length": 4,
        "layers": 2,
        "weights": encoders.fingerprint(folder),
    }
    assert config["model"]["text"]["tower"] is None
    run = pipeline.load_run(out)
    assert run.model.text.tower.layers == 2
    lora = run.params["tower"]["lora"]["layers"]["attention"]
    assert set(lora) == {"query", "value"}
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(lora))
    capsys.readouterr()
    assert call("evaluate", out, "--json") == 0
    scores = json.loads(capsys.readouterr().out)
    summary = json.loads((out / "summary.json").read_text())
    assert scores["ndcg@20"] == summary["test"]["ndcg@20"]
    assert call("recommend", out, "--history", "i3", "-k", "2", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["items"]) == 2
    # Another model at its place is not taken for it.
    shutil.rmtree(moved)
    assert call("evaluate", out) == 2
    assert "there is no model at" in capsys.readouterr().err
    make_folder(moved, seed=1)
    assert call("evaluate", out) == 2
    assert "put that one back" in capsys.readouterr().err


def test_a_run_goes_on_with_its_encoder(small, folder, tmp_path, capsys):
    out, whole = tmp_path / "run", tmp_path / "whole"
    assert train(small, folder, out) == 0
    # Adam's rate does not depend on the number of epochs.
    assert call("train", "--resume", "--out", out, "--epochs", "3") == 0
    assert train(small, folder, whole, "--epochs", "3") == 0
    first, second = (pipeline.load_run(path) for path in (out, whole))
    jax.tree.map(np.testing.assert_array_equal, first.params, second.params)
    capsys.readouterr()
    again = ("train", "--resume", "--out", out, "--encoder-length", "3")
    assert call(*again) == 2
    assert "length 4 where 3 is asked" in capsys.readouterr().err


def test_what_does_not_fit_is_refused(small, folder, tmp_path, capsys):
    words = ["--encoder", folder, *TEXT, *FAST, "--out", tmp_path / "x"]
    assert call("train", small, "--model", "lightgcn", *words) == 2
    error = capsys.readouterr().err
    assert "LightGCN trains no language model, hybrid does" in error
    assert train(small, folder, tmp_path / "x", "--encoder-fields", "name") == 2
    assert "name" in capsys.readouterr().err
    assert train(small, tmp_path / "nowhere", tmp_path / "x") == 2
    assert "there is no model at" in capsys.readouterr().err
    log = split(synthetic(num_users=30, num_items=20, rows_per_user=8))
    bare = write(log._replace(features={}), tmp_path / "b", name="b", config={})
    words = ["--model", "hybrid", *FAST, "--out", tmp_path / "x"]
    assert call("train", bare, *words) == 2
    assert "reads vectors of the items" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_settings_that_were_saved_come_back(folder):
    encoder = identified(Encoder(str(folder), ("group",), "{group}", 4, 2))
    assert encoder.weights == encoders.fingerprint(folder)
    assert read_encoder({}) is None
    saved = json.loads(json.dumps(pipeline.to_dict(encoder)))
    assert read_encoder({"encoder": saved}) == encoder


def test_attached_it_is_the_frozen_tower_at_first(small, folder):
    data = load(small)
    spec, context = build_context(data, (), 0.0)
    model = Hybrid(dim=8, text=Tuned(rank=2, chunk=6))
    encoder = Encoder(str(folder), ("group",), length=4, layers=1)
    model, context = attach(model, context, data.items, encoder)
    params = model.init(jax.random.key(0), spec)
    tower, weights, tokenizer = encoders.load(folder)
    texts = [str(group) for group in data.items["group"].to_pylist()]
    expected = encoders.encode_texts(tower, weights, tokenizer, texts)
    found = model.text.vectors(params["tower"], context)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert context.prepared["texts_present"].all()
    blank = pa.array(["", *texts[1:]])
    items = data.items.set_column(
        data.items.column_names.index("group"), "group", blank
    )
    _, context = attach(Hybrid(dim=8), build_context(data, (), 0.0)[1], items, encoder)
    assert np.flatnonzero(~context.prepared["texts_present"]).tolist() == [0]
