"""What Hugging Face calls the parts of models: configurations and names of tensors."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax

from recjax.encoders._checkpoint import Source
from recjax.encoders.bert import Bert
from recjax.encoders.decoder import Decoder
from recjax.encoders.vision_transformer import VisionTransformer
from recjax.types import Params

_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
# What its own parameters are called below a layer or at the top.
_LEAVES = {"kernel": "weight", "embedding": "weight", "scale": "weight", "bias": "bias"}
# A matrix is stored [out, in], a convolution [out, in, height, width].
_AXES = {("kernel", 2): (1, 0), ("kernel", 4): (2, 3, 1, 0)}

_BERT = {
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
_MPNET = _BERT | {
    "relative": "encoder.relative_attention_bias",
    "layers.attention.query": "encoder.layer.{}.attention.attn.q",
    "layers.attention.key": "encoder.layer.{}.attention.attn.k",
    "layers.attention.value": "encoder.layer.{}.attention.attn.v",
    "layers.attention.output": "encoder.layer.{}.attention.attn.o",
    "layers.attention_norm": "encoder.layer.{}.attention.LayerNorm",
}
_DISTILBERT = {
    name: "embeddings" + of.removeprefix("embeddings")
    for name, of in _BERT.items()
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

_DECODER = {
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
# Names that end in "!" are of tensors, not of modules.
_VIT = {
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
_CLIP = {
    "embeddings.patch": "vision_model.embeddings.patch_embedding",
    "embeddings.class": "vision_model.embeddings.class_embedding!",
    "embeddings.position": "vision_model.embeddings.position_embedding",
    "embeddings.norm": "vision_model.pre_layrnorm",
    "layers.attention.query": "vision_model.encoder.layers.{}.self_attn.q_proj",
    "layers.attention.key": "vision_model.encoder.layers.{}.self_attn.k_proj",
    "layers.attention.value": "vision_model.encoder.layers.{}.self_attn.v_proj",
    "layers.attention.output": "vision_model.encoder.layers.{}.self_attn.out_proj",
    "layers.attention_norm": "vision_model.encoder.layers.{}.layer_norm1",
    "layers.feed_forward_norm": "vision_model.encoder.layers.{}.layer_norm2",
    "layers.inner": "vision_model.encoder.layers.{}.mlp.fc1",
    "layers.outer": "vision_model.encoder.layers.{}.mlp.fc2",
    "norm": "vision_model.post_layernorm",
    "projection": "visual_projection",
}
# What a file leaves out where it is as in the first model of its kind.
_CLIP_DEFAULTS = {
    "image_size": 224,
    "patch_size": 32,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}


class Family(NamedTuple):
    """How a kind of model is stored.

    Attributes:
      make: from its configuration to the tower.
      names: of modules, by ours; ``{}`` is the number of the layer.
      prefixes: what may stand in front of all names, where the file is of a larger
        model.
    """

    make: Any
    names: dict[str, str]
    prefixes: tuple[str, ...]


def _bert(config: dict[str, Any], **own: Any) -> Bert:
    positions = config["max_position_embeddings"]
    kwargs: dict[str, Any] = {
        "vocabulary": config["vocab_size"],
        "dim": config["hidden_size"],
        "depth": config["num_hidden_layers"],
        "heads": config["num_attention_heads"],
        "hidden": config["intermediate_size"],
        "positions": positions,
        "length": positions - own.get("first_position", 0),
        "token_types": config.get("type_vocab_size", 2),
        "activation": _activation(config.get("hidden_act", "gelu")),
        "epsilon": config.get("layer_norm_eps", 1e-12),
    }
    kind = config.get("position_embedding_type", "absolute")
    if kind != "absolute":
        raise ValueError(f"positions of the type {kind!r} are not read, only absolute")
    return Bert(**kwargs | own)


def _roberta(config: dict[str, Any]) -> Bert:
    return _bert(config, first_position=_after_padding(config))


def _mpnet(config: dict[str, Any]) -> Bert:
    return _bert(
        config,
        first_position=_after_padding(config),
        token_types=0,
        relative_buckets=config.get("relative_attention_num_buckets", 32),
    )


def _distilbert(config: dict[str, Any]) -> Bert:
    names = {
        "hidden_size": "dim",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "intermediate_size": "hidden_dim",
        "hidden_act": "activation",
    }
    same = {name: config[other] for name, other in names.items() if other in config}
    return _bert(config | same, token_types=0)


def _decoder(config: dict[str, Any], **own: Any) -> Decoder:
    heads, bias = config["num_attention_heads"], config.get("attention_bias", False)
    # Newer files have one entry for what turns queries and keys.
    rotary = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rotary.get("rope_type", rotary.get("type", "default"))
    stretch = None
    if kind == "llama3":
        stretch = (
            rotary["factor"],
            rotary["low_freq_factor"],
            rotary["high_freq_factor"],
            rotary["original_max_position_embeddings"],
        )
    elif kind != "default":
        raise ValueError(f"rotary positions of the type {kind!r} are not read")
    if config.get("mlp_bias"):
        raise ValueError("a bias in the perceptron (mlp_bias) is not read")
    length = config["max_position_embeddings"]
    if config.get("use_sliding_window", True) and config.get("sliding_window"):
        # Within the window a token sees all that stand before it.
        length = min(length, config["sliding_window"])
    kwargs: dict[str, Any] = {
        "vocabulary": config["vocab_size"],
        "dim": config["hidden_size"],
        "depth": config["num_hidden_layers"],
        "heads": heads,
        "key_heads": config.get("num_key_value_heads") or heads,
        "head_dim": config.get("head_dim") or config["hidden_size"] // heads,
        "hidden": config["intermediate_size"],
        "theta": rotary.get("rope_theta", config.get("rope_theta", 10000.0)),
        "stretch": stretch,
        "projection_bias": bias,
        "output_bias": bias,
        "activation": _activation(config.get("hidden_act", "silu")),
        "epsilon": config.get("rms_norm_eps", 1e-6),
        "length": length,
    }
    return Decoder(**kwargs | own)


def _qwen2(config: dict[str, Any]) -> Decoder:
    return _decoder(config, projection_bias=True, output_bias=False)


def _qwen3(config: dict[str, Any]) -> Decoder:
    return _decoder(config, head_norm=True)


def _vit(config: dict[str, Any], **own: Any) -> VisionTransformer:
    if config.get("num_channels", 3) != 3:
        raise ValueError(f"images of {config['num_channels']} channels are not read")
    kwargs: dict[str, Any] = {
        "image": config["image_size"],
        "patch": config["patch_size"],
        "width": config["hidden_size"],
        "depth": config["num_hidden_layers"],
        "heads": config["num_attention_heads"],
        "hidden": config["intermediate_size"],
        "activation": _activation(config.get("hidden_act", "gelu")),
        "epsilon": config.get("layer_norm_eps", 1e-12),
    }
    return VisionTransformer(**kwargs | own)


def _clip(config: dict[str, Any]) -> VisionTransformer:
    # Of the whole of CLIP, or of its image half alone.
    vision = _CLIP_DEFAULTS | config.get("vision_config", config)
    projected = config["architectures"][0] != "CLIPVisionModel"
    width = config.get("projection_dim", 512) if projected else 0
    return _vit(vision, projection=width, embedding_norm=True, patch_bias=False)


def _after_padding(config: dict[str, Any]) -> int:
    """The row of the first position: rows up to that of the padding are not used."""
    padding = config.get("pad_token_id")
    return (1 if padding is None else padding) + 1


FAMILIES = {
    "bert": Family(_bert, _BERT, ("", "bert.")),
    "roberta": Family(_roberta, _BERT, ("", "roberta.")),
    "xlm-roberta": Family(_roberta, _BERT, ("", "roberta.")),
    "camembert": Family(_roberta, _BERT, ("", "roberta.")),
    "mpnet": Family(_mpnet, _MPNET, ("", "mpnet.")),
    "distilbert": Family(_distilbert, _DISTILBERT, ("", "distilbert.")),
    "llama": Family(_decoder, _DECODER, ("", "model.")),
    "mistral": Family(_decoder, _DECODER, ("", "model.")),
    "qwen2": Family(_qwen2, _DECODER, ("", "model.")),
    "qwen3": Family(_qwen3, _DECODER, ("", "model.")),
    "vit": Family(_vit, _VIT, ("", "vit.")),
    "clip": Family(_clip, _CLIP, ("",)),
    "clip_vision_model": Family(_clip, _CLIP, ("",)),
}
"""Models by the ``model_type`` of their ``config.json``."""


def make_tower(config: dict[str, Any]) -> Any:
    """The tower of a ``config.json``.

    Args:
      config: its content.

    Returns:
      The tower, with pooling as by default.

    Raises:
      ValueError: the model is of another kind, or something is not said.
    """
    kind = config.get("model_type")
    if kind not in FAMILIES:
        raise ValueError(
            f"the model_type {kind!r} is not read, only {', '.join(FAMILIES)}"
        )
    try:
        return FAMILIES[kind].make(config)
    except KeyError as error:
        raise ValueError(f"{error} is not said") from None
    except TypeError as error:
        raise ValueError(f"a value is of the wrong type ({error})") from None


def sources(kind: str, shapes: Params, stored: Iterable[str]) -> dict[str, Source]:
    """Where each parameter is stored.

    Args:
      kind: of the model, see `FAMILIES`.
      shapes: of the parameters.
      stored: names of the tensors in the files.

    Returns:
      Sources by path, joined by dots.
    """
    family = FAMILIES[kind]
    stored = set(stored)

    def name_all(prefix: str) -> dict[str, Source]:
        found = {}
        for keys, leaf in jax.tree_util.tree_flatten_with_path(shapes)[0]:
            path = ".".join(key.key for key in keys)
            module, _, last = path.rpartition(".")
            name = f"{prefix}{family.names[module]}.{_LEAVES[last]}"
            name = name.partition("!")[0]
            stacked = "{}" in name
            rank = len(leaf.shape) - stacked
            axes = _AXES.get((last, rank), tuple(range(rank)))
            count = leaf.shape[0] if stacked else 1
            names = tuple(name.format(layer) for layer in range(count))
            found[path] = Source(names, axes, stacked)
        return found

    def known(found: dict[str, Source]) -> int:
        return sum(name in stored for source in found.values() for name in source.names)

    return max((name_all(prefix) for prefix in family.prefixes), key=known)


def _activation(name: str) -> str:
    if name not in _ACTIVATIONS:
        raise ValueError(
            f"the activation {name!r} is not known, only {', '.join(_ACTIVATIONS)}"
        )
    return _ACTIVATIONS[name]
