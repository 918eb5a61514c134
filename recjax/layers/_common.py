"""Fusion by attention over modalities, and MGCN's common and specific parts.

The conventions on missing modalities are those of `recjax.layers._fusion`.
"""

import functools
from collections.abc import Iterable

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.layers._dense import dense, init_dense
from recjax.layers._modalities import (
    Arrays,
    Modality,
    any_present,
    keep,
    prepare,
    total,
)
from recjax.types import Params


def init_fuse_attention(key: jax.Array, width: int, hidden: int) -> Params:
    """Parameters of `fuse_attention`, which all modalities share.

    Args:
      key: a PRNG key.
      width: D of the modalities.
      hidden: width of the query q.

    Returns:
      ``{"kernel": [D, hidden], "bias": [hidden], "query": [hidden]}``; the kernel by
      Glorot, the bias 0, the query normal with variance ``1 / hidden``.

    Examples:
      >>> import jax
      >>> params = init_fuse_attention(jax.random.key(0), 4, 3)
      >>> jax.tree.map(lambda x: x.shape, params)
      {'bias': (3,), 'kernel': (4, 3), 'query': (3,)}
    """
    kernel_key, query_key = jax.random.split(key)
    query = nn.initializers.normal(hidden**-0.5)(query_key, (hidden,))
    return {**init_dense(kernel_key, width, hidden), "query": query}


def fuse_attention(
    params: Params, modalities: Arrays, present: Arrays | None = None
) -> jax.Array:
    """Attention over modalities, ``h = sum_m a_m h_m``.

    ``a_m = softmax_m(q^T tanh(W h_m + b))``, over those that the node has.

    Args:
      params: from `init_fuse_attention`.
      modalities: ``[N, D]`` each.
      present: ``[N]`` mask each; None for no missing ones.

    Returns:
      ``[N, D]``; 0 where no modality is present.

    Raises:
      ValueError: shapes that do not fit, a mask for a modality that is not there.

    Examples:
      >>> import jax.numpy as jnp
      >>> params = {
      ...     "kernel": jnp.array([[1.0]]),
      ...     "bias": jnp.array([0.0]),
      ...     "query": jnp.array([0.0]),
      ... }
      >>> modalities = {"image": jnp.array([[1.0]]), "text": jnp.array([[3.0]])}
      >>> fuse_attention(params, modalities).tolist()
      [[2.0]]
      >>> fuse_attention(params, modalities, {"text": jnp.array([False])}).tolist()
      [[1.0]]

    References:
      Yang et al., Hierarchical attention networks for document classification, NAACL
      2016, equations 5 to 7; Wang et al., Heterogeneous graph attention network, WWW
      2019 (over the parts of one node).
    """
    ready = prepare(modalities, present, same_width=True)
    weights = _attend(ready, params)
    return total(a[:, None] * m.values for a, m in zip(weights, ready, strict=True))


def init_fuse_common(
    key: jax.Array, names: Iterable[str], width: int, hidden: int
) -> Params:
    """Parameters of `fuse_common`.

    Args:
      key: a PRNG key.
      names: the modalities.
      width: D.
      hidden: width of the query q.

    Returns:
      ``{"attention": see init_fuse_attention, "gates": {name: {"kernel", "bias"}}}``;
      kernels ``[D, D]`` by Glorot, bias 0.

    Examples:
      >>> import jax
      >>> params = init_fuse_common(jax.random.key(0), ["text"], 4, 3)
      >>> jax.tree.map(lambda x: x.shape, params["gates"])
      {'text': {'bias': (4,), 'kernel': (4, 4)}}
    """
    names = sorted(names)
    attention_key, *keys = jax.random.split(key, len(names) + 1)
    gates = {
        name: init_dense(key, width, width)
        for name, key in zip(names, keys, strict=True)
    }
    attention = init_fuse_attention(attention_key, width, hidden)
    return {"attention": attention, "gates": gates}


def fuse_common(
    params: Params,
    modalities: Arrays,
    content: jax.Array,
    present: Arrays | None = None,
) -> jax.Array:
    """Common and specific parts, ``h = (sum_m s_m + c) / (M + 1)``.

    Common is ``c = sum_m a_m z_m`` with ``a_m = softmax_m(q^T tanh(W z_m + b))``,
    specific ``s_m = (z_m - c) * sigmoid(G_m x + b_m)``, where z are the modalities, x
    the content, and M counts the modalities that the node has.

    Args:
      params: from `init_fuse_common`.
      modalities: ``[N, D]`` each.
      content: ``[N, D]``, what opens the gates: in MGCN the embeddings learnt from
        interactions.
      present: ``[N]`` mask each; None for no missing ones.

    Returns:
      ``[N, D]``; 0 where no modality is present.

    Raises:
      ValueError: shapes that do not fit, a modality without parameters, a mask for a
        modality that is not there.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> params = init_fuse_common(jax.random.key(0), ["image", "text"], 1, 1)
      >>> params = jax.tree.map(jnp.zeros_like, params)
      >>> modalities = {"image": jnp.array([[1.0]]), "text": jnp.array([[5.0]])}
      >>> fuse_common(params, modalities, jnp.array([[0.0]])).tolist()
      [[1.0]]

    References:
      Yu et al., Multi-view graph convolutional network for multimedia recommendation
      (MGCN), MM 2023, the behaviour-aware fuser.
    """
    gates = params["gates"]
    ready = prepare(modalities, present, known=gates, same_width=True)
    if content.shape != ready[0].values.shape:
        raise ValueError(
            f"content {content.shape} must have the shape of the modalities "
            f"{ready[0].values.shape}"
        )
    weights = _attend(ready, params["attention"])
    common = total(a[:, None] * m.values for a, m in zip(weights, ready, strict=True))
    specific = total(
        keep(m.present, m.values - common)
        * jax.nn.sigmoid(dense("content", content, gates[m.name]))
        for m in ready
    )
    count = total(m.present.astype(common.dtype) for m in ready)
    return (specific + common) / (count + 1.0)[:, None]


def _attend(ready: list[Modality], params: Params) -> list[jax.Array]:
    """Weights ``[N]`` of each modality, ``softmax_m(q^T tanh(W h_m + b))``.

    Args:
      ready: the modalities.
      params: ``{"kernel", "bias", "query"}``.

    Returns:
      One array a modality, which is 0 where it is missing.
    """
    logits = [
        jnp.tanh(dense(m.name, m.values, params)) @ params["query"] for m in ready
    ]
    masks = [m.present for m in ready]
    low = -jnp.inf
    shown = [jnp.where(p, x, low) for p, x in zip(masks, logits, strict=True)]
    top = jax.lax.stop_gradient(functools.reduce(jnp.maximum, shown))
    # Masked after the difference: a node without modalities has no finite top.
    powers = [
        jnp.exp(jnp.where(p, x - top, low)) for p, x in zip(masks, logits, strict=True)
    ]
    scale = jnp.where(any_present(ready), total(powers), 1.0)
    return [power / scale for power in powers]
