"""Metrics of ranked lists, from the hits in rank order."""

import jax
import jax.numpy as jnp

from recjax.reduce import ReduceFn, reduce_masked


def _top(
    hits: jax.Array, num_relevant: jax.Array, k: int
) -> tuple[jax.Array, jax.Array]:
    """The first k hits as 0 and 1, and |T|, both float32."""
    hits, num_relevant = jnp.asarray(hits), jnp.asarray(num_relevant)
    if hits.ndim == 0 or num_relevant.shape != hits.shape[:-1]:
        raise ValueError(
            f"hits {hits.shape} and num_relevant {num_relevant.shape} do not match: "
            "hits are [..., K] and num_relevant is [...]"
        )
    if not 1 <= k <= hits.shape[-1]:
        raise ValueError(
            f"k = {k} is outside 1 to {hits.shape[-1]}, the length of the lists "
            f"{hits.shape}: rank more items, or pad the lists with misses"
        )
    return hits[..., :k].astype(jnp.float32), num_relevant.astype(jnp.float32)


def _discounts(k: int) -> jax.Array:
    return 1.0 / jnp.log2(jnp.arange(2, k + 2, dtype=jnp.float32))


def recall_metric(
    hits: jax.Array,
    num_relevant: jax.Array,
    *,
    k: int,
    where: jax.Array | None = None,
    reduce_fn: ReduceFn | None = jnp.mean,
) -> jax.Array:
    r"""Recall: the share of the relevant items that are in the first k.

    .. math:: R@k = \frac{1}{|T|} \sum_{r=1}^{k} h_r

    Args:
      hits: ``[..., K]`` bool or floating, hits in rank order.
      num_relevant: ``[...]`` number of relevant items \|T\|.
      k: the cutoff.
      where: ``[...]`` bool, the lists that count.
      reduce_fn: reduction over the lists; None for per-list values.

    Returns:
      A float32 scalar, or ``[...]`` where ``reduce_fn`` is None.

    Raises:
      ValueError: if the shapes do not match or k exceeds K.

    Examples:
      >>> hits = jnp.array([[1, 0, 1], [0, 0, 0]])
      >>> recall_metric(hits, jnp.array([4, 1]), k=3, reduce_fn=None).tolist()
      [0.5, 0.0]
    """
    top, relevant = _top(hits, num_relevant, k)
    return reduce_masked(
        top.sum(axis=-1) / jnp.maximum(relevant, 1.0), where, reduce_fn
    )


def precision_metric(
    hits: jax.Array,
    num_relevant: jax.Array,
    *,
    k: int,
    where: jax.Array | None = None,
    reduce_fn: ReduceFn | None = jnp.mean,
) -> jax.Array:
    r"""Precision: the share of the first k that is relevant.

    .. math:: P@k = \frac{1}{k} \sum_{r=1}^{k} h_r

    Args:
      hits: ``[..., K]`` bool or floating, hits in rank order.
      num_relevant: ``[...]`` number of relevant items; only its shape matters.
      k: the cutoff, and the divisor even where fewer items could be ranked.
      where: ``[...]`` bool, the lists that count.
      reduce_fn: reduction over the lists; None for per-list values.

    Returns:
      A float32 scalar, or ``[...]`` where ``reduce_fn`` is None.

    Raises:
      ValueError: if the shapes do not match or k exceeds K.

    Examples:
      >>> precision_metric(jnp.array([[1, 0, 1, 1]]), jnp.array([3]), k=4).item()
      0.75
    """
    top, _ = _top(hits, num_relevant, k)
    return reduce_masked(top.sum(axis=-1) / k, where, reduce_fn)


