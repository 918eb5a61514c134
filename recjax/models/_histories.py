"""What users did to items, as weighted lists: the input of filters over behaviours."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse

from recjax.lists import walk_entries
from recjax.models._nodes import node_counts
from recjax.sparse import GraphEdges, Layout, SparseMatrix
from recjax.types import Context, ItemLists


class Events(NamedTuple):
    """Edges from users to items, on the host.

    Attributes:
      users: ``[n]`` int64.
      items: ``[n]`` int64.
      behaviours: ``[n]`` int64, place of the behaviour; 0 where there is one.
      ages: ``[n]`` int64 seconds before now; None where times are unknown.
    """

    users: np.ndarray
    items: np.ndarray
    behaviours: np.ndarray
    ages: np.ndarray | None


class Histories(NamedTuple):
    """The items of each user, with a weight each; `ItemLists` with numbers.

    Attributes:
      pointer: ``[U + 1]`` int32.
      items: ``[n]`` int32, ascending within a user.
      weights: ``[n]`` float32.
    """

    pointer: Any
    items: Any
    weights: Any


def events(context: Context) -> Events:
    """What users did to items, read from the edges of the graph.

    Args:
      context: of `recjax.data.make_relation_context`, or of one behaviour.

    Returns:
      The events.
    """
    num_users, num_items = node_counts(context)
    graph: Any = jax.device_get(context.graph)
    ends = graph.senders, graph.receivers
    senders, receivers = (np.asarray(x, np.int64) for x in ends)
    chosen = (senders < num_users) & (receivers >= num_users)
    chosen &= receivers < num_users + num_items
    users, items = senders[chosen], receivers[chosen] - num_users
    if "relation" not in graph.edges:
        return Events(users, items, np.zeros(len(users), np.int64), None)
    ages = graph.edges.get("age")
    if ages is not None:
        ages = np.asarray(ages, np.int64)[chosen]
    behaviours = graph.edges["relation"][chosen].astype(np.int64) // 2
    return Events(users, items, behaviours, ages)


def weight_of(found: Events, weights: Sequence[float]) -> np.ndarray:
    """The weight ``[n]`` of each event by its behaviour; no weights are all 1.

    Raises:
      ValueError: there are fewer weights than behaviours, or one is negative.
    """
    if not weights:
        return np.ones(len(found.users))
    most = int(found.behaviours.max(initial=0)) + 1
    if len(weights) < most or not all(0 <= w < np.inf for w in weights):
        raise ValueError(
            f"weights {tuple(weights)} must be one number of at least 0 for each of "
            f"the {most} behaviours"
        )
    return np.asarray(weights, np.float64)[found.behaviours]


def history_matrix(
    context: Context, weights: Sequence[float]
) -> tuple[Events, scipy.sparse.csr_array]:
    """The events, and the matrix ``[U, I]`` of the sums of their weights."""
    found = events(context)
    matrix = scipy.sparse.csr_array(
        (weight_of(found, weights), (found.users, found.items)),
        shape=node_counts(context),
    )
    matrix.sum_duplicates()
    return found, matrix


def as_histories(matrix: scipy.sparse.csr_array) -> Histories:
    """The rows of a matrix ``[U, I]``."""
    matrix.sort_indices()
    return Histories(
        matrix.indptr.astype(np.int32),
        matrix.indices.astype(np.int32),
        matrix.data.astype(np.float32),
    )


def as_sparse_matrix(matrix: scipy.sparse.csr_array) -> SparseMatrix:
    """A matrix ``[U, I]`` for products from both sides."""

    def edges(rows: scipy.sparse.csr_array) -> GraphEdges:
        pointer, items, weights = as_histories(rows)
        receivers = np.repeat(np.arange(len(pointer) - 1), np.diff(pointer))
        fields: Any = (items, receivers.astype(np.int32), weights, Layout(pointer))
        return GraphEdges(*fields)

    return SparseMatrix(edges(matrix), edges(matrix.T.tocsr()))


def unit_histories(lists: ItemLists) -> Histories:
    """Lists of items that all weigh 1."""
    return Histories(*lists, jnp.ones(lists.items.shape, jnp.float32))


def weighted_hot(histories: Histories, users: jax.Array, num_items: int) -> jax.Array:
    """The weights of some users' items and 0 for others, a column a user.

    Args:
      histories: of U users.
      users: ``[B]`` integer users.
      num_items: I.

    Returns:
      ``[I, B]`` float32.
    """
    pointer, items, weights = (jnp.asarray(x) for x in histories)
    # Lists of their own entries: the walk then says which weight it is at.
    entries = ItemLists(pointer, jnp.arange(items.shape[0], dtype=jnp.int32))

    def mark(x, place, entry, real):
        item = jnp.where(real, items[entry], num_items)
        return x.at[item, place].add(weights[entry], mode="drop")

    zeros = jnp.zeros((num_items, users.shape[0]), jnp.float32)
    return walk_entries(mark, zeros, entries, users)
