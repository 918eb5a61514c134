"""The largest singular values of a sparse matrix, and their vectors."""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from recjax.sparse._matrix import SparseMatrix, gram, sparse_product

# Vectors that the Krylov space grows by: a product of this width stays in cache.
_BLOCK = 32
# Shares of squared lengths that are rounding: of a vector after projections, and of the
# longest vector of a block.
_ROUNDING = 1e-10
_BLOCK_ROUNDING = 1e-6
_dot = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)


@functools.partial(jax.jit, static_argnames=("rank", "size"))
def truncated_svd(
    matrix: SparseMatrix, rank: int, key: jax.Array, *, size: int | None = None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The best approximation ``A ~ P diag(s) Q^T`` of a given rank.

    Block Lanczos with full reorthogonalisation: the vectors ``(A A^T)^k A x`` of a
    random block x span a space in which A A^T has nearly its own largest eigenvalues.
    It consists of products of matrices, sparse and dense.  A matrix whose smaller side
    fits in that space is solved exactly.

    Args:
      matrix: A ``[U, I]``.
      rank: k, at most min(U, I).
      key: of the random block; equal keys give equal results.
      size: dimension of the space, more is more exact; None for 4 k + 256, with which
        values are right to 1e-5 of the largest on graphs of interactions.  Memory is
        O(size (min(U, I) + size)).

    Returns:
      P ``[U, k]``, s ``[k]`` descending, and Q ``[I, k]``.  Values below 3e-4 of the
      largest cannot be told from 0 in float32: they are 0, and so are their vectors.

    Raises:
      ValueError: the rank is not in 1 .. min(U, I).

    Examples:
      >>> import jax
      >>> from recjax.sparse import sparse_matrix
      >>> from recjax.types import ItemLists
      >>> lists = ItemLists(jnp.array([0, 2, 3]), jnp.array([0, 1, 2]))
      >>> matrix = sparse_matrix(lists, 3)
      >>> left, values, right = truncated_svd(matrix, 2, jax.random.key(0))
      >>> values.round(3).tolist()
      [1.414, 1.0]

    References:
      Golub and Underwood, The block Lanczos method for computing eigenvalues, 1977;
      Musco and Musco, Randomized block Krylov methods, NeurIPS 2015 (the random start);
      Stathopoulos and Wu, A block orthogonalization procedure with constant
      synchronization requirements, 2002 (bases of blocks by their Gram matrix).
    """
    if not 1 <= rank <= min(matrix.shape):
        raise ValueError(f"rank {rank} must be in 1 .. min{matrix.shape}")
    if matrix.shape[0] > matrix.shape[1]:
        right, values, left = truncated_svd(matrix.transposed, rank, key, size=size)
        return left, values, right
    size = 4 * rank + 256 if size is None else max(size, rank)
    steps = -(-size // _BLOCK)
    if steps * _BLOCK >= matrix.shape[0]:
        small, basis = gram(matrix.transposed), None
    else:
        small, basis = _krylov(matrix, steps, key)
    vectors = jnp.linalg.eigh(small)[1][:, ::-1][:, :rank]
    left = vectors if basis is None else _dot(basis, vectors)
    right = sparse_product(matrix.transposed, left)
    values = jnp.linalg.norm(right, axis=0)
    real = values > jnp.finfo(jnp.float32).eps ** 0.5 * values[0]
    values = jnp.where(real, values, 0)
    inverse = jnp.where(real, 1 / values, 0)
    return jnp.where(real[None], left, 0), values, right * inverse[None]


def _krylov(
    matrix: SparseMatrix, steps: int, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """A A^T within the Krylov space ``[size, size]``, and a basis ``[U, size]``."""
    num, size = matrix.shape[0], steps * _BLOCK

    def project(basis, block):
        # block^T basis, and not its transpose: a tall array is read in its own order.
        inside = _dot(block.T, basis)
        return block - _dot(basis, inside.T), inside

    def grow(step, carry):
        basis, small, block, scale = carry
        values, vectors = jnp.linalg.eigh(_dot(block.T, block))
        # What only rounding is left of starts anew: a space that is used up grows in a
        # random direction, and equal singular values turn up one by one.
        least = jnp.maximum(_BLOCK_ROUNDING * values[-1], _ROUNDING * scale)
        real = values > least
        block = _dot(block, vectors * jnp.where(real, lax.rsqrt(values), 0)[None])
        fresh = jax.random.normal(jax.random.fold_in(key, step), block.shape)
        block = jnp.where(real[None], block, fresh / num**0.5)
        # The second projection: the first left little, and rounding in it.
        block, _ = project(basis, block)
        values, vectors = jnp.linalg.eigh(_dot(block.T, block))
        block = _dot(block, vectors * lax.rsqrt(values)[None])
        first = step * _BLOCK
        basis = lax.dynamic_update_slice_in_dim(basis, block, first, 1)
        block = sparse_product(matrix, sparse_product(matrix.transposed, block))
        scale = jnp.square(block).sum(axis=0).max()
        block, inside = project(basis, block)
        small = lax.dynamic_update_slice_in_dim(small, inside, first, 0)
        return basis, small, block, scale

    start = jax.random.normal(key, (matrix.shape[1], _BLOCK))
    block = sparse_product(matrix, start)
    scale = jnp.square(block).sum(axis=0).max()
    carry = jnp.zeros((num, size)), jnp.zeros((size, size)), block, scale
    basis, small, _, _ = lax.fori_loop(0, steps, grow, carry)
    # Each row was projected on the basis so far: the lower triangle is whole.
    lower = jnp.tril(small)
    return lower + jnp.tril(small, -1).T, basis
