"""What checkpoints cost the loop that trains.

    python -m benchmarks.save_cost --dataset ../shared/data/gowalla --epochs 5

Trains LightGCN with a checkpoint after every epoch.  The loop waits while a save copies
the arrays and hands them to Orbax, which writes them while the next epoch runs; the
share is that wait, the last save's included, over the seconds of steps and saves.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence

from benchmarks import problems
from recjax.checkpoint import Checkpoints
from recjax.data import make_context
from recjax.models import LightGCN
from recjax.phases import Phases
from recjax.sharding import pad_spec, read_parallel, shard_context
from recjax.training import Training, fit


def main(argv: Sequence[str] | None = None) -> dict:
    """Reads options, measures, and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", required=True, help="as for the other benchmarks")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=2048)
    parser.add_argument("--parallel", default="none", help="as for recjax train")
    options = parser.parse_args(argv)
    problem = problems.load(options.dataset)
    parallel = read_parallel(options.parallel)
    spec = pad_spec(problem.spec, 64)
    context = shard_context(make_context(problem.train, spec), parallel)
    training = Training(epochs=options.epochs, batch_size=options.batch_size)
    model = LightGCN(dim=options.dim)
    with tempfile.TemporaryDirectory() as folder, Phases() as phases:
        with Checkpoints(folder) as checkpoints:
            fit(
                model,
                context,
                spec,
                training=training,
                checkpoints=checkpoints,
                phases=phases,
                parallel=parallel,
            )
    step, save = phases.seconds["step"], phases.seconds["checkpoint"]
    found = {
        "problem": problem.describe(),
        "epochs": options.epochs,
        "step_seconds": round(step, 3),
        "save_seconds": round(save, 3),
        "share_of_the_loop": round(save / (step + save), 4),
    }
    print(json.dumps(found, indent=2))
    return found


if __name__ == "__main__":
    main()
