"""Recommenders: one file a model.

`MODELS` is the table of contents: the name that the command line takes, and the
dataclass behind it.
"""

from typing import Any

from recjax.models.bm3 import BM3
from recjax.models.freedom import FREEDOM
from recjax.models.graph_alignment import GraphAlignment
from recjax.models.item_knn import ItemKNN
from recjax.models.lattice import LATTICE
from recjax.models.lightgcn import LightGCN
from recjax.models.mf import MF
from recjax.models.mgcn import MGCN
from recjax.models.mmgcn import MMGCN
from recjax.models.modal_gcn import ModalGCN
from recjax.models.popular import Popular
from recjax.models.vbpr import VBPR

MODELS: dict[str, Any] = {
    "bm3": BM3,
    "freedom": FREEDOM,
    "graph_alignment": GraphAlignment,
    "item_knn": ItemKNN,
    "lattice": LATTICE,
    "lightgcn": LightGCN,
    "mf": MF,
    "mgcn": MGCN,
    "mmgcn": MMGCN,
    "modal_gcn": ModalGCN,
    "popular": Popular,
    "vbpr": VBPR,
}

__all__ = [
    "BM3",
    "FREEDOM",
    "LATTICE",
    "MF",
    "MGCN",
    "MMGCN",
    "MODELS",
    "VBPR",
    "GraphAlignment",
    "ItemKNN",
    "LightGCN",
    "ModalGCN",
    "Popular",
]
