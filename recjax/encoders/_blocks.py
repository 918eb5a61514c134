"""What the towers have in common: attention, the loop over layers, pooling."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from recjax.encoders._types import Pooling, Tokens
from recjax.layers import unit_length
from recjax.types import Params

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    # As jax.nn.gelu, but by erf: erfc, which that takes, costs three times as much.
    "gelu": lambda x: x * (0.5 + 0.5 * jax.lax.erf(x * math.sqrt(0.5))),
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
}
"""Activations by the names that towers call them."""


def attend(
    query: jax.Array, key: jax.Array, value: jax.Array, bias: jax.Array | None
) -> jax.Array:
    """Softmax attention, heads side by side in the result.

    Args:
      query: ``[B, T, H, D]``.
      key: ``[B, T, G, D]``; each of the G heads serves H / G queries.
      value: ``[B, T, G, D]``.
      bias: added to the scores, broadcast to ``[B, H, T, T]``; None for none.

    Returns:
      ``[B, T, H * D]``; the softmax is taken in float32.
    """
    batch, length, heads, width = query.shape
    groups = key.shape[2]
    # Heads in front, once: four times as fast on CPU as in the middle.
    query, key, value = (jnp.swapaxes(x, 1, 2) for x in (query, key, value))
    query = query.reshape(batch, groups, -1, width)
    scores = jnp.einsum("bgrd,bgsd->bgrs", query, key).astype(jnp.float32)
    scores = scores.reshape(batch, heads, length, length) * width**-0.5
    if bias is not None:
        scores = scores + bias
    shares = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    shares = shares.reshape(batch, groups, -1, length)
    mixed = jnp.einsum("bgrs,bgsd->bgrd", shares, value)
    mixed = mixed.reshape(batch, heads, length, width)
    return jnp.swapaxes(mixed, 1, 2).reshape(batch, length, heads * width)


def mask_bias(mask: jax.Array, *, causal: bool = False) -> jax.Array:
    """What keeps padding, other texts and, where asked, what comes later from a token.

    Args:
      mask: ``[B, T]``, as in `Tokens`.
      causal: whether a token sees only itself and those before it.

    Returns:
      ``[B, 1, T, T]`` or ``[B, 1, 1, T]`` float32: 0, or as good as minus infinity.
      A row of padding alone has finite attention.
    """
    seen = mask[:, None, None, :] > 0
    if mask.dtype != bool:
        seen = seen & (mask[:, None, None, :] == mask[:, None, :, None])
    if causal:
        place = jnp.arange(mask.shape[1])
        seen = seen & (place[:, None] >= place[None, :])[None, None]
    return jnp.where(seen, 0.0, -1e30)


def positions(mask: jax.Array) -> jax.Array:
    """The place ``[B, T]`` of each token among those of its text, from 0."""
    count = jnp.cumsum(mask > 0, axis=1, dtype=jnp.int32)
    if mask.dtype != bool:
        # From the first token of its own text, the last at which the number changed.
        before = jnp.pad(mask, ((0, 0), (1, 0)))[:, :-1]
        count -= jax.lax.cummax(jnp.where(mask != before, count - 1, 0), axis=1)
    return jnp.maximum(count - 1, 0)


def through_layers(
    layer: Any, params: Params, x: jax.Array, *more: Any, remat: bool
) -> jax.Array:
    """One layer after the other, as one compiled loop.

    Args:
      layer: a flax module that maps ``x`` to its like.
      params: of all layers, stacked on the first axis.
      x: what the first layer gets.
      *more: what every layer gets besides.
      remat: compute the inside of a layer again for its derivative, instead of
        keeping it: memory for one layer, not for all.

    Returns:
      What the last layer gives.
    """

    def step(x: jax.Array, one: Params) -> tuple[jax.Array, None]:
        return layer.apply({"params": one}, x, *more), None

    return jax.lax.scan(jax.checkpoint(step) if remat else step, x, params)[0]


def init_layers(layer: Any, key: jax.Array, depth: int, x: jax.Array, *more: Any):
    """Random parameters of so many layers, stacked on the first axis."""
    keys = jax.random.split(key, depth)
    return jax.vmap(lambda one: layer.init(one, x, *more)["params"])(keys)


def pool(
    states: jax.Array,
    mask: jax.Array,
    pooling: Pooling,
    *,
    normalise: bool,
    texts: int = 1,
) -> jax.Array:
    """One vector of the vectors of the tokens of each text.

    Args:
      states: ``[B, T, D]``.
      mask: ``[B, T]``, as in `Tokens`.
      pooling: their mean, the first one or the last one.
      normalise: whether it gets the length 1.
      texts: N, at most so many in a row.

    Returns:
      ``[B, N, D]`` float32; zeros for a text without any token.
    """
    states = states.astype(jnp.float32)
    numbers = jnp.arange(1, texts + 1, dtype=jnp.int32)
    own = mask[:, None, :] == numbers[None, :, None]
    if pooling == "mean":
        shares = own / jnp.maximum(jnp.sum(own, axis=2, keepdims=True), 1)
        pooled = jnp.einsum("bnt,btd->bnd", shares, states)
    else:
        place = jnp.arange(mask.shape[1], dtype=jnp.int32)[None, None]
        far = -1 if pooling == "last" else mask.shape[1]
        place = jnp.where(own, place, far)
        at = place.max(axis=2) if pooling == "last" else place.min(axis=2)
        at = jnp.clip(at, 0, mask.shape[1] - 1)
        pooled = jnp.take_along_axis(states, at[:, :, None], axis=1)
        pooled = jnp.where(jnp.any(own, axis=2)[:, :, None], pooled, 0)
    return unit_length(pooled) if normalise else pooled


def states_of(self: Any, params: Params, tokens: Tokens) -> jax.Array:
    """The last vector of each token, ``[B, T, D]``."""
    x, mask = self.begin(params, tokens), jnp.asarray(tokens.mask)
    return self.finish(params, self.through(params, x, mask))


def encode_of(self: Any, params: Params, tokens: Tokens) -> jax.Array:
    """A vector of each row, ``[B, D]`` float32; zeros for one without a token."""
    states, mask = self.states(params, tokens), jnp.asarray(tokens.mask)
    return pool(states, mask, self.pooling, normalise=self.normalise)[:, 0]
