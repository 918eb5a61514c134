r"""A denoiser of rows of interactions.

For a row ``x_t [I]`` with noise of step t,

    x0' (x_t, t) = tanh(x_t K + c_t) O^T + b,       c_t from sines and cosines of t.

References:
  Wang et al., Diffusion recommender model (DiffRec), SIGIR 2023, section 3.
"""

import jax
import jax.numpy as jnp
import numpy as np

from recjax.types import Params

_TIME_WIDTH = 10


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
    weight: np.ndarray,
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
      weight: s of the T steps ``[T]``.
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
    found = denoise(params, rows, steps, num=len(weight))
    loss = jnp.asarray(weight)[steps] * jnp.mean(jnp.square(clean - found), axis=1)
    features, vectors = map(jax.lax.stop_gradient, signal)
    gap = found @ features - clean @ vectors
    return jnp.mean(loss + signal_weight * jnp.mean(jnp.square(gap), axis=1))
