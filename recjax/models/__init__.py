"""Recommenders: one file a model.

`MODELS` is the table of contents: the name that the command line takes, and the
dataclass behind it.
"""

from typing import Any

from recjax.models.directau import DirectAU
from recjax.models.graph_alignment import GraphAlignment
from recjax.models.graph_transformer import GraphTransformer
from recjax.models.item_knn import ItemKNN
from recjax.models.lightgcn import LightGCN
from recjax.models.lightgcn_pp import LightGCNPP
from recjax.models.mf import MF
from recjax.models.ncl import NCL
from recjax.models.ngcf import NGCF
from recjax.models.popular import Popular
from recjax.models.sgl import SGL
from recjax.models.simgcl import SimGCL
from recjax.models.ultragcn import UltraGCN
from recjax.models.xsimgcl import XSimGCL

MODELS: dict[str, Any] = {
    "directau": DirectAU,
    "graph_alignment": GraphAlignment,
    "graph_transformer": GraphTransformer,
    "item_knn": ItemKNN,
    "lightgcn": LightGCN,
    "lightgcn_pp": LightGCNPP,
    "mf": MF,
    "ncl": NCL,
    "ngcf": NGCF,
    "popular": Popular,
    "sgl": SGL,
    "simgcl": SimGCL,
    "ultragcn": UltraGCN,
    "xsimgcl": XSimGCL,
}

__all__ = [
    "MF",
    "MODELS",
    "NCL",
    "NGCF",
    "SGL",
    "DirectAU",
    "GraphAlignment",
    "GraphTransformer",
    "ItemKNN",
    "LightGCN",
    "LightGCNPP",
    "Popular",
    "SimGCL",
    "UltraGCN",
    "XSimGCL",
]
