"""Encoders of the BERT family: BERT, MiniLM, RoBERTa, MPNet, DistilBERT."""

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
# Distances of at least this many tokens share one bucket (MPNet, T5).
_FARTHEST = 128


@dataclasses.dataclass(frozen=True)
class Bert:
    r"""A transformer over all tokens at once, with the norm after each half of a layer.

    With ``h = x + p + s`` of token, position and segment vectors, normed, each layer is

    .. math:: h' = norm(h + attention(h)), \qquad h'' = norm(h' + W_2 g(W_1 h')),

    and the text's vector the mean of the last states (Sentence-BERT) or the first one.
    Positions count tokens, not columns: the vectors of a text are the same whatever
    its padding, and on whichever side that is.

    Parameters, with the L layers stacked, kernels ``[in, out]``::

        embeddings  word, position, token_type: embedding; norm: scale, bias
        relative    embedding [buckets, H]       (MPNet)
        layers      attention: query, key, value, output: kernel, bias
                    attention_norm, feed_forward_norm: scale, bias
                    inner, outer: kernel, bias

    Examples:
      >>> import jax, numpy as np
      >>> sizes = {"dim": 8, "depth": 2, "heads": 2, "hidden": 16}
      >>> tower = Bert(vocabulary=9, positions=6, length=6, **sizes)
      >>> params = tower.init(jax.random.key(0))
      >>> params["layers"]["inner"]["kernel"].shape
      (2, 8, 16)
      >>> mask = np.array([[True, True, True, False]])
      >>> tower.encode(params, Tokens(np.array([[1, 5, 2, 0]]), mask)).shape
      (1, 8)

    References:
      Devlin et al., BERT, NAACL 2019.  Reimers and Gurevych, Sentence-BERT, EMNLP
      2019.  Liu et al., RoBERTa, 2019.  Song et al., MPNet, NeurIPS 2020.
    """

    vocabulary: int = 30522
    """Tokens that there are."""
    dim: int = 384
    """Width D of all vectors."""
    depth: int = 6
    """Layers L."""
    heads: int = 12
    """Heads H of attention."""
    hidden: int = 1536
    """Width between the two halves of the perceptron."""
    positions: int = 512
    """Rows of the table of positions."""
    first_position: int = 0
    """Row of the first token (RoBERTa, MPNet: 2)."""
    token_types: int = 2
    """Rows of the table of segments, of which the first is used; 0 for no table."""
    relative_buckets: int = 0
    """Distances between tokens that attention tells apart (MPNet: 32); 0 for none."""
    activation: str = "gelu"
    """One of gelu, gelu_tanh, quick_gelu, relu, silu."""
    epsilon: float = 1e-12
    """Added to the variance in norms."""
    length: int = 512
    """Tokens of the longest text that is read; the rest of it is cut."""
    pooling: Pooling = "mean"
    """How the vectors of tokens become one."""
    normalise: bool = True
    """Whether vectors get the length 1."""
    remat: bool = False
    """Keep the inside of no layer for derivatives, but compute it again."""

    def __post_init__(self) -> None:
        """Refuses sizes that do not fit."""
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} must be a multiple of heads {self.heads}")
        if self.length > self.positions - self.first_position:
            raise ValueError(
                f"length {self.length} must be at most the "
                f"{self.positions - self.first_position} positions that there are"
            )

    def init(self, key: jax.Array) -> Params:
        """Random parameters, of deviation 0.02."""
        keys = jax.random.split(key, 3)
        ids = jnp.zeros((1, 1), jnp.int32)
        x = jnp.zeros((1, 1, self.dim))
        bias = jnp.zeros((1, 1, 1, 1))
        params = {
            "embeddings": _Embeddings(self).init(keys[0], ids, ids)["params"],
            "layers": init_layers(_Layer(self), keys[1], self.depth, x, bias),
        }
        if self.relative_buckets:
            table = _INIT(keys[2], (self.relative_buckets, self.heads))
            params["relative"] = {"embedding": table}
        return params

    def begin(self, params: Params, tokens: Tokens) -> jax.Array:
        """What the first layer gets of each token, ``[B, T, D]``."""
        ids, mask = (jnp.asarray(x) for x in tokens)
        # Rows of several texts may be longer.
        if mask.dtype == bool and ids.shape[1] > self.positions - self.first_position:
            raise ValueError(
                f"tokens {ids.shape} are more than the "
                f"{self.positions - self.first_position} positions that the tower has"
            )
        rows = positions(mask) + self.first_position
        found: Any = _Embeddings(self).apply(
            {"params": params["embeddings"]}, ids, rows
        )
        return found

    def through(self, params: Params, x: jax.Array, mask: jax.Array) -> jax.Array:
        """What the layers of ``params``, be they all or some, make of ``[B, T, D]``."""
        bias = mask_bias(mask)
        if self.relative_buckets:
            bucket = _bucket(positions(mask), self.relative_buckets)
            table = params["relative"]["embedding"].astype(jnp.float32)
            bias = bias + jnp.moveaxis(table[bucket], -1, 1)
        return through_layers(_Layer(self), params["layers"], x, bias, remat=self.remat)

    def finish(self, params: Params, x: jax.Array) -> jax.Array:
        """The last vectors, of what the last layer made: the same."""
        del params
        return x

    states = states_of
    encode = encode_of


