"""What devices exchange, hold and compute, as their number grows.

    JAX_NUM_CPU_DEVICES=8 python -m benchmarks.scaling --dataset ../shared/data/gowalla
    python -m benchmarks.scaling --dataset ../shared/data/gowalla --epochs 3

The second line, on a host with GPUs, also times whole epochs of LightGCN by pmap and on
every mesh; without accelerators only numbers that no clock decides are worth having.
They are read from what XLA compiled: the bytes that a device receives, those that it
holds, and its operations (null where XLA does not know them).  Strong scaling keeps the
graph, weak scaling takes a made-up one that grows with the devices.

One neighbour sum and its derivative over M parts of N nodes must receive, with K_s the
most rows that move by s devices,

    2 (N (M - 1) / M + sum over s of K_s + M - 1) D 4 bytes.
"""

import argparse
import json
import math
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from benchmarks import problems
from benchmarks.problems import Problem
from recjax.data import make_context
from recjax.models import LightGCN
from recjax.run_folder import environment
from recjax.sharding import (
    Parallel,
    make_mesh,
    pad_spec,
    shard_context,
)
from recjax.sparse import Exchange, graph_sum
from recjax.training import Training, init_state, make_epoch, make_optimizer
from recjax.types import Context

_SIZES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s64": 8, "u64": 8}
_CALL = re.compile(
    r"= (?P<shape>.+?) (?P<kind>all-gather|all-reduce|reduce-scatter|all-to-all|"
    r"collective-permute)(?P<start>-start)?\((?P<rest>.*)"
)


