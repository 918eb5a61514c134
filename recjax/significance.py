"""Whether one model is better than another, over users: bootstrap, and Holm.

Two models are compared user by user, by the values that `recjax.evaluation.evaluate`
gives with ``per_user=True``.  Where a model was trained with several seeds, its value
for a user is the mean over seeds (`mean_over_seeds`): users, and not runs, are what is
drawn.  The statement is about other users, for the models as they were trained.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# Entries of one block of drawn indices.
_BLOCK_CELLS = 1 << 22


class Comparison(NamedTuple):
    """Outcome of `paired_bootstrap`.

    Attributes:
      difference: mean over users of a minus b.
      interval: bounds of the confidence interval of the difference.
      p_value: of "a is better than b", one-sided; small where it is.
      standard_error: of the difference, over the drawn samples.
      num_users: U'.
    """

    difference: float
    interval: tuple[float, float]
    p_value: float
    standard_error: float
    num_users: int


def paired_bootstrap(
    key: jax.Array,
    a: np.ndarray,
    b: np.ndarray,
    *,
    samples: int = 10_000,
    confidence: float = 0.95,
    block_size: int | None = None,
) -> Comparison:
    r"""Tests whether a has the larger mean than b, over users drawn with replacement.

    With :math:`d_u = a_u - b_u` and the mean :math:`\bar d^*` of a sample of as many
    users, drawn anew from all,

    .. math::
       p = \frac{1 + \#\{\bar d^* - \bar d \ge \bar d\}}{1 + n},

    the right tail of the samples, shifted to where the null hypothesis of no difference
    holds.  The 1 counts the observed value itself, so that p is never 0.  The interval
    is that of the percentiles of :math:`\bar d^*`; it has two sides.  Equal models
    give p = 1.

    Args:
      key: a PRNG key; the same key draws the same users.
      a: ``[U']`` values of the model that is claimed to be better, such as NDCG@20.
      b: ``[U']`` values of the other, of the same users in the same order.
      samples: n.
      confidence: of the interval, between 0 and 1.
      block_size: samples drawn at a time; memory is that times U'.  None chooses.

    Returns:
      The comparison.

    Raises:
      ValueError: shapes differ, there are less than two users, a value is not finite,
        or a number makes no sense.

    Examples:
      >>> rng = np.random.default_rng(0)
      >>> b = rng.random(500)
      >>> a = b + rng.normal(0.05, 0.2, 500)
      >>> better = paired_bootstrap(jax.random.key(0), a, b, samples=999)
      >>> worse = paired_bootstrap(jax.random.key(0), b, a, samples=999)
      >>> better.p_value, worse.p_value
      (0.001, 1.0)

    References:
      Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapters 13 and 16;
      Sakai, Evaluating evaluation metrics based on the bootstrap, SIGIR 2006 (the
      shifted paired test for retrieval; there with two sides and studentised).
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 1 or a.shape != b.shape or len(a) < 2:
        raise ValueError(
            f"a {a.shape} and b {b.shape} must be values of the same users, two or "
            "more; average seeds first by mean_over_seeds"
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("a value is not finite: leave out the users who have none")
    if samples < 1 or not 0 < confidence < 1:
        raise ValueError(
            f"samples {samples} must be at least 1 and confidence {confidence} between "
            "0 and 1"
        )
    if block_size is None:
        block_size = max(1, _BLOCK_CELLS // len(a))
    if block_size < 1:
        raise ValueError(f"block_size {block_size} must be at least 1")
    block_size = min(block_size, samples)
    differences = a - b
    mean = differences.mean()
    # Centred in float64: what float32 then loses is small beside the deviations, and
    # a sample's mean is that of the null hypothesis at once.
    scale = np.abs(differences - mean).max()
    if scale <= 1e-12 * np.abs(differences).max():
        # All users agree: there is no spread to draw from.
        p_value = 1 / (1 + samples) if mean > 0 else 1.0
        return Comparison(float(mean), (float(mean),) * 2, p_value, 0.0, len(a))
    centred = jnp.asarray((differences - mean) / scale, jnp.float32)
    drawn = _means(key, centred, samples=samples, block_size=block_size)
    null = np.asarray(drawn, np.float64) * scale
    # Rounding must not part what is equal: differences of metrics have few values.
    room = 1e-6 * scale
    count = int(np.sum(null >= mean - room))
    tail = (1 - confidence) / 2
    low, high = mean + np.quantile(null, [tail, 1 - tail])
    spread = float(null.std(ddof=1)) if samples > 1 else 0.0
    return Comparison(
        float(mean),
        (float(low), float(high)),
        (1 + count) / (1 + samples),
        spread,
        len(a),
    )


@functools.partial(jax.jit, static_argnames=("samples", "block_size"))
def _means(
    key: jax.Array, values: jax.Array, *, samples: int, block_size: int
) -> jax.Array:
    """Means ``[samples]`` of users drawn with replacement, a block at a time."""
    num = values.shape[0]

    def mean(place):
        # By place: a block of another size draws the same samples.
        rows = jax.random.randint(jax.random.fold_in(key, place), (num,), 0, num)
        return jnp.mean(values[rows])

    return jax.lax.map(mean, jnp.arange(samples), batch_size=block_size)


def mean_over_seeds(
    tables: Sequence[Mapping[str, np.ndarray]], metric: str
) -> tuple[np.ndarray, np.ndarray]:
    """Each user's value of a metric, averaged over runs with several seeds.

    Args:
      tables: of users, one a seed, as `recjax.evaluation.evaluate` returns them.
      metric: such as ``"ndcg@20"``.

    Returns:
      The users ``[U']`` and their values ``[U']`` float64.

    Raises:
      ValueError: there is no table, or they are of different users.

    Examples:
      >>> seeds = [
      ...     {"user": np.array([2, 5]), "recall@20": np.array([0.0, 1.0])},
      ...     {"user": np.array([2, 5]), "recall@20": np.array([1.0, 1.0])},
      ... ]
      >>> mean_over_seeds(seeds, "recall@20")[1].tolist()
      [0.5, 1.0]
    """
    if not tables:
        raise ValueError("no table: give one for each seed")
    users = np.asarray(tables[0]["user"])
    for table in tables[1:]:
        if not np.array_equal(users, table["user"]):
            raise ValueError("the tables are of different users: evaluate on the same")
    values = [np.asarray(table[metric], np.float64) for table in tables]
    return users, np.mean(values, axis=0)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    r"""Holm's step-down correction for several comparisons.

    With the p-values in ascending order, the k-th of m becomes

    .. math:: \tilde p_{(k)} = \max_{j \le k} \min(1, (m - j + 1) p_{(j)}).

    Calling what lies below α significant then has a chance of at most α of any false
    call, whatever the comparisons have to do with each other.

    Args:
      p_values: by name of the comparison.

    Returns:
      Corrected p-values by name, in the order given.

    Raises:
      ValueError: a p-value is not between 0 and 1.

    Examples:
      >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
      {'a': 0.03, 'b': 0.06, 'c': 0.06}

    References:
      Holm, A simple sequentially rejective multiple test procedure, Scandinavian
      Journal of Statistics 1979.
    """
    for name, value in p_values.items():
        if not 0 <= value <= 1:
            raise ValueError(f"p-value {value} of {name!r} must be between 0 and 1")
    names = sorted(p_values, key=lambda name: p_values[name])
    values = np.array([p_values[name] for name in names])
    factors = np.arange(len(names), 0, -1)
    stepped = np.maximum.accumulate(np.minimum(1.0, factors * values))
    found = dict(zip(names, stepped.tolist(), strict=True))
    return {name: found[name] for name in p_values}
