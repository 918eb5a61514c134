"""Recommenders: one file a model.

`MODELS` is the table of contents: the name that the command line takes, and the
dataclass behind it.
"""

from typing import Any

from recjax.models.diffmm import DiffMM
from recjax.models.graph_alignment import GraphAlignment
from recjax.models.item_knn import ItemKNN
from recjax.models.lgmrec import LGMRec
from recjax.models.lightgcn import LightGCN
from recjax.models.mf import MF
from recjax.models.mmhcl import MMHCL
from recjax.models.popular import Popular

MODELS: dict[str, Any] = {
    "diffmm": DiffMM,
    "graph_alignment": GraphAlignment,
    "item_knn": ItemKNN,
    "lgmrec": LGMRec,
    "lightgcn": LightGCN,
    "mf": MF,
    "mmhcl": MMHCL,
    "popular": Popular,
}

__all__ = [
    "MF",
    "MMHCL",
    "MODELS",
    "DiffMM",
    "GraphAlignment",
    "ItemKNN",
    "LGMRec",
    "LightGCN",
    "Popular",
]
