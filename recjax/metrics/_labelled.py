"""Metrics of scores against labels: AUC and accuracy."""

import jax
import jax.numpy as jnp

from recjax.reduce import ReduceFn, reduce_masked


def auc_metric(
    scores: jax.Array,
    labels: jax.Array,
    *,
    where: jax.Array | None = None,
    reduce_fn: ReduceFn | None = jnp.mean,
) -> jax.Array:
    r"""Area under the ROC curve of each list; tied pairs count one half.

    .. math::
      AUC = \frac{1}{|P||N|} \sum_{p \in P} \sum_{n \in N}
            [s_p > s_n] + \tfrac12 [s_p = s_n]

    Args:
      scores: ``[..., K]`` floating, in any order.
      labels: ``[..., K]`` bool or 0 and 1.
      where: ``[..., K]`` bool, the entries that count; here it masks entries, because
        the list is not ranked yet.
      reduce_fn: reduction over the lists that have both a positive and a negative
        entry (others have no AUC); None for per-list values, 0 for those others.

    Returns:
      A float32 scalar, or ``[...]`` where ``reduce_fn`` is None.

    Raises:
      ValueError: if the shapes differ.

    Examples:
      >>> scores, labels = jnp.array([[3.0, 2.0, 1.0, 2.0]]), jnp.array([[1, 1, 0, 0]])
      >>> auc_metric(scores, labels).item()  # (1 + 1 + 1 + 1/2) / 4
      0.875
    """
    scores, labels = jnp.asarray(scores, jnp.float32), jnp.asarray(labels) > 0
    where = jnp.ones(scores.shape, bool) if where is None else jnp.asarray(where, bool)
    if not scores.shape == labels.shape == where.shape or scores.ndim == 0:
        raise ValueError(
            f"scores {scores.shape}, labels {labels.shape} and where {where.shape} "
            "must have one shape [..., K]"
        )
    positive, negative = labels & where, ~labels & where
    num_positive, num_negative = positive.sum(axis=-1), negative.sum(axis=-1)

    def twice_below(row, is_negative):
        # Entries that are no negatives are sorted to the end and counted by nobody.
        ordered = jnp.sort(jnp.where(is_negative, row, jnp.inf))
        left = jnp.searchsorted(ordered, row, side="left")
        right = jnp.searchsorted(ordered, row, side="right")
        return left + jnp.minimum(right, is_negative.sum())

    flat = (-1, scores.shape[-1])
    below = jax.vmap(twice_below)(scores.reshape(flat), negative.reshape(flat))
    # Divided before the sum: the counts may add up to more than float32 holds exactly.
    share = below.reshape(scores.shape) / jnp.maximum(2 * num_negative, 1)[..., None]
    area = jnp.where(positive, share, 0.0).sum(axis=-1) / jnp.maximum(num_positive, 1)
    return reduce_masked(area, (num_positive > 0) & (num_negative > 0), reduce_fn)


def accuracy_metric(
    logits: jax.Array,
    labels: jax.Array,
    *,
    threshold: float = 0.0,
    where: jax.Array | None = None,
    reduce_fn: ReduceFn | None = jnp.mean,
) -> jax.Array:
    r"""Accuracy of a binary decision, ``logit > threshold``.

    .. math:: \mathrm{mean}\; [\, [z > \theta] = y \,]

    Args:
      logits: ``[...]`` floating; the threshold 0 is probability one half.
      labels: ``[...]`` bool or 0 and 1.
      threshold: theta.
      where: ``[...]`` bool, the decisions that count.
      reduce_fn: reduction over the decisions; None for 0 or 1 each.

    Returns:
      A float32 scalar, or ``[...]`` where ``reduce_fn`` is None.

    Raises:
      ValueError: if the shapes differ.

    Examples:
      >>> accuracy_metric(jnp.array([2.0, -1.0, 0.5, -3.0]), jnp.array([1, 0, 0, 0]))
      Array(0.75, dtype=float32)
    """
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    if logits.shape != labels.shape:
        raise ValueError(
            f"logits {logits.shape} and labels {labels.shape} must have one shape: "
            "give one label for each logit"
        )
    right = (logits > threshold) == (labels > 0)
    return reduce_masked(right.astype(jnp.float32), where, reduce_fn)
