"""Losses that compare a positive with sampled negatives."""

import jax
import jax.numpy as jnp
import optax

from recjax.losses._rows import keep_rows
from recjax.reduce import ReduceFn, reduce_masked


def bpr_loss(
    positive: jax.Array,
    negatives: jax.Array,
    *,
    where: jax.Array | None = None,
    reduce_fn: ReduceFn | None = jnp.mean,
) -> jax.Array:
    """Bayesian personalised ranking, ``mean over m of -log sigmoid(s_b - s_bm)``.

    Args:
      positive: ``[B]`` scores of the positives.
      negatives: ``[B, M]`` scores of the negatives.
      where: ``[B]`` rows that count.
      reduce_fn: over rows; None for a loss a row.

    Returns:
      A scalar, or ``[B]``.

    Raises:
      ValueError: the shapes do not fit.

    Examples:
      >>> import jax.numpy as jnp
      >>> float(bpr_loss(jnp.array([0.0]), jnp.array([[0.0]])).round(4))  # log 2
      0.6931

    References:
      Rendle et al., BPR, UAI 2009.
    """
    if negatives.ndim != 2 or negatives.shape[:1] != positive.shape:
        raise ValueError(
            f"positive {positive.shape} and negatives {negatives.shape} must be [B] "
            "and [B, M]"
        )
    positive, negatives = keep_rows(where, positive, negatives)
    losses = jax.nn.softplus(negatives - positive[:, None])
    return reduce_masked(jnp.mean(losses, axis=-1), where, reduce_fn)


def bce_loss(
    logits: jax.Array,
    labels: jax.Array,
    *,
    where: jax.Array | None = None,
    reduce_fn: ReduceFn | None = jnp.mean,
) -> jax.Array:
    """Binary cross-entropy, ``-y log sigmoid(s) - (1 - y) log sigmoid(-s)``.

    Args:
      logits: ``[...]`` scores before the sigmoid.
      labels: ``[...]`` 1 for positives, 0 for negatives.
      where: ``[...]`` entries that count.
      reduce_fn: over all entries; None for a loss an entry.

    Returns:
      A scalar, or ``[...]``.

    Raises:
      ValueError: the shapes differ.

    Examples:
      >>> import jax.numpy as jnp
      >>> float(bce_loss(jnp.array([0.0]), jnp.array([1.0])).round(4))  # log 2
      0.6931
    """
    if logits.shape != labels.shape:
        raise ValueError(f"logits {logits.shape} and labels {labels.shape} must agree")
    logits, labels = keep_rows(where, logits, labels)
    losses = optax.sigmoid_binary_cross_entropy(logits, labels)
    return reduce_masked(losses, where, reduce_fn)
