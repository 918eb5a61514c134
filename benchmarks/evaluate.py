"""Full ranking of every user against the whole catalogue, seen items masked.

    python -m benchmarks.evaluate --dataset ../shared/data/gowalla --out FILE.json

Vectors are random: the time does not depend on what they hold.  The first evaluation
compiles and is reported apart; the median of the others counts.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import jax
import numpy as np

from recjax.data import make_context, read
from recjax.evaluation import evaluate
from recjax.lists import item_lists
from recjax.models import MF
from recjax.phases import Phases
from recjax.run_folder import environment
from recjax.types import Spec


def measure(source: str, *, dim: int, batch_size: int, repeats: int) -> dict:
    """Times evaluations of a test part.

    Args:
      source: anything that `recjax.data.read` reads, with a test part.
      dim: width of the vectors.
      batch_size: users ranked at a time.
      repeats: timed evaluations.

    Returns:
      Seconds, users a second, and what ran.
    """
    log = read(source)
    rows, test = log.interactions, np.asarray(log.parts) == 2
    spec = Spec(len(log.users), len(log.items))
    context = make_context(rows.take(~test), spec)
    targets = item_lists(rows.users[test], rows.items[test], spec.num_users)
    model = MF(dim=dim)
    params = model.init(jax.random.key(0), spec)

    def run() -> float:
        start = time.perf_counter()
        evaluate(
            model,
            params,
            context,
            targets,
            metrics=("recall", "ndcg"),
            batch_size=batch_size,
        )
        return time.perf_counter() - start

    with Phases() as phases:
        first = run()
    seconds = [run() for _ in range(repeats)]
    users = int(np.sum(np.diff(targets.pointer) > 0))
    median = statistics.median(seconds)
    return {
        "source": Path(source).name,
        "users": users,
        "items": spec.num_items,
        "dim": dim,
        "batch_size": batch_size,
        "seconds": median,
        "seconds_all": seconds,
        "first_seconds": first,
        "compile_seconds": phases.seconds["compile"],
        "users_per_second": users / median,
        **environment(),
    }


def main() -> None:
    """Reads options, measures, prints, and writes JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = measure(
        options.dataset,
        dim=options.dim,
        batch_size=options.batch_size,
        repeats=options.repeats,
    )
    memory = found["peak_memory_bytes"] / 2**30
    print(
        f"{found['source']}: {found['users']:,} users x {found['items']:,} items, "
        f"width {options.dim}: {found['seconds']:.2f} s, "
        f"{found['users_per_second']:,.0f} users/s; first {found['first_seconds']:.2f} "
        f"s; on {found['device']}; peak memory {memory:.2f} GiB"
    )
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
