r"""Diffusion over rows of interactions: noise, a denoiser, and the way back.

A row ``x_0 [I]`` holds 1 for the items of a user.  With ``a_t`` the share of its
signal that is left at step t,

    x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) noise,
    x0' (x_t, t) = tanh(x_t K + c_t) O^T + b,       c_t from sines and cosines of t,
    x_(t-1) = p_t x0' (x_t, t) + q_t x_t,           the mean of the posterior.

References:
  Ho et al., Denoising diffusion probabilistic models, NeurIPS 2020, equations 4 and 7;
  Wang et al., Diffusion recommender model (DiffRec), SIGIR 2023, section 3.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recjax.sparse import Layout, neighbour_sum
from recjax.top_k import top_k
from recjax.types import ItemLists, Params

_TIME_WIDTH = 10
# Users whose rows are made at a time where all are denoised.
_USER_BLOCK = 1024


class Schedule(NamedTuple):
    """Constants of the T steps, ``[T]`` each.

    Attributes:
      signal: a.
      clean: p, the weight of what the denoiser says.
      noisy: q, the weight of what it was given.
      weight: of the reconstruction, ``SNR_(t-1) - SNR_t`` with SNR = a / (1 - a), and
        1 at t = 0.
    """

    signal: np.ndarray
    clean: np.ndarray
    noisy: np.ndarray
    weight: np.ndarray


def make_schedule(steps: int, low: float, high: float) -> Schedule:
    """The schedule of a noise that grows linearly from ``low`` to ``high``.

    Args:
      steps: T.
      low: about 1 - a of the first step.
      high: about 1 - a of the last one.

    Returns:
      The constants, float32; the noise of the first step is 1e-4.

    Examples:
      >>> schedule = make_schedule(5, 1e-5, 2e-3)
      >>> [round(float(x), 3) for x in schedule.clean]
      [1.0, 0.833, 0.454, 0.313, 0.238]
      >>> [round(float(x)) for x in schedule.weight]
      [1, 8326, 760, 285, 149]
    """
    left = 1 - np.linspace(low, high, steps)
    beta = np.append(1e-4, 1 - left[1:] / left[:-1])
    signal = np.cumprod(1 - beta)
    before = np.append(1.0, signal[:-1])
    ratio = signal / (1 - signal)
    constants = (
        signal,
        beta * np.sqrt(before) / (1 - signal),
        (1 - before) * np.sqrt(1 - beta) / (1 - signal),
        np.append(1.0, ratio[:-1] - ratio[1:]),
    )
    return Schedule(*(x.astype(np.float32) for x in constants))


def init_denoiser(key: jax.Array, num_items: int, hidden: int) -> Params:
    """Parameters of `denoise`: matrices from N(0, 2 / (in + out)), small biases.

    Args:
      key: a PRNG key.
      num_items: I.
      hidden: H.

    Returns:
      ``{"embedding": {"kernel", "bias"}, "input": {"kernel" [I, H], "time", "bias"},
      "output": {"kernel" [I, H], "bias" [I]}}``.
    """
    keys, wide = jax.random.split(key, 7), num_items + _TIME_WIDTH

    def normal(number, shape, both):
        return np.sqrt(2 / both) * jax.random.normal(keys[number], shape)

    def bias(number, width):
        return 1e-3 * jax.random.normal(keys[number], (width,))

    return {
        "embedding": {
            "kernel": normal(0, (_TIME_WIDTH, _TIME_WIDTH), 2 * _TIME_WIDTH),
            "bias": bias(1, _TIME_WIDTH),
        },
        "input": {
            "kernel": normal(2, (num_items, hidden), wide + hidden),
            "time": normal(3, (_TIME_WIDTH, hidden), wide + hidden),
            "bias": bias(4, hidden),
        },
        "output": {
            "kernel": normal(5, (num_items, hidden), hidden + num_items),
            "bias": bias(6, num_items),
        },
    }


def time_shifts(params: Params, steps: int) -> jax.Array:
    """What each step adds to the hidden units, ``c [T, H]``."""
    half = _TIME_WIDTH // 2
    angles = np.arange(steps)[:, None] * 10000.0 ** (-np.arange(half) / half)
    waves = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    embedding, first = params["embedding"], params["input"]
    embedded = waves @ embedding["kernel"] + embedding["bias"][None]
    return embedded @ first["time"] + first["bias"][None]


def rows_of_users(
    users: jax.Array, items: jax.Array, chosen: jax.Array, *, num_users: int, num: int
) -> jax.Array:
    """Rows of interactions of some users.

    Args:
      users: ``[n]`` of all pairs.
      items: ``[n]``.
      chosen: ``[B]`` distinct users.
      num_users: U.
      num: I.

    Returns:
      ``[B, I]``, 1 for the items of the user.

    Examples:
      >>> users, items = jnp.array([0, 2, 2]), jnp.array([1, 0, 1])
      >>> chosen = jnp.array([2, 1])
      >>> rows_of_users(users, items, chosen, num_users=3, num=2).tolist()
      [[1.0, 1.0], [0.0, 0.0]]
    """
    size = len(chosen)
    row_of = jnp.full(num_users, size).at[chosen].set(jnp.arange(size))
    return jnp.zeros((size, num)).at[row_of[users], items].set(1.0, mode="drop")


def noise_rows(
    key: jax.Array, schedule: Schedule, rows: jax.Array, *, dropout: float
) -> tuple[jax.Array, jax.Array]:
    """Rows at random steps, entries dropped.

    Args:
      key: a PRNG key.
      schedule: of T steps.
      rows: ``[B, I]``, clean.
      dropout: share of the entries that is dropped; the rest is rescaled.

    Returns:
      Noisy rows ``[B, I]``, and the step t of each ``[B]``.
    """
    step_key, noise_key, drop_key = jax.random.split(key, 3)
    steps = jax.random.randint(step_key, (len(rows),), 0, len(schedule.signal))
    signal = jnp.asarray(schedule.signal)[steps][:, None]
    noise = jax.random.normal(noise_key, rows.shape)
    noisy = jnp.sqrt(signal) * rows + jnp.sqrt(1 - signal) * noise
    kept = jax.random.bernoulli(drop_key, 1 - dropout, rows.shape)
    return jnp.where(kept, noisy / (1 - dropout), 0), steps


def denoise(
    params: Params, rows: jax.Array, steps: jax.Array, *, num: int
) -> jax.Array:
    """What the denoiser takes for the clean rows.

    Args:
      params: from `init_denoiser`.
      rows: ``[B, I]``.
      steps: ``[B]`` int, t.
      num: T.

    Returns:
      ``[B, I]``.
    """
    shifts = time_shifts(params, num)[steps]
    hidden = jnp.tanh(rows @ params["input"]["kernel"] + shifts)
    return hidden @ params["output"]["kernel"].T + params["output"]["bias"][None]


def denoiser_loss(
    params: Params,
    schedule: Schedule,
    clean: jax.Array,
    noisy: tuple[jax.Array, jax.Array],
    signal: tuple[jax.Array, jax.Array],
    *,
    signal_weight: float,
) -> jax.Array:
    """Reconstruction of rows, by items and by what the items amount to.

    ``s_t |x_0 - x_0'|^2 / I + e |x_0' F - x_0 Q|^2 / D``, the mean over rows.

    Args:
      params: from `init_denoiser`.
      schedule: of T steps, with s.
      clean: x_0 ``[B, I]``.
      noisy: from `noise_rows`.
      signal: F ``[I, D]`` and Q ``[I, D]``, constants.
      signal_weight: e.

    Returns:
      A scalar.

    References:
      Jiang et al., DiffMM, ACM MM 2024 (modality-aware signal injection).
    """
    rows, steps = noisy
    found = denoise(params, rows, steps, num=len(schedule.signal))
    weight = jnp.asarray(schedule.weight)[steps]
    loss = weight * jnp.mean(jnp.square(clean - found), axis=1)
    features, vectors = map(jax.lax.stop_gradient, signal)
    gap = found @ features - clean @ vectors
    return jnp.mean(loss + signal_weight * jnp.mean(jnp.square(gap), axis=1))


def generate(params: Params, schedule: Schedule, lists: ItemLists, k: int) -> jax.Array:
    """The k best items of each row after the way back from the clean row.

    No noise is drawn.  From step to step only the row's product with K is followed,
    ``x0' K = tanh(.) (O^T K) + b K``; the items are there in the last step only.

    Args:
      params: from `init_denoiser`.
      schedule: of T steps.
      lists: B rows.
      k: items a row.

    Returns:
      ``[B, k]`` int32, best first.
    """
    first, last = params["input"]["kernel"], params["output"]["kernel"]
    bias = params["output"]["bias"]
    back, rest = last.T @ first, bias @ first
    shifts = time_shifts(params, len(schedule.signal))
    num = lists.pointer.shape[0] - 1
    row_of = jnp.repeat(
        jnp.arange(num),
        jnp.diff(lists.pointer),
        total_repeat_length=lists.items.shape[0],
    )
    state = neighbour_sum(
        first,
        jnp.ones(lists.items.shape, first.dtype),
        lists.items,
        row_of,
        num_receivers=num,
        layout=Layout(lists.pointer),
    )

    def best(state):
        for t in range(len(schedule.signal) - 1, 0, -1):
            clean = jnp.tanh(state + shifts[t][None]) @ back + rest[None]
            state = schedule.clean[t] * clean + schedule.noisy[t] * state
        hidden = jnp.tanh(state + shifts[0][None])
        return top_k(last @ hidden.T + bias[:, None], k)[1]

    block = max(1, min(_USER_BLOCK, num))
    pad = -num % block
    blocks = jnp.pad(state, ((0, pad), (0, 0))).reshape(-1, block, state.shape[1])
    return jax.lax.map(best, blocks).reshape(-1, k)[:num]
