"""Ranking metrics as pure functions.

The grammar: a metric of ranked lists takes ``hits [..., K]``, whether the item at
each rank is relevant, best rank first, and ``num_relevant [...]``, the number of
relevant items |T| that the list was to find.  Everything else is keyword-only:

- ``k``: the cutoff; ranks after k do not count.
- ``where``: ``[...]`` bool, the lists that count.  A list without a relevant item has
  no recall: leave it out by ``where=num_relevant > 0``.
- ``reduce_fn``: ``jnp.mean`` or ``jnp.sum`` over the lists; None returns ``[...]``.

Masked lists give what leaving them out gives; where all are masked the result is 0,
never NaN.  Sums are float32 whatever the inputs are.
"""

from recjax.metrics._catalogue import coverage_metric, gini_metric
from recjax.metrics._labelled import accuracy_metric, auc_metric
from recjax.metrics._ranked import (
    average_popularity_metric,
    f1_metric,
    hit_rate_metric,
    map_metric,
    mrr_metric,
    ndcg_metric,
    precision_metric,
    recall_metric,
)

__all__ = [
    "accuracy_metric",
    "auc_metric",
    "average_popularity_metric",
    "coverage_metric",
    "f1_metric",
    "gini_metric",
    "hit_rate_metric",
    "map_metric",
    "mrr_metric",
    "ndcg_metric",
    "precision_metric",
    "recall_metric",
]
