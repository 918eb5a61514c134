"""Experiments run, at test size, and say what they promise."""

import jax
import numpy as np
import pytest

from experiments import movielens_text, worked_case
from recjax.models import AlphaRec
from recjax.sampling import sample_negatives
from recjax.training import Training
from recjax.types import Interactions


def test_the_worked_case_lists_what_is_near_a(capsys):
    listed = worked_case.main()
    assert "A browsed B phone, C jacket, D lamp" in capsys.readouterr().out
    assert len(listed) == 5
    assert not {"B phone", "C jacket", "D lamp"} & {product for product, *_ in listed}
    # The gardeners share nothing with A.
    assert "garden" not in {category for _, category, _ in listed[:3]}
    chances = [chance for *_, chance in listed]
    assert chances == sorted(chances, reverse=True)
    assert all(0 < chance < 1 for chance in chances)


def test_cold_films_are_in_no_part_but_theirs():
    rng = np.random.default_rng(0)
    pairs = np.unique(rng.integers(0, (20, 40), (900, 2)), axis=0)
    pairs = Interactions(*pairs.T)
    texts = rng.normal(size=(40, 6)).astype(np.float32)
    case = movielens_text.make_case(pairs, texts, seed=1)
    again = movielens_text.make_case(pairs, texts, seed=1)
    jax.tree.map(np.testing.assert_array_equal, case, again)
    items = {part: set(np.unique(x.items)) for part, x in case.targets.items()}
    train = set(np.unique(case.context.items))
    assert len(items["cold"]) == 4
    assert not items["cold"] & (train | items["valid"] | items["warm"])
    sizes = [len(x.items) for x in (*case.targets.values(), case.context)]
    assert sum(sizes) == pairs.num_rows
    assert abs(sizes[3] / (sum(sizes) - sizes[2]) - 0.8) < 0.03
    # Neither drawn as a negative, nor ranked among the others; and these not there.
    users = np.repeat(np.arange(20), 50)
    drawn, _ = sample_negatives(
        jax.random.key(0), case.context.negatives, users.astype(np.int32), 1
    )
    assert not set(np.unique(drawn)) & items["cold"]
    for user in range(20):
        begin, end = case.ranked_not["warm"].pointer[user : user + 2]
        assert items["cold"] <= set(case.ranked_not["warm"].items[begin:end])
        begin, end = case.ranked_not["cold"].pointer[user : user + 2]
        assert set(case.ranked_not["cold"].items[begin:end]) == set(range(40)) - {
            *items["cold"]
        }
    # A film's rows stay with its text, whatever its new number.
    rows = [case.context.items, *(x.items for x in case.targets.values())]
    after = np.bincount(np.concatenate(rows), minlength=40)
    before = np.bincount(pairs.items, minlength=40)
    tables = (before, texts), (after, np.asarray(case.context.features["text"].values))
    old, new = ({tuple(x): n for x, n in zip(t, c, strict=True)} for c, t in tables)
    assert old == new


@pytest.mark.parametrize("row", ["popular", "text_mean", "contrast"])
def test_rows_of_movielens_text_run(row, monkeypatch):
    rng = np.random.default_rng(0)
    pairs = Interactions(*np.unique(rng.integers(0, (20, 40), (500, 2)), axis=0).T)
    case = movielens_text.make_case(pairs, rng.normal(size=(40, 6)), seed=0)
    small = AlphaRec(dim=6, linear=True, layers=0)
    monkeypatch.setitem(movielens_text.ROWS, "text_mean", small)
    found = movielens_text.run(row, case, 0, Training(epochs=1, batch_size=128))
    assert {"valid", "warm", "cold"} < set(found)
    assert 0 < found["warm"]["recall@20"] <= 1
