"""The made-up log has the communities that it promises."""

import numpy as np
import pytest

from recjax.data.synthetic import synthetic


def test_sizes_and_distinct_items():
    log = synthetic(num_users=30, num_items=21, num_groups=3, rows_per_user=6, seed=1)
    rows = log.interactions
    assert (log.users.num_rows, log.items.num_rows, rows.num_rows) == (30, 21, 180)
    assert np.bincount(rows.users).tolist() == [6] * 30
    assert len({*zip(rows.users.tolist(), rows.items.tolist(), strict=True)}) == 180
    groups = log.items["group"].to_pylist()
    assert groups[:4] == ["group 0", "group 1", "group 2", "group 0"]
    assert log.items["title"][4].as_py() == "Item 4 of group 1"
    assert rows.times.min() >= 1_500_000_000
    assert rows.users.dtype == rows.items.dtype == np.int32


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_users_take_items_of_their_group(noise):
    log = synthetic(num_users=400, num_items=200, num_groups=4, noise=noise)
    rows = log.interactions
    outside = np.mean(rows.users % 4 != rows.items % 4)
    # 4800 rows: three standard deviations are 0.02.
    assert abs(outside - noise) <= (0.02 if noise else 0)


def test_popularity_is_skewed_and_vectors_tell_the_groups():
    log = synthetic(num_users=400, num_items=80)
    counts = np.bincount(log.interactions.items, minlength=80)
    # Without skew the two sums would be about equal.
    assert counts[:8].sum() > 2 * counts[-8:].sum()
    vectors, groups = log.features["vector"].values, np.arange(80) % 4
    centres = np.stack([vectors[groups == g].mean(0) for g in range(4)])
    distance = np.linalg.norm(vectors[:, None] - centres, axis=-1)
    assert (distance.argmin(1) == groups).all()
    assert log.features["vector"].present.all()


def test_the_seed_decides():
    one, same, other = (synthetic(seed=s).interactions for s in (0, 0, 1))
    np.testing.assert_array_equal(one.items, same.items)
    np.testing.assert_array_equal(one.times, same.times)
    assert (one.items != other.items).any()


def test_a_user_may_take_every_item():
    # Whatever the noise: the own group has three of the six.
    log = synthetic(4, 6, num_groups=2, rows_per_user=6, noise=0.9)
    assert sorted(log.interactions.items[:6].tolist()) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"rows_per_user": 101}, "the 100 items, got 101"),
        ({"num_groups": 0}, "num_groups must be .* got 0"),
        ({"noise": 1.5}, "share between 0 and 1, got 1.5"),
    ],
)
def test_sizes_that_make_no_sense(sizes, message):
    with pytest.raises(ValueError, match=message):
        synthetic(**sizes)
