"""The loop around the epochs: validation, early stopping, checkpoints."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from recjax.checkpoint import Checkpoints
from recjax.evaluation import METRICS, evaluate
from recjax.graphs import SampleBy, add_edge_mass
from recjax.optimizers import lazy_adam
from recjax.phases import Phases
from recjax.sharding import Parallel, any_process
from recjax.training._epoch import Precision, State, init_state, make_epoch
from recjax.training._local import Sampled
from recjax.types import Context, ItemLists, Params, Recommender, Scorer, Spec


@dataclasses.dataclass(frozen=True)
class Training:
    """Settings of a training run."""

    epochs: int = 100
    """Passes over the training pairs."""
    batch_size: int = 2048
    """Training pairs a step."""
    learning_rate: float = 1e-3
    """Of Adam."""
    decay: float = 0.0
    """Share of the epochs, at the end, in which the learning rate falls to 0."""
    pairs: Literal["shuffled", "by_user"] = "shuffled"
    """Every pair once an epoch, or pairs drawn with all users equally likely."""
    negative_power: float = 0.0
    """Negatives are drawn in proportion to an item's count to this power."""
    fanouts: tuple[int, ...] | None = None
    """Neighbours drawn for a node in each hop, as many hops as the model has layers; by
    default the model propagates over the whole graph."""
    sample_by: SampleBy = "uniform"
    """Every neighbour alike, or in proportion to the weights of the edges."""
    capacity: int | None = None
    """With fanouts and a mesh: rows that a device may ask of another one in a step.  By
    default as many as can be needed; the loss is NaN where there were more."""
    select_by: str = "ndcg@20"
    """Validation metric that chooses the epoch and stops the run."""
    evaluate_every: int = 1
    """Epochs between two looks at the validation part."""
    patience: int = 10
    """Looks without improvement before the run stops."""
    checkpoint_every: int = 1
    """Epochs between two checkpoints."""
    precision: Precision = "float32"
    """Of losses and their derivatives, float32 or bfloat16; tables, moments and sums
    stay float32."""
    seed: int = 0
    """Of parameters, order, negatives and dropout."""

    def __post_init__(self) -> None:
        """Refuses what could only fail later."""
        for name in ("epochs", "batch_size", "evaluate_every", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} must be at least 1")
        if self.checkpoint_every < 1:
            raise ValueError(
                f"checkpoint_every {self.checkpoint_every} must be at least 1"
            )
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(f"precision {self.precision!r}: use float32 or bfloat16")
        if not 0 <= self.decay <= 1:
            raise ValueError(f"decay {self.decay} must be a share, from 0 to 1")
        if self.fanouts is not None and min(self.fanouts, default=1) < 1:
            raise ValueError(f"fanouts {self.fanouts} must be at least 1 each")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate {self.learning_rate} must be positive")
        name, _, k = self.select_by.partition("@")
        if name not in METRICS or (name != "auc" and not (k.isdecimal() and int(k))):
            raise ValueError(
                f"select_by {self.select_by!r} must be a metric and a cutoff, such as "
                f"'ndcg@20'; metrics are {', '.join(METRICS)}"
            )


def make_optimizer(
    training: Training, num_rows: int, learning_rate: Any = None
) -> optax.GradientTransformation:
    """Adam with the learning rate of the settings, which falls in a straight line.

    With fanouts it is `recjax.optimizers.lazy_adam`.

    Args:
      training: the settings.
      num_rows: training pairs, of which the steps follow.
      learning_rate: in place of that of the settings, may be traced.

    Returns:
      The optimizer; its state counts the steps.

    Examples:
      >>> adam = make_optimizer(Training(epochs=5, decay=0.2), num_rows=10_000)
    """
    rate = training.learning_rate if learning_rate is None else learning_rate
    if training.decay:
        total = training.epochs * _steps(training, num_rows)
        falling = max(1, round(training.decay * total))
        rate = optax.linear_schedule(rate, 0.0, falling, total - falling)
    return optax.adam(rate) if training.fanouts is None else lazy_adam(rate)