def collective_bytes(text: str) -> dict[str, int]:
    """Bytes that one device receives, by kind of collective, in a compiled program.

    Args:
      text: of the program, ``compiled.as_text()``.  What stands in a loop counts as
        often as it runs, or once where the compiler does not know that.

    Returns:
      Bytes by kind; an all-reduce counts as by a ring, twice what it gives.

    Examples:
      >>> line = "%g = f32[8,2]{1,0} all-gather(%x), replica_groups=[1,4]<=[4]"
      >>> collective_bytes(line)  # three quarters of 64 bytes
      {'all-gather': 48}
    """
    found: dict[str, int] = {}
    counted = re.search(r"num_partitions=(\d+)", text)
    everyone = int(counted[1]) if counted else 1
    for call, times in _calls(text):
        shapes = re.findall(r"(\w+)\[([\d,]*)\]", call["shape"])
        if call["start"] and call["kind"] != "all-reduce":
            # What goes in and what comes out.
            shapes = shapes[len(shapes) // 2 :]
        size = sum(
            _SIZES.get(kind, 4) * math.prod(int(n) for n in dims.split(",") if n)
            for kind, dims in shapes
        )
        parts = _group_size(call["rest"]) or everyone
        if call["kind"] == "reduce-scatter":
            size *= parts - 1
        elif call["kind"] != "collective-permute":
            size = size * (parts - 1) // parts
        size *= 2 if call["kind"] == "all-reduce" else 1
        found[call["kind"]] = found.get(call["kind"], 0) + size * times
    return found


def _calls(text: str) -> list[tuple[re.Match, int]]:
    """The collectives of a program, and how often each of them runs."""
    found, loops, where = [], {}, ""
    for line in text.splitlines():
        begun = re.match(r"(?:ENTRY )?(%[\w.-]+) .*\{$", line)
        where = begun[1] if begun else where
        if loop := re.search(r" while\(.*body=(%[\w.-]+)", line):
            runs = re.search(r'"known_trip_count":\{"n":"(\d+)"', line)
            loops[loop[1]] = where, int(runs[1]) if runs else 1
        if call := _CALL.search(line):
            found.append((call, where))

    def times(where: str) -> int:
        outside, runs = loops.get(where, ("", 1))
        return runs * times(outside) if outside else runs

    return [(call, times(where)) for call, where in found]


def _group_size(rest: str) -> int:
    iota = re.search(r"replica_groups=\[\d+,(\d+)\]", rest)
    if iota:
        return int(iota[1])
    listed = re.search(r"replica_groups=\{\{([\d,]+)\}", rest)
    return len(listed[1].split(",")) if listed else 0


def imbalance(context: Context) -> dict[str, float]:
    """Most edges, and most summed rows, of a device, over the mean."""
    extra: Any = context.graph.globals
    shards = extra["layout"].shards
    if shards is None:
        return {"edges": 1.0, "rows": 1.0}
    pointer = np.asarray(shards.row_pointer)
    edges = pointer[:, -1] - pointer[:, 0]
    rows = (np.diff(pointer) > 0).sum(axis=1)
    return {
        "edges": float(edges.max() / edges.mean()),
        "rows": float(rows.max() / rows.mean()),
    }


def expected_bytes(context: Context, dim: int) -> int:
    """What the formula says of a sum and its derivative."""
    extra: Any = context.graph.globals
    layout = extra["layout"]
    if layout.shards is None:
        return 0
    parts, nodes = len(layout.shards.first), len(layout.row_pointer) - 1
    moved = sum(take.shape[1] for take in layout.shards.moves.values())
    return 2 * (nodes * (parts - 1) // parts + moved + parts - 1) * dim * 4


def inspect(problem: Problem, parallel: Parallel, *, dim: int, batch_size: int) -> dict:
    """What one device exchanges, holds and computes on a mesh.

    Args:
      problem: to train LightGCN on.
      parallel: the mesh.
      dim: D.
      batch_size: B.

    Returns:
      A row of the results.
    """
    mesh = parallel.mesh
    spec = pad_spec(problem.spec, mesh.shape["model"])
    context = shard_context(make_context(problem.train, spec), parallel)
    rows = NamedSharding(mesh, PartitionSpec("model"))
    nodes = spec.num_users + spec.num_items + spec.num_attributes
    x = jax.ShapeDtypeStruct((nodes, dim), jnp.float32, sharding=rows)

    def both(graph, x, g):
        out, back = jax.vjp(lambda x: graph_sum(graph, x), x)
        return out, back(g)

    product = jax.jit(both).lower(context.graph, x, x).compile()
    model = LightGCN(dim=dim)
    training = Training(batch_size=batch_size)
    adam = make_optimizer(training, problem.train.num_rows)
    state = init_state(model, adam, spec, jax.random.key(0), mesh=mesh)
    run: Any = make_epoch(model, adam, batch_size=batch_size, parallel=parallel)
    epoch = run.lower(state, context).compile()
    memory = epoch.memory_analysis()
    # XLA says -1 for each call of a library, whose operations it does not know.
    operations = (product.cost_analysis() or {}).get("flops", -1)
    return {
        "mesh": dict(mesh.shape),
        "exchange": parallel.exchange,
        "edges": 2 * problem.train.num_rows,
        "imbalance": imbalance(context),
        "sum_bytes": sum(collective_bytes(str(product.as_text())).values()),
        "sum_bytes_expected": expected_bytes(context, dim),
        "epoch_bytes": collective_bytes(str(epoch.as_text())),
        "argument_bytes": memory.argument_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "sum_operations": operations if operations >= 0 else None,
    }


def seconds_an_epoch(
    problem: Problem,
    parallel: Parallel | None,
    *,
    dim: int,
    batch_size: int,
    epochs: int,
) -> float:
    """The fastest of some epochs of LightGCN.

    Args:
      problem: to train on.
      parallel: how; None for one device.
      dim: D.
      batch_size: B.
      epochs: how many, beside one that compiles.

    Returns:
      Seconds.
    """
    mesh = None if parallel is None else parallel.mesh
    spec = problem.spec if mesh is None else pad_spec(problem.spec, mesh.shape["model"])
    context = shard_context(make_context(problem.train, spec), parallel)
    model, training = LightGCN(dim=dim), Training(batch_size=batch_size)
    adam = make_optimizer(training, problem.train.num_rows)
    state = init_state(model, adam, spec, jax.random.key(0), mesh=mesh)
    run = make_epoch(model, adam, batch_size=batch_size, parallel=parallel)
    taken = []
    for _ in range(epochs + 1):
        start = time.perf_counter()
        state, logs = run(state, context)
        jax.device_get(logs)
        taken.append(time.perf_counter() - start)
    return min(taken[1:])


def meshes(devices: int, exchange: Exchange) -> list[Parallel]:
    """Every way to put powers of two of the devices into a mesh, and all."""
    powers = [2**n for n in range(devices.bit_length()) if 2**n <= devices]
    return [
        Parallel(make_mesh(all_of // model, model), exchange=exchange)
        for all_of in powers
        for model in powers
        if model <= all_of
    ]


def main(argv: Sequence[str] | None = None) -> dict:
    """Reads options, measures, prints, and writes JSON where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", required=True, help="as for the other benchmarks")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=2048)
    parser.add_argument("--epochs", type=int, default=0, help="epochs to time")
    parser.add_argument("--exchange", choices=("gather", "ring"), default="gather")
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    options = parser.parse_args(argv)
    problem = problems.load(options.dataset)
    sizes = {"dim": options.dim, "batch_size": options.batch_size}
    rows: dict[str, list[dict]] = {"strong": [], "weak": []}
    for parallel in meshes(jax.device_count(), options.exchange):
        parts = parallel.mesh.size
        grown = problems.synthetic(20_000 * parts, 200_000 * parts)
        for kind, graph in (("strong", problem), ("weak", grown)):
            row = inspect(graph, parallel, **sizes)
            if options.epochs and kind == "strong":
                row["seconds_an_epoch"] = seconds_an_epoch(
                    graph, parallel, epochs=options.epochs, **sizes
                )
            rows[kind].append(row)
            print(json.dumps({"scaling": kind} | row), flush=True)
    found = {"benchmark": "scaling", "problem": problem.describe(), **rows}
    if options.epochs:
        ways = {"one device": None, "pmap": Parallel(make_mesh(), pmap=True)}
        found["seconds_an_epoch"] = {
            name: seconds_an_epoch(problem, way, epochs=options.epochs, **sizes)
            for name, way in ways.items()
        }
        print(json.dumps(found["seconds_an_epoch"]))
    found |= {"settings": vars(options) | {"out": None}, **environment()}
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(found, indent=2) + "\n")
    wrong = [
        r
        for r in rows["strong"] + rows["weak"]
        if r["sum_bytes"] != r["sum_bytes_expected"]
    ]
    if wrong:
        print(f"{len(wrong)} rows receive other bytes than expected", file=sys.stderr)
    return found


if __name__ == "__main__":
    main()
