"""Fusion of modalities by sums: plain, concatenated, gated.

All share a convention.  Modalities travel in a dictionary, whose order never matters;
``present`` holds masks by the same names.  A modality that a node lacks is as if it
were not there, whatever its row holds, and a node without any gets 0.  One that has
parameters but is not among the modalities is missing everywhere.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from recjax.layers._dense import dense, init_dense, project
from recjax.layers._modalities import Arrays, any_present, keep, prepare, total
from recjax.types import Params


def fuse_sum(
    modalities: Arrays,
    weights: Mapping[str, jax.Array | float] | None = None,
    present: Arrays | None = None,
    *,
    normalise: bool = False,
) -> jax.Array:
    """Weighted sum of modalities, ``h = sum_m w_m h_m``.

    Args:
      modalities: ``[N, D]`` each.
      weights: a scalar w for each; None weights all by 1.
      present: ``[N]`` mask each; None for no missing ones.
      normalise: whether to divide by the sum of the weights of those present.

    Returns:
      ``[N, D]``; 0 where no modality is present or, if normalised, where the weights
      of those present sum to 0.

    Raises:
      ValueError: shapes that do not fit, a modality without a weight, a weight that
        is no scalar, a mask for a modality that is not there.

    Examples:
      >>> import jax.numpy as jnp
      >>> modalities = {"image": jnp.array([[1.0], [2.0]]), "text": jnp.ones((2, 1))}
      >>> weights = {"image": 3.0, "text": 1.0}
      >>> fuse_sum(modalities, weights).tolist()
      [[4.0], [7.0]]
      >>> present = {"text": jnp.array([True, False])}
      >>> fuse_sum(modalities, weights, present, normalise=True).tolist()
      [[1.0], [2.0]]

    References:
      Baltrušaitis et al., Multimodal machine learning: a survey and taxonomy, TPAMI
      2019, section 6 (fusion).
    """
    ready = prepare(modalities, present, known=weights, same_width=True)
    shares = []
    for name, values, mask in ready:
        weight = jnp.asarray(1.0 if weights is None else weights[name], values.dtype)
        if weight.shape:
            raise ValueError(
                f"the weight of {name} {weight.shape} must be a scalar (), as it is "
                f"one for all rows of {values.shape}"
            )
        shares.append(jnp.where(mask, weight, 0.0))
    fused = total(w[:, None] * m.values for w, m in zip(shares, ready, strict=True))
    if not normalise:
        return fused
    mass = total(shares)
    some = mass != 0
    return keep(some, fused / jnp.where(some, mass, 1.0)[:, None])


def fuse_mean(modalities: Arrays, present: Arrays | None = None) -> jax.Array:
    """Mean over the modalities that a node has, ``h = (1 / M) sum_m h_m``.

    Args:
      modalities: ``[N, D]`` each.
      present: ``[N]`` mask each; None for no missing ones.

    Returns:
      ``[N, D]``; 0 where no modality is present.

    Raises:
      ValueError: shapes that do not fit, a mask for a modality that is not there.

    Examples:
      >>> import jax.numpy as jnp
      >>> modalities = {"image": jnp.array([[1.0], [2.0]]), "text": jnp.zeros((2, 1))}
      >>> fuse_mean(modalities, {"text": jnp.array([True, False])}).tolist()
      [[0.5], [2.0]]

    References:
      Baltrušaitis et al., Multimodal machine learning: a survey and taxonomy, TPAMI
      2019, section 6 (fusion).
    """
    return fuse_sum(modalities, present=present, normalise=True)


def init_fuse_concat(key: jax.Array, widths: Mapping[str, int], width: int) -> Params:
    """Parameters of `fuse_concat`.

    Args:
      key: a PRNG key.
      widths: F of each modality.
      width: D of the result.

    Returns:
      ``{"kernels": {name: [F, D]}, "bias": [D]}``; the kernels are the rows of one
      Glorot matrix ``[sum F, D]``, the bias is 0.

    Examples:
      >>> import jax
      >>> params = init_fuse_concat(jax.random.key(0), {"text": 3, "image": 2}, 4)
      >>> jax.tree.map(lambda x: x.shape, params)
      {'bias': (4,), 'kernels': {'image': (2, 4), 'text': (3, 4)}}
    """
    names = sorted(widths)
    sizes = [widths[name] for name in names]
    kernel = nn.initializers.glorot_uniform()(key, (sum(sizes), width))
    blocks = jnp.split(kernel, np.cumsum(sizes)[:-1])
    return {
        "kernels": dict(zip(names, blocks, strict=True)),
        "bias": jnp.zeros(width),
    }


def fuse_concat(
    params: Params, modalities: Arrays, present: Arrays | None = None
) -> jax.Array:
    """Projection of the concatenation, ``h = W [h_1; ...; h_M] + b``.

    A missing modality is 0 in the concatenation.

    Args:
      params: from `init_fuse_concat`.
      modalities: ``[N, F]`` each.
      present: ``[N]`` mask each; None for no missing ones.

    Returns:
      ``[N, D]``; 0 (and not the bias) where no modality is present.

    Raises:
      ValueError: shapes that do not fit, a modality without parameters, a mask for a
        modality that is not there.

    Examples:
      >>> import jax.numpy as jnp
      >>> kernels = {"image": jnp.array([[1.0]]), "text": jnp.array([[2.0], [3.0]])}
      >>> params = {"kernels": kernels, "bias": jnp.array([0.5])}
      >>> modalities = {"image": jnp.array([[1.0]]), "text": jnp.array([[1.0, 1.0]])}
      >>> fuse_concat(params, modalities).tolist()
      [[6.5]]
      >>> fuse_concat(params, modalities, {"text": jnp.array([False])}).tolist()
      [[1.5]]

    References:
      Baltrušaitis et al., Multimodal machine learning: a survey and taxonomy, TPAMI
      2019, section 6 (fusion).
    """
    kernels = params["kernels"]
    ready = prepare(modalities, present, known=kernels)
    # By blocks of the matrix: the concatenation, M times as wide, is never made.
    fused = total(project(m.name, m.values, kernels[m.name]) for m in ready)
    return keep(any_present(ready), fused + params["bias"][None])


def init_fuse_gated(key: jax.Array, widths: Mapping[str, int], width: int) -> Params:
    """Parameters of `fuse_gated`.

    Args:
      key: a PRNG key.
      widths: F of each modality.
      width: D of the result.

    Returns:
      ``{name: {"gate": {"kernel", "bias"}, "value": {"kernel"}}}``; kernels
      ``[F, D]`` by Glorot, bias 0.

    Examples:
      >>> import jax
      >>> params = init_fuse_gated(jax.random.key(0), {"text": 3}, 4)
      >>> jax.tree.map(lambda x: x.shape, params["text"])
      {'gate': {'bias': (4,), 'kernel': (3, 4)}, 'value': {'kernel': (3, 4)}}
    """
    init = nn.initializers.glorot_uniform()
    params = {}
    keys = jax.random.split(key, len(widths))
    for name, name_key in zip(sorted(widths), keys, strict=True):
        gate_key, value_key = jax.random.split(name_key)
        params[name] = {
            "gate": init_dense(gate_key, widths[name], width),
            "value": {"kernel": init(value_key, (widths[name], width))},
        }
    return params


def fuse_gated(
    params: Params, modalities: Arrays, present: Arrays | None = None
) -> jax.Array:
    """Gated sum, ``h = sum_m sigmoid(W_m h_m + b_m) * (P_m h_m)``.

    Args:
      params: from `init_fuse_gated`.
      modalities: ``[N, F]`` each.
      present: ``[N]`` mask each; None for no missing ones.

    Returns:
      ``[N, D]``; 0 where no modality is present.

    Raises:
      ValueError: shapes that do not fit, a modality without parameters, a mask for a
        modality that is not there.

    Examples:
      >>> import jax.numpy as jnp
      >>> gate = {"kernel": jnp.array([[0.0]]), "bias": jnp.array([0.0])}
      >>> params = {"text": {"gate": gate, "value": {"kernel": jnp.array([[3.0]])}}}
      >>> fuse_gated(params, {"text": jnp.array([[2.0]])}).tolist()
      [[3.0]]

    References:
      Dauphin et al., Language modeling with gated convolutional networks, ICML 2017
      (the gated linear unit); Arevalo et al., Gated multimodal units, ICLR 2017
      workshop.
    """
    # A missing modality is 0, and so is its second factor, without another mask.
    return total(
        jax.nn.sigmoid(dense(m.name, m.values, params[m.name]["gate"]))
        * project(m.name, m.values, params[m.name]["value"]["kernel"])
        for m in prepare(modalities, present, known=params)
    )
