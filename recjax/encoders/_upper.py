"""A tower cut in two: layers that stay as they are run once, the rest is a tower."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from recjax.encoders._blocks import pool
from recjax.encoders._types import Tokens
from recjax.types import Params


class Hidden(NamedTuple):
    """Texts as an `Upper` takes them.

    Attributes:
      states: ``[B, T, D]``, what the layers below made of each token.
      mask: ``[B, T]`` bool, True for tokens.
    """

    states: Any
    mask: Any


@dataclasses.dataclass(frozen=True)
class Upper:
    """The last layers of a tower, as a tower of their own; see `cut`."""

    tower: Any
    """The whole one."""
    layers: int
    """How many of its last layers."""

    @property
    def dim(self) -> int:
        """Width D of the vectors."""
        return self.tower.dim

    def init(self, key: jax.Array) -> Params:
        """Random parameters."""
        return self.last(self.tower.init(key))

    def last(self, params: Params) -> Params:
        """The parameters of the whole tower, without those of the layers below."""
        rest = {name: x for name, x in params.items() if name != "embeddings"}
        layers = jax.tree.map(lambda x: x[-self.layers :], params["layers"])
        return rest | {"layers": layers}

    def encode(self, params: Params, tokens: Hidden) -> jax.Array:
        """A vector of each text, ``[B, D]`` float32."""
        own, mask = self.tower, tokens.mask
        states = own.finish(params, own.through(params, tokens.states, mask))
        return pool(states, mask, own.pooling, normalise=own.normalise)[:, 0]


def cut(
    tower: Any, params: Params, tokens: Tokens, *, layers: int, rows: int = 256
) -> tuple[Upper, Params, Hidden]:
    """Runs all but the last layers of a tower, once and for all.

    What follows, ``upper.encode(params, hidden)``, is ``tower.encode(params, tokens)``
    at ``layers / L`` of its cost; training it trains these layers only.

    Args:
      tower: with ``begin``, ``through`` and ``finish``, such as `Bert`.
      params: its parameters.
      tokens: of n texts.
      layers: that are left.
      rows: texts at a time.

    Returns:
      The tower of the layers that are left, its parameters, and its inputs, ``n T D``
      numbers on the host.

    Raises:
      ValueError: the tower has fewer layers.
    """
    depth = len(jax.tree.leaves(params["layers"])[0])
    if not 0 < layers <= depth:
        raise ValueError(f"layers {layers} must be from 1 to the tower's {depth}")
    upper = Upper(tower, layers)
    below = jax.tree.map(lambda x: x[: depth - layers], params["layers"])
    below = params | {"layers": below}
    ids, mask = (np.asarray(x) for x in tokens)
    states = np.zeros((*ids.shape, tower.dim), np.float32)
    for start in range(0, len(ids), rows):
        some = Tokens(*(x[start : start + rows] for x in (ids, mask)))
        states[start : start + rows] = _below(tower, below, some)
    return upper, upper.last(params), Hidden(states, mask)


@functools.partial(jax.jit, static_argnames="tower")
def _below(tower: Any, params: Params, tokens: Tokens) -> jax.Array:
    mask = jnp.asarray(tokens.mask)
    return tower.through(params, tower.begin(params, tokens), mask)
