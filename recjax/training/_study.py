"""Many runs as one compiled program: seeds and settings side by side."""

import functools
import statistics
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recjax.checkpoint import Checkpoints
from recjax.training._epoch import Precision, init_state, make_epoch
from recjax.training._fit import Record, Training, _means, _validate
from recjax.training._study_runs import Held, Progress, Run, restore, save, take
from recjax.training._study_scorer import Bundle, Make, Setting, scorer_of
from recjax.types import Context, ItemLists, Params, Spec


class Study(NamedTuple):
    """What `study` returns.

    Attributes:
      runs: all seeds of the first setting, then those of the second, and so on.
      params: those of each run's best epoch, stacked: leaves ``[R, ...]``.
    """

    runs: list[Run]
    params: Params

    def params_of(self, run: int) -> Params:
        """The parameters of one run, by its place in ``runs``."""
        return take(self.params, run)

    def summary(self) -> list[dict[str, Any]]:
        """For each setting, mean and deviation over its seeds of the best value.

        A setting of which a run was not finite has the mean -inf or NaN, or that of
        the epochs before; ``diverged`` counts such runs.
        """
        rows = []
        # Settings may be equal, and need not hash: by place.
        num_seeds = len({run.seed for run in self.runs})
        for start in range(0, len(self.runs), num_seeds):
            runs = self.runs[start : start + num_seeds]
            values = [run.best_value for run in runs]
            finite = len(values) > 1 and bool(np.isfinite(values).all())
            rows.append(
                {
                    "setting": runs[0].setting,
                    "mean": float(np.mean(values)),
                    "sd": statistics.stdev(values) if finite else None,
                    "best_epochs": [run.best_epoch for run in runs],
                    "diverged": sum(run.stopped == "not finite" for run in runs),
                }
            )
        return rows


def make_study_epoch(
    make: Make,
    *,
    batch_size: int = 2048,
    pairs: Literal["shuffled", "by_user"] = "shuffled",
    precision: Precision = "float32",
) -> jax.stages.Wrapped:
    """One epoch of R runs as one compiled call: `make_epoch` under ``vmap``.

    All runs share the context.  Sums over a graph whose weights they share are taken
    once for all of them, see `recjax.sparse`.

    Args:
      make: a model and an optimizer from a setting; shapes and branches must not
        depend on its scalars.
      batch_size: B.
      pairs: see `Training`.
      precision: see `Training`.

    Returns:
      A jitted function from (states, settings, context), the first two with a leading
      axis R, to the next states and the logs ``[R, steps]``; the states are donated.
    """

    def run_epoch(state, setting, context):
        model, optimizer = make(setting)
        run = make_epoch(
            model, optimizer, batch_size=batch_size, pairs=pairs, precision=precision
        )
        return run(state, context)

    return jax.jit(jax.vmap(run_epoch, in_axes=(0, 0, None)), donate_argnums=0)


