"""One transformer block, whatever its attention goes over."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.layers._unit_length import unit_length
from recjax.types import Params


def init_transformer_block(key: jax.Array, dim: int, hidden: int) -> Params:
    """Parameters of `transformer_block`.

    Args:
      key: a PRNG key.
      dim: D.
      hidden: width of the hidden layer of the feed-forward part.

    Returns:
      Kernels ``query``, ``key``, ``value`` ``[D, D]`` and ``wide`` ``[D, hidden]`` by
      Glorot; ``out`` ``[D, D]`` and ``narrow`` ``[hidden, D]`` are 0, so that a block
      begins as the identity.

    Examples:
      >>> import jax
      >>> params = init_transformer_block(jax.random.key(0), 4, 8)
      >>> params["query"].shape, params["narrow"].shape
      ((4, 4), (8, 4))
    """
    glorot, keys = nn.initializers.glorot_uniform(), jax.random.split(key, 4)
    names = ("query", "key", "value")
    kernels = {
        name: glorot(one, (dim, dim)) for name, one in zip(names, keys, strict=False)
    }
    return kernels | {
        "wide": glorot(keys[3], (dim, hidden)),
        "out": jnp.zeros((dim, dim)),
        "narrow": jnp.zeros((hidden, dim)),
    }


def transformer_block(
    params: Params,
    x: jax.Array,
    attend: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
    *,
    heads: int = 1,
) -> jax.Array:
    """A block whose attention is given: ``y = x + A W_o``, ``y + gelu(n(y) W_1) W_2``.

    ``A = attend(n(x) W_q, n(x) W_k, n(x) W_v)``, and n divides a vector by its root
    mean square.  The same parameters serve any attention: over the neighbours in a
    graph, along a sequence, over all nodes.

    Args:
      params: from `init_transformer_block`.
      x: ``[..., D]``, such as nodes ``[N, D]`` or sequences ``[B, S, D]``.
      attend: from queries, keys and values ``[..., heads, D / heads]`` to an array
        like them, such as `graph_attention` of a graph.
      heads: of the attention.

    Returns:
      ``[..., D]``.

    Raises:
      ValueError: the width is not that of the parameters, or no multiple of heads.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> from recjax.layers import full_attention
      >>> params = init_transformer_block(jax.random.key(0), 4, 8)
      >>> x = jnp.arange(12.0).reshape(3, 4)
      >>> bool((transformer_block(params, x, full_attention) == x).all())  # at first
      True

    References:
      Vaswani et al., Attention is all you need, NeurIPS 2017; Xiong et al., On layer
      normalization in the transformer architecture, ICML 2020 (normalised first).
    """
    dim = params["query"].shape[0]
    if x.shape[-1] != dim or dim % heads:
        raise ValueError(
            f"x {x.shape} must be as wide as the block, {dim}, and that a multiple of "
            f"heads {heads}"
        )

    def apart(x):
        return x.reshape(*x.shape[:-1], heads, dim // heads)

    scaled = _scaled(x)
    found = attend(*(apart(scaled @ params[n]) for n in ("query", "key", "value")))
    x = x + found.reshape(x.shape) @ params["out"]
    return x + jax.nn.gelu(_scaled(x) @ params["wide"]) @ params["narrow"]


def _scaled(x: jax.Array) -> jax.Array:
    """Of root mean square 1; 0 stays 0."""
    return unit_length(x) * x.shape[-1] ** 0.5
