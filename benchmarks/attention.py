r"""Softmax attention, forward and backward: along a graph's edges, and over all nodes.

    python -m benchmarks.attention --dataset ../shared/data/gowalla \
        --peers pyg,torch --out FILE.json

Along edges: `graph_attention` with projections to queries, keys and values, `gat` and
`gatv2`, against TransformerConv, GATConv and GATv2Conv of torch_geometric.  Over all
nodes (of `--full-nodes`): `full_attention`, which makes scores block by block, against
the [H, N, N] scores at once where they fit in memory, and torch's fused kernel.
Derivatives are by nodes and parameters.  Results must be equal before anything is
timed.

Bytes are the least that an edge moves: an index and the sender's values forward; an
index, the receiver's derivative and the sender's values backward.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jraph
import numpy as np

from benchmarks import command, limits, peers, timing
from benchmarks.command import Option, Settings
from benchmarks.problems import Problem
from recjax.graphs import make_graph
from recjax.layers import (
    full_attention,
    gat,
    gatv2,
    graph_attention,
    init_gat,
    init_gatv2,
)
from recjax.types import Params

# Wider than elsewhere.  Of a hundred million scores some round to the other side of the
# kink of a leaky rectifier, where the derivative jumps: on Gowalla, our derivative of
# `gatv2` and that of torch_geometric are both 3e-4 off the one in float64.
_RTOL = {"float32": 1e-3, "bfloat16": 2e-1, "float16": 2e-2}


def init_projected(key: jax.Array, width_in: int, width_out: int, heads: int) -> Params:
    """Kernels ``[F, H, D]`` of queries, keys and values."""
    keys = jax.random.split(key, 3)
    shape = (width_in, heads, width_out)
    return {
        name: width_in**-0.5 * jax.random.normal(key, shape)
        for name, key in zip(("query", "key", "value"), keys, strict=True)
    }


def projected(params: Params, graph: jraph.GraphsTuple, nodes: jax.Array) -> jax.Array:
    """`graph_attention` of projected nodes, heads side by side."""
    parts = (jnp.tensordot(nodes, params[n], 1) for n in ("query", "key", "value"))
    return graph_attention(graph, *parts).reshape(nodes.shape[0], -1)


def dense_attention(
    queries: jax.Array, keys: jax.Array, values: jax.Array
) -> jax.Array:
    """Attention over all nodes by the equation, with all scores ``[H, N, N]``."""
    scores = jnp.einsum("qhd,khd->hqk", queries, keys) * queries.shape[-1] ** -0.5
    weights = jax.nn.softmax(scores.astype(jnp.float32), axis=-1)
    return jnp.einsum("hqk,khd->qhd", weights.astype(values.dtype), values)


LAYERS: dict[str, tuple[Callable[..., Params], Callable[..., jax.Array]]] = {
    "graph_attention": (init_projected, projected),
    "gat": (init_gat, gat),
    "gatv2": (init_gatv2, gatv2),
}


def both_ways(layer: Callable[..., jax.Array]) -> Callable[..., Any]:
    """The result, and derivatives of its product with g by all arguments but these.

    Args:
      layer: of parameters, a graph and nodes.

    Returns:
      A compiled function of (params, graph, nodes, g) to the result, the derivative by
      the nodes, and those by the parameters.
    """

    @jax.jit
    def both(params, graph, nodes, g):
        out, pull = jax.vjp(lambda params, x: layer(params, graph, x), params, nodes)
        by_params, by_nodes = pull(g)
        return out, by_nodes, by_params

    return both


def measure(
    problem: Problem, settings: Settings, *, heads: int = 4, full_nodes: int = 8192
) -> dict:
    """Times attention.

    Args:
      problem: its training pairs make the graph.
      settings: of the run; the width is that of all heads together.
      heads: H.
      full_nodes: N of attention over all nodes.

    Returns:
      The results, see `benchmarks.command.results`.

    Raises:
      ValueError: heads do not divide the width; a peer is unknown, or gives other
        values.
    """
    if heads < 1 or settings.dim % heads:
        raise ValueError(f"heads {heads} must divide the width {settings.dim}")
    others = peers.find("attention", settings.peers)
    rows = _along_edges(problem, settings, heads, others)
    rows += _over_all(settings, heads, full_nodes, others)
    return command.results(
        "attention",
        settings,
        rows,
        {"heads": heads, "full_nodes": full_nodes},
        problem=problem.describe(),
    )


def _along_edges(problem, settings, heads, others) -> list[dict]:
    host = make_graph((problem.train.users, problem.train.items), problem.spec)
    graph, edges = jax.device_put(host), int(host.n_edge[0])
    num, width = int(host.n_node[0]), settings.dim
    rng = np.random.default_rng(0)
    nodes, cotangent = rng.normal(size=(2, num, width)).astype(np.float32)
    x, g = (jnp.asarray(array, settings.dtype) for array in (nodes, cotangent))
    rows = []
    for kind, (init, layer) in LAYERS.items():
        params = init(jax.random.key(0), width, width // heads, heads)
        params = jax.tree.map(lambda w: w.astype(settings.dtype), params)
        both = both_ways(layer)
        cases = {"recjax": lambda both=both, p=params: both(p, graph, x, g)}
        given = jax.tree.map(lambda w: np.array(w, np.float32), params)
        for name, peer in others.items():
            call = peer(kind, host, given, nodes, cotangent, settings.dtype)
            if call is not None:
                cases[name] = call
        rows += timing.rows(
            kind,
            timing.interleave(
                cases, repeats=settings.repeats, rtol=_RTOL[settings.dtype]
            ),
            work={"edges": edges},
            moved=edges * (2 * 4 + 3 * width * x.dtype.itemsize),
            copy=settings.copy,
        )
    return rows


def _over_all(settings, heads, num, others) -> list[dict]:
    rng = np.random.default_rng(0)
    shape = (4, num, heads, settings.dim // heads)
    *parts, cotangent = rng.normal(size=shape).astype(np.float32)
    given = dict(zip(("key", "query", "value"), parts, strict=True))
    params = {name: jnp.asarray(x, settings.dtype) for name, x in given.items()}
    g = jnp.asarray(cotangent, settings.dtype)
    ways: dict[str, Callable[..., jax.Array]] = {"recjax": full_attention}
    # Scores, weights and the derivatives of both.
    if 4 * 4 * heads * num**2 < limits.free_memory() // 2:
        ways["all scores at once"] = dense_attention

    def case(way):
        @jax.jit
        def both(params, g):
            out, pull = jax.vjp(lambda p: way(p["query"], p["key"], p["value"]), params)
            return out, *pull(g)

        return lambda: both(params, g)

    cases = {name: case(way) for name, way in ways.items()}
    for name, peer in others.items():
        call = peer("full_attention", None, given, None, cotangent, settings.dtype)
        if call is not None:
            cases[name] = call
    return timing.rows(
        "full_attention",
        timing.interleave(cases, repeats=settings.repeats, rtol=_RTOL[settings.dtype]),
        work={"nodes": num},
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Reads options, measures, prints, and writes JSON where asked."""
    own = (
        Option("heads", 4, "heads; they share the width"),
        Option("full_nodes", 8192, "nodes of attention over all nodes"),
    )
    command.run(measure, __doc__, argv, own=own)


if __name__ == "__main__":
    main()
