"""A training step on drawn neighbours takes as long on a graph of any size.

    python -m benchmarks.sampled --out FILE.json

A step of LightGCN with BPR on made-up graphs of 10^5 edges and more, in steps of ten up
to `--most-edges`, with as many nodes as there are edges for `--degree` of them.  Three
ways: neighbours drawn on the device, drawn on the host ahead of the step, and the whole
graph, as far as memory allows.  The slope is that of the logarithms: 0 is a cost that
stays, 1 one in proportion.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import optax

from benchmarks import command, limits, problems, timing
from benchmarks.command import Option, Settings
from benchmarks.growth import slope
from recjax.data import make_context
from recjax.models import LightGCN
from recjax.objectives import BPR
from recjax.optimizers import lazy_adam
from recjax.training import Sampled, init_state, make_epoch, make_streamed_epoch

_LEAST_EDGES = 100_000
# Bytes an edge that making the graph takes on the host, and tables of the whole way.
_HOST_BYTES, _TABLES = 120, 12
_SHARE = 0.7


def measure(
    settings: Settings,
    *,
    most_edges: int = 10_000_000,
    degree: int = 10,
    layers: int = 2,
    fanout: int = 5,
    batch_size: int = 128,
    steps: int = 10,
) -> dict:
    """Times steps at several sizes.

    Args:
      settings: of the run.
      most_edges: the largest E.
      degree: E / N.
      layers: L, hops.
      fanout: neighbours of a node in each hop.
      batch_size: B.
      steps: of one timed call.

    Returns:
      The results, see `benchmarks.command.results`; a slope for every way.
    """
    notes = []
    points: dict[Any, list] = {}
    edges = min(_LEAST_EDGES, most_edges)
    while edges <= most_edges:
        nodes = edges // degree
        table = 4 * nodes * settings.dim
        free = _SHARE * limits.free_memory() - _HOST_BYTES * edges
        if free < _TABLES * table / 2:
            notes.append(f"{edges:,} edges left out: not enough memory.")
            break
        with_whole = free > _TABLES * table
        found = _point(
            settings,
            edges,
            nodes,
            LightGCN(settings.dim, layers, BPR()),
            Sampled((fanout,) * layers),
            batch_size,
            steps,
            with_whole,
        )
        for row in found:
            way = {"group": row["name"], "name": f"edges {edges:,}", "x": edges}
            row = {name: row[name] for name in row if name != "over_ours"} | way
            points.setdefault(row["group"], []).append(row)
        edges *= 10
    rows = [row for some in points.values() for row in some]
    slopes = {name: slope(some) for name, some in points.items() if len(some) > 1}
    own = {
        "degree": degree,
        "layers": layers,
        "fanout": fanout,
        "batch_size": batch_size,
        "steps": steps,
    }
    return command.results(
        "sampled", settings, rows, own, slopes=slopes, over="edges", notes=notes
    )


def _point(
    settings: Settings,
    edges: int,
    nodes: int,
    model: LightGCN,
    sampled: Sampled,
    batch_size: int,
    steps: int,
    with_whole: bool,
) -> list[dict]:
    problem = problems.synthetic(nodes, edges, test_share=0.0)
    context = make_context(problem.train, problem.spec)
    # An epoch of so many steps, on pairs from all over.
    pairs = context.users.shape[0]
    some = np.random.default_rng(0).choice(pairs, min(pairs, steps * batch_size), False)
    context = context._replace(users=context.users[some], items=context.items[some])
    size = {"batch_size": batch_size}
    lazy, dense = lazy_adam(1e-3), optax.adam(1e-3)
    ways = {
        "neighbours drawn on the device": (
            lazy,
            make_epoch(model, lazy, sampled=sampled, **size),
        ),
        "neighbours drawn on the host": (
            lazy,
            make_streamed_epoch(model, lazy, sampled=sampled, **size),
        ),
    }
    if with_whole:
        ways["whole graph"] = dense, make_epoch(model, dense, **size)
    cases = {}
    for name, (optimizer, run_epoch) in ways.items():
        state = init_state(model, optimizer, problem.spec, jax.random.key(0))
        cases[name] = _Steps(state, run_epoch, context)
    times = timing.interleave(cases, repeats=settings.repeats)
    done = -(-len(some) // batch_size)
    return timing.rows(
        "",
        times,
        work={"interactions": batch_size},
        calls=dict.fromkeys(cases, done),
    )


class _Steps:
    """Goes on with a run at every call; the state before is given away."""

    def __init__(self, state, run_epoch, context):
        self.state, self.run_epoch, self.context = state, run_epoch, context

    def __call__(self):
        self.state, logs = self.run_epoch(self.state, self.context)
        return logs["loss"]


def main(argv: Sequence[str] | None = None) -> None:
    """Reads options, measures, prints, and writes JSON where asked."""
    own = (
        Option("most_edges", 10_000_000, "edges at most"),
        Option("degree", 10, "edges for each node"),
        Option("layers", 2, "propagations"),
        Option("fanout", 5, "neighbours of a node in each hop"),
        Option("batch_size", 128, "training pairs a step"),
        Option("steps", 10, "steps of one timed call"),
    )
    command.run(measure, __doc__, argv, own=own, on_dataset=False)


if __name__ == "__main__":
    main()
