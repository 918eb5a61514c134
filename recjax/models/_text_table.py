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
Sharing: TypeAlias = Literal["none", "own", "shared"]


def init_text_table(
    key: jax.Array, fusion: Fusion, width: int, dim: int, *, skip: Sharing = "none"
) -> Params:
    """Parameters of `text_table` and `past_graph`.

    Args:
      key: a PRNG key.
      fusion: as in the first.
      width: F of the texts.
      dim: D of the result.
      skip: as in the second.

    Returns:
      ``{"project": [F, D]}``, or ``[F, D / 2]`` to stand apart, by Glorot; those of
      `fuse_gated` or `fuse_concat` under ``"fuse"``; and ``{"skip": [F, D]}`` where it
      has its own.
    """
    table_key, skip_key = jax.random.split(key)
    glorot, widths = nn.initializers.glorot_uniform(), {"table": dim, "text": width}
    own = {"skip": glorot(skip_key, (width, dim))} if skip == "own" else {}
    if fusion == "gated":
        return own | {"fuse": init_fuse_gated(table_key, widths, dim)}
    if fusion == "concat":
        return own | {"fuse": init_fuse_concat(table_key, widths, dim)}
    wide = dim // 2 if fusion == "apart" else dim
    return own | {"project": glorot(table_key, (width, wide))}


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


def past_graph(
    params: Params,
    skip: Sharing,
    vectors: jax.Array,
    text: Feature,
    *,
    rows: jax.Array | None = None,
) -> jax.Array:
    """Vectors of items behind the graph, with what the text adds there, ``P' x_i``.

    Args:
      params: from `init_text_table`.
      skip: ``"none"`` adds nothing, ``"own"`` by a projection of its own, ``"shared"``
        by the one that brings the text into the graph.
      vectors: ``[..., D]``.
      text: ``[I, F]``.
      rows: ``[...]``, whose vectors they are; None for those of all items.

    Returns:
      ``[..., D]``.

    Examples:
      >>> text = Feature(jnp.array([[2.0], [9.0]]), jnp.array([True, False]))
      >>> params = {"project": jnp.array([[3.0]])}
      >>> past_graph(params, "shared", jnp.ones((2, 1)), text).tolist()
      [[7.0], [1.0]]
    """
    if skip == "none":
        return vectors
    values, present = text if rows is None else (text.values[rows], text.present[rows])
    kernel = params["project" if skip == "shared" else "skip"]
    return vectors + jnp.where(present[..., None], values @ kernel, 0)
