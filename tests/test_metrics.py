"""Metrics against arithmetic, and against ir_measures."""

import functools
import math

import ir_measures
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ir_measures import AP, RR, P, R, Success, nDCG

from recjax.metrics import (
    accuracy_metric,
    auc_metric,
    average_popularity_metric,
    coverage_metric,
    f1_metric,
    gini_metric,
    hit_rate_metric,
    map_metric,
    mrr_metric,
    ndcg_metric,
    precision_metric,
    recall_metric,
)

OF_HITS = {
    "recall": recall_metric,
    "precision": precision_metric,
    "f1": f1_metric,
    "hit_rate": hit_rate_metric,
    "ndcg": ndcg_metric,
    "mrr": mrr_metric,
    "map": map_metric,
}

# Two lists of five: hits at ranks 2, 3 and 5 of four relevant items; one at rank 1
# of one.
HITS = np.array([[0, 1, 1, 0, 1], [1, 0, 0, 0, 0]], bool)
RELEVANT = np.array([4, 1])


def gain(rank):
    return 1 / math.log2(rank + 1)


@pytest.mark.parametrize(
    ("name", "k", "expected"),
    [
        ("recall", 5, [3 / 4, 1 / 1]),
        ("recall", 2, [1 / 4, 1 / 1]),
        ("precision", 5, [3 / 5, 1 / 5]),
        ("precision", 2, [1 / 2, 1 / 2]),
        ("f1", 5, [2 * (3 / 5 * 3 / 4) / (3 / 5 + 3 / 4), 2 * (1 / 5) / (1 / 5 + 1)]),
        ("hit_rate", 1, [0, 1]),
        ("hit_rate", 2, [1, 1]),
        (
            "ndcg",
            5,
            [
                (gain(2) + gain(3) + gain(5)) / (gain(1) + gain(2) + gain(3) + gain(4)),
                1,
            ],
        ),
        # The ideal of |T| = 4 at k = 2 is two hits, and not the one that was found.
        ("ndcg", 2, [gain(2) / (gain(1) + gain(2)), 1]),
        # The first hit only; a sum over all hits would be 1/2 + 1/3 + 1/5 > 1.
        ("mrr", 5, [1 / 2, 1]),
        ("mrr", 1, [0, 1]),
        ("map", 5, [(1 / 2 + 2 / 3 + 3 / 5) / 4, 1]),
        ("map", 2, [(1 / 2) / 2, 1]),
    ],
)
def test_values(name, k, expected):
    metric = OF_HITS[name]
    values = metric(HITS, RELEVANT, k=k, reduce_fn=None)
    assert values.dtype == jnp.float32
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    np.testing.assert_allclose(
        metric(HITS, RELEVANT, k=k), np.mean(expected), rtol=1e-6
    )
    total = metric(HITS, RELEVANT, k=k, reduce_fn=jnp.sum)
    np.testing.assert_allclose(total, np.sum(expected), rtol=1e-6)


def random_run(rng, queries=30, documents=40, relevant=12):
    """A random ranking of all documents, and random relevant ones, for each query."""
    ranking = np.stack([rng.permutation(documents) for _ in range(queries)])
    sets = [
        set(rng.choice(documents, rng.integers(1, relevant + 1), False).tolist())
        for _ in range(queries)
    ]
    hits = np.array(
        [[d in s for d in row] for row, s in zip(ranking, sets, strict=True)]
    )
    qrels = {str(q): {str(d): 1 for d in s} for q, s in enumerate(sets)}
    run = {
        str(q): {str(d): float(documents - r) for r, d in enumerate(row)}
        for q, row in enumerate(ranking.tolist())
    }
    return hits, np.array([len(s) for s in sets]), qrels, run


