"""The bootstrap has the level and the tail that it claims; Holm by hand."""

import itertools
import math

import jax
import numpy as np
import pytest

from recjax import significance
from recjax.significance import holm, mean_over_seeds, paired_bootstrap


def key(seed):
    return jax.random.key(seed)


def test_under_the_null_p_is_about_uniform(rng):
    values = []
    for trial in range(200):
        a, b = rng.normal(size=(2, 80))
        values.append(paired_bootstrap(key(trial), a, b, samples=199).p_value)
    values = np.sort(values)
    # Kolmogorov and Smirnov: 1.63 / sqrt(200) is passed by chance in 1 % of cases.
    distance = np.abs(values - (np.arange(200) + 0.5) / 200).max()
    assert distance < 1.63 / math.sqrt(200)


def test_it_agrees_with_the_normal_approximation(rng):
    d = rng.exponential(size=2000) - 0.965
    found = paired_bootstrap(key(1), d, np.zeros(2000), samples=20_000)
    error = d.std() / math.sqrt(len(d))
    z = d.mean() / error
    assert 1 < z < 3
    assert found.p_value == pytest.approx(0.5 * math.erfc(z / math.sqrt(2)), abs=0.01)
    assert found.standard_error == pytest.approx(error, rel=0.03)
    low, high = found.interval
    assert low == pytest.approx(d.mean() - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(d.mean() + 1.96 * error, abs=0.1 * error)


def test_it_agrees_with_all_samples_of_few_users():
    """Four users have 256 samples: their share is what drawing approaches."""
    d = np.array([0.5, -0.25, 0.25, 0.125])
    means = [np.mean(draw) for draw in itertools.product(d, repeat=4)]
    exact = np.mean(np.array(means) - d.mean() >= d.mean() - 1e-12)
    found = paired_bootstrap(key(2), d, np.zeros(4), samples=40_000)
    assert 0.02 < exact < 0.5
    assert found.p_value == pytest.approx(exact, abs=0.008)
    low, high = np.quantile(means, [0.025, 0.975])
    assert found.interval == pytest.approx((low, high), abs=0.02)


def test_it_agrees_with_all_flips_of_signs(rng):
    """Another exact test of the same claim, on a difference without skew."""
    d = rng.normal(0.4, 1.0, 14)
    signs = np.array(list(itertools.product([-1, 1], repeat=14)))
    exact = np.mean((signs * d).mean(1) >= d.mean() - 1e-12)
    found = paired_bootstrap(key(3), d, np.zeros(14), samples=20_000)
    assert found.p_value == pytest.approx(exact, abs=0.03)


def test_the_right_tail_is_tested(rng):
    b = rng.random(400)
    a = b + rng.normal(0.1, 0.3, 400)
    better = paired_bootstrap(key(0), a, b, samples=999)
    worse = paired_bootstrap(key(0), b, a, samples=999)
    assert better.p_value == 1 / 1000
    assert worse.p_value > 0.999
    assert better.difference == pytest.approx(np.mean(a - b))
    assert worse.difference == -better.difference
    assert 0 < better.interval[0] < better.difference < better.interval[1]
    assert better.num_users == 400


def test_pairing_is_what_tells(rng):
    """A small gain for everyone is found under a spread of users ten times as large."""
    b = rng.normal(0, 1.0, 300)
    a = b + rng.normal(0.03, 0.1, 300)
    assert paired_bootstrap(key(0), a, b, samples=999).p_value < 0.01
    shuffled = paired_bootstrap(key(0), a, rng.permutation(b), samples=999)
    assert shuffled.p_value > 0.05


def test_the_observed_value_counts_and_ties_too():
    equal = np.full(50, 0.3)
    assert paired_bootstrap(key(0), equal, equal, samples=99).p_value == 1.0
    assert paired_bootstrap(key(0), equal + 0.1, equal, samples=99).p_value == 0.01
    assert paired_bootstrap(key(0), equal, equal + 0.1, samples=99).p_value == 1.0
    # One of two users gains 1: a mean of 1 and one of 1/2 above the observed 1/2, in
    # one of four samples, is an equality that rounding must not lose.
    found = paired_bootstrap(key(0), np.array([1.0, 0.0]), np.zeros(2), samples=20_000)
    assert found.p_value == pytest.approx(0.25, abs=0.012)


def test_neither_scale_nor_blocks_matter(rng):
    a, b = rng.random((2, 101))
    found = paired_bootstrap(key(4), a, b, samples=300)
    for block_size in (1, 7, 300, 10**6):
        other = paired_bootstrap(key(4), a, b, samples=300, block_size=block_size)
        assert other.p_value == found.p_value
        assert other.interval == pytest.approx(found.interval, abs=1e-6)
    small = paired_bootstrap(key(4), 1e-6 * a, 1e-6 * b, samples=300)
    assert small.p_value == found.p_value
    assert small.interval == pytest.approx([1e-6 * x for x in found.interval])


def test_wide_confidence_is_a_wide_interval(rng):
    a, b = rng.random((2, 200))
    some = [
        paired_bootstrap(key(0), a, b, samples=2000, confidence=share).interval
        for share in (0.5, 0.9, 0.99)
    ]
    widths = [high - low for low, high in some]
    # Those of a normal distribution: 0.674, 1.645 and 2.576 deviations.
    assert widths[1] / widths[0] == pytest.approx(1.645 / 0.674, rel=0.1)
    assert widths[2] / widths[1] == pytest.approx(2.576 / 1.645, rel=0.15)


def test_seeds_are_averaged_by_user_first():
    users = np.array([1, 4, 9])
    tables = [
        {"user": users, "ndcg@20": np.array(values, np.float32)}
        for values in ([0.0, 1.0, 0.5], [1.0, 0.5, 0.5])
    ]
    found, values = mean_over_seeds(tables, "ndcg@20")
    assert found.tolist() == [1, 4, 9] and values.tolist() == [0.5, 0.75, 0.5]
    other = {"user": np.array([1, 4, 8]), "ndcg@20": values}
    with pytest.raises(ValueError, match="different users"):
        mean_over_seeds([*tables, other], "ndcg@20")
    with pytest.raises(ValueError, match="no table"):
        mean_over_seeds([], "ndcg@20")


def test_holm_by_hand():
    p = {"d": 0.04, "a": 0.005, "c": 0.011, "b": 0.01, "e": 0.9}
    # 5 x .005, 4 x .01, 3 x .011 = .033 below the .04 before it, 2 x .04, 1 x .9.
    expected = {"d": 0.08, "a": 0.025, "c": 0.04, "b": 0.04, "e": 0.9}
    found = holm(p)
    assert list(found) == list(p)
    assert found == pytest.approx(expected)
    assert holm({"x": 0.6, "y": 0.7}) == {"x": 1.0, "y": 1.0}
    assert holm({"x": 0.2}) == {"x": 0.2} and holm({}) == {}
    with pytest.raises(ValueError, match="'x'"):
        holm({"x": 1.5})


def test_holm_keeps_the_chance_of_any_false_call(rng):
    p = rng.random((4000, 5))
    calls = [min(holm(dict(zip("abcde", row, strict=True))).values()) for row in p]
    assert np.mean(np.array(calls) < 0.1) == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"b": np.zeros(3)}, "same users"),
        ({"a": np.zeros((4, 2)), "b": np.zeros((4, 2))}, "mean_over_seeds"),
        ({"a": np.array([1.0, np.nan, 0, 0])}, "not finite"),
        ({"samples": 0}, "samples 0"),
        ({"confidence": 1.0}, "confidence 1.0"),
        ({"block_size": 0}, "block_size 0"),
    ],
)
def test_what_cannot_be_compared(change, message):
    options = {"a": np.ones(4), "b": np.zeros(4)} | change
    with pytest.raises(ValueError, match=message):
        paired_bootstrap(key(0), options.pop("a"), options.pop("b"), **options)


def test_memory_is_that_of_a_block():
    num, block = 1000, 8
    lowered = significance._means.lower(
        key(0), np.zeros(num, np.float32), samples=4000, block_size=block
    )
    analysis = lowered.compile().memory_analysis()
    assert analysis.temp_size_in_bytes < 20 * 4 * num * block < 4 * num * 4000
