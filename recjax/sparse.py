"""Sums of weighted neighbour features: the one sparse product that recjax is built on.

`neighbour_sum` computes, for every receiver r of a graph,

    out[r] = sum over edges e with receivers[e] = r of weight[e] * x[senders[e]].

Its derivatives are written out instead of traced: with respect to the features it is
the same product over the transposed edges, so that no ``[E, D]`` array is kept; with
respect to the weights it is one dot product an edge.
"""

import functools
import math
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import jraph
import numpy as np
from jax.experimental import sparse as jax_sparse

from recjax.types import ItemLists

Implementation: TypeAlias = Literal["csr", "segment"]

_EDGE_BLOCK = 16_384


class Transpose(NamedTuple):
    """The edges in the order of the transposed product.

    Attributes:
      order: ``[E]`` int32, edges sorted by sender.
      row_pointer: ``[senders + 1]`` int32, where each sender's edges begin.
    """

    order: Any
    row_pointer: Any


class Layout(NamedTuple):
    """Where each receiver's edges lie, for edges sorted by receiver.

    Attributes:
      row_pointer: ``[receivers + 1]`` int32; the edges of receiver r are
        ``row_pointer[r] : row_pointer[r + 1]``.
      transpose: the transposed order, or None where the matrix of weights equals its
        own transpose, so that one order serves both directions.
    """

    row_pointer: Any
    transpose: Transpose | None