@pytest.mark.parametrize("k", [1, 5, 10, 20])
def test_same_numbers_as_ir_measures(rng, k):
    hits, relevant, qrels, run = random_run(rng)
    theirs = {
        "recall": R @ k,
        "precision": P @ k,
        "ndcg": nDCG @ k,
        "mrr": RR @ k,
        "hit_rate": Success @ k,
        "map": AP @ k,
    }
    values = {name: np.zeros(len(hits)) for name in theirs}
    names = {str(measure): name for name, measure in theirs.items()}
    for row in ir_measures.iter_calc(list(theirs.values()), qrels, run):
        values[names[str(row.measure)]][int(row.query_id)] = row.value
    # trec_eval divides average precision by |T|, recjax by what k ranks can hold.
    values["map"] *= relevant / np.minimum(relevant, k)
    for name, value in values.items():
        ours = OF_HITS[name](hits, relevant, k=k, reduce_fn=None)
        np.testing.assert_allclose(ours, value, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("name", OF_HITS)
class TestGrammar:
    def test_nothing_relevant_is_zero_and_not_nan(self, name):
        hits, relevant = np.zeros((2, 5), bool), np.array([0, 3])
        values = OF_HITS[name](hits, relevant, k=5, reduce_fn=None)
        assert values.tolist() == [0.0, 0.0]

    def test_leading_axes(self, rng, name):
        hits, relevant, _, _ = random_run(rng)
        metric = functools.partial(OF_HITS[name], k=7, reduce_fn=None)
        values = metric(hits, relevant)
        folded = metric(hits.reshape(5, 6, -1), relevant.reshape(5, 6))
        np.testing.assert_array_equal(values.reshape(5, 6), folded)

    def test_floating_hits_are_summed_in_float32(self, name):
        hits = jnp.ones((1, 300), jnp.bfloat16)  # bfloat16 cannot count to 300
        values = OF_HITS[name](hits, jnp.array([300]), k=300, reduce_fn=None)
        assert values.dtype == jnp.float32
        np.testing.assert_allclose(values, [1.0], rtol=1e-5)

    def test_wrong_shapes(self, name):
        with pytest.raises(ValueError, match=r"\(2, 5\).*\(3,\)"):
            OF_HITS[name](HITS, np.ones(3), k=2)
        with pytest.raises(ValueError, match="k = 6 is outside 1 to 5"):
            OF_HITS[name](HITS, RELEVANT, k=6)
        with pytest.raises(ValueError, match=r"\(3,\).*\(2,\)"):
            OF_HITS[name](HITS, RELEVANT, k=2, where=np.ones(3, bool))


def test_auc_is_the_share_of_ordered_pairs(rng):
    scores = rng.integers(0, 6, (20, 30)).astype(np.float32)  # many ties
    labels = rng.random((20, 30)) < 0.3
    where = rng.random((20, 30)) < 0.8
    expected = []
    for row, label, mask in zip(scores, labels, where, strict=True):
        pos, neg = row[label & mask], row[~label & mask]
        pairs = (pos[:, None] > neg) + 0.5 * (pos[:, None] == neg)
        expected.append(pairs.mean())
    values = auc_metric(scores, labels, where=where, reduce_fn=None)
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    np.testing.assert_allclose(
        auc_metric(scores, labels, where=where), np.mean(expected), rtol=1e-6
    )
    single = jax.vmap(functools.partial(auc_metric, reduce_fn=None))
    np.testing.assert_allclose(single(scores, labels, where=where), expected, rtol=1e-6)


def test_auc_leaves_out_lists_of_one_class():
    scores = np.array([[3.0, 1.0], [1.0, 2.0], [1.0, 2.0]])
    labels = np.array([[1, 0], [1, 1], [0, 0]])
    assert auc_metric(scores, labels) == 1.0
    assert auc_metric(scores[1:], labels[1:]) == 0.0
    with pytest.raises(ValueError, match=r"\(3, 2\).*\(2, 2\)"):
        auc_metric(scores, labels[1:])


def test_auc_with_infinite_scores():
    scores = np.array([[np.inf, np.inf, 0.0, -np.inf]])
    labels = np.array([[1, 0, 0, 1]])
    # +inf: beats one negative, ties with the other; -inf beats none.
    expected = (1 + 1 / 2 + 0 + 0) / 4
    np.testing.assert_allclose(auc_metric(scores, labels), expected)


def test_accuracy():
    logits, labels = np.array([0.2, -3.0, 0.0, 4.0]), np.array([1, 1, 0, 0])
    assert accuracy_metric(logits, labels) == 2 / 4
    assert accuracy_metric(logits, labels, threshold=0.5) == 1 / 4
    where = np.array([True, True, False, False])
    assert accuracy_metric(logits, labels, where=where) == 1 / 2
    assert accuracy_metric(logits, labels, where=np.zeros(4, bool)) == 0.0
    assert accuracy_metric(logits, labels, reduce_fn=None).tolist() == [1, 0, 1, 0]
    with pytest.raises(ValueError, match=r"\(4,\).*\(3,\)"):
        accuracy_metric(logits, labels[:3])


def test_coverage_and_gini(rng):
    assert coverage_metric(np.array([3, 0, 1, 0, 0])) == np.float32(2 / 5)
    exposure = rng.integers(0, 50, 200)
    # Half the mean absolute difference, relative to the mean.
    gaps = np.abs(exposure[:, None] - exposure[None, :]).mean()
    expected = gaps / (2 * exposure.mean())
    np.testing.assert_allclose(gini_metric(exposure), expected, rtol=1e-5)
    np.testing.assert_allclose(gini_metric(exposure / 1e4), expected, rtol=1e-5)
    np.testing.assert_allclose(gini_metric(np.full(9, 4)), 0.0, atol=1e-7)
    assert gini_metric(np.zeros(9)) == 0.0
    two = np.stack([exposure, np.ones_like(exposure)])
    np.testing.assert_allclose(gini_metric(two), [expected, 0.0], rtol=1e-5, atol=1e-7)


def test_average_popularity():
    counts = np.array([10.0, 20.0, 40.0])
    items = np.array([[2, 0, 1], [1, -1, -1], [-1, -1, -1]])
    values = average_popularity_metric(items, counts, k=2, reduce_fn=None)
    assert values.tolist() == [(40 + 10) / 2, 20, 0]
    where = np.array([True, True, False])
    mean = average_popularity_metric(items, counts, k=2, where=where)
    assert mean == (25 + 20) / 2
