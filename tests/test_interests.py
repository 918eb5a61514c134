"""What histories favour, and what is said of it."""

import numpy as np
import pytest

from recjax.interests import attribute_interests, explain, reasons
from recjax.lists import item_lists

RNG = np.random.default_rng(0)
USERS, ITEMS, ATTRIBUTES = 8, 12, 5
TAKEN = RNG.integers(0, USERS - 1, 40), RNG.integers(0, ITEMS, 40)
PAIRS = RNG.integers(0, ITEMS, 30), RNG.integers(0, ATTRIBUTES, 30)
LISTS = item_lists(*TAKEN, USERS)


def test_weights_are_terms_of_the_divergence():
    has = np.zeros((ITEMS, ATTRIBUTES), bool)
    has[PAIRS] = True
    took = np.zeros((USERS, ITEMS), bool)
    took[TAKEN] = True
    counts = took.astype(int) @ has.astype(int)
    everyone = counts.sum(0) / took.sum()
    found = attribute_interests(LISTS, PAIRS, ITEMS)
    for user in range(USERS):
        attributes, weights = found.of(user)
        expected = {}
        for attribute in range(ATTRIBUTES):
            if counts[user, attribute]:
                share = counts[user, attribute] / took[user].sum()
                value = share * np.log(share / everyone[attribute])
                if value > 1e-12:
                    expected[attribute] = value
        assert dict(zip(attributes.tolist(), weights, strict=True)) == pytest.approx(
            expected
        )
        assert (np.diff(weights) <= 0).all()
    assert len(found.of(USERS - 1)[0]) == 0  # Who took nothing favours nothing.


def test_reasons_are_what_the_item_has_and_the_user_favours():
    found = attribute_interests(LISTS, PAIRS, ITEMS)
    favoured = found.of(2)[0].tolist()
    why = reasons(found, 2, np.arange(ITEMS), PAIRS, most=2)
    assert max(map(len, why)) == 2
    for item, named in enumerate(why):
        own = set(PAIRS[1][PAIRS[0] == item].tolist())
        assert named == [a for a in favoured if a in own][:2]
    assert any(why) and not all(why)


def test_a_newcomer_is_explained_as_one_user_more():
    known = np.array([1, 4, 7])
    lists = item_lists(
        np.append(np.repeat(np.arange(USERS), np.diff(LISTS.pointer)), [USERS] * 3),
        np.append(LISTS.items, known),
        USERS + 1,
    )
    attributes, weights = attribute_interests(lists, PAIRS, ITEMS).of(USERS)
    names = [f"a{n}" for n in range(ATTRIBUTES)]
    favours, why = explain(LISTS, known, np.array([4, 0]), PAIRS, names)
    assert favours == {
        names[a]: w for a, w in zip(attributes.tolist(), weights, strict=True)
    }
    assert len(why) == 2


def test_items_must_be_in_range():
    with pytest.raises(ValueError, match="outside 0 to 4"):
        attribute_interests(LISTS, PAIRS, 5)
