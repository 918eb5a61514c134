"""Recommenders: one file a model.

`MODELS` is the table of contents: the name that the command line takes, and the
dataclass behind it.
"""

from typing import Any

from recjax.models.bspm import BSPM
from recjax.models.ease import EASE
from recjax.models.edlae import EDLAE
from recjax.models.gf_cf import GFCF
from recjax.models.graph_alignment import GraphAlignment
from recjax.models.ials import IALS
from recjax.models.item_knn import ItemKNN
from recjax.models.lightgcn import LightGCN
from recjax.models.mf import MF
from recjax.models.popular import Popular
from recjax.models.turbo_cf import TurboCF

MODELS: dict[str, Any] = {
    "bspm": BSPM,
    "ease": EASE,
    "edlae": EDLAE,
    "gf_cf": GFCF,
    "graph_alignment": GraphAlignment,
    "ials": IALS,
    "item_knn": ItemKNN,
    "lightgcn": LightGCN,
    "mf": MF,
    "popular": Popular,
    "turbo_cf": TurboCF,
}

__all__ = [
    "BSPM",
    "EASE",
    "EDLAE",
    "GFCF",
    "IALS",
    "MF",
    "MODELS",
    "GraphAlignment",
    "ItemKNN",
    "LightGCN",
    "Popular",
    "TurboCF",
]