class _Embeddings(nn.Module):
    tower: Bert

    @nn.compact
    def __call__(self, ids: jax.Array, places: jax.Array) -> jax.Array:
        own = self.tower

        def table(rows, name):
            return nn.Embed(rows, own.dim, embedding_init=_INIT, name=name)

        x = table(own.vocabulary, "word")(ids)
        x = x + table(own.positions, "position")(places)
        if own.token_types:
            x = x + table(own.token_types, "token_type")(jnp.zeros_like(ids))
        return _norm(own, "norm")(x)


class _Layer(nn.Module):
    tower: Bert

    @nn.compact
    def __call__(self, x: jax.Array, bias: jax.Array) -> jax.Array:
        own = self.tower
        x = _norm(own, "attention_norm")(x + _Attention(own, name="attention")(x, bias))
        wide = nn.Dense(own.hidden, kernel_init=_INIT, name="inner")(x)
        wide = ACTIVATIONS[own.activation](wide)
        return _norm(own, "feed_forward_norm")(
            x + nn.Dense(own.dim, kernel_init=_INIT, name="outer")(wide)
        )


class _Attention(nn.Module):
    tower: Bert

    @nn.compact
    def __call__(self, x: jax.Array, bias: jax.Array) -> jax.Array:
        own = self.tower
        split = (*x.shape[:2], own.heads, own.dim // own.heads)
        query, key, value = (
            nn.Dense(own.dim, kernel_init=_INIT, name=name)(x).reshape(split)
            for name in ("query", "key", "value")
        )
        seen = attend(query, key, value, bias)
        return nn.Dense(own.dim, kernel_init=_INIT, name="output")(seen)


def _norm(tower: Bert, name: str) -> nn.LayerNorm:
    # The fast variance, E[x^2] - E[x]^2, loses digits.
    return nn.LayerNorm(epsilon=tower.epsilon, use_fast_variance=False, name=name)


def _bucket(places: jax.Array, buckets: int) -> jax.Array:
    """The bucket ``[B, T, T]`` of each distance: half for each direction.

    Half of those are for one distance each, the others grow with its logarithm.
    """
    behind = places[:, :, None] - places[:, None, :]
    half = buckets // 2
    exact = half // 2
    far = jnp.abs(behind)
    growth = jnp.log(jnp.maximum(far, 1) / exact) / math.log(_FARTHEST / exact)
    wide = exact + (growth * (half - exact)).astype(jnp.int32)
    bucket = jnp.where(far < exact, far, jnp.minimum(wide, half - 1))
    return bucket + jnp.where(behind < 0, half, 0)
