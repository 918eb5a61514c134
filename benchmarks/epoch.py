r"""A whole training epoch of models with their default settings, side by side.

    python -m benchmarks.epoch --dataset ../shared/data/tiktok \
        --models lightgcn,diffmm --batch-size 1024 --out FILE.json

Timed is what `recjax.training.fit` runs between two looks at the validation part: the
shuffled pairs, negatives, gradients and Adam of one compiled scan, and whatever a model
renews once an epoch, such as the graphs of DiffMM.  Models that read item features get
those of the dataset.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import optax

from benchmarks import command, timing
from benchmarks.command import Option, Settings
from benchmarks.problems import Problem
from recjax.data import make_context
from recjax.models import MODELS
from recjax.training import init_state, make_epoch
from recjax.types import Context, Recommender, Spec, prepare


def measure(
    problem: Problem,
    settings: Settings,
    *,
    models: str = "lightgcn",
    batch_size: int = 2048,
) -> dict:
    """Times epochs.

    Args:
      problem: its training pairs are trained on.
      settings: of the run; the width is the models' own.
      models: names in `recjax.models.MODELS`, with commas between them.
      batch_size: B.

    Returns:
      The results, see `benchmarks.command.results`.

    Raises:
      ValueError: a model is unknown, is not trained, or lacks the features that it
        reads; a peer or another type than float32 is asked for.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size {batch_size} must be at least 1")
    if settings.peers or settings.dtype != "float32":
        raise ValueError("epochs are timed without peers, and in float32")
    names = list(filter(None, models.split(",")))
    trained = [name for name, kind in MODELS.items() if not hasattr(kind, "solve")]
    wrong = [name for name in names if name not in trained]
    if wrong or not names:
        raise ValueError(f"models {models!r}: give names out of {', '.join(trained)}")
    spec = problem.spec._replace(
        features=tuple((m, x.values.shape[1]) for m, x in problem.features.items())
    )
    context = make_context(problem.train, spec, features=problem.features)
    # Adam and the batch as in `recjax.training`, whose epoch this is.
    cases = {name: _epochs(MODELS[name](), context, spec, batch_size) for name in names}
    times = timing.interleave(cases, repeats=settings.repeats)
    count = problem.train.num_rows
    return command.results(
        "epoch",
        settings,
        timing.rows("epoch", times, work={"interactions": count}),
        {"batch_size": batch_size, "models": names},
        problem=problem.describe(),
    )


def _epochs(
    model: Recommender, context: Context, spec: Spec, batch_size: int
) -> Callable[[], Any]:
    """A function whose calls are the epochs of one run."""
    context = prepare(model, context)
    adam = optax.adam(1e-3)
    run_epoch = make_epoch(model, adam, batch_size=batch_size)
    state = init_state(model, adam, spec, jax.random.key(0))

    def epoch():
        nonlocal state
        state, logs = run_epoch(state, context)
        return logs["loss"]

    return epoch


def main(argv: Sequence[str] | None = None) -> None:
    """Reads options, measures, prints, and writes JSON where asked."""
    own = (
        Option("models", "lightgcn", "names of trained models, commas between"),
        Option("batch_size", 2048, "training pairs of a step"),
    )
    command.run(measure, __doc__, argv, own=own, repeats=3)


if __name__ == "__main__":
    main()