def study(
    make: Make,
    settings: Sequence[Setting],
    context: Context,
    spec: Spec,
    *,
    seeds: Sequence[int] = (0,),
    training: Training = Training(),  # noqa: B008 - frozen
    valid: ItemLists | None = None,
    checkpoints: Checkpoints | None = None,
    fingerprint: dict[str, Any] | None = None,
    on_epoch: Callable[[int, list[Record | None]], None] = lambda epoch, records: None,
) -> Study:
    """Trains every setting with every seed, all in one compiled program.

    Each run is what `fit` gives with the model, the optimizer and the seed, to the
    rounding of float32: the same epochs, validation metrics, choice and patience.  A
    run that has stopped keeps its best parameters; when half of the runs have stopped
    the others go on in a smaller program, which is compiled then.  Where `fit` raises,
    because a loss is not finite, the run alone stops, and says so.  With checkpoints,
    a study that was cut off anywhere goes on where it was, and ends bit for bit where
    it would have ended.

    Args:
      make: from a setting to a model and an optax optimizer.  Within it the scalars
        are traced: they may be fields of the model that it computes with (a weight, a
        temperature), and not those that shapes and branches depend on.
      settings: H pytrees of scalars, of one structure.
      context: the training data, prepared where the model asks for it; what is
        prepared must not depend on the settings.
      spec: sizes of the dataset.
      seeds: S different seeds.
      training: settings that all runs share; its learning rate and seed are not used.
      valid: each user's validation items, for choosing the epoch; None trains for all
        epochs and keeps the last.
      checkpoints: where the study is saved, and resumed from.
      fingerprint: what must be the same to resume, beside settings and seeds: what
        ``make`` makes, ``training``, and the data.
      on_epoch: called after every epoch with its number and the records of the runs,
        None for those that have stopped; on resumption with the earlier ones first.

    Returns:
      The runs, and their parameters.

    Raises:
      ValueError: there is no setting or seed, they are not scalars of one structure,
        a seed is repeated, or the checkpoints belong to another study.

    Examples:
      >>> import optax
      >>> from recjax.data import make_context
      >>> from recjax.models import MF
      >>> from recjax.types import Interactions
      >>> spec = Spec(num_users=2, num_items=3)
      >>> train = Interactions(np.array([0, 0, 1]), np.array([0, 1, 2]))
      >>> def make(setting):
      ...     return MF(dim=2, l2=setting["l2"]), optax.adam(setting["rate"])
      >>> found = study(
      ...     make,
      ...     [{"l2": 0.0, "rate": 0.1}, {"l2": 1.0, "rate": 0.1}],
      ...     make_context(train, spec),
      ...     spec,
      ...     seeds=(0, 1),
      ...     training=Training(epochs=3),
      ... )
      >>> [(run.setting["l2"], run.seed) for run in found.runs]
      [(0.0, 0), (0.0, 1), (1.0, 0), (1.0, 1)]
      >>> found.params["nodes"].shape
      (4, 5, 2)
    """
    named, stacked, numbers = _stack(settings, seeds)
    states = jax.jit(
        jax.vmap(
            lambda setting, seed: init_state(
                *make(setting), spec, key=jax.random.key(seed)
            )
        )
    )(stacked, numbers)
    run_epoch = make_study_epoch(
        make,
        batch_size=training.batch_size,
        pairs=training.pairs,
        precision=training.precision,
    )
    embed = jax.jit(
        jax.vmap(
            lambda setting, params, context: make(setting)[0].embed(params, context),
            in_axes=(0, 0, None),
        )
    )
    runs, places = [Progress(*of) for of in named], np.arange(len(named))
    # Donation would overwrite what `best` still points at.
    held = Held(0, runs, places, states, best=jax.tree.map(jnp.copy, states.params))
    fingerprint = fingerprint or {}
    if checkpoints is not None:
        held = restore(checkpoints, held, fingerprint)
    done, runs, places, states, best = held
    for epoch in range(1, done + 1):
        on_epoch(epoch, [run.record_of(epoch) for run in runs])
    stacked = take(stacked, places)
    for epoch in range(done + 1, training.epochs + 1):
        for run in runs:
            if not run.goes_on(training):
                run.stopped = run.stopped or "patience"
        going = np.array([runs[place].stopped is None for place in places])
        if not going.any():
            break
        if 2 * going.sum() <= len(places):
            states, stacked = take((states, stacked), np.flatnonzero(going))
            places = places[going]
        states, logs = run_epoch(states, stacked, context)
        logs = jax.device_get(logs)
        for row, place in enumerate(places):
            if not (runs[place].stopped or np.isfinite(logs["loss"][row]).all()):
                runs[place].stopped = "not finite"
        look = valid is not None and (
            epoch % training.evaluate_every == 0 or epoch == training.epochs
        )
        embedded = embed(stacked, states.params, context) if look else None
        better = np.zeros(len(places), bool)
        for row, place in enumerate(places):
            run = runs[place]
            if run.stopped:
                continue
            scores = {}
            if look and valid is not None:
                bundle = take(Bundle(stacked, states.params, embedded), row)
                scores = _validate(
                    scorer_of(make, bundle), bundle, context, valid, training
                )
            better[row] = run.note(epoch, scores, training, valid is None)
            means = _means({name: values[row] for name, values in logs.items()})
            run.records.append(Record(epoch, means, scores, run.best_epoch))
        if better.any():
            best = _keep(best, states.params, places, better)
        on_epoch(epoch, [run.record_of(epoch) for run in runs])
        if checkpoints is not None and (
            epoch % training.checkpoint_every == 0
            or epoch == training.epochs
            or not any(run.goes_on(training) for run in runs)
        ):
            save(checkpoints, Held(epoch, runs, places, states, best), fingerprint)
    if checkpoints is not None:
        checkpoints.wait()
    return Study([run.finish() for run in runs], best)


@functools.partial(jax.jit, donate_argnums=0)
def _keep(best: Params, params: Params, places: jax.Array, better: jax.Array) -> Params:
    """The parameters of the runs that are better, and the old ones of the others."""

    def choose(old, new):
        where = better.reshape(better.shape + (1,) * (new.ndim - 1))
        return old.at[places].set(jnp.where(where, new, old[places]))

    return jax.tree.map(choose, best, params)


def _stack(
    settings: Sequence[Setting], seeds: Sequence[int]
) -> tuple[list[tuple[Setting, int]], Setting, jax.Array]:
    """Settings and seeds of all runs: as given, and stacked on device."""
    settings, seeds = list(settings), [int(seed) for seed in seeds]
    if not settings or not seeds:
        raise ValueError(
            f"{len(settings)} settings and {len(seeds)} seeds: give one of each"
        )
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds {seeds} are not all different: runs would be equal")
    kinds = {jax.tree.structure(setting) for setting in settings}
    shapes = {np.shape(leaf) for leaf in jax.tree.leaves(settings)}
    if len(kinds) > 1 or shapes - {()}:
        raise ValueError(
            f"settings must be scalars in one structure, got {settings[0]} and others"
        )
    named = [(setting, seed) for setting in settings for seed in seeds]
    stacked = jax.tree.map(
        lambda *leaves: jnp.asarray(np.stack(leaves)),
        *(setting for setting, _ in named),
    )
    return named, stacked, jnp.asarray([seed for _, seed in named])
