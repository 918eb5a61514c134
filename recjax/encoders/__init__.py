"""Large models in JAX, with their own weights: texts and images to vectors.

A tower is a frozen dataclass of pure functions, its parameters are a plain dict with
the layers stacked, and `load` reads both from a local folder::

    tower, params, tokenizer = encoders.load(FOLDER)
    vectors = encoders.encode_texts(tower, params, tokenizer, ["Alien", "Up"])  # [2, D]

Inside jitted functions, ``tower.encode(params, encoders.tokenize(...))`` is the same,
with derivatives by all parameters.  Audio has no tower here: a vector of each item by
any other program, ``[I, F]``, is a feature as well, from a ``.npy`` file beside
``interactions.npz`` or through `recjax.data.add_feature`.
"""

from recjax.encoders._checkpoint import over_mesh
from recjax.encoders._images import (
    Preprocessing,
    encode_images,
    prepare_images,
    read_preprocessing,
)
from recjax.encoders._load import find_folder, fingerprint, load
from recjax.encoders._texts import encode_batches, encode_texts, tokenize
from recjax.encoders._types import Loaded, Pooling, TextTower, Tokens
from recjax.encoders._upper import Hidden, Upper, cut
from recjax.encoders.bert import Bert
from recjax.encoders.decoder import Decoder
from recjax.encoders.vision_transformer import VisionTransformer

__all__ = [
    "Bert",
    "Decoder",
    "Hidden",
    "Loaded",
    "Pooling",
    "Preprocessing",
    "TextTower",
    "Tokens",
    "Upper",
    "VisionTransformer",
    "cut",
    "encode_batches",
    "encode_images",
    "encode_texts",
    "find_folder",
    "fingerprint",
    "load",
    "over_mesh",
    "prepare_images",
    "read_preprocessing",
    "tokenize",
]
