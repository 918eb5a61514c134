"""How the time of LightGCN propagation grows: with edges, nodes, width and layers.

    python -m benchmarks.growth --out FILE.json

Forward and backward of `recjax.layers.propagate` on made-up graphs.  One size grows
while the others stay at `--edges`, `--nodes`, `--dim` and `--layers`; edges go up to
`--most-edges` in steps of ten, as far as memory allows.  The slope is that of the
logarithms: 1 is a cost in proportion, 0 a cost that stays.
"""

from collections.abc import Sequence

import jax
import numpy as np

from benchmarks import command, limits, problems, timing
from benchmarks.command import Option, Settings
from benchmarks.propagate import moved_bytes
from recjax.graphs import make_graph
from recjax.layers import propagate

# Bytes an edge that making the graph takes on the host, at its peak; 100 were seen.
_HOST_BYTES = 120
# What may be used of the memory that is free.
_SHARE = 0.7


def measure(
    settings: Settings,
    *,
    edges: int = 1_000_000,
    nodes: int = 32_000,
    layers: int = 3,
    most_edges: int = 100_000_000,
) -> dict:
    """Times propagation at several sizes.

    Args:
      settings: of the run; the width is that of all points but those of the width.
      edges: E of all points but those of the edges.
      nodes: N of all points but those of the nodes.
      layers: L of all points but those of the layers.
      most_edges: the largest E of the points of the edges.

    Returns:
      The results, see `benchmarks.command.results`; a slope for every size.

    Raises:
      ValueError: nodes and edges do not fit together.
    """
    if max(edges, most_edges) // 2 > problems.most_pairs(nodes):
        raise ValueError(
            f"edges {edges} and most_edges {most_edges} are too many for {nodes} "
            f"nodes: at most {2 * problems.most_pairs(nodes)}"
        )
    usual = {"edges": edges, "nodes": nodes, "width": settings.dim, "layers": layers}
    sweeps = {
        "edges": [most_edges // 10**power for power in (4, 3, 2, 1, 0)],
        "nodes": [nodes * factor for factor in (1, 2, 4, 8, 16, 32)],
        "width": [settings.dim * factor // 4 for factor in (1, 2, 4, 8, 16)],
        "layers": [1, 2, 4, 8],
    }
    rows, slopes, notes = [], {}, []
    for size, values in sweeps.items():
        points = []
        for value in values:
            where = usual | {size: value}
            need = _bytes(where)
            if need > _SHARE * limits.free_memory():
                notes.append(f"{size} {value:,} left out: {need / 2**30:.0f} GiB.")
                continue
            [row] = _point(settings, size, value, where)
            points.append(row)
        rows += points
        if len(points) > 1:
            slopes[size] = slope(points)
    own = {"edges": edges, "nodes": nodes, "layers": layers}
    return command.results("growth", settings, rows, own, slopes=slopes, notes=notes)


def _bytes(where: dict[str, int]) -> int:
    """Bytes that a point takes, about."""
    vectors = 4 * where["nodes"] * where["width"]
    return _HOST_BYTES * where["edges"] + (2 + 2 * where["layers"]) * vectors


def _point(settings: Settings, size: str, value: int, where: dict) -> list[dict]:
    problem = problems.synthetic(where["nodes"], where["edges"], test_share=0.0)
    graph = jax.device_put(
        make_graph((problem.train.users, problem.train.items), problem.spec)
    )
    del problem
    shape = (where["nodes"], where["width"])
    x, g = jax.random.normal(jax.random.key(0), (2, *shape), settings.dtype)

    @jax.jit
    def both(graph, x, g):
        out, pull = jax.vjp(lambda x: propagate(graph, x, depth=where["layers"]), x)
        return out, *pull(g)

    times = timing.interleave(
        {f"{size} {value:,}": lambda: both(graph, x, g)}, repeats=settings.repeats
    )
    sums = 2 * where["layers"]
    moved = sums * moved_bytes(
        where["nodes"], where["edges"], where["width"], x.dtype.itemsize
    )
    rows = timing.rows(
        size,
        times,
        work={"edges": sums * where["edges"]},
        moved=moved,
        copy=settings.copy,
    )
    # There is one way only.
    return [
        {"x": value} | {key: row[key] for key in row if key != "over_ours"}
        for row in rows
    ]


def slope(points: list[dict]) -> dict[str, float]:
    """Slope of log seconds over log x.

    Args:
      points: two or more, with ``x`` and ``seconds``.

    Returns:
      That of a line through all points, and between the last two.
    """
    x = np.log([point["x"] for point in points])
    y = np.log([point["seconds"] for point in points])
    return {
        "all": float(np.polyfit(x, y, 1)[0]),
        "last": float((y[-1] - y[-2]) / (x[-1] - x[-2])),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Reads options, measures, prints, and writes JSON where asked."""
    own = (
        Option("edges", 1_000_000, "edges where they do not grow"),
        Option("nodes", 32_000, "nodes where they do not grow"),
        Option("layers", 3, "propagations where they do not grow"),
        Option("most_edges", 100_000_000, "edges at most"),
    )
    command.run(measure, __doc__, argv, own=own, on_dataset=False)


if __name__ == "__main__":
    main()
