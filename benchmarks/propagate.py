r"""One neighbour sum over a graph: recjax, bare kernels, and peers.

    python -m benchmarks.propagate --dataset ../shared/data/gowalla \
        --peers torch-csr,torch-coo,pyg --out FILE.json

out = A x, and out with its derivative A^T g for a given g.  Cases: `recjax` as it
chooses by itself, its implementations by name, the bare product of
`jax.experimental.sparse.BCSR`, gather and segment sum by jraph, and peers.  Results
must be equal before anything is timed.  On a GPU, JAX takes cuSPARSE for `csr` and BCSR
only under ``JAX_BCOO_CUSPARSE_LOWERING=1``, as for the results in ``results/h200``.

Bytes are what the sum must move if nothing is found in a cache: for every edge a
weight, an index and a row of x; for every node a row of the result and a pointer.
Backward moves as much again.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jraph
import numpy as np
from jax.experimental import sparse as jax_sparse

from benchmarks import command, peers, timing
from benchmarks.command import Settings
from benchmarks.problems import Problem
from recjax.graphs import make_graph
from recjax.sparse import Implementation, graph_sum


def bcsr_product(graph: jraph.GraphsTuple, nodes: jax.Array) -> jax.Array:
    """The product of the kernel that `recjax.sparse` takes on CPU, and no more."""
    edges: Any = graph.edges
    extra: Any = graph.globals
    num = nodes.shape[0]
    senders: Any = graph.senders
    parts = (edges["weight"], senders, extra["layout"].row_pointer)
    # It sums in float32, as we do.
    out = jax_sparse.BCSR(parts, shape=(num, num)) @ nodes.astype(jnp.float32)
    return out.astype(nodes.dtype)


def jraph_sum(graph: jraph.GraphsTuple, nodes: jax.Array) -> jax.Array:
    """Gather, multiply and segment sum, as one would write it with jraph."""
    edges: Any = graph.edges
    senders: Any = graph.senders
    receivers: Any = graph.receivers
    messages = nodes[senders].astype(jnp.float32) * edges["weight"][:, None]
    out = jraph.segment_sum(messages, receivers, nodes.shape[0])
    return out.astype(nodes.dtype)


def ways() -> dict[str, Callable[[jraph.GraphsTuple, jax.Array], jax.Array]]:
    """The sums that need JAX alone, by name; ours first."""
    names: list[Implementation] = ["csr", "segment"]
    if jax.default_backend() == "gpu":
        names.append("pallas")
    by_name = {
        f"recjax {name}": functools.partial(graph_sum, implementation=name)
        for name in names
    }
    return {
        "recjax": graph_sum,
        **by_name,
        "BCSR product": bcsr_product,
        "jraph": jraph_sum,
    }


def moved_bytes(nodes: int, edges: int, dim: int, itemsize: int) -> int:
    """Bytes of one sum without a cache."""
    return edges * (4 + 4 + dim * itemsize) + nodes * (4 + dim * itemsize)


def measure(problem: Problem, settings: Settings) -> dict:
    """Times the sums.

    Args:
      problem: its training pairs make the graph.
      settings: of the run.

    Returns:
      The results, see `benchmarks.command.results`.

    Raises:
      ValueError: a peer is unknown, or gives other values.
    """
    others = peers.find("propagate", settings.peers)
    host = make_graph((problem.train.users, problem.train.items), problem.spec)
    num = problem.spec.num_users + problem.spec.num_items
    rng = np.random.default_rng(0)
    nodes, cotangent = rng.normal(size=(2, num, settings.dim)).astype(np.float32)
    graph = jax.device_put(host)
    x, g = (jnp.asarray(array, settings.dtype) for array in (nodes, cotangent))

    def case(way):
        def both(graph, x, g):
            out, pull = jax.vjp(lambda x: way(graph, x), x)
            return out, *pull(g)

        forward, both = jax.jit(way), jax.jit(both)
        return lambda: forward(graph, x), lambda: both(graph, x, g)

    cases = {name: case(way) for name, way in ways().items()}
    for name, peer in others.items():
        cases[name] = peer(host, nodes, cotangent, settings.dtype)

    edges = 2 * problem.train.num_rows
    moved = moved_bytes(num, edges, settings.dim, x.dtype.itemsize)
    rows = []
    for index, group in enumerate(("forward", "forward and backward")):
        times = timing.interleave(
            {name: pair[index] for name, pair in cases.items()},
            repeats=settings.repeats,
            rtol=timing.RTOL[settings.dtype],
        )
        rows += timing.rows(
            group,
            times,
            work={"edges": edges * (index + 1)},
            moved=moved * (index + 1),
            copy=settings.copy,
        )
    return command.results("propagate", settings, rows, problem=problem.describe())


def main(argv: Sequence[str] | None = None) -> None:
    """Reads options, measures, prints, and writes JSON where asked."""
    command.run(measure, __doc__, argv)


if __name__ == "__main__":
    main()
