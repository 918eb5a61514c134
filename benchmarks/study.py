r"""Many training runs as one compiled program, against the same runs one by one.

    python -m benchmarks.study --dataset ../shared/data/tiktok --out FILE.json

LightGCN with softmax, so many seeds of so many settings of learning rate, temperature
and L2.  Timed is an epoch of all runs, or its first steps: as one program, one after
the other with the settings as arguments of one compiled function, and one after the
other with a compiled function a setting, as `recjax.training.fit` would.  The first
losses of every run must be equal to those of one program before anything is timed.
Validation is the same for all of them, and left out; compilation stands in a column of
its own.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import command, timing
from benchmarks.command import Option, Settings
from benchmarks.problems import Problem
from recjax.data import make_context
from recjax.models import LightGCN
from recjax.objectives import Softmax
from recjax.training import init_state, make_epoch, make_study_epoch

# Losses of the first epoch, one program against serial runs; rounding adds up a little.
_RTOL = 1e-5


def measure(
    problem: Problem,
    settings: Settings,
    *,
    seeds: int = 4,
    grid: int = 2,
    layers: int = 3,
    batch_size: int = 2048,
    steps: int = 10,
) -> dict:
    """Times epochs of many runs.

    Args:
      problem: its training pairs are trained on.
      settings: of the run.
      seeds: S.
      grid: H settings.
      layers: L.
      batch_size: B.
      steps: of one timed epoch, at most.

    Returns:
      The results, see `benchmarks.command.results`.

    Raises:
      ValueError: losses differ, a number is not positive, or a peer or another type
        than float32 is asked for.
    """
    if min(seeds, grid, layers, batch_size, steps) < 1:
        raise ValueError(
            f"seeds {seeds}, grid {grid}, layers {layers}, batch_size {batch_size} and "
            f"steps {steps} must be at least 1"
        )
    if settings.peers or settings.dtype != "float32":
        raise ValueError("a study is timed without peers, and in float32")
    spec = problem.spec
    context = make_context(problem.train, spec)
    # The graph stays whole, only the pairs of an epoch are fewer.
    count = min(steps * batch_size, problem.train.num_rows)
    steps = -(-count // batch_size)
    short = context._replace(users=context.users[:count], items=context.items[:count])

    def make(setting):
        objective = Softmax(temperature=setting["temperature"])
        model = LightGCN(
            dim=settings.dim, layers=layers, objective=objective, l2=setting["l2"]
        )
        return model, optax.adam(setting["learning_rate"])

    chosen = [_setting(place) for place in range(grid)]
    runs = [(setting, seed) for setting in chosen for seed in range(seeds)]
    stacked = jax.tree.map(
        lambda *leaves: jnp.asarray(np.stack(leaves)), *(setting for setting, _ in runs)
    )

    def start(setting, seed):
        return init_state(*make(setting), spec, jax.random.key(seed))

    seeds_of_runs = jnp.asarray([seed for _, seed in runs])
    all_states = jax.jit(jax.vmap(start))(stacked, seeds_of_runs)
    together = make_study_epoch(make, batch_size=batch_size)

    def one_program():
        nonlocal all_states
        with jax.transfer_guard("disallow"):
            all_states, logs = together(all_states, stacked, short)
        return logs["loss"]

    @jax.jit
    def traced_epoch(state, setting, context):
        return make_epoch(*make(setting), batch_size=batch_size)(state, context)

    on_device = [jax.tree.map(lambda x, r=r: x[r], stacked) for r in range(len(runs))]
    by_argument = Serial(
        [start(setting, seed) for setting, seed in runs],
        [
            lambda state, setting=setting: traced_epoch(state, setting, short)
            for setting in on_device
        ],
    )
    # One for each setting, as its seeds would share it.
    compiled = [make_epoch(*make(setting), batch_size=batch_size) for setting in chosen]
    by_setting = Serial(
        [start(setting, seed) for setting, seed in runs],
        [
            lambda state, epoch=compiled[place // seeds]: epoch(state, short)
            for place in range(len(runs))
        ],
    )
    cases = {
        f"one program of {len(runs)} runs": one_program,
        "one by one, settings as arguments": by_argument,
        "one by one, compiled for each setting": by_setting,
    }
    # Compared in the first call of each, which starts from the same states.
    times = timing.interleave(cases, repeats=settings.repeats, rtol=_RTOL)
    rows = timing.rows("epoch", times, work={"interactions": len(runs) * count})
    ratio = rows[1]["over_ours"]
    return command.results(
        "study",
        settings,
        rows,
        {
            "seeds": seeds,
            "grid": grid,
            "layers": layers,
            "batch_size": batch_size,
            "steps": steps,
        },
        serial_over_one_program=ratio,
        notes=[
            f"{len(runs)} runs one by one take {ratio:.2f} times one program, without "
            "compilation."
        ],
        problem=problem.describe(),
    )


class Serial:
    """Runs that take their epoch one after the other; a call gives their losses."""

    def __init__(self, states: list[Any], epochs: list[Any]) -> None:
        """With the first states, and the epoch of each run."""
        self._states, self._epochs = states, epochs

    def __call__(self) -> jax.Array:
        """Losses ``[R, steps]`` of the next epoch."""
        losses = []
        for place, epoch in enumerate(self._epochs):
            self._states[place], logs = epoch(self._states[place])
            losses.append(logs["loss"])
        return jnp.stack(losses)


def _setting(place: int) -> dict[str, float]:
    """The settings of a grid: near each other, as those of a search are."""
    return {
        "learning_rate": 1e-3 * (1 + place),
        "temperature": 0.15 + 0.05 * (place % 4),
        "l2": 1e-4 / (1 + place // 4),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Reads options, measures, prints, and writes JSON where asked."""
    own = (
        Option("seeds", 4, "seeds S"),
        Option("grid", 2, "settings H"),
        Option("layers", 3, "propagations L"),
        Option("batch_size", 2048, "training pairs of a step"),
        Option("steps", 10, "steps of one timed epoch, at most"),
    )
    command.run(measure, __doc__, argv, own=own)


if __name__ == "__main__":
    main()