def _steps(training: Training, num_rows: int) -> int:
    """Gradient steps of an epoch."""
    return -(-num_rows // training.batch_size)


class Record(NamedTuple):
    """What is known after an epoch.

    Attributes:
      epoch: epochs done.
      losses: mean over the epoch's rows of the loss and of what the model logs.
      valid: validation metrics, empty where the epoch was not evaluated.
      best_epoch: the best epoch so far; 0 before the first look.
    """

    epoch: int
    losses: dict[str, float]
    valid: dict[str, float]
    best_epoch: int


class Result(NamedTuple):
    """What `fit` returns.

    Attributes:
      params: of the best epoch (of the last one without validation).
      state: after the last epoch.
      best_epoch: where `params` come from.
      records: one an epoch, those before a resumption included.
      stopped: ``"epochs"`` (all done), ``"patience"`` or ``"interrupted"``.
      steps: gradient steps an epoch.
    """

    params: Params
    state: State
    best_epoch: int
    records: list[Record]
    stopped: str
    steps: int


def fit(
    model: Recommender,
    context: Context,
    spec: Spec,
    *,
    training: Training = Training(),
    valid: ItemLists | None = None,
    optimizer: optax.GradientTransformation | None = None,
    checkpoints: Checkpoints | None = None,
    fingerprint: dict[str, Any] | None = None,
    on_epoch: Callable[[Record], None] = lambda record: None,
    watch: Callable[[int, Params], None] = lambda epoch, params: None,
    should_stop: Callable[[], bool] = lambda: False,
    phases: Phases | None = None,
    parallel: Parallel | None = None,
) -> Result:
    """Trains until the validation metric stops improving.

    Nothing here can see the test part: the context holds training pairs and `valid`
    the validation items.  With checkpoints, a run that was cut off anywhere goes on
    where it was, and ends bit for bit where it would have ended.

    Args:
      model: the model.
      context: the training data, prepared where the model asks for it
        (`recjax.types.prepare`).
      spec: sizes of the dataset.
      training: settings.
      valid: each user's validation items, for choosing the epoch; None trains for all
        epochs and keeps the last.
      optimizer: from optax; None for `make_optimizer`.
      checkpoints: where the run is saved, and resumed from.
      fingerprint: what must be the same to resume, such as configuration and data.
      on_epoch: called with each record; on resumption with the earlier ones first.
      watch: called with the number and the parameters of each epoch, which are gone
        after the call; nothing that it does can change the run.
      should_stop: asked after every epoch; True, in any process, saves and returns.
      phases: collects seconds of step, evaluate and checkpoint.
      parallel: how the run is spread over devices; the context lies on them, see
        `recjax.sharding.shard_context`.  A run may be resumed on others.

    Returns:
      The best parameters, the last state and the history.

    Raises:
      FloatingPointError: a loss is not finite; names the epoch and the step.
      ValueError: the checkpoints belong to another run.
    """
    phases = phases or Phases()
    num_rows = context.users.shape[0]
    optimizer = optimizer or make_optimizer(training, num_rows)
    mesh = None if parallel is None else parallel.mesh
    key = jax.random.key(training.seed)
    state = init_state(model, optimizer, spec, key, mesh=mesh)
    best, best_value, best_epoch, waited = state.params, -np.inf, 0, 0
    records: list[Record] = []
    fingerprint = {"fingerprint": fingerprint or {}}

    if checkpoints is not None:
        restored = checkpoints.restore(_saved(state, best), expect=fingerprint)
        if restored is not None:
            saved = restored.tree["state"]
            state = saved._replace(key=jax.random.wrap_key_data(saved.key))
            best = restored.tree["best"]
            best_value = restored.record["best_value"]
            best_epoch, waited = (
                restored.record["best_epoch"],
                restored.record["waited"],
            )
            records = [Record(*record) for record in restored.record["records"]]
            for record in records:
                on_epoch(record)
    sampled = None
    if training.fanouts is not None:
        sampled = Sampled(
            training.fanouts, training.sample_by, capacity=training.capacity
        )
    run_epoch = make_epoch(
        model,
        optimizer,
        batch_size=training.batch_size,
        pairs=training.pairs,
        precision=training.precision,
        parallel=parallel,
        sampled=sampled,
    )
    if training.fanouts is not None and training.sample_by == "weight":
        context = context._replace(graph=add_edge_mass(context.graph))
    # Donation would overwrite what `best` still points at.
    best = jax.tree.map(jnp.copy, best)
    stopped = "epochs"
    for epoch in range(len(records) + 1, training.epochs + 1):
        if waited >= training.patience:
            stopped = "patience"
            break
        with phases("step"):
            state, logs = run_epoch(state, context)
            logs = jax.device_get(logs)
        _check_finite(logs["loss"], epoch)
        scores: dict[str, float] = {}
        if valid is not None and (
            epoch % training.evaluate_every == 0 or epoch == training.epochs
        ):
            with phases("evaluate"):
                scores = _validate(model, state.params, context, valid, training, mesh)
            if scores[training.select_by] > best_value:
                best_value, best_epoch, waited = scores[training.select_by], epoch, 0
                best = jax.tree.map(jnp.copy, state.params)
            else:
                waited += 1
        elif valid is None:
            best, best_epoch = state.params, epoch
        watch(epoch, state.params)
        records.append(Record(epoch, _means(logs), scores, best_epoch))
        on_epoch(records[-1])
        # A signal reaches one process before another.
        stop = any_process(should_stop())
        if checkpoints is not None and (
            stop
            or epoch % training.checkpoint_every == 0
            or epoch == training.epochs
            or waited >= training.patience
        ):
            with phases("checkpoint"):
                checkpoints.save(
                    epoch,
                    _saved(state, best),
                    fingerprint
                    | {
                        "best_value": best_value,
                        "best_epoch": best_epoch,
                        "waited": waited,
                        "records": [list(record) for record in records],
                    },
                )
        if stop:
            stopped = "interrupted"
            break
    if checkpoints is not None:
        with phases("checkpoint"):
            checkpoints.wait()
    if valid is None:
        # Theirs alone: whoever trains on donates the state.
        best = jax.tree.map(jnp.copy, best)
    steps = _steps(training, num_rows)
    return Result(best, state, best_epoch, records, stopped, steps)


def restore_params(
    model: Recommender,
    spec: Spec,
    checkpoints: Checkpoints,
    *,
    training: Training = Training(),
    optimizer: optax.GradientTransformation | None = None,
    fingerprint: dict[str, Any] | None = None,
) -> tuple[Params, int]:
    """The best parameters of a run, from its checkpoints.

    Args:
      model: the model that was trained.
      spec: sizes of the dataset.
      checkpoints: of the run.
      training: its settings.
      optimizer: as for `fit`.
      fingerprint: as for `fit`.

    Returns:
      The parameters, and the epoch they come from.

    Raises:
      ValueError: there is no checkpoint yet, or it belongs to another run.
    """
    # Its state has the same form whatever the number of steps.
    optimizer = optimizer or make_optimizer(training, num_rows=1)

    def like():
        state = init_state(model, optimizer, spec, jax.random.key(0))
        return _saved(state, state.params)

    expect = {"fingerprint": fingerprint or {}}
    restored = checkpoints.restore(jax.eval_shape(like), expect=expect)
    if restored is None:
        raise ValueError("the run has no checkpoint yet: train for an epoch first")
    return restored.tree["best"], restored.record["best_epoch"]


def _saved(state: State, best: Params) -> dict[str, Any]:
    """The arrays of a checkpoint."""
    return {
        "state": state._replace(key=jax.random.key_data(state.key)),
        "best": best,
    }


def _check_finite(losses: np.ndarray, epoch: int) -> None:
    bad = np.flatnonzero(~np.isfinite(losses))
    if bad.size:
        raise FloatingPointError(
            f"the loss is {losses[bad[0]]} from step {bad[0] + 1} of {len(losses)} in "
            f"epoch {epoch} on ({bad.size} steps of it are not finite): lower the "
            "learning rate or look for values in the features that are too large"
        )


def _means(logs: dict[str, np.ndarray]) -> dict[str, float]:
    rows = logs["rows"].astype(np.float64)
    total = max(rows.sum(), 1.0)
    return {
        name: float(np.sum(values.astype(np.float64) * rows) / total)
        for name, values in logs.items()
        if name != "rows"
    }


def _validate(
    model: Scorer,
    params: Any,
    context: Context,
    valid: ItemLists,
    training: Training,
    mesh: Mesh | None = None,
) -> dict[str, float]:
    name, _, k = training.select_by.partition("@")
    metrics = tuple(dict.fromkeys(("recall", "ndcg", name)))
    return evaluate(
        model,
        params,
        context,
        valid,
        ks=(int(k or 20),),
        metrics=metrics,
        mesh=mesh,
    )
