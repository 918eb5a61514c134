"""Decoder-only language models as encoders: the layout of Llama, Mistral and Qwen."""

import dataclasses
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.encoders._blocks import (
    ACTIVATIONS,
    attend,
    encode_of,
    init_layers,
    mask_bias,
    positions,
    states_of,
    through_layers,
)
from recjax.encoders._types import Pooling, Tokens
from recjax.types import Params

_INIT = nn.initializers.normal(0.02)


@dataclasses.dataclass(frozen=True)
class Decoder:
    r"""A causal transformer whose last token stands for the text.

    Each layer is

    .. math:: h' = h + attention(rms(h)), \qquad
              h'' = h' + W_d (g(W_g rms(h')) * W_u rms(h')),

    with the queries and keys of token t turned by t times one angle a pair of entries
    (rotary), so that a score depends on the distance alone, and each head of keys and
    values shared by H / G of queries.  The state of the last token, which saw all
    others, is the text's vector.

    Parameters, with the L layers stacked, kernels ``[in, out]``::

        embeddings  word: embedding
        layers      attention: query, key, value, output: kernel (and bias);
                               query_norm, key_norm: scale     (Qwen3)
                    attention_norm, feed_forward_norm: scale
                    gate, up, down: kernel
        norm        scale

    Examples:
      >>> import jax, numpy as np
      >>> sizes = {"dim": 8, "depth": 2, "heads": 4, "key_heads": 2, "head_dim": 4}
      >>> tower = Decoder(vocabulary=9, hidden=16, length=6, **sizes)
      >>> params = tower.init(jax.random.key(0))
      >>> params["layers"]["attention"]["key"]["kernel"].shape
      (2, 8, 8)
      >>> mask = np.array([[True, True, True, False]])
      >>> tower.encode(params, Tokens(np.array([[1, 5, 2, 0]]), mask)).shape
      (1, 8)

    References:
      Touvron et al., Llama 2, 2023.  Su et al., RoFormer, 2021.  Ainslie et al., GQA,
      EMNLP 2023.  Zhang et al., Qwen3 Embedding, 2025.
    """

    vocabulary: int = 151669
    """Tokens that there are."""
    dim: int = 1024
    """Width D of the states."""
    depth: int = 28
    """Layers L."""
    heads: int = 16
    """Heads H of queries."""
    key_heads: int = 8
    """Heads G of keys and values."""
    head_dim: int = 128
    """Width of a head."""
    hidden: int = 3072
    """Width between the two halves of the perceptron."""
    theta: float = 1e6
    """The slowest angle is about 1 / theta a token."""
    stretch: tuple[float, float, float, int] | None = None
    """Of Llama 3.1: factor, low and high frequency factor, original positions."""
    projection_bias: bool = False
    """Whether queries, keys and values have a bias (Qwen2)."""
    output_bias: bool = False
    """Whether what attention gives has one."""
    head_norm: bool = False
    """Whether each head of queries and keys is normed (Qwen3)."""
    activation: str = "silu"
    """One of gelu, gelu_tanh, quick_gelu, relu, silu."""
    epsilon: float = 1e-6
    """Added to the mean square in norms."""
    length: int = 32768
    """Tokens of the longest text that is read; the rest of it is cut."""
    pooling: Pooling = "last"
    """How the vectors of tokens become one."""
    normalise: bool = True
    """Whether vectors get the length 1."""
    remat: bool = False
    """Keep the inside of no layer for derivatives, but compute it again."""

    def __post_init__(self) -> None:
        """Refuses sizes that do not fit."""
        if self.heads % self.key_heads:
            raise ValueError(
                f"heads {self.heads} must be a multiple of key_heads {self.key_heads}"
            )
        if self.head_dim % 2:
            raise ValueError(f"head_dim {self.head_dim} must be even")

    def init(self, key: jax.Array) -> Params:
        """Random parameters, of deviation 0.02."""
        keys = jax.random.split(key)
        x = jnp.zeros((1, 1, self.dim))
        turn = jnp.zeros((1, 1, 1, self.head_dim))
        bias = jnp.zeros((1, 1, 1, 1))
        layers = init_layers(_Layer(self), keys[1], self.depth, x, turn, turn, bias)
        table = _INIT(keys[0], (self.vocabulary, self.dim))
        return {
            "embeddings": {"word": {"embedding": table}},
            "layers": layers,
            "norm": {"scale": jnp.ones(self.dim)},
        }

    def begin(self, params: Params, tokens: Tokens) -> jax.Array:
        """What the first layer gets of each token, ``[B, T, D]``."""
        ids = jnp.asarray(tokens.ids)
        return jnp.take(params["embeddings"]["word"]["embedding"], ids, axis=0)

    def through(self, params: Params, x: jax.Array, mask: jax.Array) -> jax.Array:
        """What the layers of ``params``, be they all or some, make of ``[B, T, D]``."""
        angles = positions(mask)[:, :, None, None] * _frequencies(self)
        angles = jnp.concatenate([angles, angles], axis=-1)
        return through_layers(
            _Layer(self),
            params["layers"],
            x,
            jnp.cos(angles).astype(x.dtype),
            jnp.sin(angles).astype(x.dtype),
            mask_bias(mask, causal=True),
            remat=self.remat,
        )

    def finish(self, params: Params, x: jax.Array) -> jax.Array:
        """The last vectors, of what the last layer made; both ``[B, T, D]``."""
        states: Any = nn.RMSNorm(self.epsilon).apply({"params": params["norm"]}, x)
        return states

    states = states_of
    encode = encode_of


