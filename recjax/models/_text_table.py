"""One table of items made of what is learned of each, and of its text."""

from typing import Literal, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.layers import (
    fuse_concat,
    fuse_gated,
    fuse_sum,
    init_fuse_concat,
    init_fuse_gated,
)
from recjax.models._texts import masked
from recjax.types import Feature, Params

Fusion: TypeAlias = Literal["sum", "gated", "concat", "apart"]


def init_text_table(key: jax.Array, fusion: Fusion, width: int, dim: int) -> Params:
    """Parameters of `text_table`.

    Args:
      key: a PRNG key.
      fusion: as there.
      width: F of the texts.
      dim: D of the result.

    Returns:
      ``{"project": [F, D]}``, or ``[F, D / 2]`` to stand apart, by Glorot; those of
      `fuse_gated` or `fuse_concat` under ``"fuse"``.
    """
    widths = {"table": dim, "text": width}
    if fusion == "gated":
        return {"fuse": init_fuse_gated(key, widths, dim)}
    if fusion == "concat":
        return {"fuse": init_fuse_concat(key, widths, dim)}
    wide = dim // 2 if fusion == "apart" else dim
    return {"project": nn.initializers.glorot_uniform()(key, (width, wide))}


def text_table(
    params: Params, fusion: Fusion, table: jax.Array, text: Feature
) -> jax.Array:
    """What items bring into the graph.

    Args:
      params: from `init_text_table`.
      fusion: ``"sum"`` adds ``P x_i`` to the row of the table, ``"gated"`` and
        ``"concat"`` are those of `recjax.layers`, and ``"apart"`` puts ``P x_i`` in
        the place of the second half of the row.
      table: ``[I, D]``.
      text: ``[I, F]``.

    Returns:
      ``[I, D]``.

    Examples:
      >>> text = Feature(jnp.array([[2.0], [9.0]]), jnp.array([True, False]))
      >>> params = {"project": jnp.array([[3.0]])}
      >>> text_table(params, "sum", jnp.ones((2, 1)), text).tolist()
      [[7.0], [1.0]]
      >>> text_table(params, "apart", jnp.ones((2, 2)), text).tolist()
      [[1.0, 6.0], [1.0, 0.0]]
    """
    present = {"text": text.present}
    if fusion in ("gated", "concat"):
        fuse = fuse_gated if fusion == "gated" else fuse_concat
        return fuse(params["fuse"], {"table": table, "text": text.values}, present)
    projected = masked(text.values @ params["project"], text.present)
    if fusion == "apart":
        return jnp.concatenate([table[:, : table.shape[1] // 2], projected], axis=1)
    return fuse_sum({"table": table, "text": projected})
