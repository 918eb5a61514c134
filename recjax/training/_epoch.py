"""The state of training, and one epoch of it as one compiled scan."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from recjax.sampling import epoch_rows, make_batch, sample_user_pairs
from recjax.types import Context, Params, Recommender, Spec

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
) -> State:
    """Fresh parameters and optimizer state.

    Args:
      model: the model.
      optimizer: from optax.
      spec: sizes of the dataset.
      key: a PRNG key.

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
    init_key, run_key = jax.random.split(key)
    params = model.init(init_key, spec)
    return State(params, optimizer.init(params), run_key, jnp.zeros((), jnp.int32))


def make_epoch(
    model: Recommender,
    optimizer: optax.GradientTransformation,
    *,
    batch_size: int = 2048,
    pairs: Literal["shuffled", "by_user"] = "shuffled",
) -> jax.stages.Wrapped:
    """One pass over the training pairs as one compiled call: a scan over its steps.

    Shuffling, negatives, gradients and updates all happen on the device; the given
    state is donated.

    Args:
      model: the model; one with a ``refresh`` makes the epoch's context first, see
        `recjax.types.RefreshingRecommender`.
      optimizer: from optax.
      batch_size: B.
      pairs: see `Training`.

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

    def run_epoch(state: State, context: Context):
        num_rows = context.users.shape[0]
        order_key, steps_key = jax.random.split(
            jax.random.fold_in(state.key, state.epoch)
        )
        rows, weight = epoch_rows(order_key, num_rows, batch_size)
        if hasattr(model, "refresh"):
            # A number that no step has.
            key = jax.random.fold_in(steps_key, rows.shape[0])
            context = model.refresh(state.params, context, key)

        def draw(xs):
            index, rows, weight = xs
            keys = jax.random.split(jax.random.fold_in(steps_key, index), 3)
            pair_key, negative_key, loss_key = keys
            if pairs == "by_user":
                rows = sample_user_pairs(pair_key, context, batch_size)
            relations = context.relations
            batch = make_batch(
                negative_key,
                context,
                context.users[rows],
                context.items[rows],
                weight,
                model.num_negatives,
                None if relations is None else relations[rows],
            )
            return batch, loss_key

        def step(carry, xs):
            params, opt_state = carry
            batch, loss_key = xs if is_ahead else draw(xs)
            (loss, aux), grads = jax.value_and_grad(model.loss, has_aux=True)(
                params, context, batch, loss_key
            )
            updates, opt_state = optimizer.update(grads, opt_state, params)
            params = optax.apply_updates(params, updates)
            logs = {"loss": loss, "rows": jnp.sum(batch.weight)} | aux
            return (params, opt_state), logs

        xs = (jnp.arange(rows.shape[0]), rows, weight)
        size = batch_size * max(1, model.num_negatives)
        is_ahead = rows.shape[0] * size <= _DRAWN_AHEAD
        if is_ahead:
            xs = jax.lax.map(draw, xs, batch_size=max(1, _DRAWN_TOGETHER // size))
        (params, opt_state), logs = jax.lax.scan(
            step, (state.params, state.opt_state), xs
        )
        return State(params, opt_state, state.key, state.epoch + 1), logs

    return jax.jit(run_epoch, donate_argnums=0)
