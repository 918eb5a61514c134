"""Losses that bring two vectors of one thing together, and spread all others."""

import jax
import jax.numpy as jnp

from recjax.layers import unit_length
from recjax.losses._log_sum_exp import log_sum_exp_dot
from recjax.losses._rows import keep_rows
from recjax.reduce import ReduceFn, reduce_masked


def info_nce_loss(
    left: jax.Array,
    right: jax.Array,
    *,
    temperature: float,
    candidates: jax.Array | None = None,
    counted: jax.Array | None = None,
    where: jax.Array | None = None,
    reduce_fn: ReduceFn | None = jnp.mean,
) -> jax.Array:
    """InfoNCE, ``-s(x_b, y_b) + log sum over c of exp s(x_b, z_c)``, s = cosine / t.

    Args:
      left: x ``[B, D]``.
      right: y ``[B, D]``, the positive of each row.
      temperature: t.
      candidates: z ``[C, D]``, all that the positive competes with; itself should be
        among them.  None for the rows of ``right`` that count.
      counted: ``[C]`` candidates that count; None for all.  Where none does, every
        loss is 0.
      where: ``[B]`` rows that count.
      reduce_fn: over rows; None for a loss a row.

    Returns:
      A scalar, or ``[B]``.

    Raises:
      ValueError: the shapes do not fit.

    Examples:
      >>> import jax.numpy as jnp
      >>> x = jnp.eye(2)
      >>> float(info_nce_loss(x, x, temperature=1.0).round(4))  # log(e + 1) - 1
      0.3133

    References:
      van den Oord et al., Representation learning with contrastive predictive coding,
      2018, equation 4; with cosines, Chen et al., SimCLR, ICML 2020, equation 1.
    """
    if left.ndim != 2 or left.shape != right.shape:
        raise ValueError(f"left {left.shape} and right {right.shape} must be [B, D]")
    if candidates is not None and candidates.shape[1:] != left.shape[1:]:
        raise ValueError(
            f"candidates {candidates.shape} must be [C, D] for rows {left.shape}"
        )
    if counted is not None and (candidates is None or counted.ndim != 1):
        raise ValueError("counted must be a mask [C], and there must be candidates")
    left, right = map(unit_length, keep_rows(where, left, right))
    if candidates is not None:
        (candidates,) = keep_rows(counted, candidates)
    others = right if candidates is None else unit_length(candidates)
    mask = where if candidates is None else counted
    shift = jnp.zeros(len(others), left.dtype)
    if mask is not None:
        counts = mask.astype(bool)
        # Where none counts the sum is not empty: its rows do not count either, or
        # their losses are replaced.
        shift = jnp.where(counts | ~jnp.any(counts), shift, jnp.inf)
    left = left / temperature
    positive = jnp.sum(left * right, axis=1)
    losses = log_sum_exp_dot(left, others, shift) - positive
    if counted is not None:
        losses = jnp.where(jnp.any(counted), losses, 0.0)
    return reduce_masked(losses, where, reduce_fn)


def grace_loss(
    left: jax.Array,
    right: jax.Array,
    *,
    temperature: float,
    rows: jax.Array | None = None,
    where: jax.Array | None = None,
    reduce_fn: ReduceFn | None = jnp.mean,
) -> jax.Array:
    """GRACE, InfoNCE whose negatives are the other nodes in both views.

    ``-s(x_b, y_b) + log (sum over c of exp s(x_b, y_c) + sum over c != b of
    exp s(x_b, x_c))``, s = cosine / t.  It is one direction; GRACE itself takes the
    mean with left and right exchanged.  The mean over ``rows`` that were drawn
    uniformly is an unbiased estimate of the mean over all nodes.

    Args:
      left: x ``[N, D]``.
      right: y ``[N, D]``, the other view of each node.
      temperature: t.
      rows: ``[R]`` int, the nodes b of the mean; None for all.
      where: ``[N]`` nodes that count, as rows and as negatives.
      reduce_fn: over rows; None for a loss a row.

    Returns:
      A scalar, or ``[R]``.

    Raises:
      ValueError: the shapes do not fit.

    Examples:
      >>> import jax.numpy as jnp
      >>> x = jnp.eye(2)
      >>> float(grace_loss(x, x, temperature=1.0).round(4))  # log(e + 2) - 1
      0.5514

    References:
      Zhu et al., Deep graph contrastive representation learning (GRACE), 2020,
      equation 1.
    """
    if left.ndim != 2 or left.shape != right.shape:
        raise ValueError(f"left {left.shape} and right {right.shape} must be [N, D]")
    left, right = map(unit_length, keep_rows(where, left, right))
    nodes = jnp.arange(len(left))
    rows = nodes if rows is None else jnp.asarray(rows)
    anchor = left[rows]
    itself = rows[:, None] == nodes[None]
    same, other = (anchor @ view.T / temperature for view in (left, right))
    if where is not None:
        counts = where.astype(bool)
        same = jnp.where(counts[None], same, -jnp.inf)
        # Its own column stays in a row that does not count: the sum is never empty.
        other = jnp.where(counts[None] | itself, other, -jnp.inf)
    same = jnp.where(itself, -jnp.inf, same)
    # Cosines have a bound, so that no maximum must be found before the exponentials;
    # the least of them, exp(-2 / t), is a float32 down to t = 0.03.
    mass = jnp.sum(jnp.exp(same - 1 / temperature), axis=1)
    mass += jnp.sum(jnp.exp(other - 1 / temperature), axis=1)
    positive = jnp.sum(anchor * right[rows], axis=1) / temperature
    losses = jnp.log(mass) + 1 / temperature - positive
    where = None if where is None else where[rows]
    return reduce_masked(losses, where, reduce_fn)


