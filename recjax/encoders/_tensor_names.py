"""Names of tensors in files of Hugging Face, by the names of our parameters."""

from collections.abc import Iterable, Mapping, Sequence

import jax

from recjax.encoders._checkpoint import Source
from recjax.types import Params

# What its own parameters are called below a layer or at the top.
_LEAVES = {"kernel": "weight", "embedding": "weight", "scale": "weight", "bias": "bias"}
# A matrix is stored [out, in], a convolution [out, in, height, width].
_AXES = {("kernel", 2): (1, 0), ("kernel", 4): (2, 3, 1, 0)}

BERT = {
    "embeddings.word": "embeddings.word_embeddings",
    "embeddings.position": "embeddings.position_embeddings",
    "embeddings.token_type": "embeddings.token_type_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
    "layers.attention.query": "encoder.layer.{}.attention.self.query",
    "layers.attention.key": "encoder.layer.{}.attention.self.key",
    "layers.attention.value": "encoder.layer.{}.attention.self.value",
    "layers.attention.output": "encoder.layer.{}.attention.output.dense",
    "layers.attention_norm": "encoder.layer.{}.attention.output.LayerNorm",
    "layers.inner": "encoder.layer.{}.intermediate.dense",
    "layers.outer": "encoder.layer.{}.output.dense",
    "layers.feed_forward_norm": "encoder.layer.{}.output.LayerNorm",
}
MPNET = BERT | {
    "relative": "encoder.relative_attention_bias",
    "layers.attention.query": "encoder.layer.{}.attention.attn.q",
    "layers.attention.key": "encoder.layer.{}.attention.attn.k",
    "layers.attention.value": "encoder.layer.{}.attention.attn.v",
    "layers.attention.output": "encoder.layer.{}.attention.attn.o",
    "layers.attention_norm": "encoder.layer.{}.attention.LayerNorm",
}
DISTILBERT = {
    name: "embeddings" + of.removeprefix("embeddings")
    for name, of in BERT.items()
    if name.startswith("embeddings")
} | {
    "layers.attention.query": "transformer.layer.{}.attention.q_lin",
    "layers.attention.key": "transformer.layer.{}.attention.k_lin",
    "layers.attention.value": "transformer.layer.{}.attention.v_lin",
    "layers.attention.output": "transformer.layer.{}.attention.out_lin",
    "layers.attention_norm": "transformer.layer.{}.sa_layer_norm",
    "layers.inner": "transformer.layer.{}.ffn.lin1",
    "layers.outer": "transformer.layer.{}.ffn.lin2",
    "layers.feed_forward_norm": "transformer.layer.{}.output_layer_norm",
}

DECODER = {
    "embeddings.word": "embed_tokens",
    "layers.attention.query": "layers.{}.self_attn.q_proj",
    "layers.attention.key": "layers.{}.self_attn.k_proj",
    "layers.attention.value": "layers.{}.self_attn.v_proj",
    "layers.attention.output": "layers.{}.self_attn.o_proj",
    "layers.attention.query_norm": "layers.{}.self_attn.q_norm",
    "layers.attention.key_norm": "layers.{}.self_attn.k_norm",
    "layers.attention_norm": "layers.{}.input_layernorm",
    "layers.feed_forward_norm": "layers.{}.post_attention_layernorm",
    "layers.gate": "layers.{}.mlp.gate_proj",
    "layers.up": "layers.{}.mlp.up_proj",
    "layers.down": "layers.{}.mlp.down_proj",
    "norm": "norm",
}
# Names that end in "!" are of tensors, not of modules; those that start with "/" have
# no prefix.
VIT = {
    "embeddings.patch": "embeddings.patch_embeddings.projection",
    "embeddings.class": "embeddings.cls_token!",
    "embeddings.position": "embeddings.position_embeddings!",
    "layers.attention.query": "encoder.layer.{}.attention.attention.query",
    "layers.attention.key": "encoder.layer.{}.attention.attention.key",
    "layers.attention.value": "encoder.layer.{}.attention.attention.value",
    "layers.attention.output": "encoder.layer.{}.attention.output.dense",
    "layers.attention_norm": "encoder.layer.{}.layernorm_before",
    "layers.feed_forward_norm": "encoder.layer.{}.layernorm_after",
    "layers.inner": "encoder.layer.{}.intermediate.dense",
    "layers.outer": "encoder.layer.{}.output.dense",
    "norm": "layernorm",
}
CLIP = {
    "embeddings.patch": "embeddings.patch_embedding",
    "embeddings.class": "embeddings.class_embedding!",
    "embeddings.position": "embeddings.position_embedding",
    "embeddings.norm": "pre_layrnorm",
    "layers.attention.query": "encoder.layers.{}.self_attn.q_proj",
    "layers.attention.key": "encoder.layers.{}.self_attn.k_proj",
    "layers.attention.value": "encoder.layers.{}.self_attn.v_proj",
    "layers.attention.output": "encoder.layers.{}.self_attn.out_proj",
    "layers.attention_norm": "encoder.layers.{}.layer_norm1",
    "layers.feed_forward_norm": "encoder.layers.{}.layer_norm2",
    "layers.inner": "encoder.layers.{}.mlp.fc1",
    "layers.outer": "encoder.layers.{}.mlp.fc2",
    "norm": "post_layernorm",
    "projection": "/visual_projection",
}


def sources(
    names: Mapping[str, str],
    prefixes: Sequence[str],
    shapes: Params,
    stored: Iterable[str],
) -> dict[str, Source]:
    """Where each parameter is stored.

    Args:
      names: of modules, by ours; ``{}`` is the number of the layer.
      prefixes: what may stand in front of all names.
      shapes: of the parameters.
      stored: names of the tensors in the files.

    Returns:
      Sources by path, joined by dots.
    """
    stored = set(stored)

    def name_all(prefix: str) -> dict[str, Source]:
        found = {}
        for keys, leaf in jax.tree_util.tree_flatten_with_path(shapes)[0]:
            path = ".".join(key.key for key in keys)
            module, _, last = path.rpartition(".")
            name = f"{names[module]}.{_LEAVES[last]}".partition("!")[0]
            name = name[1:] if name.startswith("/") else prefix + name
            stacked = "{}" in name
            rank = len(leaf.shape) - stacked
            axes = _AXES.get((last, rank), tuple(range(rank)))
            count = leaf.shape[0] if stacked else 1
            tensors = tuple(name.format(layer) for layer in range(count))
            found[path] = Source(tensors, axes, stacked)
        return found

    def known(found: dict[str, Source]) -> int:
        return sum(name in stored for source in found.values() for name in source.names)

    return max((name_all(prefix) for prefix in prefixes), key=known)
