"""Models that learn in turns: a part of them first in each epoch, then the rest."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from recjax.optimizers import apply_updates
from recjax.types import Context, Params


class Turn(NamedTuple):
    """What learns together.

    Attributes:
      params: by name; empty where a model has no first turn.
      opt_state: its own; None for no parameters.
    """

    params: Params
    opt_state: Any


def init_optimizer(
    model: Any, optimizer: optax.GradientTransformation, params: Params
) -> optax.OptState:
    """The optimizer's state; where there are two turns a pair, that of the first first.

    Args:
      model: see `recjax.types.AlternatingRecommender`.
      optimizer: from optax.
      params: of the model.

    Returns:
      The state.
    """
    first, rest = (Turn(x, optimizer.init(x)) for x in _split(model, params))
    return join_turns(first, rest)[1]


def split_turns(model: Any, params: Params, opt_state: Any) -> tuple[Turn, Turn]:
    """The first turn, which may be empty, and the rest."""
    first, rest = _split(model, params)
    of_first, of_rest = opt_state if first else (None, opt_state)
    return Turn(first, of_first), Turn(rest, of_rest)


def join_turns(first: Turn, rest: Turn) -> tuple[Params, optax.OptState]:
    """Parameters and state as they were before `split_turns`."""
    state = (first.opt_state, rest.opt_state) if first.params else rest.opt_state
    return first.params | rest.params, state


def learn_first(
    model: Any,
    optimizer: optax.GradientTransformation,
    first: Turn,
    rest: Params,
    context: Context,
    key: jax.Array,
) -> tuple[Turn, dict[str, jax.Array]]:
    """The first turn of an epoch.

    Args:
      model: see `recjax.types.AlternatingRecommender`.
      optimizer: from optax.
      first: what learns; nothing happens where it is empty.
      rest: the other parameters.
      context: the training data.
      key: of the turn.

    Returns:
      The turn, and the mean over its steps of the loss and what the model logs.
    """
    if not first.params:
        return first, {}

    def loss_of(params, key):
        return model.first_loss(rest | params, context, key)

    def step(turn, key):
        (loss, aux), grads = jax.value_and_grad(loss_of, has_aux=True)(turn.params, key)
        updates, opt_state = optimizer.update(grads, turn.opt_state, turn.params)
        turn = Turn(apply_updates(turn.params, updates), opt_state)
        return turn, {"loss": loss} | aux

    keys = jax.random.split(key, model.first_steps(context))
    first, logs = jax.lax.scan(step, first, keys)
    return first, jax.tree.map(jnp.mean, logs)


def add_logs(
    logs: dict[str, jax.Array], first: dict[str, jax.Array]
) -> dict[str, jax.Array]:
    """The logs of an epoch's steps ``[steps]``, to which those of a first turn come."""
    if not first:
        return logs
    shape = logs["loss"].shape
    every = {name: jnp.broadcast_to(value, shape) for name, value in first.items()}
    return logs | every | {"loss": logs["loss"] + every["loss"]}


def _split(model: Any, params: Params) -> tuple[Params, Params]:
    names = getattr(model, "first_params", ())
    first = {name: params[name] for name in names}
    return first, {name: params[name] for name in params if name not in first}
