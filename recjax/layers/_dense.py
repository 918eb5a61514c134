"""A matrix and a bias, which most layers are made of."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.types import Params


def init_dense(key: jax.Array, width_in: int, width_out: int) -> Params:
    """``{"kernel", "bias"}``: Glorot, and 0."""
    kernel = nn.initializers.glorot_uniform()(key, (width_in, width_out))
    return {"kernel": kernel, "bias": jnp.zeros(width_out)}


def project(name: str, values: jax.Array, kernel: jax.Array) -> jax.Array:
    """``values @ kernel``, of widths that fit."""
    if values.shape[-1] != kernel.shape[0]:
        raise ValueError(
            f"{name} {values.shape} does not fit the kernel {kernel.shape}: the last "
            "axis of the one must be the first of the other"
        )
    return values @ kernel


def dense(name: str, values: jax.Array, params: Params) -> jax.Array:
    """``values @ kernel + bias``, of widths that fit."""
    return project(name, values, params["kernel"]) + params["bias"][None]
