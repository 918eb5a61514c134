"""The closed form that linear autoencoders with a zero diagonal share."""

import jax
import jax.numpy as jnp

from recjax.sparse import gram, sparse_matrix
from recjax.types import Context


@jax.jit
def zero_diagonal_weights(context: Context, ridge: jax.Array) -> jax.Array:
    """The B that minimises ``|X - X B|^2 + sum of ridge_i B_ij^2`` with diag(B) = 0.

    With ``C = (X^T X + diag(ridge))^-1`` it is ``B_ij = -C_ij / C_jj`` beside the
    diagonal.

    Args:
      context: the training data, X.
      ridge: ``[I]``, positive.

    Returns:
      ``[I, I]`` float32.
    """
    num_items = context.item_counts.shape[0]
    covariance = gram(sparse_matrix(context.seen, num_items)) + jnp.diag(ridge)
    factor = jax.scipy.linalg.cho_factor(covariance, lower=True)
    inverse = jax.scipy.linalg.cho_solve(factor, jnp.eye(num_items))
    weights = -inverse / jnp.diag(inverse)[None]
    return jnp.fill_diagonal(weights, 0.0, inplace=False)
