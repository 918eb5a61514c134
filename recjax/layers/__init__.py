"""Graph layers: pure functions of parameters, a `jraph.GraphsTuple` and arrays."""

from recjax.layers._attention import graph_attention
from recjax.layers._common import (
    fuse_attention,
    fuse_common,
    init_fuse_attention,
    init_fuse_common,
)
from recjax.layers._composition import (
    init_relation_message_passing,
    relation_message_passing,
)
from recjax.layers._convolution import (
    gcn,
    gin,
    graph_sage,
    init_gcn,
    init_gin,
    init_graph_sage,
    init_ngcf,
    ngcf,
)
from recjax.layers._edge_attention import edge_attention, init_edge_attention
from recjax.layers._edge_message import (
    edge_message_passing,
    init_edge_message_passing,
)
from recjax.layers._experts import fuse_experts, init_fuse_experts
from recjax.layers._full_attention import (
    full_attention,
    linear_attention,
    sequence_attention,
)
from recjax.layers._fusion import (
    fuse_concat,
    fuse_gated,
    fuse_mean,
    fuse_sum,
    init_fuse_concat,
    init_fuse_gated,
)
from recjax.layers._gat import gat, gatv2, init_gat, init_gatv2
from recjax.layers._hypergraph import (
    hypergraph_convolution,
    hypergraph_smooth,
    init_hypergraph_convolution,
)
from recjax.layers._message import init_message_passing, message_passing
from recjax.layers._mlp import init_mlp, mlp
from recjax.layers._noise import perturb, propagate_noisy_rows
from recjax.layers._products import film, fuse_bilinear, init_film, init_fuse_bilinear
from recjax.layers._propagate import (
    newcomer_sum,
    propagate,
    propagate_layers,
    propagate_rows,
)
from recjax.layers._relational import init_rgcn_basis, init_rgcn_block, rgcn
from recjax.layers._segment import (
    segment_max,
    segment_mean,
    segment_min,
    segment_softmax,
)
from recjax.layers._smoothing import personalised_pagerank, propagate_normalised
from recjax.layers._transformer import init_transformer_block, transformer_block
from recjax.layers._unit_length import unit_length

__all__ = [
    "edge_attention",
    "edge_message_passing",
    "film",
    "full_attention",
    "fuse_attention",
    "fuse_bilinear",
    "fuse_common",
    "fuse_concat",
    "fuse_experts",
    "fuse_gated",
    "fuse_mean",
    "fuse_sum",
    "gat",
    "gatv2",
    "gcn",
    "gin",
    "graph_attention",
    "graph_sage",
    "hypergraph_convolution",
    "hypergraph_smooth",
    "init_edge_attention",
    "init_edge_message_passing",
    "init_film",
    "init_fuse_attention",
    "init_fuse_bilinear",
    "init_fuse_common",
    "init_fuse_concat",
    "init_fuse_experts",
    "init_fuse_gated",
    "init_gat",
    "init_gatv2",
    "init_gcn",
    "init_gin",
    "init_graph_sage",
    "init_hypergraph_convolution",
    "init_message_passing",
    "init_mlp",
    "init_ngcf",
    "init_relation_message_passing",
    "init_rgcn_basis",
    "init_rgcn_block",
    "init_transformer_block",
    "linear_attention",
    "message_passing",
    "mlp",
    "newcomer_sum",
    "ngcf",
    "personalised_pagerank",
    "perturb",
    "propagate",
    "propagate_layers",
    "propagate_noisy_rows",
    "propagate_normalised",
    "propagate_rows",
    "relation_message_passing",
    "rgcn",
    "segment_max",
    "segment_mean",
    "segment_min",
    "segment_softmax",
    "sequence_attention",
    "transformer_block",
    "unit_length",
]
