"""A LightGCN training step against the neighbour sums that it cannot do without.

    python -m benchmarks.train_step --dataset ../shared/data/gowalla --out FILE.json

A step of L layers needs 2 L neighbour sums, L forward and L backward.  The step is
timed where it runs, inside the scan of an epoch; the sums are chained in one compiled
call.  Both run in turn in this process, compilation apart; medians are reported.
"""

import argparse
import dataclasses
import json
import statistics
import time
from pathlib import Path

import jax
import optax

from recjax.data import make_context, read
from recjax.models import LightGCN
from recjax.objectives import BPR
from recjax.run_folder import environment
from recjax.sparse import graph_sum
from recjax.training import init_state, make_epoch
from recjax.types import Spec


def measure(
    source: str, model: LightGCN, *, batch_size: int, steps: int, repeats: int
) -> dict:
    """Times steps and neighbour sums in turn.

    Args:
      source: anything that `recjax.data.read` reads; all its rows but those of a test
        part are trained on.
      model: with its width and layers.
      batch_size: B.
      steps: steps of one timed scan.
      repeats: timed scans, and as many chains of neighbour sums.

    Returns:
      Seconds a step and a neighbour sum, their ratio, and what ran.
    """
    log = read(source)
    rows = log.interactions
    if log.parts is not None:
        rows = rows.take(log.parts != 2)
    spec = Spec(len(log.users), len(log.items))
    context = make_context(rows, spec)
    # An epoch of so many steps: the graph stays whole, only its pairs are fewer.
    count = min(steps * batch_size, context.users.shape[0])
    short = context._replace(users=context.users[:count], items=context.items[:count])
    adam = optax.adam(1e-3)
    state = init_state(model, adam, spec, jax.random.key(0))
    start = time.perf_counter()
    run_epoch = (
        make_epoch(model, adam, batch_size=batch_size).lower(state, short).compile()
    )
    compile_seconds = time.perf_counter() - start

    @jax.jit
    def chain(graph, nodes):
        def twice(nodes, _):
            return graph_sum(graph, graph_sum(graph, nodes)), None

        return jax.lax.scan(twice, nodes, length=model.layers)[0]

    num_nodes = spec.num_users + spec.num_items
    nodes = jax.random.normal(jax.random.key(1), (num_nodes, model.dim))
    chain(context.graph, nodes).block_until_ready()
    num_steps = -(-count // batch_size)
    step_seconds, sum_seconds = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        # Nothing may cross between host and device while an epoch runs.
        with jax.transfer_guard("disallow"):
            state, logs = run_epoch(state, short)
            jax.block_until_ready(logs)
        step_seconds.append((time.perf_counter() - start) / num_steps)
        start = time.perf_counter()
        chain(context.graph, nodes).block_until_ready()
        sum_seconds.append((time.perf_counter() - start) / (2 * model.layers))
    step, one = statistics.median(step_seconds), statistics.median(sum_seconds)
    return {
        "source": Path(source).name,
        "nodes": num_nodes,
        "edges": int(context.graph.n_edge[0]),
        "model": dataclasses.asdict(model),
        "batch_size": batch_size,
        "step_seconds": step,
        "step_seconds_all": step_seconds,
        "neighbour_sum_seconds": one,
        "neighbour_sum_seconds_all": sum_seconds,
        "step_over_its_neighbour_sums": step / (2 * model.layers * one),
        "compile_seconds": compile_seconds,
        **environment(),
    }


def main() -> None:
    """Reads options, measures, prints, and writes JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = measure(
        options.dataset,
        LightGCN(
            dim=options.dim, layers=options.layers, objective=BPR(), init_scale=0.1
        ),
        batch_size=options.batch_size,
        steps=options.steps,
        repeats=options.repeats,
    )
    print(
        f"{found['source']}: {found['nodes']:,} nodes, {found['edges']:,} edges, width "
        f"{options.dim}, {options.layers} layers, batch {options.batch_size}\n"
        f"step {1e3 * found['step_seconds']:.1f} ms, neighbour sum "
        f"{1e3 * found['neighbour_sum_seconds']:.1f} ms, step / its "
        f"{2 * options.layers} sums = {found['step_over_its_neighbour_sums']:.2f}, "
        f"compiled in {found['compile_seconds']:.1f} s on {found['device']}"
    )
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
