"""Towers of the configurations that Hugging Face writes."""

from typing import Any, NamedTuple

from recjax.encoders._tensor_names import BERT, CLIP, DECODER, DISTILBERT, MPNET, VIT
from recjax.encoders.bert import Bert
from recjax.encoders.decoder import Decoder
from recjax.encoders.vision_transformer import VisionTransformer

_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
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
      names: of its tensors, see `recjax.encoders._tensor_names.sources`.
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
    "bert": Family(_bert, BERT, ("", "bert.")),
    "roberta": Family(_roberta, BERT, ("", "roberta.")),
    "xlm-roberta": Family(_roberta, BERT, ("", "roberta.")),
    "camembert": Family(_roberta, BERT, ("", "roberta.")),
    "mpnet": Family(_mpnet, MPNET, ("", "mpnet.")),
    "distilbert": Family(_distilbert, DISTILBERT, ("", "distilbert.")),
    "llama": Family(_decoder, DECODER, ("", "model.")),
    "mistral": Family(_decoder, DECODER, ("", "model.")),
    "qwen2": Family(_qwen2, DECODER, ("", "model.")),
    "qwen3": Family(_qwen3, DECODER, ("", "model.")),
    "vit": Family(_vit, VIT, ("", "vit.")),
    "clip": Family(_clip, CLIP, ("", "vision_model.")),
    "clip_vision_model": Family(_clip, CLIP, ("", "vision_model.")),
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


def _activation(name: str) -> str:
    if name not in _ACTIVATIONS:
        raise ValueError(
            f"the activation {name!r} is not known, only {', '.join(_ACTIVATIONS)}"
        )
    return _ACTIVATIONS[name]
