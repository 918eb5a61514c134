"""Matrices one after the other, with a rectifier between them."""

import jax

from recjax.layers._dense import dense, init_dense, project
from recjax.types import Params


def init_mlp(key: jax.Array, *widths: int, bias: bool = True) -> Params:
    """Parameters of `mlp`.

    Args:
      key: a PRNG key.
      *widths: of the input, of every hidden layer, of the result.
      bias: whether layers add one.

    Returns:
      ``{"layer0": {"kernel", "bias"}, "layer1": ...}``, kernels by Glorot, biases 0.

    Raises:
      ValueError: fewer than two widths.

    Examples:
      >>> import jax
      >>> params = init_mlp(jax.random.key(0), 4, 3, 2)
      >>> [params[name]["kernel"].shape for name in sorted(params)]
      [(4, 3), (3, 2)]
    """
    if len(widths) < 2:
        raise ValueError(f"widths {widths} must be those of the input and the result")
    keys = jax.random.split(key, len(widths) - 1)
    layers = [init_dense(keys[i], *widths[i : i + 2]) for i in range(len(keys))]
    if not bias:
        layers = [{"kernel": layer["kernel"]} for layer in layers]
    return {f"layer{i}": layer for i, layer in enumerate(layers)}


def mlp(params: Params, x: jax.Array, *, negative_slope: float = 0.01) -> jax.Array:
    """Multilayer perceptron, ``h' = W h + b``, leaky_relu between two layers.

    Args:
      params: from `init_mlp`.
      x: ``[N, F]``.
      negative_slope: of the leaky rectifier; 0 for a plain one.

    Returns:
      ``[N, D]``.

    Raises:
      ValueError: the widths do not fit.

    Examples:
      >>> import jax.numpy as jnp
      >>> layer = {"kernel": jnp.array([[1.0]]), "bias": jnp.array([-1.0])}
      >>> mlp({"layer0": layer, "layer1": layer}, jnp.array([[4.0], [-99.0]])).tolist()
      [[2.0], [-2.0]]
    """
    for i in range(len(params)):
        if i:
            x = jax.nn.leaky_relu(x, negative_slope)
        layer = params[f"layer{i}"]
        through = dense if "bias" in layer else _bare
        x = through(f"the input of layer {i}", x, layer)
    return x


def _bare(name: str, values: jax.Array, params: Params) -> jax.Array:
    return project(name, values, params["kernel"])