def f1_metric(
    hits: jax.Array,
    num_relevant: jax.Array,
    *,
    k: int,
    where: jax.Array | None = None,
    reduce_fn: ReduceFn | None = jnp.mean,
) -> jax.Array:
    r"""F1: the harmonic mean of precision and recall, per list.

    .. math:: F_1@k = \frac{2\,P@k\,R@k}{P@k + R@k} = \frac{2 \sum_r h_r}{k + |T|}

    The second form needs no case for lists without a hit.  The mean of per-list F1 is
    not the F1 of mean precision and mean recall.

    Args:
      hits: ``[..., K]`` bool or floating, hits in rank order.
      num_relevant: ``[...]`` number of relevant items \|T\|.
      k: the cutoff.
      where: ``[...]`` bool, the lists that count.
      reduce_fn: reduction over the lists; None for per-list values.

    Returns:
      A float32 scalar, or ``[...]`` where ``reduce_fn`` is None.

    Raises:
      ValueError: if the shapes do not match or k exceeds K.

    Examples:
      >>> f1_metric(jnp.array([[1, 0]]), jnp.array([2]), k=2).item()
      0.5
    """
    top, relevant = _top(hits, num_relevant, k)
    return reduce_masked(2.0 * top.sum(axis=-1) / (k + relevant), where, reduce_fn)


def hit_rate_metric(
    hits: jax.Array,
    num_relevant: jax.Array,
    *,
    k: int,
    where: jax.Array | None = None,
    reduce_fn: ReduceFn | None = jnp.mean,
) -> jax.Array:
    r"""Hit rate (success): whether any of the first k is relevant.

    .. math:: HR@k = \max_{r \le k} h_r

    Args:
      hits: ``[..., K]`` bool or floating, hits in rank order.
      num_relevant: ``[...]`` number of relevant items; only its shape matters.
      k: the cutoff.
      where: ``[...]`` bool, the lists that count.
      reduce_fn: reduction over the lists; None for per-list values.

    Returns:
      A float32 scalar, or ``[...]`` where ``reduce_fn`` is None.

    Raises:
      ValueError: if the shapes do not match or k exceeds K.

    Examples:
      >>> hits = jnp.array([[0, 1, 1], [0, 0, 1]])
      >>> hit_rate_metric(hits, jnp.array([2, 1]), k=2).item()
      0.5
    """
    top, _ = _top(hits, num_relevant, k)
    return reduce_masked(top.max(axis=-1), where, reduce_fn)


def ndcg_metric(
    hits: jax.Array,
    num_relevant: jax.Array,
    *,
    k: int,
    where: jax.Array | None = None,
    reduce_fn: ReduceFn | None = jnp.mean,
) -> jax.Array:
    r"""Normalised discounted cumulative gain with binary gains.

    .. math::
      NDCG@k = \sum_{r=1}^{k} \frac{h_r}{\log_2 (r + 1)} \Big/
               \sum_{r=1}^{\min(|T|, k)} \frac{1}{\log_2 (r + 1)}

    The ideal list holds ``min(|T|, k)`` relevant items, not only those that were
    found.

    Args:
      hits: ``[..., K]`` bool or floating, hits in rank order.
      num_relevant: ``[...]`` number of relevant items \|T\|.
      k: the cutoff.
      where: ``[...]`` bool, the lists that count.
      reduce_fn: reduction over the lists; None for per-list values.

    Returns:
      A float32 scalar, or ``[...]`` where ``reduce_fn`` is None.

    Raises:
      ValueError: if the shapes do not match or k exceeds K.

    Examples:
      >>> ndcg_metric(jnp.array([[0, 1]]), jnp.array([1]), k=2).item()  # 1 / log2(3)
      0.6309...

    References:
      Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques",
      ACM TOIS 2002.
    """
    top, relevant = _top(hits, num_relevant, k)
    discounts = _discounts(k)
    gain = (top * jnp.broadcast_to(discounts, top.shape)).sum(axis=-1)
    ideal = jnp.cumsum(discounts)[jnp.clip(relevant, 1, k).astype(jnp.int32) - 1]
    return reduce_masked(gain / ideal, where, reduce_fn)


