"""Softmax over the catalogue, in full and by sampling with the logQ correction.

All three estimate ``-s_+ + log sum over all items j of exp(s_j)``.  Items that stand in
for the catalogue are drawn with some probability q_j, so each is weighted by 1 / q_j:
``- log q_j`` is **added to the score of a sampled item**.  A popular item is drawn
often, and the correction takes that back; with the wrong sign it would be punished
twice.
"""

import jax
import jax.numpy as jnp

from recjax.losses._log_sum_exp import log_sum_exp_dot
from recjax.losses._rows import keep_rows
from recjax.reduce import ReduceFn, all_rows, reduce_masked


def full_softmax_loss(
    scores: jax.Array,
    items: jax.Array,
    *,
    where: jax.Array | None = None,
    reduce_fn: ReduceFn | None = jnp.mean,
) -> jax.Array:
    """Softmax cross-entropy over all items, ``-s_+ + log sum_j exp(s_j)``.

    Args:
      scores: ``[B, I]``.
      items: ``[B]`` int, the positives.
      where: ``[B]`` rows that count.
      reduce_fn: over rows; None for a loss a row.

    Returns:
      A scalar, or ``[B]``.

    Raises:
      ValueError: the shapes do not fit.

    Examples:
      >>> import jax.numpy as jnp
      >>> float(full_softmax_loss(jnp.zeros((1, 4)), jnp.array([2])).round(4))  # log 4
      1.3863
    """
    if scores.ndim != 2 or scores.shape[:1] != items.shape:
        raise ValueError(
            f"scores {scores.shape} and items {items.shape} must be [B, I] and [B]"
        )
    (scores,) = keep_rows(where, scores)
    positive = jnp.take_along_axis(scores, items[:, None], axis=1)[:, 0]
    losses = jax.nn.logsumexp(scores, axis=1) - positive
    return reduce_masked(losses, where, reduce_fn)


def in_batch_softmax_loss(
    scores: jax.Array,
    log_q: jax.Array,
    *,
    where: jax.Array | None = None,
    reduce_fn: ReduceFn | None = jnp.mean,
) -> jax.Array:
    """Softmax whose catalogue is the batch, with the logQ correction.

    ``-s_bb + log (1/B) sum over c of exp(s_bc - log q_c)``, where item c of the batch
    was drawn with probability q_c (its share of the training rows).  As B grows, value
    and derivative tend to those of `full_softmax_loss`.

    Args:
      scores: ``[B, B]``, row b for user b, column c for the positive of row c.
      log_q: ``[B]`` log probability of each column's item.
      where: ``[B]`` rows (and columns) that count.
      reduce_fn: over rows; None for a loss a row.

    Returns:
      A scalar, or ``[B]``.

    Raises:
      ValueError: the shapes do not fit.

    Examples:
      >>> import jax.numpy as jnp
      >>> log_q = jnp.log(jnp.array([0.25, 0.25]))
      >>> float(in_batch_softmax_loss(jnp.zeros((2, 2)), log_q).round(4))  # log 4
      1.3863

    References:
      Yi et al., Sampling-bias-corrected neural modeling, RecSys 2019, equation 3.
    """
    size = scores.shape[0]
    if scores.shape != (size, size) or log_q.shape != (size,):
        raise ValueError(
            f"scores {scores.shape} and log_q {log_q.shape} must be [B, B] and [B]"
        )
    (log_q,) = keep_rows(where, log_q)
    count = jnp.asarray(float(size), scores.dtype)
    if where is None:
        corrected = scores - log_q[None]
    else:
        counts = where.astype(bool)
        scores = jnp.where(counts[:, None] & counts[None], scores, 0)
        corrected = jnp.where(counts[None], scores - log_q[None], -jnp.inf)
        # A batch of nothing but padding: log 1, in rows that do not count.
        count = jnp.maximum(jnp.sum(counts.astype(scores.dtype)), 1.0)
        corrected = jnp.where(jnp.any(counts), corrected, scores)
    losses = jax.nn.logsumexp(corrected, axis=1) - jnp.log(count) - jnp.diagonal(scores)
    return reduce_masked(losses, where, reduce_fn)


