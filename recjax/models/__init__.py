"""Recommenders: one file a model.

`MODELS` is the table of contents: the name that the command line takes, and the
dataclass behind it.
"""

from typing import Any

from recjax.models.aligned import Aligned
from recjax.models.alpharec import AlphaRec
from recjax.models.graph_alignment import GraphAlignment
from recjax.models.item_knn import ItemKNN
from recjax.models.kar import KAR
from recjax.models.lightgcn import LightGCN
from recjax.models.mf import MF
from recjax.models.popular import Popular
from recjax.models.text_autoencoder import TextAutoencoder

MODELS: dict[str, Any] = {
    "aligned": Aligned,
    "alpharec": AlphaRec,
    "graph_alignment": GraphAlignment,
    "item_knn": ItemKNN,
    "kar": KAR,
    "lightgcn": LightGCN,
    "mf": MF,
    "popular": Popular,
    "text_autoencoder": TextAutoencoder,
}

__all__ = [
    "KAR",
    "MF",
    "MODELS",
    "Aligned",
    "AlphaRec",
    "GraphAlignment",
    "ItemKNN",
    "LightGCN",
    "Popular",
    "TextAutoencoder",
]
