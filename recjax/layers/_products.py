"""Fusion of modalities by products: bilinear pooling, and modulation.

The conventions on missing modalities are those of `recjax.layers._fusion`.
"""

import functools
import operator
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.layers._dense import dense, init_dense, project
from recjax.layers._modalities import Arrays, any_present, keep, prepare
from recjax.types import Params


def init_fuse_bilinear(
    key: jax.Array, widths: Mapping[str, int], width: int, *, rank: int
) -> Params:
    """Parameters of `fuse_bilinear`.

    Args:
      key: a PRNG key.
      widths: F of each modality.
      width: D of the result.
      rank: R, the width of the product.

    Returns:
      ``{"factors": {name: [F, R]}, "kernel": [R, D]}``, by Glorot.

    Examples:
      >>> import jax
      >>> widths = {"text": 3, "image": 2}
      >>> params = init_fuse_bilinear(jax.random.key(0), widths, 4, rank=5)
      >>> jax.tree.map(lambda x: x.shape, params)
      {'factors': {'image': (2, 5), 'text': (3, 5)}, 'kernel': (5, 4)}
    """
    init = nn.initializers.glorot_uniform()
    last, *keys = jax.random.split(key, len(widths) + 1)
    factors = {
        name: init(key, (widths[name], rank))
        for name, key in zip(sorted(widths), keys, strict=True)
    }
    return {"factors": factors, "kernel": init(last, (rank, width))}


def fuse_bilinear(
    params: Params, modalities: Arrays, present: Arrays | None = None
) -> jax.Array:
    """Low-rank bilinear pooling, ``h = U^T ((V_1 h_1) * ... * (V_M h_M))``.

    A missing factor is left out of the product.

    Args:
      params: from `init_fuse_bilinear`.
      modalities: ``[N, F]`` each.
      present: ``[N]`` mask each; None for no missing ones.

    Returns:
      ``[N, D]``; 0 (and not the empty product) where no modality is present.

    Raises:
      ValueError: shapes that do not fit, a modality without parameters, a mask for a
        modality that is not there.

    Examples:
      >>> import jax.numpy as jnp
      >>> factors = {"image": jnp.array([[2.0]]), "text": jnp.array([[5.0]])}
      >>> params = {"factors": factors, "kernel": jnp.array([[10.0]])}
      >>> modalities = {"image": jnp.array([[1.0]]), "text": jnp.array([[3.0]])}
      >>> fuse_bilinear(params, modalities).tolist()
      [[300.0]]
      >>> fuse_bilinear(params, modalities, {"text": jnp.array([False])}).tolist()
      [[20.0]]

    References:
      Kim et al., Hadamard product for low-rank bilinear pooling, ICLR 2017; Liu et
      al., Efficient low-rank multimodal fusion, ACL 2018 (more than two modalities).
    """
    factors = params["factors"]
    ready = prepare(modalities, present, known=factors)
    product = functools.reduce(
        operator.mul,
        (
            keep(m.present, project(m.name, m.values, factors[m.name]), 1.0)
            for m in ready
        ),
    )
    fused = project("the product", product, params["kernel"])
    return keep(any_present(ready), fused)


def init_film(key: jax.Array, width_condition: int, width: int) -> Params:
    """Parameters of `film`.

    Args:
      key: a PRNG key.
      width_condition: F of the condition.
      width: D of the nodes.

    Returns:
      ``{"gamma": {"kernel", "bias"}, "beta": {"kernel", "bias"}}``; kernels
      ``[F, D]`` by Glorot, bias 1 for gamma and 0 for beta.

    Examples:
      >>> import jax
      >>> params = init_film(jax.random.key(0), 3, 2)
      >>> params["gamma"]["bias"].tolist(), params["beta"]["kernel"].shape
      ([1.0, 1.0], (3, 2))
    """
    gamma_key, beta_key = jax.random.split(key)
    gamma = init_dense(gamma_key, width_condition, width)
    # Training starts from a perturbation of the nodes, not from a product with noise.
    gamma["bias"] = jnp.ones(width)
    return {"gamma": gamma, "beta": init_dense(beta_key, width_condition, width)}


def film(
    params: Params,
    nodes: jax.Array,
    condition: jax.Array,
    present: jax.Array | None = None,
) -> jax.Array:
    """Feature-wise linear modulation, ``h' = gamma(c) * h + beta(c)``.

    ``gamma(c) = W_gamma c + b_gamma`` and ``beta(c) = W_beta c + b_beta``.

    Args:
      params: from `init_film`.
      nodes: ``[N, D]``, h.
      condition: ``[N, F]``, c.
      present: ``[N]`` mask of the condition; None for all present.

    Returns:
      ``[N, D]``; the nodes as they are where the condition is missing.

    Raises:
      ValueError: shapes that do not fit.

    Examples:
      >>> import jax.numpy as jnp
      >>> params = {
      ...     "gamma": {"kernel": jnp.array([[2.0]]), "bias": jnp.array([1.0])},
      ...     "beta": {"kernel": jnp.array([[10.0]]), "bias": jnp.array([0.0])},
      ... }
      >>> nodes, condition = jnp.array([[3.0], [3.0]]), jnp.array([[1.0], [1.0]])
      >>> film(params, nodes, condition, jnp.array([True, False])).tolist()
      [[19.0], [3.0]]

    References:
      Perez et al., FiLM: visual reasoning with a general conditioning layer, AAAI
      2018, equations 1 and 2.
    """
    masks = None if present is None else {"condition": present}
    _, condition, mask = prepare({"condition": condition}, masks)[0]
    gamma = dense("condition", condition, params["gamma"])
    if nodes.shape != gamma.shape:
        raise ValueError(
            f"nodes {nodes.shape} must have the shape of gamma {gamma.shape}"
        )
    beta = dense("condition", condition, params["beta"])
    return jnp.where(mask[:, None], gamma * nodes + beta, nodes)
