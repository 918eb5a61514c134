"""Sums over the edges of each receiver, and dot products along them.

`neighbour_sum` computes, for every receiver r of a graph,

    out[r] = sum over edges e with receivers[e] = r of weight[e] * x[senders[e]],

and `edge_dot`, for every edge, ``out[e] = x[senders[e]] . y[receivers[e]]``.  Each is
the derivative of the other, and both derivatives are written out instead of traced: no
array of a vector an edge is kept for them, and they can be taken again.
"""

import functools
import math
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp

from recjax.sparse._layout import Layout, general_layout
from recjax.sparse._products import make_product
from recjax.sparse._shards import sharded_sum

Implementation: TypeAlias = Literal["csr", "segment", "pallas"]

_IMPLEMENTATIONS = ("csr", "segment", "pallas")
# Edges of a block of dot products: what a cache holds, and what fills an accelerator
# (7 ms and 0.3 ms for 1.6 million edges of width 64 on an H200).
_EDGE_BLOCK, _EDGE_BLOCK_APART = 2**12, 2**18


def neighbour_sum(
    x: jax.Array,
    weight: jax.Array,
    senders: jax.Array,
    receivers: jax.Array,
    *,
    num_receivers: int,
    layout: Layout | None = None,
    implementation: Implementation | None = None,
) -> jax.Array:
    """Sum of weighted neighbour features.

    ``out[r] = sum over edges e with receivers[e] = r of weight[e] * x[senders[e]]``.
    The derivative with respect to the features is the same sum over the transposed
    edges, with respect to the weights it is `edge_dot`.

    Args:
      x: ``[senders, ...]`` features, floating; sums are taken in float32 or wider.
      weight: ``[E]`` floating, one weight an edge, or ``[E, H]``, one for each head of
        features ``[senders, H, ...]``.
      senders: ``[E]`` int.
      receivers: ``[E]`` int; ascending where a layout is given.
      num_receivers: rows of the result.
      layout: from `make_layout`; without it, any order of edges is taken.
      implementation: ``"csr"`` (a compressed-row product: several times faster on CPU),
        ``"pallas"`` (a kernel for GPUs; interpreted, and slow, on CPU), both of which
        need a layout, ``"segment"`` (gather, multiply, segment sum), or None for the
        first where this is compiled for a CPU and has a layout, else the last: on an
        H200 the fastest of the three in float32.  GPUs add its terms in any order, so
        that the last bits change from call to call; those of ``"pallas"`` do not, for
        a tenth to a fifth more time (and less time in bfloat16).

    Returns:
      ``[num_receivers, ...]`` in the type of ``x``; receivers without an edge are 0.

    Raises:
      ValueError: shapes do not fit, or ``"csr"`` or ``"pallas"`` is asked for without a
        layout.

    Examples:
      >>> import jax.numpy as jnp
      >>> x = jnp.array([[1.0], [10.0], [100.0]])
      >>> neighbour_sum(
      ...     x, jnp.array([0.5, 2.0]), jnp.array([1, 2]), jnp.array([0, 0]),
      ...     num_receivers=2,
      ... ).tolist()
      [[205.0], [0.0]]

    References:
      Nisa et al., Sampled dense matrix multiplication for high-performance machine
      learning, HiPC 2018 (the product and its derivative with respect to weights).
    """
    x, weight = jnp.asarray(x), jnp.asarray(weight)
    senders, receivers = _check_edges(senders, receivers)
    if weight.shape[:1] != senders.shape or weight.ndim > 2:
        raise ValueError(
            f"weight {weight.shape} must be [E] or [E, H] for senders {senders.shape} "
            f"and receivers {receivers.shape} of one length E"
        )
    if weight.ndim == 2 and x.shape[1:2] != weight.shape[1:]:
        raise ValueError(
            f"x {x.shape} must be [senders, H, ...] for weight [E, H] {weight.shape}"
        )
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x of type {x.dtype} must be floating")
    if implementation not in (None, *_IMPLEMENTATIONS):
        raise ValueError(
            f"implementation {implementation!r}: use one of {_IMPLEMENTATIONS}"
        )
    layout = _check_layout(layout, num_receivers)
    if layout is None and implementation in ("csr", "pallas"):
        raise ValueError(
            f"implementation={implementation!r} needs a layout; see make_layout"
        )
    product = functools.partial(_product, (implementation, num_receivers))
    heads = weight.shape[1:]
    # An explicit width: -1 cannot be told from an array without entries.
    columns = x.reshape(len(x), *heads, math.prod(x.shape[1 + len(heads) :]))
    edges = (senders, receivers, layout)
    if heads:
        out = jax.vmap(product, (1, 1, None, None, None), 1)(columns, weight, *edges)
    else:
        out = product(columns, weight, *edges)
    return out.reshape(num_receivers, *x.shape[1:])


