"""Rows of metrics: mean and sum over the lists that count, and the value of each."""

import functools

import jax.numpy as jnp
import numpy as np

from contract import graphs
from contract.table import Case, Mask
from recjax import metrics

K, CUT = 6, 4
COUNTS = "it counts, and has no derivative"


def hits(rng, B):
    """Hits in rank order, of which the first list has none and nothing relevant."""
    found = rng.random((B, K)) < 0.4
    found[:1] = False
    more = rng.integers(0, 3, B) * (np.arange(B) > 0)
    return {
        "hits": found * 1.0,
        "relevant": found.sum(1) + more,
        "where": graphs.some(rng, B),
    }


def reduced(function, x, *names, **options):
    args = [x[name] for name in names]
    return tuple(
        function(*args, where=x["where"], reduce_fn=reduce_fn, **options)
        for reduce_fn in (jnp.mean, jnp.sum, None)
    )


def by_row(value):
    """A reference from the value of one list."""

    def reference(x):
        rows = np.zeros(len(x["where"]))
        for b in np.flatnonzero(x["where"]):
            rows[b] = value(x, b)
        return rows.sum() / max(x["where"].sum(), 1), rows.sum(), rows

    return reference


row = functools.partial(
    Case,
    sizes={"B": 8},
    out=("", "", "B"),
    mask=Mask("where", "B"),
    padding={"B": 2},
    order=("B",),
    empty=({"B": 0}, {"B": 1}),
    derivatives=COUNTS,
    bfloat16=1e-6,
    wide=True,
)


def of_hits(name, function, value):
    """A row of a metric of ranked lists, given the hits above the cut and |T|."""
    return row(
        name=name,
        function=function,
        call=lambda x: reduced(function, x, "hits", "relevant", k=CUT),
        make=hits,
        axes={"hits": "B", "relevant": "B", "where": "B"},
        reference=by_row(
            lambda x, b: value(np.flatnonzero(x["hits"][b, :CUT]), x["relevant"][b])
        ),
        large="hits are 0 or 1",
    )


def gains(ranks):
    return (1 / np.log2(np.asarray(ranks) + 2)).sum()


def average_precision(ranks, relevant):
    precision = [(n + 1) / (rank + 1) for n, rank in enumerate(ranks)]
    return sum(precision) / max(min(relevant, CUT), 1)


def shown(rng, B):
    """Items in rank order, of which the first list has none."""
    items = rng.integers(-1, 5, (B, K))
    items[:1] = -1
    counts = rng.integers(0, 9, 5) * 1.0
    return {"items": items, "counts": counts, "where": graphs.some(rng, B)}


def popularity(x, b):
    items = x["items"][b, :CUT]
    items = items[items >= 0]
    return x["counts"][items].mean() if len(items) else 0


def pairs(x, b):
    """Share of ordered pairs of a positive and a negative; None without a pair."""
    positive = x["scores"][b, x["labels"][b] & x["where"][b]]
    negative = x["scores"][b, ~x["labels"][b] & x["where"][b]]
    gaps = positive[:, None] - negative[None]
    return ((gaps > 0) + (gaps == 0) / 2).mean() if gaps.size else None


def auc(x):
    rows = [pairs(x, b) for b in range(len(x["scores"]))]
    some = [value for value in rows if value is not None]
    out = np.array([value or 0.0 for value in rows])
    return sum(some) / max(len(some), 1), sum(some), out


def gini(x):
    exposure = x["exposure"]
    gaps = np.abs(exposure[:, None] - exposure[None]).mean()
    return gaps / (2 * exposure.mean())


of_catalogue = functools.partial(
    Case,
    make=lambda rng, num: {
        "exposure": rng.integers(0, 4, num) + 4.0 * (np.arange(num) == 0)
    },
    sizes={"I": 8},
    axes={"exposure": "I"},
    out="",
    padding="every item of the catalogue counts",
    order=("I",),
    large="exposure is a count",
    empty=({"I": 1},),
    derivatives=COUNTS,
    bfloat16=1e-6,
    wide=True,
)

CASES = (
    of_hits(
        "recall_metric",
        metrics.recall_metric,
        lambda ranks, relevant: len(ranks) / max(relevant, 1),
    ),
    of_hits(
        "precision_metric",
        metrics.precision_metric,
        lambda ranks, relevant: len(ranks) / CUT,
    ),
    of_hits(
        "f1_metric",
        metrics.f1_metric,
        lambda ranks, relevant: 2 * len(ranks) / (CUT + relevant),
    ),
    of_hits(
        "hit_rate_metric",
        metrics.hit_rate_metric,
        lambda ranks, relevant: float(len(ranks) > 0),
    ),
    of_hits(
        "ndcg_metric",
        metrics.ndcg_metric,
        lambda ranks, relevant: (
            gains(ranks) / gains(np.arange(max(min(relevant, CUT), 1)))
        ),
    ),
    of_hits(
        "mrr_metric",
        metrics.mrr_metric,
        lambda ranks, relevant: 1 / (ranks[0] + 1) if len(ranks) else 0,
    ),
    of_hits("map_metric", metrics.map_metric, average_precision),
    row(
        name="average_popularity_metric",
        function=metrics.average_popularity_metric,
        call=lambda x: reduced(
            metrics.average_popularity_metric, x, "items", "counts", k=CUT
        ),
        make=shown,
        axes={"items": "B", "counts": "", "where": "B"},
        reference=by_row(popularity),
        large="popularity is a count",
    ),
    row(
        name="auc_metric",
        function=metrics.auc_metric,
        call=lambda x: reduced(metrics.auc_metric, x, "scores", "labels"),
        make=lambda rng, B, K: {
            "scores": rng.integers(0, 4, (B, K)) * 1.0,  # ties
            "labels": rng.random((B, K)) < 0.4,
            "where": np.tile(graphs.some(rng, K), (B, 1)),
        },
        sizes={"B": 8, "K": 6},
        axes={"scores": "BK", "labels": "BK", "where": "BK"},
        reference=auc,
        mask=Mask("where", "K"),
        padding={"B": 2, "K": 2},
        order=("B", "K"),
        large=("scores",),
        empty=({"B": 0}, {"B": 1, "K": 1}),
    ),
    row(
        name="accuracy_metric",
        function=metrics.accuracy_metric,
        call=lambda x: reduced(metrics.accuracy_metric, x, "logits", "labels"),
        make=lambda rng, B: {
            "logits": rng.normal(size=B),
            "labels": rng.random(B) < 0.4,
            "where": graphs.some(rng, B),
        },
        axes={"logits": "B", "labels": "B", "where": "B"},
        reference=by_row(
            lambda x, b: float((x["logits"][b] > 0) == x["labels"][b]),
        ),
        large=("logits",),
    ),
    of_catalogue(
        name="coverage_metric",
        function=metrics.coverage_metric,
        call=lambda x: metrics.coverage_metric(x["exposure"]),
        reference=lambda x: (x["exposure"] > 0).mean(),
    ),
    of_catalogue(
        name="gini_metric",
        function=metrics.gini_metric,
        call=lambda x: metrics.gini_metric(x["exposure"]),
        reference=gini,
    ),
)
