"""A sparse matrix made of lists of items, for products from both sides."""

from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import lax

from recjax.lists import row_of_entry, transpose_lists
from recjax.sparse._layout import Layout
from recjax.sparse._neighbour_sum import neighbour_sum
from recjax.sparse._read_edges import GraphEdges
from recjax.types import ItemLists

# Features that go through a product together: a block of this width stays in cache.
_WIDTH = 32


class SparseMatrix(NamedTuple):
    """The non-zeros of a matrix A ``[U, I]``, in both orders.

    Attributes:
      by_row: edges that the rows receive from the columns, sorted by row.
      by_column: edges that the columns receive from the rows, sorted by column.
    """

    by_row: GraphEdges
    by_column: GraphEdges

    @property
    def shape(self) -> tuple[int, int]:
        """U and I."""
        layouts = [cast(Layout, edges.layout) for edges in self]
        rows, columns = (layout.row_pointer.shape[0] - 1 for layout in layouts)
        return rows, columns

    @property
    def transposed(self) -> "SparseMatrix":
        """The transposed matrix; nothing is copied."""
        return SparseMatrix(self.by_column, self.by_row)


def sparse_matrix(
    lists: ItemLists,
    num_columns: int,
    *,
    row_weight: jax.Array | None = None,
    column_weight: jax.Array | None = None,
) -> SparseMatrix:
    """The matrix ``A_ui = r_u c_i`` for the items i of list u, and 0 elsewhere.

    Args:
      lists: U lists.
      num_columns: I.
      row_weight: ``[U]``, r; None for 1.
      column_weight: ``[I]``, c; None for 1.

    Returns:
      The matrix, in float32.

    Examples:
      >>> import jax.numpy as jnp
      >>> lists = ItemLists(jnp.array([0, 2, 2]), jnp.array([0, 1]))
      >>> matrix = sparse_matrix(lists, 3, row_weight=jnp.array([0.5, 1.0]))
      >>> matrix.shape, matrix.by_row.weight.tolist()
      ((2, 3), [0.5, 0.5])
    """

    def edges(lists, own, other):
        pointer, senders = (jnp.asarray(x, jnp.int32) for x in lists)
        receivers = row_of_entry(lists)
        weight = jnp.ones(senders.shape, jnp.float32)
        weight = weight if own is None else weight * own[receivers]
        weight = weight if other is None else weight * other[senders]
        return GraphEdges(senders, receivers, weight, Layout(pointer))

    by_column = transpose_lists(lists, num_columns)
    return SparseMatrix(
        edges(lists, row_weight, column_weight),
        edges(by_column, column_weight, row_weight),
    )


def sparse_product(matrix: SparseMatrix, x: jax.Array) -> jax.Array:
    """The product A x.

    Args:
      matrix: A ``[U, I]``.
      x: ``[I, D]``; widths near 32 are the fastest a column.

    Returns:
      ``[U, D]``.

    Examples:
      >>> import jax.numpy as jnp
      >>> lists = ItemLists(jnp.array([0, 2, 2]), jnp.array([0, 1]))
      >>> matrix = sparse_matrix(lists, 2)
      >>> sparse_product(matrix, jnp.array([[1.0], [4.0]])).tolist()
      [[5.0], [0.0]]
      >>> sparse_product(matrix.transposed, jnp.array([[1.0], [4.0]])).tolist()
      [[1.0], [1.0]]
    """
    edges = matrix.by_row
    return neighbour_sum(
        x,
        edges.weight,
        edges.senders,
        edges.receivers,
        num_receivers=matrix.shape[0],
        layout=edges.layout,
    )


def gram(matrix: SparseMatrix) -> jax.Array:
    """The products of all pairs of columns, ``A^T A``, as a dense array.

    Args:
      matrix: A ``[U, I]``.

    Returns:
      ``[I, I]`` float32, symmetric.

    Examples:
      >>> import jax.numpy as jnp
      >>> lists = ItemLists(jnp.array([0, 2, 3]), jnp.array([0, 1, 1]))
      >>> gram(sparse_matrix(lists, 2)).tolist()
      [[1.0, 1.0], [1.0, 2.0]]
    """
    num = matrix.shape[1]

    def rows(first):
        columns = first + jnp.arange(_WIDTH)
        unit = (jnp.arange(num)[:, None] == columns[None]).astype(jnp.float32)
        return sparse_product(matrix.transposed, sparse_product(matrix, unit)).T

    blocks = lax.map(rows, jnp.arange(0, num, _WIDTH))
    return blocks.reshape(-1, num)[:num]
