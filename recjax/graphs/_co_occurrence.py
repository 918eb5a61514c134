"""Graphs of items that share users, or of users that share items."""

from collections.abc import Iterator

import jraph
import numpy as np

from recjax.graphs._assemble import Normalisation, assemble, check_ids
from recjax.lists import item_lists
from recjax.types import ItemLists


def co_occurrence_graph(
    pairs: tuple[np.ndarray, np.ndarray],
    num_nodes: int,
    *,
    k: int | None = None,
    scale: np.ndarray | None = None,
    min_count: int = 1,
    include_self: bool = False,
    normalisation: Normalisation = "symmetric",
    chunk_size: int = 2**20,
) -> jraph.GraphsTuple:
    """Nodes linked by the number of groups that they share, ``A = R R^T``.

    R has a row for each node and a column for each group, 1 where they are paired.
    Items are linked by their users with pairs (items, users), users by their items
    with pairs (users, items).  Rows are counted some at a time; no ``[N, N]`` array is
    made.

    Args:
      pairs: nodes ``[n]``, int, and groups ``[n]``, named by any numbers; repeated
        pairs count once.
      num_nodes: N.
      k: keep the k largest counts into each node, of equal ones those of the lowest
        ids; None keeps all.
      scale: ``[N]``, a positive number for each node that sends; the k largest are
        then of the counts times these.  The counts themselves stay as they are.
      min_count: keep counts of at least this.
      include_self: keep the diagonal, on which stands a node's number of groups.
      normalisation: by the sum of the counts that are kept of each node; "none" keeps
        the counts.  See `recjax.graphs.make_graph`.
      chunk_size: pairs of nodes in one group that are held at a time.

    Returns:
      The graph, as NumPy arrays; ``n_node`` and ``n_edge`` have one entry.

    Raises:
      ValueError: the ids do not fit, ``k``, ``scale``, ``min_count`` or ``chunk_size``
        is not positive, or the normalisation is unknown.

    Examples:
      >>> import numpy as np
      >>> users, items = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 1])
      >>> graph = co_occurrence_graph((items, users), 2, normalisation="none")
      >>> graph.senders.tolist(), graph.receivers.tolist()
      ([1, 0], [0, 1])
      >>> graph.edges["weight"].tolist()
      [2.0, 2.0]

    References:
      Guo et al., MMHCL, ACM TOMM 2025 (users by their items, "row"; items by the
      neighbours that they share, with the diagonal, "symmetric").
    """
    least = {"min_count": min_count, "chunk_size": chunk_size}
    for name, number in (least if k is None else least | {"k": k}).items():
        if number < 1:
            raise ValueError(f"{name} = {number} must be positive")
    nodes = check_ids("node", pairs[0], num_nodes)
    if np.shape(pairs[1]) != nodes.shape:
        raise ValueError(
            f"nodes {nodes.shape} and groups {np.shape(pairs[1])} must be vectors of "
            "one length: one of each for every pair"
        )
    if scale is not None and not (
        np.shape(scale) == (num_nodes,) and np.all(np.asarray(scale) > 0)
    ):
        raise ValueError(
            f"scale {np.shape(scale)} must be a positive number for each of the "
            f"{num_nodes} nodes"
        )
    names, groups = np.unique(pairs[1], return_inverse=True)
    receivers, senders, counts = [], [], []
    for rows, columns, count in _count(
        item_lists(nodes, groups, num_nodes),
        item_lists(groups, nodes, len(names)),
        chunk_size,
    ):
        keep = count >= min_count
        if not include_self:
            keep &= rows != columns
        rows, columns, count = rows[keep], columns[keep], count[keep]
        if k is not None:
            rank = count if scale is None else count * scale[columns]
            keep = _largest(rows, columns, rank, k)
            rows, columns, count = rows[keep], columns[keep], count[keep]
        receivers.append(rows)
        senders.append(columns)
        counts.append(count)
    return assemble(
        np.concatenate([np.zeros(0, np.int64), *senders]),
        np.concatenate([np.zeros(0, np.int64), *receivers]),
        np.concatenate([np.zeros(0), *counts]),
        num_nodes=num_nodes,
        symmetric=k is None,
        normalisation=normalisation,
    )


def _count(
    groups_of: ItemLists, nodes_of: ItemLists, chunk_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Row, column and number of shared groups, some whole rows of ``R R^T`` a time."""
    num_nodes = len(groups_of.pointer) - 1
    sizes = np.diff(nodes_of.pointer)[groups_of.items]
    # Pairs of nodes in one group before each entry of R, and before each row.
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)])
    before_row = before[groups_of.pointer]
    row = 0
    while row < num_nodes:
        end_row = _reach(before_row, row, chunk_size)
        entry, end = groups_of.pointer[[row, end_row]]
        key, count = np.zeros(0, np.int64), np.zeros(0, np.int64)
        # One pass, but for a row that has more pairs than a chunk holds.
        while entry < end:
            stop = min(_reach(before, entry, chunk_size), end)
            row_of = np.searchsorted(
                groups_of.pointer, np.arange(entry, stop), side="right"
            )
            row_of = np.repeat(row_of - 1, sizes[entry:stop])
            column = _members(nodes_of, groups_of.items[entry:stop])
            found, times = np.unique(row_of * num_nodes + column, return_counts=True)
            if len(key):
                times = np.concatenate([count, times])
                found, place = np.unique(
                    np.concatenate([key, found]), return_inverse=True
                )
                times = np.bincount(place, times).astype(np.int64)
            key, count, entry = found, times, stop
        yield *np.divmod(key, num_nodes), count
        row = end_row


def _reach(before: np.ndarray, start: int, chunk_size: int) -> int:
    """The furthest end whose pairs from ``start`` on fit, at least one further."""
    end = np.searchsorted(before, before[start] + chunk_size, side="right") - 1
    return max(int(end), start + 1)


def _members(nodes_of: ItemLists, groups: np.ndarray) -> np.ndarray:
    """The nodes of each group, one group after the other."""
    starts = nodes_of.pointer[groups].astype(np.int64)
    sizes = nodes_of.pointer[groups + 1] - starts
    shift = np.repeat(starts - (np.cumsum(sizes) - sizes), sizes)
    return nodes_of.items[np.arange(len(shift)) + shift]


def _largest(
    rows: np.ndarray, columns: np.ndarray, count: np.ndarray, k: int
) -> np.ndarray:
    """Where the k largest counts of each row stand, ascending."""
    order = np.lexsort((columns, -count, rows))
    # Rows ascend, before sorting and after it.
    rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
    return np.sort(order[rank < k])