class _Layer(nn.Module):
    tower: Decoder

    @nn.compact
    def __call__(
        self, x: jax.Array, cos: jax.Array, sin: jax.Array, bias: jax.Array
    ) -> jax.Array:
        own = self.tower
        normed = nn.RMSNorm(own.epsilon, name="attention_norm")(x)
        x = x + _Attention(own, name="attention")(normed, cos, sin, bias)
        normed = nn.RMSNorm(own.epsilon, name="feed_forward_norm")(x)
        gate = ACTIVATIONS[own.activation](_dense(own.hidden, "gate")(normed))
        return x + _dense(own.dim, "down")(gate * _dense(own.hidden, "up")(normed))


class _Attention(nn.Module):
    tower: Decoder

    @nn.compact
    def __call__(
        self, x: jax.Array, cos: jax.Array, sin: jax.Array, bias: jax.Array
    ) -> jax.Array:
        own = self.tower

        def heads(count: int, name: str) -> jax.Array:
            out = _dense(count * own.head_dim, name, bias=own.projection_bias)(x)
            return out.reshape(*x.shape[:2], count, own.head_dim)

        query, key = heads(own.heads, "query"), heads(own.key_heads, "key")
        if own.head_norm:
            query = nn.RMSNorm(own.epsilon, name="query_norm")(query)
            key = nn.RMSNorm(own.epsilon, name="key_norm")(key)
        query, key = (h * cos + _quarter_turn(h) * sin for h in (query, key))
        seen = attend(query, key, heads(own.key_heads, "value"), bias)
        return _dense(own.dim, "output", bias=own.output_bias)(seen)


def _dense(width: int, name: str, *, bias: bool = False) -> nn.Dense:
    return nn.Dense(width, use_bias=bias, kernel_init=_INIT, name=name)


def _quarter_turn(x: jax.Array) -> jax.Array:
    """Each pair (a, b), which stand half a head apart, as (-b, a)."""
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([-second, first], axis=-1)


def _frequencies(tower: Decoder) -> jax.Array:
    """Angle a token of each pair, ``[1, 1, 1, head_dim / 2]`` float32."""
    pairs = jnp.arange(0, tower.head_dim, 2, dtype=jnp.float32) / tower.head_dim
    frequencies = 1 / tower.theta**pairs
    if tower.stretch is not None:
        # What turns less than `low` times over the original length turns slower by
        # the factor, what turns more than `high` times stays, the rest is in between.
        factor, low, high, original = tower.stretch
        turns = original * frequencies / (2 * math.pi)
        share = jnp.clip((turns - low) / (high - low), 0, 1)
        frequencies = frequencies * (share + (1 - share) / factor)
    return frequencies[None, None, None]