def in_batch_dot_softmax_loss(
    users: jax.Array,
    items: jax.Array,
    log_q: jax.Array,
    *,
    where: jax.Array | None = None,
    reduce_fn: ReduceFn | None = jnp.mean,
) -> jax.Array:
    """`in_batch_softmax_loss` of dot products, in half the time and O(B D) memory.

    ``-s_bb + log (1/B) sum over c of exp(s_bc - log q_c)`` with ``s_bc = u_b . i_c``.
    Scores are made some rows at a time, and once more for the derivative.  Where a
    pmap has split the batch, the columns are those of all devices
    (`recjax.reduce.all_rows`).

    Args:
      users: ``[B, D]``; cosines are compared by vectors of unit length, divided by a
        temperature.
      items: ``[B, D]``, the positive of each row.
      log_q: ``[B]`` log probability of each item.
      where: ``[B]`` rows (and columns) that count.
      reduce_fn: over rows; None for a loss a row.

    Returns:
      A scalar, or ``[B]``.

    Raises:
      ValueError: the shapes do not fit.

    Examples:
      >>> import jax.numpy as jnp
      >>> log_q = jnp.log(jnp.array([0.25, 0.25]))
      >>> zeros = jnp.zeros((2, 3))
      >>> float(in_batch_dot_softmax_loss(zeros, zeros, log_q).round(4))  # log 4
      1.3863

    References:
      Yi et al., Sampling-bias-corrected neural modeling, RecSys 2019, equation 3.
    """
    if users.ndim != 2 or users.shape != items.shape or log_q.shape != users.shape[:1]:
        raise ValueError(
            f"users {users.shape}, items {items.shape} and log_q {log_q.shape} must be "
            "[B, D], [B, D] and [B]"
        )
    wide = jnp.promote_types(users.dtype, jnp.float32)
    users, items, log_q = (
        x.astype(wide) for x in keep_rows(where, users, items, log_q)
    )
    columns, log_q = all_rows(items), all_rows(log_q)
    count = jnp.asarray(float(len(columns)), wide)
    if where is not None:
        counts = all_rows(where).astype(bool)
        count = jnp.maximum(jnp.sum(counts.astype(wide)), 1.0)
        # A batch of nothing but padding: rows that do not count, but are finite.
        log_q = jnp.where(counts | ~jnp.any(counts), log_q, jnp.inf)
    positive = jnp.sum(users * items, axis=1)
    losses = log_sum_exp_dot(users, columns, log_q) - jnp.log(count) - positive
    return reduce_masked(losses, where, reduce_fn)


def sampled_softmax_loss(
    positive: jax.Array,
    negatives: jax.Array,
    log_q: jax.Array,
    *,
    where: jax.Array | None = None,
    reduce_fn: ReduceFn | None = jnp.mean,
) -> jax.Array:
    """Softmax over the positive and M drawn negatives, with the logQ correction.

    ``-s_+ + log (exp(s_+) + (1/M) sum over m of exp(s_m - log q_m))``.  As M grows,
    value and derivative tend to the softmax over the positive and all items that the
    negatives can be.

    Args:
      positive: ``[B]``.
      negatives: ``[B, M]``.
      log_q: ``[B, M]`` log probability of each negative under its sampler.
      where: ``[B]`` rows that count.
      reduce_fn: over rows; None for a loss a row.

    Returns:
      A scalar, or ``[B]``.

    Raises:
      ValueError: the shapes do not fit.

    Examples:
      >>> import jax.numpy as jnp
      >>> zeros, log_q = jnp.zeros((1, 2)), jnp.log(jnp.full((1, 2), 1 / 3))
      >>> float(sampled_softmax_loss(zeros[:, 0], zeros, log_q).round(4))  # log 4
      1.3863

    References:
      Bengio and Senecal, Adaptive importance sampling, IEEE TNN 2008.
    """
    if negatives.ndim != 2 or negatives.shape[:1] != positive.shape:
        raise ValueError(
            f"positive {positive.shape} and negatives {negatives.shape} must be [B] "
            "and [B, M]"
        )
    if log_q.shape != negatives.shape:
        raise ValueError(
            f"log_q {log_q.shape} must have the shape {negatives.shape} of negatives"
        )
    positive, negatives, log_q = keep_rows(where, positive, negatives, log_q)
    corrected = negatives - log_q - jnp.log(float(negatives.shape[1]))
    logits = jnp.concatenate([positive[:, None], corrected], axis=1)
    losses = jax.nn.logsumexp(logits, axis=1) - positive
    return reduce_masked(losses, where, reduce_fn)
