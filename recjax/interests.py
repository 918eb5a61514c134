"""What a user's history favours: weights of attributes, and reasons for a list."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.sparse

from recjax.types import ItemLists


class Interests(NamedTuple):
    """Relations from users to the attributes that their histories favour.

    Attributes:
      users: ``[m]`` int64, ascending.
      attributes: ``[m]`` int64; of a user, the most favoured first.
      weights: ``[m]`` float64, positive.
    """

    users: np.ndarray
    attributes: np.ndarray
    weights: np.ndarray

    def of(self, user: int) -> tuple[np.ndarray, np.ndarray]:
        """Attributes and weights of a user, the most favoured first."""
        begin, end = np.searchsorted(self.users, [user, user + 1])
        return self.attributes[begin:end], self.weights[begin:end]


def attribute_interests(
    histories: ItemLists, pairs: tuple[np.ndarray, np.ndarray], num_items: int
) -> Interests:
    r"""Which attributes users' histories favour, against what everyone takes.

    .. math:: w_{ua} = p_{ua} \log \frac{p_{ua}}{p_a}

    with p_ua the share of the user's items that have attribute a, and p_a that among
    the items of all histories, repeated as often as they were taken: a term of the
    divergence between the two.  What everybody takes favours nothing, and what a user
    takes less than others is left out.

    Args:
      histories: the items of U users.
      pairs: items ``[m]`` and attributes ``[m]``, see `recjax.data.attribute_pairs`.
      num_items: I.

    Returns:
      The relations; as (user, relation, attribute) triples they are edges of a graph.

    Raises:
      ValueError: an item is out of range.

    Examples:
      >>> from recjax.lists import item_lists
      >>> lists = item_lists([0, 0, 1, 1], [0, 1, 0, 2], 2)
      >>> pairs = np.array([0, 1, 2]), np.array([0, 1, 2])
      >>> found = attribute_interests(lists, pairs, num_items=3)
      >>> found.of(1)[0].tolist(), found.of(1)[1].round(3).tolist()
      ([2], [0.347])
    """
    items, attributes = (np.asarray(x, np.int64) for x in pairs)
    pointer, taken = (np.asarray(x, np.int64) for x in histories)
    for what in (items, taken):
        if what.size and not 0 <= what.min() <= what.max() < num_items:
            raise ValueError(
                f"items run from {what.min()} to {what.max()}, outside 0 to "
                f"{num_items - 1}"
            )
    num_attributes = int(attributes.max(initial=-1)) + 1
    of_items = scipy.sparse.csr_array(
        (np.ones(len(items)), (items, attributes)), shape=(num_items, num_attributes)
    )
    of_items.sum_duplicates()
    of_items.data[:] = 1
    length = np.diff(pointer)
    of_users = scipy.sparse.csr_array(
        (np.ones(len(taken)), taken, pointer), shape=(len(length), num_items)
    )
    counts = (of_users @ of_items).tocoo()
    share = counts.data / length[counts.row]
    everyone = np.bincount(counts.col, counts.data, minlength=num_attributes)
    weights = share * np.log(share / (everyone[counts.col] / max(len(taken), 1)))
    users, found = counts.row.astype(np.int64), counts.col.astype(np.int64)
    kept = np.flatnonzero(weights > 1e-12)
    order = kept[np.lexsort((found[kept], -weights[kept], users[kept]))]
    return Interests(users[order], found[order], weights[order])


def reasons(
    interests: Interests,
    user: int,
    items: np.ndarray,
    pairs: tuple[np.ndarray, np.ndarray],
    most: int = 3,
) -> list[list[int]]:
    """The attributes of some items that a user favours, the most favoured first.

    Args:
      interests: of the users.
      user: one of them.
      items: ``[K]``, such as a list made for the user.
      pairs: items and attributes, as for `attribute_interests`.
      most: attributes named for an item.

    Returns:
      For each item up to ``most`` attributes; none where the user favours nothing
      about it.

    Examples:
      >>> pairs = np.array([0, 1, 1]), np.array([0, 1, 0])
      >>> interests = Interests(np.array([4]), np.array([1]), np.array([0.5]))
      >>> reasons(interests, 4, np.array([1, 0]), pairs)
      [[1], []]
    """
    attributes, _ = interests.of(user)
    rank = {int(a): place for place, a in enumerate(attributes)}
    found = []
    for item in np.asarray(items):
        of_item = {int(a) for a in np.asarray(pairs[1])[np.asarray(pairs[0]) == item]}
        found.append(sorted(of_item & rank.keys(), key=lambda a: rank[a])[:most])
    return found


def explain(
    histories: ItemLists,
    known: np.ndarray,
    items: np.ndarray,
    pairs: tuple[np.ndarray, np.ndarray],
    names: Sequence[str],
) -> tuple[dict[str, float], list[list[str]]]:
    """What a history favours, and reasons for a list made by it.

    Args:
      histories: the items of U users, which tell what everyone takes.
      known: ``[n]`` items of the one the list is for, a newcomer perhaps.
      items: ``[K]``, the list.
      pairs: items and attributes, as for `attribute_interests`.
      names: of the attributes.

    Returns:
      Weights by name, the most favoured first; and names for each item of the list.

    Examples:
      >>> from recjax.lists import item_lists
      >>> lists = item_lists([0, 0, 1, 1], [0, 1, 0, 2], 2)
      >>> pairs = np.array([0, 1, 2]), np.array([0, 1, 1])
      >>> _, why = explain(lists, np.array([1]), np.array([2, 0]), pairs, ("a", "b"))
      >>> why
      [['b'], []]
    """
    pointer, taken = (np.asarray(x) for x in histories)
    known = np.asarray(known)
    # As one more user: a newcomer is none of the others.
    lists = ItemLists(
        np.append(pointer, pointer[-1] + len(known)), np.append(taken, known)
    )
    of_items = (np.asarray(x) for x in (pairs[0], taken, known, items))
    size = 1 + max(int(x.max(initial=0)) for x in of_items)
    found, user = attribute_interests(lists, pairs, size), len(pointer) - 1
    attributes, weights = found.of(user)
    favours = {names[a]: float(w) for a, w in zip(attributes, weights, strict=True)}
    why = reasons(found, user, items, pairs)
    return favours, [[names[a] for a in one] for one in why]
