"""Where the edges of each receiver lie, forwards and in the transposed product."""

from typing import Any, NamedTuple

import jax
import numpy as np

from recjax.sparse._shards import Shards


class Transpose(NamedTuple):
    """The edges in the order of the transposed product.

    Attributes:
      order: ``[E]`` int32, edges sorted by sender.
      row_pointer: ``[senders + 1]`` int32, where each sender's edges begin.
      receivers: ``[E]`` int32, the receivers of the edges in that order: what sends in
        the transposed product.
      shards: see `Layout`.
    """

    order: Any
    row_pointer: Any
    receivers: Any
    shards: Shards | None = None


class Layout(NamedTuple):
    """Where each receiver's edges lie, for edges sorted by receiver.

    Attributes:
      row_pointer: ``[receivers + 1]`` int32; the edges of receiver r are
        ``row_pointer[r] : row_pointer[r + 1]``.
      transpose: the transposed order.  None where the matrix of weights equals its own
        transpose, so that one order serves both directions; without ``reverse`` as
        well, the derivative with respect to the features is a sum over unsorted edges.
      reverse: ``[E]`` int32, the reverse edge of each edge, where the weights are
        promised to be symmetric; None elsewhere.
      shards: where the edges and the rows lie on a mesh; None on one device.
    """

    row_pointer: Any
    transpose: Transpose | None = None
    reverse: Any = None
    shards: Shards | None = None


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
    row_pointer = _starts(receivers, num_receivers)
    order = np.lexsort((receivers, senders))
    if symmetric:
        # A symmetric pattern read by columns is the same list of edges as by rows,
        # once the senders of each row are ascending.
        by_row = np.lexsort((senders, receivers))
        if num_senders != num_receivers or not (
            np.array_equal(senders[order], receivers[by_row])
            and np.array_equal(receivers[order], senders[by_row])
        ):
            raise ValueError("symmetric=True, but some edge has no reverse edge")
        reverse = np.empty(len(order), np.int32)
        reverse[by_row] = order
        return Layout(row_pointer, reverse=reverse)
    transpose = Transpose(
        order.astype(np.int32),
        _starts(senders[order], num_senders),
        receivers[order].astype(np.int32),
    )
    return Layout(row_pointer, transpose)


def general_layout(layout: Layout | None, senders: jax.Array) -> Layout | None:
    """The layout of the same edges for weights that need not be symmetric.

    Args:
      layout: from `make_layout`; None stays None.
      senders: ``[E]`` int, its edges.

    Returns:
      A layout with a transposed order; nothing is sorted or copied for it.

    Examples:
      >>> import numpy as np
      >>> senders, receivers = np.array([1, 0]), np.array([0, 1])
      >>> layout = make_layout(
      ...     senders, receivers, num_senders=2, num_receivers=2, symmetric=True
      ... )
      >>> general_layout(layout, senders).transpose.order.tolist()
      [1, 0]
    """
    if layout is None or layout.reverse is None:
        return layout
    # The reverse edges of edges by receiver are edges by sender, and what receives
    # there is what sends here.
    back = Transpose(layout.reverse, layout.row_pointer, senders, layout.shards)
    return Layout(layout.row_pointer, back, shards=layout.shards)


def _starts(ids: np.ndarray, num: int) -> np.ndarray:
    """Where each id begins ``[num + 1]`` in an ascending array."""
    return np.searchsorted(ids, np.arange(num + 1)).astype(np.int32)
