r"""Diffusion over rows of interactions: noise, and the way back.

A row ``x_0 [I]`` holds 1 for the items of a user.  With ``a_t`` the share of its
signal that is left at step t, and x0' from `recjax.models._denoiser`,

    x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) noise,
    x_(t-1) = p_t x0' (x_t, t) + q_t x_t,           the mean of the posterior.

References:
  Ho et al., Denoising diffusion probabilistic models, NeurIPS 2020, equations 4 and 7;
  Wang et al., Diffusion recommender model (DiffRec), SIGIR 2023, section 3.
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recjax.models._denoiser import denoiser_loss, init_denoiser, time_shifts
from recjax.models._generated_graph import GeneratedGraph, make_generated_graph
from recjax.models._nodes import node_counts
from recjax.sparse import Layout, neighbour_sum
from recjax.top_k import top_k
from recjax.types import Context, ItemLists, Params

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


@dataclasses.dataclass(frozen=True)
class Diffusion:
    """How the denoisers of `DiffMM` look, learn and generate.

    Examples:
      >>> Diffusion(steps=2).init(jax.random.key(0), 5)["input"]["kernel"].shape
      (5, 1000)
    """

    hidden: int = 1000
    """Hidden units of a denoiser."""
    steps: int = 5
    """Steps of diffusion."""
    noise_low: float = 1e-5
    """Noise of the first step."""
    noise_high: float = 2e-3
    """Noise of the last step."""
    dropout: float = 0.5
    """Share of the entries of a row that are dropped before a denoiser sees it."""
    signal_weight: float = 0.1
    """Weight e of the modality in the denoisers' loss; 0.01 for Baby."""
    users: int = 1024
    """Users that a step of the denoisers learns from."""

    @property
    def schedule(self) -> Schedule:
        """The constants of the steps."""
        return make_schedule(self.steps, self.noise_low, self.noise_high)

    def init(self, key: jax.Array, num_items: int) -> Params:
        """Parameters of one denoiser."""
        return init_denoiser(key, num_items, self.hidden)

    def generate(
        self, denoisers: Mapping[str, Params], lists: ItemLists, k: int
    ) -> dict[str, jax.Array]:
        """The k best items ``[B, k]`` of each list by each denoiser."""
        schedule = self.schedule
        return {
            name: generate(denoisers[name], schedule, lists, k) for name in denoisers
        }

    def graphs(
        self,
        denoisers: Mapping[str, Params],
        lists: ItemLists,
        k: int,
        context: Context,
    ) -> dict[str, GeneratedGraph]:
        """The graph of each modality in which users are linked to these items."""
        num_items = node_counts(context)[1]
        best = self.generate(denoisers, lists, k)
        return {m: make_generated_graph(items, num_items) for m, items in best.items()}

    def loss(
        self,
        key: jax.Array,
        denoisers: Mapping[str, Params],
        context: Context,
        features: Mapping[str, jax.Array],
        items: jax.Array,
    ) -> jax.Array:
        """The loss of the denoisers on some users; all see the same rows and noise.

        Args:
          key: a PRNG key.
          denoisers: parameters by modality.
          context: the training data.
          features: of the items, projected, ``[I, D]`` by modality.
          items: learned vectors ``[I, D]``.

        Returns:
          A scalar, the sum over modalities of `denoiser_loss`.
        """
        draw_key, noise_key = jax.random.split(key)
        num_users, num_items = node_counts(context)
        chosen = jax.random.permutation(draw_key, num_users)[: self.users]
        pairs, schedule = (context.users, context.items), self.schedule
        rows = rows_of_users(*pairs, chosen, num_users=num_users, num=num_items)
        noisy = noise_rows(noise_key, schedule, rows, dropout=self.dropout)
        losses = (
            denoiser_loss(
                denoisers[name],
                schedule.weight,
                rows,
                noisy,
                (x, items),
                signal_weight=self.signal_weight,
            )
            for name, x in features.items()
        )
        return sum(losses, jnp.zeros(()))