def alignment_loss(
    left: jax.Array,
    right: jax.Array,
    *,
    where: jax.Array | None = None,
    reduce_fn: ReduceFn | None = jnp.mean,
) -> jax.Array:
    """Squared distance on the unit sphere, ``|x_b / |x_b| - y_b / |y_b||^2``.

    Args:
      left: x ``[B, D]``.
      right: y ``[B, D]``.
      where: ``[B]`` rows that count.
      reduce_fn: over rows; None for a loss a row.

    Returns:
      A scalar, or ``[B]``.

    Raises:
      ValueError: the shapes do not fit.

    Examples:
      >>> import jax.numpy as jnp
      >>> float(alignment_loss(jnp.array([[2.0, 0.0]]), jnp.array([[0.0, 3.0]])))
      2.0

    References:
      Wang and Isola, Understanding contrastive representation learning through
      alignment and uniformity on the hypersphere, ICML 2020, section 4.2.1.
    """
    if left.ndim != 2 or left.shape != right.shape:
        raise ValueError(f"left {left.shape} and right {right.shape} must be [B, D]")
    left, right = map(unit_length, keep_rows(where, left, right))
    losses = jnp.sum((left - right) ** 2, axis=1)
    return reduce_masked(losses, where, reduce_fn)


def uniformity_loss(
    vectors: jax.Array, *, t: float = 2.0, where: jax.Array | None = None
) -> jax.Array:
    """How unevenly directions cover the sphere, ``log mean of exp(-t |x_i - x_j|^2)``.

    The mean is over all pairs i < j of different rows, of unit length.

    Args:
      vectors: x ``[B, D]``.
      t: sharpness of the kernel.
      where: ``[B]`` rows that count.

    Returns:
      A scalar; 0 where fewer than two rows count.

    Raises:
      ValueError: the shapes do not fit.

    Examples:
      >>> import jax.numpy as jnp
      >>> round(float(uniformity_loss(jnp.array([[1.0, 0.0], [0.0, 2.0]]))), 4)
      -4.0

    References:
      Wang and Isola, ICML 2020, section 4.1.2.
    """
    if vectors.ndim != 2:
        raise ValueError(f"vectors {vectors.shape} must be [B, D]")
    (vectors,) = keep_rows(where, vectors)
    vectors = unit_length(vectors)
    size = vectors.shape[0]
    # Of unit length, so that |x - y|^2 = 2 - 2 x.y.
    exponents = 2 * t * (vectors @ vectors.T) - 2 * t
    # The sum is over B^2 pairs, too many to be counted in bfloat16.
    exponents = exponents.astype(jnp.promote_types(exponents.dtype, jnp.float32))
    pairs = ~jnp.eye(size, dtype=bool)
    if where is not None:
        counts = where.astype(bool)
        pairs &= counts[:, None] & counts[None]
    enough = jnp.any(pairs)
    exponents = jnp.where(pairs | ~enough, exponents, -jnp.inf)
    count = jnp.maximum(jnp.sum(pairs.astype(exponents.dtype)), 1.0)
    value = jax.nn.logsumexp(exponents) - jnp.log(count)
    return jnp.where(enough, value, 0.0)
