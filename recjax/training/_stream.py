"""Training on a graph that stays in the memory of the host.

The host draws batches and their neighbours, in a thread of its own and some steps
ahead; the device holds the tables and the shares of the next steps.  What is drawn is
the same, number by number, as by `make_epoch` on the device.
"""

import collections
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from recjax.optimizers import apply_updates
from recjax.sampling import epoch_rows
from recjax.training._batches import draw_batch
from recjax.training._epoch import State
from recjax.training._local import Sampled, draw_share, share_gradient
from recjax.types import Context


def make_streamed_epoch(
    model: Any,
    optimizer: optax.GradientTransformation,
    *,
    sampled: Sampled,
    batch_size: int = 2048,
    pairs: Literal["shuffled", "by_user"] = "shuffled",
    ahead: int = 2,
) -> Callable[[State, Context], tuple[State, dict[str, jax.Array]]]:
    """One pass over training pairs that stay on the host, with their graph.

    Args:
      model: a `recjax.types.LocalRecommender`.
      optimizer: one of `recjax.optimizers`.
      sampled: how neighbours are drawn.
      batch_size: B.
      pairs: see `Training`.
      ahead: steps whose shares are on the device, or on their way, while one runs.

    Returns:
      A function from (state, context) to the next state and the logs of each step, as
      `make_epoch` gives it.  The state is donated, and stays where it is; the context
      is best made under ``jax.default_device(jax.devices("cpu")[0])``.

    Raises:
      ValueError: the model does not fit, JAX was started without a CPU, or ``ahead`` is
        not positive.

    Examples:
      >>> import numpy as np
      >>> from recjax.data.graph import make_context
      >>> from recjax.models import LightGCN
      >>> from recjax.optimizers import lazy_adam
      >>> from recjax.training import init_state
      >>> from recjax.types import Interactions, Spec
      >>> spec = Spec(num_users=2, num_items=3)
      >>> train = Interactions(np.array([0, 0, 1]), np.array([0, 1, 2]))
      >>> model, adam = LightGCN(dim=2, layers=1), lazy_adam(0.1)
      >>> state = init_state(model, adam, spec, jax.random.key(0))
      >>> run_epoch = make_streamed_epoch(
      ...     model, adam, sampled=Sampled((2,)), batch_size=2
      ... )
      >>> state, logs = run_epoch(state, make_context(train, spec))
      >>> int(state.epoch), logs["rows"].tolist()
      (1, [2.0, 1.0])
    """
    sampled.check(model)
    if ahead < 1:
        raise ValueError(f"ahead {ahead} steps must be at least 1")
    try:
        host = jax.local_devices(backend="cpu")[0]
    except RuntimeError as error:
        raise ValueError(
            f"neighbours are drawn on the CPU, and JAX started without it ({error}): "
            "add it to JAX_PLATFORMS, such as cuda,cpu"
        ) from None

    @jax.jit
    def start(key, epoch, context):
        order_key, steps_key = jax.random.split(jax.random.fold_in(key, epoch))
        return epoch_rows(order_key, context.users.shape[0], batch_size), steps_key

    @jax.jit
    def draw(steps_key, context, order, index):
        rows, weight = (x[index] for x in order)
        batch, loss_key = draw_batch(
            steps_key,
            context,
            index,
            rows,
            weight,
            num_negatives=model.num_negatives,
            pairs=pairs,
        )
        share_key, loss_key = jax.random.split(loss_key)
        return draw_share(share_key, context, batch, sampled), loss_key

    def run(params, opt_state, share, key, num_rows):
        (loss, aux), grads = share_gradient(model.loss, params, share, key, num_rows)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        logs = {"loss": loss, "rows": jnp.sum(share.batch.weight)} | aux
        return apply_updates(params, updates), opt_state, logs

    step = jax.jit(run, donate_argnums=(0, 1), static_argnums=4)

    def run_epoch(state: State, context: Context) -> tuple[State, Any]:
        [device] = state.epoch.devices()
        context, key, epoch = jax.device_put((context, state.key, state.epoch), host)
        order, steps_key = start(key, epoch, context)
        num_rows, steps = context.users.shape[0], len(order[0])

        def make(index):
            found = draw(steps_key, context, order, index)
            return jax.block_until_ready(jax.device_put(found, device))

        params, opt_state, logs = state.params, state.opt_state, []
        pool = ThreadPoolExecutor(1, "recjax-neighbours")
        try:
            first = range(min(ahead, steps))
            waiting = collections.deque(pool.submit(make, n) for n in first)
            for index in range(steps):
                share, loss_key = waiting.popleft().result()
                if index + ahead < steps:
                    waiting.append(pool.submit(make, index + ahead))
                params, opt_state, log = step(
                    params, opt_state, share, loss_key, num_rows
                )
                logs.append(log)
        finally:
            pool.shutdown(cancel_futures=True)
        stacked = jax.tree.map(lambda *values: jnp.stack(values), *logs)
        return State(params, opt_state, state.key, state.epoch + 1), stacked

    return run_epoch
