"""Layers of recjax against those of torch_geometric, with the same weights.

    python -m benchmarks.parity

On random graphs, where some nodes receive nothing, results and derivatives (by nodes
and by every parameter) of GCN, GraphSAGE, GAT, GATv2, transformer attention, GIN, R-GCN
and LightGCN.  Prints the largest difference of each, relative to the largest entry, and
exits with 1 where one is above 1e-5.
"""

import argparse
import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jraph
import numpy as np

from benchmarks import attention, peers, problems, timing
from recjax import layers
from recjax.graphs import make_graph
from recjax.sparse import make_layout
from recjax.types import Params

LIMIT = 1e-5
_WIDTHS = (12, 8)
_HEADS = 2
_RELATIONS = 3
_DEPTH = 3


class Case(NamedTuple):
    """A layer to compare.

    Attributes:
      kind: name that the peer knows it by.
      init: from a key to parameters; widths are 12 and 8.
      apply: the layer, without an activation.
      graph: what it runs on.
    """

    kind: str
    init: Callable[[jax.Array], Params]
    apply: Callable[..., jax.Array]
    graph: jraph.GraphsTuple


def directed(nodes: int, edges: int) -> jraph.GraphsTuple:
    """A random graph with relations, whose last ten nodes receive nothing."""
    rng = np.random.default_rng(0)
    senders = rng.integers(0, nodes, edges)
    receivers = np.sort(rng.integers(0, nodes - 10, edges))
    layout = make_layout(senders, receivers, num_senders=nodes, num_receivers=nodes)
    fields: dict[str, Any] = {
        "nodes": None,
        "edges": {
            "weight": np.ones(edges, np.float32),
            "relation": rng.integers(0, _RELATIONS, edges).astype(np.int32),
        },
        "senders": senders.astype(np.int32),
        "receivers": receivers.astype(np.int32),
        "globals": {"layout": layout},
        "n_node": np.array([nodes], np.int32),
        "n_edge": np.array([edges], np.int32),
    }
    return jraph.GraphsTuple(**fields)


def cases(nodes: int, edges: int) -> dict[str, Case]:
    """All layers to compare, by what the peer calls them."""
    plain, own = directed(nodes, edges), {"activation": lambda x: x}
    problem = problems.synthetic(nodes, edges)
    looped = make_graph(
        (problem.train.users, problem.train.items), problem.spec, self_loops=True
    )
    width_in, width_out = _WIDTHS
    split = (width_in, width_out // _HEADS, _HEADS)

    def init(function, *args, **kwargs):
        return lambda key: function(key, *args, **kwargs)

    sage = functools.partial(layers.graph_sage, **own)
    rgcn = functools.partial(layers.rgcn, **own)
    return {
        "GCNConv": Case(
            "gcn",
            init(layers.init_gcn, *_WIDTHS),
            functools.partial(layers.gcn, **own),
            looped,
        ),
        "SAGEConv, mean": Case(
            "graph_sage", init(layers.init_graph_sage, *_WIDTHS), sage, plain
        ),
        "SAGEConv, max": Case(
            "graph_sage",
            init(layers.init_graph_sage, *_WIDTHS, width_pool=width_in),
            functools.partial(sage, aggregate="max"),
            plain,
        ),
        "GATConv": Case("gat", init(layers.init_gat, *split), layers.gat, plain),
        "GATv2Conv": Case(
            "gatv2", init(layers.init_gatv2, *split), layers.gatv2, plain
        ),
        "TransformerConv": Case(
            "graph_attention",
            init(attention.init_projected, *split),
            attention.projected,
            plain,
        ),
        "GINConv": Case(
            "gin", init(layers.init_gin, *_WIDTHS, hidden=10), layers.gin, plain
        ),
        "RGCNConv, bases": Case(
            "rgcn",
            init(layers.init_rgcn_basis, *_WIDTHS, relations=_RELATIONS, bases=2),
            rgcn,
            plain,
        ),
        "RGCNConv, blocks": Case(
            "rgcn",
            init(layers.init_rgcn_block, *_WIDTHS, relations=_RELATIONS, blocks=4),
            rgcn,
            plain,
        ),
    }


def compare(nodes: int, edges: int) -> dict[str, tuple[float, float]]:
    """Differences of results, and of derivatives, by layer.

    Args:
      nodes: N of the graphs.
      edges: E of the graphs.

    Returns:
      Largest differences, relative to the largest entry.
    """
    theirs = peers.find("layer", ("pyg",))["pyg"]
    rng = np.random.default_rng(1)
    x, g = (rng.normal(size=(nodes, w)).astype(np.float32) for w in _WIDTHS)
    found = {}
    for name, case in cases(nodes, edges).items():
        # Nothing at 0, where an error would not show.
        leaves, tree = jax.tree.flatten(case.init(jax.random.key(0)))
        leaves = [w + 0.1 * rng.normal(size=w.shape).astype(np.float32) for w in leaves]
        params = jax.tree.unflatten(tree, leaves)
        ours = attention.both_ways(case.apply)(params, jax.device_put(case.graph), x, g)
        given = jax.tree.map(np.asarray, params)
        # Their GCN adds the loops itself.
        graph = without_loops(case.graph) if case.kind == "gcn" else case.graph
        found[name] = _differences(
            ours, theirs(case.kind, graph, given, x, g, "float32")()
        )
    problem = problems.synthetic(nodes, edges)
    graph = make_graph((problem.train.users, problem.train.items), problem.spec)
    both = attention.both_ways(
        lambda p, graph, x: layers.propagate(graph, x, depth=_DEPTH)
    )
    ours = both({}, jax.device_put(graph), x, x[::-1].copy())
    light_gcn = peers.find("light_gcn_nodes", ("pyg",))["pyg"]
    found["LightGCN"] = _differences(
        ours, light_gcn(graph, x, x[::-1].copy(), layers=_DEPTH)()
    )
    return found


def without_loops(graph: jraph.GraphsTuple) -> jraph.GraphsTuple:
    """The graph without edges from a node to itself, and without weights."""
    senders, receivers = np.asarray(graph.senders), np.asarray(graph.receivers)
    keep = senders != receivers
    return graph._replace(
        senders=senders[keep], receivers=receivers[keep], edges=None, globals=None
    )


def _differences(ours: Any, theirs: Any) -> tuple[float, float]:
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    result, *derivatives = [timing.difference(a, b) for a, b in pairs]
    return result, max(derivatives)


def main(argv: Sequence[str] | None = None) -> None:
    """Reads options, compares, prints, and exits with 1 where a layer differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=200)
    parser.add_argument("--edges", type=int, default=2000)
    options = parser.parse_args(argv)
    try:
        found = compare(options.nodes, options.edges)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print(f"{'torch_geometric':18} {'result':>8} {'derivatives':>12}")
    for name, (result, derivatives) in found.items():
        word = "" if max(result, derivatives) <= LIMIT else f"  above {LIMIT:.0e}"
        print(f"{name:18} {result:8.1e} {derivatives:12.1e}{word}")
    if not max(map(max, found.values())) <= LIMIT:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
