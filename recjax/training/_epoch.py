"""The state of training, and one epoch of it as one compiled scan."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from recjax.optimizers import apply_updates
from recjax.reduce import BATCH_AXIS
from recjax.sampling import epoch_rows
from recjax.sharding import Parallel, spec_of, table_shardings, update_rows
from recjax.training._batches import draw_batch, own_rows
from recjax.training._local import Sampled, draw_share, share_gradient
from recjax.training._turns import (
    Turn,
    add_logs,
    init_optimizer,
    join_turns,
    learn_first,
    split_turns,
)
from recjax.types import Context, Params, Recommender, Spec

Precision: TypeAlias = Literal["float32", "bfloat16"]

# Negatives that an epoch may draw before its steps, 256 MiB, and how many at a time.
# An accelerator waits for the host in every round of the search for a negative, so
# that the rounds of many steps are better done together.
_DRAWN_AHEAD = 2**26
_DRAWN_TOGETHER = 2**20


class State(NamedTuple):
    """All that changes while a model trains.

    Attributes:
      params: the model's.
      opt_state: the optimizer's.
      key: the PRNG key of the run; epoch e uses ``fold_in(key, e)``.
      epoch: ``[]`` int32, epochs done.
    """

    params: Params
    opt_state: optax.OptState
    key: jax.Array
    epoch: jax.Array


def init_state(
    model: Recommender,
    optimizer: optax.GradientTransformation,
    spec: Spec,
    key: jax.Array,
    *,
    mesh: Mesh | None = None,
) -> State:
    """Fresh parameters and optimizer state.

    Args:
      model: the model.
      optimizer: from optax.
      spec: sizes of the dataset.
      key: a PRNG key.
      mesh: where they lie, see `recjax.sharding.table_shardings`; they are made there,
        so that no device ever holds a whole table.

    Returns:
      The state before the first epoch.

    Examples:
      >>> import jax, optax
      >>> from recjax.models import MF
      >>> from recjax.types import Spec
      >>> state = init_state(MF(dim=2), optax.adam(0.1), Spec(3, 4), jax.random.key(0))
      >>> state.params["nodes"].shape, int(state.epoch)
      ((7, 2), 0)
    """

    def init(key):
        init_key, run_key = jax.random.split(key)
        params = model.init(init_key, spec)
        opt_state = init_optimizer(model, optimizer, params)
        return State(params, opt_state, run_key, jnp.zeros((), jnp.int32))

    if mesh is None:
        return init(key)
    where = table_shardings(jax.eval_shape(init, key), spec, mesh)
    # As numbers, which any device of any process may take.
    words, kind = np.asarray(jax.random.key_data(key)), jax.random.key_impl(key)

    def make(words):
        return init(jax.random.wrap_key_data(words, impl=kind))

    return jax.jit(make, out_shardings=where)(words)


def make_epoch(
    model: Recommender,
    optimizer: optax.GradientTransformation,
    *,
    batch_size: int = 2048,
    pairs: Literal["shuffled", "by_user"] = "shuffled",
    precision: Precision = "float32",
    parallel: Parallel | None = None,
    sampled: Sampled | None = None,
) -> Callable[[State, Context], tuple[State, dict[str, jax.Array]]]:
    """One pass over the training pairs as one compiled call: a scan over its steps.

    Shuffling, negatives, gradients and updates all happen on the device; the given
    state is donated.

    Args:
      model: the model; one with a ``first_loss`` trains a part of itself before all
        else, and one with a ``refresh`` then makes the epoch's context, see
        `recjax.types.AlternatingRecommender` and `RefreshingRecommender`.
      optimizer: from optax.
      batch_size: B.
      pairs: see `Training`.
      precision: in which losses and their derivatives are computed; parameters, moments
        and sums stay float32, and so does the part that learns first.
      parallel: how the step is spread over devices, on which the state and the context
        lie (`init_state`, `recjax.sharding.shard_context`).  The axis ``data`` splits
        the rows of each batch.  With pmap every device has its own rows
        (`recjax.types.SplitRecommender`) and takes the mean of all gradients.  What is
        drawn and computed is the same on any devices, but for the order of sums.
      sampled: draw neighbours for each batch, in place of propagating over the whole
        graph.  The model must be a `recjax.types.LocalRecommender`, and the optimizer
        one of `recjax.optimizers`: a step then takes as long on a graph of any size.

    Returns:
      A jitted function from (state, context) to the next state and the logs of each
      step: ``loss``, ``rows`` (those that count) and what the model reports, each
      ``[steps]``.

    Examples:
      >>> import jax, numpy as np, optax
      >>> from recjax.data.graph import make_context
      >>> from recjax.models import MF
      >>> from recjax.types import Interactions, Spec
      >>> spec = Spec(num_users=2, num_items=3)
      >>> train = Interactions(np.array([0, 0, 1]), np.array([0, 1, 2]))
      >>> model, adam = MF(dim=2), optax.adam(0.1)
      >>> run_epoch = make_epoch(model, adam, batch_size=2)
      >>> state = init_state(model, adam, spec, jax.random.key(0))
      >>> state, logs = run_epoch(state, make_context(train, spec))
      >>> int(state.epoch), logs["rows"].tolist()
      (1, [2.0, 1.0])
    """

    def loss_of(params, context, batch, key):
        if precision == "float32":
            return model.loss(params, context, batch, key)
        # The derivative of the cast is a cast: gradients come back as float32.
        params, features = _narrow((params, context.features), precision)
        return model.loss(params, context._replace(features=features), batch, key)

    axis, mesh = None, None if parallel is None else parallel.mesh
    if sampled is not None:
        sampled.check(model)
        if parallel is not None and parallel.pmap:
            raise ValueError("neighbours are drawn on one device or over a mesh")
    if parallel is not None and parallel.pmap:
        axis = BATCH_AXIS if getattr(model, "splits_batch", False) else "devices"

    def run_epoch(state: State, context: Context, device: jax.Array | None = None):
        num_rows = context.users.shape[0]
        order_key, steps_key = jax.random.split(
            jax.random.fold_in(state.key, state.epoch)
        )
        rows, weight = epoch_rows(order_key, num_rows, batch_size)
        num_steps = rows.shape[0]
        first, rest = split_turns(model, state.params, state.opt_state)
        # Keys by numbers that no step has.
        key = jax.random.fold_in(steps_key, num_steps + 1)
        first, first_logs = learn_first(
            model, optimizer, first, rest.params, context, key
        )
        if hasattr(model, "refresh"):
            params, _ = join_turns(first, rest)
            key = jax.random.fold_in(steps_key, num_steps)
            context = model.refresh(params, context, key)

        def draw(xs):
            batch, loss_key = draw_batch(
                steps_key, context, *xs, num_negatives=model.num_negatives, pairs=pairs
            )
            if parallel is not None and not parallel.pmap:
                rows = NamedSharding(parallel.mesh, PartitionSpec("data"))
                batch = jax.lax.with_sharding_constraint(batch, rows)
            return batch, loss_key

        def step(turn, xs):
            params, opt_state = turn
            batch, loss_key = xs if is_ahead else draw(xs)
            num_rows = jnp.sum(batch.weight)
            if axis == BATCH_AXIS and device is not None:
                batch = own_rows(batch, device)
            if sampled is not None:
                share_key, loss_key = jax.random.split(loss_key)
                share = draw_share(share_key, context, batch, sampled)
                (loss, aux), grads = share_gradient(
                    loss_of,
                    params,
                    share,
                    loss_key,
                    context.users.shape[0],
                    mesh,
                    sampled.capacity,
                )
            else:
                (loss, aux), grads = jax.value_and_grad(
                    lambda params: loss_of(
                        first.params | params, context, batch, loss_key
                    ),
                    has_aux=True,
                )(params)
            if axis is not None:
                # Each device has the loss of the whole batch, and its derivative by
                # what was computed there, times the number of devices.
                grads = jax.lax.pmean(grads, axis)
            if sampled is not None and mesh is not None:
                params, opt_state = update_rows(
                    optimizer, params, opt_state, grads, mesh, len(params["nodes"])
                )
            else:
                updates, opt_state = optimizer.update(grads, opt_state, params)
                params = apply_updates(params, updates)
            logs = {"loss": loss, "rows": num_rows} | aux
            return Turn(params, opt_state), logs

        xs = (jnp.arange(num_steps), rows, weight)
        size = batch_size * max(1, model.num_negatives)
        is_ahead = num_steps * size <= _DRAWN_AHEAD
        if is_ahead:
            xs = jax.lax.map(draw, xs, batch_size=max(1, _DRAWN_TOGETHER // size))
        rest, logs = jax.lax.scan(step, rest, xs)
        params, opt_state = join_turns(first, rest)
        logs = add_logs(logs, first_logs)
        state = State(params, opt_state, state.key, state.epoch + 1)
        if parallel is not None and not parallel.pmap:
            # Where they were, and nowhere that XLA may prefer.
            where = table_shardings(state, spec_of(context), parallel.mesh)
            state = jax.lax.with_sharding_constraint(state, where)
            logs = jax.lax.with_sharding_constraint(
                logs, NamedSharding(parallel.mesh, PartitionSpec())
            )
        return state, logs

    if parallel is None or axis is None:
        return jax.jit(run_epoch, donate_argnums=0)
    devices = parallel.mesh.devices.ravel().tolist()
    mapped = jax.pmap(
        run_epoch,
        axis_name=axis,
        in_axes=(None, None, 0),
        out_axes=None,
        devices=devices,
        donate_argnums=0,
    )
    numbers = np.flatnonzero([d.process_index == jax.process_index() for d in devices])
    everywhere = NamedSharding(parallel.mesh, PartitionSpec())

    def join(x):
        # Of several processes, pmap gives each the copies on its own devices.
        copies = [shard.data for shard in x.addressable_shards]
        return jax.make_array_from_single_device_arrays(x.shape, everywhere, copies)

    def run(state, context):
        state, logs = mapped(state, context, numbers)
        return jax.tree.map(join, state), logs

    return run


def _narrow(tree: Any, dtype: str) -> Any:
    """The tree with its float32 arrays of another type."""
    return jax.tree.map(
        lambda x: x.astype(dtype) if x.dtype == jnp.float32 else x, tree
    )