def mrr_metric(
    hits: jax.Array,
    num_relevant: jax.Array,
    *,
    k: int,
    where: jax.Array | None = None,
    reduce_fn: ReduceFn | None = jnp.mean,
) -> jax.Array:
    r"""Reciprocal rank of the first hit, 0 where there is none in the first k.

    .. math:: RR@k = 1 / \min \{ r \le k : h_r = 1 \}

    Later hits add nothing; a sum over all hits, as some toolkits print, may pass 1.

    Args:
      hits: ``[..., K]`` bool or floating, hits in rank order.
      num_relevant: ``[...]`` number of relevant items; only its shape matters.
      k: the cutoff.
      where: ``[...]`` bool, the lists that count.
      reduce_fn: reduction over the lists; None for per-list values.

    Returns:
      A float32 scalar, or ``[...]`` where ``reduce_fn`` is None.

    Raises:
      ValueError: if the shapes do not match or k exceeds K.

    Examples:
      >>> mrr_metric(jnp.array([[0, 1, 1]]), jnp.array([2]), k=3).item()
      0.5
    """
    top, _ = _top(hits, num_relevant, k)
    first = 1.0 / (1.0 + jnp.argmax(top, axis=-1).astype(jnp.float32))
    return reduce_masked(jnp.where(top.max(axis=-1) > 0, first, 0.0), where, reduce_fn)


def map_metric(
    hits: jax.Array,
    num_relevant: jax.Array,
    *,
    k: int,
    where: jax.Array | None = None,
    reduce_fn: ReduceFn | None = jnp.mean,
) -> jax.Array:
    r"""Average precision; its mean over lists is MAP.

    .. math:: AP@k = \frac{1}{\min(|T|, k)} \sum_{r=1}^{k} h_r \, P@r

    Dividing by ``min(|T|, k)`` lets a perfect list reach 1; trec_eval divides by
    ``|T|``.

    Args:
      hits: ``[..., K]`` bool or floating, hits in rank order.
      num_relevant: ``[...]`` number of relevant items \|T\|.
      k: the cutoff.
      where: ``[...]`` bool, the lists that count.
      reduce_fn: reduction over the lists; None for per-list values.

    Returns:
      A float32 scalar, or ``[...]`` where ``reduce_fn`` is None.

    Raises:
      ValueError: if the shapes do not match or k exceeds K.

    Examples:
      >>> map_metric(jnp.array([[1, 0, 0, 1]]), jnp.array([2]), k=4).item()
      0.75
    """
    top, relevant = _top(hits, num_relevant, k)
    ranks = jnp.broadcast_to(jnp.arange(1, k + 1, dtype=jnp.float32), top.shape)
    total = (top * jnp.cumsum(top, axis=-1) / ranks).sum(axis=-1)
    return reduce_masked(total / jnp.clip(relevant, 1, k), where, reduce_fn)


def average_popularity_metric(
    items: jax.Array,
    item_counts: jax.Array,
    *,
    k: int,
    where: jax.Array | None = None,
    reduce_fn: ReduceFn | None = jnp.mean,
) -> jax.Array:
    r"""Mean training count of the first k items of a list.

    .. math:: \frac{1}{k} \sum_{r=1}^{k} c_{i_r}

    Args:
      items: ``[..., K]`` item ids in rank order; -1, for no item, is left out of the
        mean.
      item_counts: ``[I]`` training pairs of each item.
      k: the cutoff.
      where: ``[...]`` bool, the lists that count.
      reduce_fn: reduction over the lists; None for per-list values.

    Returns:
      A float32 scalar, or ``[...]`` where ``reduce_fn`` is None.

    Raises:
      ValueError: if k exceeds K.

    Examples:
      >>> counts = jnp.array([10.0, 4.0, 1.0])
      >>> average_popularity_metric(jnp.array([[1, 0], [2, -1]]), counts, k=2).item()
      4.0

    References:
      Abdollahpouri et al., "Managing popularity bias in recommender systems with
      personalized re-ranking", FLAIRS 2019.
    """
    items, item_counts = jnp.asarray(items), jnp.asarray(item_counts)
    valid, _ = _top(items >= 0, jnp.zeros(items.shape[:-1]), k)
    counts = item_counts[jnp.maximum(items[..., :k], 0)].astype(jnp.float32) * valid
    mean = counts.sum(axis=-1) / jnp.maximum(valid.sum(axis=-1), 1.0)
    return reduce_masked(mean, where, reduce_fn)
