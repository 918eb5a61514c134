"""What bfloat16 costs in the quality of the lists, and gains in time.

    python -m benchmarks.precision --dataset movielens-small --seeds 5

Trains LightGCN in float32 and in bfloat16 (losses and derivatives; tables, moments and
sums stay float32) from the same seeds, for the same epochs, and ranks for the test
pairs.  Nothing is tuned, so that nothing is chosen by them.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from typing import get_args

import jax
import numpy as np

from benchmarks import problems
from recjax.data import make_context
from recjax.evaluation import evaluate
from recjax.lists import item_lists
from recjax.models import LightGCN
from recjax.training import Training, fit
from recjax.training._epoch import Precision


def main(argv: Sequence[str] | None = None) -> dict:
    """Reads options, measures, and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", required=True, help="as for the other benchmarks")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=2048)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args(argv)
    problem = problems.load(options.dataset)
    context = make_context(problem.train, problem.spec)
    test = problem.test
    targets = item_lists(test.users, test.items, problem.spec.num_users)
    model = LightGCN(dim=options.dim)
    found: dict = {"problem": problem.describe(), "device": str(jax.devices()[0])}
    scores = {}
    for precision in get_args(Precision):
        runs, seconds = [], []
        for seed in range(options.seeds):
            training = Training(
                epochs=options.epochs,
                batch_size=options.batch_size,
                precision=precision,
                seed=seed,
            )
            start = time.perf_counter()
            params = fit(model, context, problem.spec, training=training).params
            seconds.append(time.perf_counter() - start)
            runs.append(evaluate(model, params, context, targets))
        scores[precision] = {name: [run[name] for run in runs] for name in runs[0]}
        found[precision] = {"seconds_a_run": min(seconds)} | {
            name: {"mean": statistics.mean(x), "sd": float(np.std(x, ddof=1))}
            for name, x in scores[precision].items()
        }
    # Of the same seeds: most of what differs between runs falls out.
    found["difference"] = {
        name: {"mean": float(np.mean(gap)), "sd": float(np.std(gap, ddof=1))}
        for name, x in scores["float32"].items()
        for gap in [np.subtract(scores["bfloat16"][name], x)]
    }
    print(json.dumps(found, indent=2))
    return found


if __name__ == "__main__":
    main()
