"""Recommenders: one file a model.

`MODELS` is the table of contents: the name that the command line takes, and the
dataclass behind it.
"""

from typing import Any

from recjax.models._diffusion import Diffusion
from recjax.models._history_attention import Attended, with_histories
from recjax.models._tower import Tuned, with_tower
from recjax.models.aligned import Aligned
from recjax.models.alpharec import AlphaRec
from recjax.models.behaviour_filter import BehaviourFilter
from recjax.models.behaviour_gcn import BehaviourGCN
from recjax.models.bm3 import BM3
from recjax.models.bspm import BSPM
from recjax.models.co_visit import CoVisit
from recjax.models.crgcn import CRGCN
from recjax.models.diffmm import DiffMM
from recjax.models.directau import DirectAU
from recjax.models.ease import EASE
from recjax.models.edlae import EDLAE
from recjax.models.freedom import FREEDOM
from recjax.models.gf_cf import GFCF
from recjax.models.graph_alignment import GraphAlignment
from recjax.models.graph_transformer import GraphTransformer
from recjax.models.hybrid import Hybrid
from recjax.models.ials import IALS
from recjax.models.item_knn import ItemKNN
from recjax.models.kar import KAR
from recjax.models.lattice import LATTICE
from recjax.models.lgmrec import LGMRec
from recjax.models.lightgcn import LightGCN
from recjax.models.lightgcn_pp import LightGCNPP
from recjax.models.mbgcn import MBGCN
from recjax.models.mf import MF
from recjax.models.mgcn import MGCN
from recjax.models.mmgcn import MMGCN
from recjax.models.mmhcl import MMHCL
from recjax.models.modal_gcn import ModalGCN
from recjax.models.ncl import NCL
from recjax.models.ngcf import NGCF
from recjax.models.popular import Popular
from recjax.models.relation_attention import RelationAttention
from recjax.models.rgcn import RGCN
from recjax.models.sgl import SGL
from recjax.models.simgcl import SimGCL
from recjax.models.text_autoencoder import TextAutoencoder
from recjax.models.turbo_cf import TurboCF
from recjax.models.ultragcn import UltraGCN
from recjax.models.vbpr import VBPR
from recjax.models.xsimgcl import XSimGCL

MODELS: dict[str, Any] = {
    "aligned": Aligned,
    "alpharec": AlphaRec,
    "behaviour_filter": BehaviourFilter,
    "behaviour_gcn": BehaviourGCN,
    "bm3": BM3,
    "bspm": BSPM,
    "co_visit": CoVisit,
    "crgcn": CRGCN,
    "diffmm": DiffMM,
    "directau": DirectAU,
    "ease": EASE,
    "edlae": EDLAE,
    "freedom": FREEDOM,
    "gf_cf": GFCF,
    "graph_alignment": GraphAlignment,
    "graph_transformer": GraphTransformer,
    "hybrid": Hybrid,
    "ials": IALS,
    "item_knn": ItemKNN,
    "kar": KAR,
    "lattice": LATTICE,
    "lgmrec": LGMRec,
    "lightgcn": LightGCN,
    "lightgcn_pp": LightGCNPP,
    "mbgcn": MBGCN,
    "mf": MF,
    "mgcn": MGCN,
    "mmgcn": MMGCN,
    "mmhcl": MMHCL,
    "modal_gcn": ModalGCN,
    "ncl": NCL,
    "ngcf": NGCF,
    "popular": Popular,
    "relation_attention": RelationAttention,
    "rgcn": RGCN,
    "sgl": SGL,
    "simgcl": SimGCL,
    "text_autoencoder": TextAutoencoder,
    "turbo_cf": TurboCF,
    "ultragcn": UltraGCN,
    "vbpr": VBPR,
    "xsimgcl": XSimGCL,
}

__all__ = [
    "BM3",
    "BSPM",
    "CRGCN",
    "EASE",
    "EDLAE",
    "FREEDOM",
    "GFCF",
    "IALS",
    "KAR",
    "LATTICE",
    "MBGCN",
    "MF",
    "MGCN",
    "MMGCN",
    "MMHCL",
    "MODELS",
    "NCL",
    "NGCF",
    "RGCN",
    "SGL",
    "VBPR",
    "Aligned",
    "AlphaRec",
    "Attended",
    "BehaviourFilter",
    "BehaviourGCN",
    "CoVisit",
    "DiffMM",
    "Diffusion",
    "DirectAU",
    "GraphAlignment",
    "GraphTransformer",
    "Hybrid",
    "ItemKNN",
    "LGMRec",
    "LightGCN",
    "LightGCNPP",
    "ModalGCN",
    "Popular",
    "RelationAttention",
    "SimGCL",
    "TextAutoencoder",
    "Tuned",
    "TurboCF",
    "UltraGCN",
    "XSimGCL",
    "with_histories",
    "with_tower",
]
