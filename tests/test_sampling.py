"""Negatives are never known items, follow their distribution, and can be replayed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.data.graph import make_context
from recjax.sampling import (
    epoch_rows,
    make_batch,
    make_negative_table,
    negative_log_probability,
    sample_negatives,
    sample_user_pairs,
    uniform_rows,
)
from recjax.types import Interactions, ItemLists, Spec


def seen_lists(lists):
    pointer = np.cumsum([0, *map(len, lists)]).astype(np.int32)
    return ItemLists(pointer, np.array([i for row in lists for i in row], np.int32))


SEEN = seen_lists([[0, 1, 5], [], [7], [0, 2, 4, 6], [0, 1, 2, 3, 4, 5, 6, 7]])
COUNTS = np.array([30, 2, 14, 0, 7, 1, 1, 5])


@pytest.mark.parametrize("power", [0.0, 0.75, 1.0])
def test_frequencies_equal_the_stated_probabilities(power):
    table = jax.device_put(make_negative_table(SEEN, COUNTS, power=power))
    users = jnp.arange(4)
    draws = 40_000
    items, possible = jax.jit(sample_negatives, static_argnums=3)(
        jax.random.key(1), table, users, draws
    )
    assert bool(possible.all())
    weight = np.maximum(COUNTS, 1) ** power
    for user in range(4):
        known = SEEN.items[SEEN.pointer[user] : SEEN.pointer[user + 1]]
        expected = weight * ~np.isin(np.arange(8), known)
        expected = expected / expected.sum()
        found = np.bincount(items[user], minlength=8) / draws
        assert found[known].sum() == 0
        # Four standard errors of a share among 40,000 draws.
        np.testing.assert_allclose(found, expected, atol=4 * 0.5 / np.sqrt(draws))
        unknown = np.flatnonzero(expected)
        log_q = negative_log_probability(
            table, jnp.array([user]), jnp.asarray(unknown)[None]
        )
        np.testing.assert_allclose(np.exp(log_q[0]), expected[unknown], rtol=1e-5)


def test_a_user_who_knows_everything_gets_no_weight():
    train = Interactions(np.array([0, 0, 0, 1]), np.array([0, 1, 2, 1]))
    context = make_context(train, Spec(2, 3))
    batch = make_batch(
        jax.random.key(0),
        context,
        jnp.array([0, 1]),
        jnp.array([0, 1]),
        jnp.ones(2),
        num_negatives=5,
    )
    assert batch.weight.tolist() == [0.0, 1.0]
    assert set(batch.negatives[1].tolist()) <= {0, 2}
    assert int(batch.negatives.max()) <= 2


def test_the_key_alone_decides():
    table = jax.device_put(make_negative_table(SEEN, COUNTS, power=0.5))
    users = jnp.array([0, 3, 2])
    first, _ = sample_negatives(jax.random.key(7), table, users, 50)
    again, _ = jax.jit(sample_negatives, static_argnums=3)(
        jax.random.key(7), table, users, 50
    )
    other, _ = sample_negatives(jax.random.key(8), table, users, 50)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_no_one_knows_anything():
    table = jax.device_put(make_negative_table(seen_lists([[], []]), np.ones(3)))
    items, possible = sample_negatives(jax.random.key(0), table, jnp.array([0, 1]), 300)
    assert bool(possible.all())
    assert set(np.unique(items)) == {0, 1, 2}


@pytest.mark.parametrize(("rows", "batch"), [(10, 4), (8, 4), (3, 5)])
def test_an_epoch_holds_every_row_once(rows, batch):
    index, weight = epoch_rows(jax.random.key(3), rows, batch)
    assert index.shape == weight.shape == (-(-rows // batch), batch)
    real = index.ravel()[weight.ravel() > 0]
    assert sorted(real.tolist()) == list(range(rows))
    other, _ = epoch_rows(jax.random.key(4), rows, batch)
    assert rows < 4 or (other != index).any()


def test_pairs_by_user_favour_no_busy_user():
    # User 1 has no item, user 2 has one, user 0 has six.
    train = Interactions(np.array([0] * 6 + [2]), np.array([0, 1, 2, 3, 4, 5, 5]))
    context = make_context(train, Spec(4, 6))
    rows = sample_user_pairs(jax.random.key(0), context, 20_000)
    users, items = context.users[rows], context.items[rows]
    share = np.bincount(users, minlength=4) / 20_000
    np.testing.assert_allclose(share, [0.5, 0, 0.5, 0], atol=4 * 0.5 / np.sqrt(20_000))
    assert set(items[users == 2].tolist()) == {5}
    of_first = np.bincount(items[users == 0], minlength=6) / (users == 0).sum()
    np.testing.assert_allclose(of_first, np.full(6, 1 / 6), atol=0.02)


def test_power_must_be_a_number():
    with pytest.raises(ValueError, match="-1"):
        make_negative_table(SEEN, COUNTS, power=-1)


class TestUniformRows:
    ROWS, WIDTH = 4096, 64

    def table(self, seed=0):
        key = jax.random.key(seed)
        return np.asarray(
            jax.jit(uniform_rows, static_argnums=2)(
                key, jnp.arange(self.ROWS), self.WIDTH
            ),
            np.float64,
        )

    def test_numbers_are_uniform(self):
        """In every column, and in the table as a whole."""
        table = self.table()
        assert 0 < table.min() and table.max() < 1
        for numbers, bins in ((table.ravel(), 256), *((x, 16) for x in table.T)):
            found = np.bincount((numbers * bins).astype(int), minlength=bins)
            expected = len(numbers) / bins
            chi_square = ((found - expected) ** 2 / expected).sum()
            # Mean bins - 1, variance twice that; six standard deviations.
            assert chi_square < bins - 1 + 6 * np.sqrt(2 * (bins - 1))

    def test_numbers_are_not_related(self):
        """Not columns, not neighbouring rows, not the tables of two keys."""
        table = self.table() - 0.5
        between = np.corrcoef(table.T) - np.eye(self.WIDTH)
        # 4,096 rows: a standard deviation is 1 / 64.
        assert np.abs(between).max() < 5.5 / 64
        size = 5.5 / np.sqrt(self.ROWS * self.WIDTH)
        for other in (
            np.roll(table, 1, 0),
            np.roll(table, 2048, 0),
            self.table(1) - 0.5,
        ):
            assert abs(np.corrcoef(table.ravel(), other.ravel())[0, 1]) < size
        # The ends of a row, too: of a vector in 64 dimensions the length.
        squares = (table**2).sum(1)
        assert abs(squares.mean() - 64 / 12) < 5 * np.sqrt(64 / 180 / self.ROWS)
        assert abs(squares.var() / (64 / 180) - 1) < 0.15

    def test_rows_are_those_of_the_table(self):
        rows = jnp.array([7, 4095, 7, 0])
        found = uniform_rows(jax.random.key(0), rows, self.WIDTH)
        np.testing.assert_array_equal(found, self.table()[np.asarray(rows)])
        odd = uniform_rows(jax.random.key(0), rows, 5)
        assert odd.shape == (4, 5) and len(np.unique(odd[0])) == 5

    @pytest.mark.parametrize("kind", ["rbg", "unsafe_rbg", "threefry2x32"])
    def test_any_kind_of_key(self, kind):
        keys = [jax.random.key(seed, impl=kind) for seed in (0, 1)]
        left, right = (uniform_rows(key, jnp.arange(3), 4) for key in keys)
        assert len(np.unique(left)) == 12 and (left != right).all()
