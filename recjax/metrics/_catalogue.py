"""Metrics of all lists together: how the catalogue is used."""

import jax
import jax.numpy as jnp


def coverage_metric(exposure: jax.Array) -> jax.Array:
    r"""Coverage: the share of the catalogue that is recommended to anybody.

    .. math:: \frac{1}{I} \sum_i [\, x_i > 0 \,]

    Args:
      exposure: ``[..., I]`` how many lists hold each item.

    Returns:
      ``[...]`` float32.

    Examples:
      >>> coverage_metric(jnp.array([5, 0, 1, 0])).item()
      0.5
    """
    return (jnp.asarray(exposure) > 0).astype(jnp.float32).mean(axis=-1)


def gini_metric(exposure: jax.Array) -> jax.Array:
    r"""Gini index of the exposure: 0 if all items are shown alike, near 1 if one is.

    .. math::
      G = \frac{\sum_{r=1}^{I} (2r - I - 1)\, x_{(r)}}{I \sum_i x_i},
      \qquad x_{(1)} \le \dots \le x_{(I)}

    Args:
      exposure: ``[..., I]`` how many lists hold each item.

    Returns:
      ``[...]`` float32; 0 where nothing was shown.

    Examples:
      >>> gini_metric(jnp.array([0, 0, 0, 8])).item()  # (I - 1) / I
      0.75
    """
    exposure = jnp.sort(jnp.asarray(exposure, jnp.float32), axis=-1)
    num_items = exposure.shape[-1]
    rank = jnp.arange(1, num_items + 1, dtype=jnp.float32)
    slope = jnp.broadcast_to((2 * rank - num_items - 1) / num_items, exposure.shape)
    total = exposure.sum(axis=-1, keepdims=True)
    share = exposure / jnp.where(total > 0, total, 1.0)
    return (slope * share).sum(axis=-1)