def make_layout(
    senders: np.ndarray,
    receivers: np.ndarray,
    *,
    num_senders: int,
    num_receivers: int,
    symmetric: bool = False,
) -> Layout:
    """The `Layout` of edges that are sorted by receiver; computed once, on the host.

    Args:
      senders: ``[E]`` int.
      receivers: ``[E]`` int, ascending.
      num_senders: rows of the features that are sent.
      num_receivers: rows of the sum.
      symmetric: promise that the weight of every edge equals that of its reverse
        edge; the transposed order is then left out.  Only the pattern is checked.

    Returns:
      The layout, as NumPy arrays.

    Raises:
      ValueError: the edges are not sorted by receiver, an id is out of range, or the
        pattern is not symmetric although promised.

    Examples:
      >>> import numpy as np
      >>> layout = make_layout(
      ...     np.array([1, 2, 0]), np.array([0, 0, 2]), num_senders=3, num_receivers=3
      ... )
      >>> layout.row_pointer.tolist(), layout.transpose.order.tolist()
      ([0, 2, 2, 3], [2, 0, 1])
    """
    senders, receivers = np.asarray(senders), np.asarray(receivers)
    if senders.shape != receivers.shape or senders.ndim != 1:
        raise ValueError(
            f"senders {senders.shape} and receivers {receivers.shape} must be two "
            "vectors of one length"
        )
    if senders.size:
        if receivers.min() < 0 or receivers.max() >= num_receivers:
            raise ValueError(
                f"receivers run from {receivers.min()} to {receivers.max()}, but there "
                f"are {num_receivers} of them"
            )
        if senders.min() < 0 or senders.max() >= num_senders:
            raise ValueError(
                f"senders run from {senders.min()} to {senders.max()}, but there are "
                f"{num_senders} of them"
            )
    if np.any(np.diff(receivers) < 0):
        raise ValueError("edges must be sorted by receiver; sort them first")
    row_pointer = np.searchsorted(receivers, np.arange(num_receivers + 1))
    order = np.lexsort((receivers, senders))
    transpose = Transpose(
        order.astype(np.int32),
        np.searchsorted(senders[order], np.arange(num_senders + 1)).astype(np.int32),
    )
    if symmetric:
        # A symmetric pattern read by columns is the same list of edges as by rows,
        # once the senders of each row are ascending.
        by_row = np.lexsort((senders, receivers))
        if num_senders != num_receivers or not (
            np.array_equal(senders[order], receivers[by_row])
            and np.array_equal(receivers[order], senders[by_row])
        ):
            raise ValueError("symmetric=True, but some edge has no reverse edge")
        transpose = None
    return Layout(row_pointer.astype(np.int32), transpose)


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

    Args:
      x: ``[senders, ...]`` features, floating; sums are taken in float32 or wider.
      weight: ``[E]`` floating, one weight an edge.
      senders: ``[E]`` int.
      receivers: ``[E]`` int; ascending where a layout is given.
      num_receivers: rows of the result.
      layout: from `make_layout`; without it, any order of edges is taken.
      implementation: ``"csr"`` (a compressed-row product: several times faster on
        CPU; needs a layout), ``"segment"`` (gather, multiply, segment sum), or None
        for the faster of the two where the computation is lowered.

    Returns:
      ``[num_receivers, ...]`` in the type of ``x``; receivers without an edge are 0.

    Raises:
      ValueError: shapes do not fit, or ``"csr"`` is asked for without a layout.

    Examples:
      >>> import jax.numpy as jnp
      >>> x = jnp.array([[1.0], [10.0], [100.0]])
      >>> neighbour_sum(
      ...     x, jnp.array([0.5, 2.0]), jnp.array([1, 2]), jnp.array([0, 0]),
      ...     num_receivers=2,
      ... ).tolist()
      [[205.0], [0.0]]
    """
    x, weight = jnp.asarray(x), jnp.asarray(weight)
    senders = jnp.asarray(senders, jnp.int32)
    receivers = jnp.asarray(receivers, jnp.int32)
    if not (weight.ndim == 1 and weight.shape == senders.shape == receivers.shape):
        raise ValueError(
            f"weight {weight.shape}, senders {senders.shape} and receivers "
            f"{receivers.shape} must be vectors of one length E"
        )
    if implementation not in (None, "csr", "segment"):
        raise ValueError(f"implementation {implementation!r}: use 'csr' or 'segment'")
    if layout is None:
        if implementation == "csr":
            raise ValueError("implementation='csr' needs a layout; see make_layout")
        return _segment_sum(x, weight, senders, receivers, num_receivers, False)
    if layout.row_pointer.shape != (num_receivers + 1,):
        raise ValueError(
            f"row_pointer {layout.row_pointer.shape} must have num_receivers + 1 = "
            f"{num_receivers + 1} entries"
        )
    layout = jax.tree.map(jnp.asarray, layout)
    columns = x.reshape(x.shape[0], math.prod(x.shape[1:]))
    out = _product(implementation, columns, weight, senders, receivers, layout)
    return out.reshape(num_receivers, *x.shape[1:])


def _segment_sum(x, weight, senders, receivers, num_receivers, is_sorted):
    wide = jnp.promote_types(x.dtype, jnp.float32)
    scale = weight.astype(wide).reshape(-1, *[1] * (x.ndim - 1))
    messages = x[senders].astype(wide) * scale
    out = jax.ops.segment_sum(
        messages, receivers, num_receivers, indices_are_sorted=is_sorted
    )
    return out.astype(x.dtype)


@jax.custom_batching.custom_vmap
def _csr_sum(x, weight, senders, row_pointer):
    # The CPU kernel knows float32 and float64 only.
    wide = jnp.promote_types(x.dtype, jnp.float32)
    matrix = jax_sparse.BCSR(
        (weight.astype(wide), senders, row_pointer),
        shape=(row_pointer.shape[0] - 1, x.shape[0]),
    )
    return (matrix @ x.astype(wide)).astype(x.dtype)


@_csr_sum.def_vmap
def _csr_sum_vmap(axis_size, batched, x, weight, senders, row_pointer):
    if batched == [True, False, False, False]:
        # Shared weights: the batch becomes extra feature columns of one product.
        wide = jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1)
        out = _csr_sum(wide, weight, senders, row_pointer)
        out = out.reshape(-1, axis_size, x.shape[2])
        return jnp.moveaxis(out, 1, 0), True
    args = [
        arg if is_batched else jnp.broadcast_to(arg, (axis_size, *arg.shape))
        for arg, is_batched in zip(
            (x, weight, senders, row_pointer), batched, strict=True
        )
    ]
    return jax.lax.map(lambda one: _csr_sum(*one), tuple(args)), True


def _forward(implementation, x, weight, senders, receivers, row_pointer):
    def csr(x, weight, senders, receivers, row_pointer):
        del receivers
        return _csr_sum(x, weight, senders, row_pointer)

    def segment(x, weight, senders, receivers, row_pointer):
        num = row_pointer.shape[0] - 1
        return _segment_sum(x, weight, senders, receivers, num, True)

    args = (x, weight, senders, receivers, row_pointer)
    if implementation == "csr":
        return csr(*args)
    if implementation == "segment":
        return segment(*args)
    return jax.lax.platform_dependent(*args, cpu=csr, default=segment)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _product(implementation, x, weight, senders, receivers, layout):
    return _forward(implementation, x, weight, senders, receivers, layout.row_pointer)


def _product_fwd(implementation, x, weight, senders, receivers, layout):
    out = _forward(implementation, x, weight, senders, receivers, layout.row_pointer)
    return out, (x, weight, senders, receivers, layout)


def _product_bwd(implementation, residuals, grad):
    x, weight, senders, receivers, layout = residuals
    grad = jnp.asarray(grad)
    if layout.transpose is None:
        edges = (weight, senders, receivers, layout.row_pointer)
    else:
        order, row_pointer = layout.transpose
        edges = (weight[order], receivers[order], senders[order], row_pointer)
    grad_x = _forward(implementation, grad, *edges)

    def dot(edge):
        sender, receiver = edge
        return jnp.vdot(grad[receiver], x[sender], preferred_element_type=wide)

    # Dropped by the compiler where nobody asks for it; in blocks, so that the
    # gathered rows never stand in memory together.
    wide = jnp.promote_types(x.dtype, jnp.float32)
    grad_weight = jax.lax.map(dot, (senders, receivers), batch_size=_EDGE_BLOCK)
    return grad_x, grad_weight.astype(weight.dtype), None, None, None


_product.defvjp(_product_fwd, _product_bwd)


def graph_sum(
    graph: jraph.GraphsTuple,
    nodes: jax.Array,
    *,
    implementation: Implementation | None = None,
) -> jax.Array:
    """Sum of weighted neighbour features over a graph: the matrix product A nodes.

    Args:
      graph: weights in ``edges["weight"]`` (1 where there are none); a graph with a
        `Layout` in ``globals["layout"]`` takes the fast path.
      nodes: ``[N, ...]`` features.
      implementation: see `neighbour_sum`.

    Returns:
      ``[N, ...]``.

    Raises:
      ValueError: the graph has no senders or receivers.

    Examples:
      >>> import jax.numpy as jnp, jraph
      >>> graph = jraph.GraphsTuple(
      ...     nodes=None, edges=None, globals=None,
      ...     senders=jnp.array([1, 2]), receivers=jnp.array([0, 0]),
      ...     n_node=jnp.array([3]), n_edge=jnp.array([2]),
      ... )
      >>> graph_sum(graph, jnp.array([[1.0], [2.0], [3.0]])).tolist()
      [[5.0], [0.0], [0.0]]
    """
    nodes = jnp.asarray(nodes)
    senders, receivers = graph.senders, graph.receivers
    if senders is None or receivers is None:
        raise ValueError("the graph has no edges: senders or receivers are None")
    edges: Any = graph.edges
    extra: Any = graph.globals
    weight = edges.get("weight") if isinstance(edges, dict) else None
    if weight is None:
        weight = jnp.ones(senders.shape, nodes.dtype)
    return neighbour_sum(
        nodes,
        weight,
        senders,
        receivers,
        num_receivers=nodes.shape[0],
        layout=extra.get("layout") if isinstance(extra, dict) else None,
        implementation=implementation,
    )


def list_sum(
    x: jax.Array, lists: ItemLists, weight: jax.Array | None = None
) -> jax.Array:
    """Sum of item features over lists of items, ``out[b] = sum of w_e x[items_e]``.

    Args:
      x: ``[I, D]``.
      lists: B lists with n entries in all.
      weight: ``[n]``, one weight an entry; None for 1.

    Returns:
      ``[B, D]``; an empty list gives 0.

    Examples:
      >>> import jax.numpy as jnp
      >>> from recjax.types import ItemLists
      >>> lists = ItemLists(jnp.array([0, 2, 2]), jnp.array([0, 1]))
      >>> list_sum(jnp.array([[1.0], [4.0]]), lists).tolist()
      [[5.0], [0.0]]
    """
    num, entries = lists.pointer.shape[0] - 1, lists.items.shape[0]
    rows = jnp.repeat(
        jnp.arange(num), jnp.diff(lists.pointer), total_repeat_length=entries
    )
    if weight is None:
        weight = jnp.ones(entries, x.dtype)
    return neighbour_sum(x, weight, lists.items, rows, num_receivers=num)