def edge_dot(
    x: jax.Array,
    y: jax.Array,
    senders: jax.Array,
    receivers: jax.Array,
    *,
    layout: Layout | None = None,
) -> jax.Array:
    """Dot product of the two ends of every edge.

    ``out[e] = x[senders[e]] . y[receivers[e]]``, over the last axis; its derivatives
    are neighbour sums.  It is computed in blocks of edges.

    Args:
      x: ``[senders, D]`` or ``[senders, H, D]``, floating.
      y: ``[receivers, D]`` or ``[receivers, H, D]``.
      senders: ``[E]`` int.
      receivers: ``[E]`` int; ascending where a layout is given.
      layout: from `make_layout`; makes the derivatives fast.

    Returns:
      ``[E]`` or ``[E, H]``, in float32 or wider.

    Raises:
      ValueError: shapes do not fit.

    Examples:
      >>> import jax.numpy as jnp
      >>> x, y = jnp.array([[1.0, 2.0]]), jnp.array([[0.0, 0.0], [3.0, 4.0]])
      >>> edge_dot(x, y, jnp.array([0]), jnp.array([1])).tolist()
      [11.0]

    References:
      Nisa et al., Sampled dense matrix multiplication for high-performance machine
      learning, HiPC 2018.
    """
    x, y = jnp.asarray(x), jnp.asarray(y)
    senders, receivers = _check_edges(senders, receivers)
    if x.ndim not in (2, 3) or x.shape[1:] != y.shape[1:]:
        raise ValueError(
            f"x {x.shape} and y {y.shape} must be [nodes, D] or [nodes, H, D] alike"
        )
    if not jnp.issubdtype(jnp.result_type(x, y), jnp.floating):
        raise ValueError(f"x of type {x.dtype} and y of {y.dtype} must be floating")
    layout = general_layout(_check_layout(layout, len(y)), senders)
    if x.ndim == 3:
        return jax.vmap(_dot, (1, 1, None, None, None), 1)(
            x, y, senders, receivers, layout
        )
    return _dot(x, y, senders, receivers, layout)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _product(how, x, weight, senders, receivers, layout):
    if layout is not None and layout.shards is not None:
        product = functools.partial(make_product, how[0])
        return sharded_sum(product, x, weight, senders, receivers, layout.shards)
    row_pointer = None if layout is None else layout.row_pointer
    return make_product(*how)(x, weight, senders, receivers, row_pointer)


def _product_fwd(how, x, weight, senders, receivers, layout):
    out = _product(how, x, weight, senders, receivers, layout)
    return out, (x, weight, senders, receivers, layout)


def _product_bwd(how, residuals, grad):
    x, weight, senders, receivers, layout = residuals
    grad = jnp.asarray(grad)
    grad_x = _transposed(how[0], grad, len(x), weight, senders, receivers, layout)
    # Dropped by the compiler where nobody asks for it.
    grad_weight = _dot(x, grad, senders, receivers, general_layout(layout, senders))
    return grad_x.astype(x.dtype), grad_weight.astype(weight.dtype), None, None, None


_product.defvjp(_product_fwd, _product_bwd)


@jax.custom_vjp
def _dot(x, y, senders, receivers, layout):
    del layout
    wide = jnp.promote_types(jnp.result_type(x, y), jnp.float32)
    if not (len(x) and len(y)):
        return jnp.zeros(len(senders), wide)

    def dot(edge):
        sender, receiver = edge
        return jnp.sum(x[sender].astype(wide) * y[receiver].astype(wide))

    # In blocks, so that the gathered rows never stand in memory together.
    block = _EDGE_BLOCK if jax.default_backend() == "cpu" else _EDGE_BLOCK_APART
    return jax.lax.map(dot, (senders, receivers), batch_size=block)


def _dot_fwd(x, y, senders, receivers, layout):
    return _dot(x, y, senders, receivers, layout), (x, y, senders, receivers, layout)


def _dot_bwd(residuals, grad):
    x, y, senders, receivers, layout = residuals
    grad = jnp.asarray(grad)
    grad_x = _transposed(None, y, len(x), grad, senders, receivers, layout)
    grad_y = _product((None, len(y)), x, grad, senders, receivers, layout)
    return grad_x.astype(x.dtype), grad_y.astype(y.dtype), None, None, None


_dot.defvjp(_dot_fwd, _dot_bwd)


def _transposed(implementation, y, num_senders, weight, senders, receivers, layout):
    """The sum at every sender of weighted rows ``y`` of its receivers."""
    if layout is not None and layout.reverse is not None:
        edges = (weight, senders, receivers, layout)
    elif layout is not None and layout.transpose is not None:
        order, row_pointer, sent, shards = layout.transpose
        back = Layout(row_pointer, shards=shards)
        edges = (weight[order], sent, senders[order], back)
    else:
        implementation, edges = "segment", (weight, receivers, senders, None)
    return _product((implementation, num_senders), y, *edges)


def _check_edges(senders, receivers):
    senders = jnp.asarray(senders, jnp.int32)
    receivers = jnp.asarray(receivers, jnp.int32)
    if senders.ndim != 1 or senders.shape != receivers.shape:
        raise ValueError(
            f"senders {senders.shape} and receivers {receivers.shape} must be vectors "
            "of one length E"
        )
    return senders, receivers


def _check_layout(layout, num_receivers):
    if layout is not None and layout.row_pointer.shape != (num_receivers + 1,):
        raise ValueError(
            f"row_pointer {layout.row_pointer.shape} must have num_receivers + 1 = "
            f"{num_receivers + 1} entries"
        )
    return jax.tree.map(jnp.asarray, layout)
