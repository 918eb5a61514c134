"""One whole number for each (relation, user, item), to find repeats and leaks by."""

import numpy as np

from recjax.types import Interactions


def pair_keys(rows: Interactions, num_users: int, num_items: int) -> np.ndarray:
    """``[n]`` int64, equal exactly where relation, user and item are equal."""
    keys = rows.users.astype(np.int64)
    if rows.relations is not None:
        keys += rows.relations.astype(np.int64) * num_users
    keys *= num_items
    keys += rows.items
    return keys


def leaked(keys: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """``[n]`` bool, rows whose pair also stands in a later part.

    Args:
      keys: ``[n]`` from `pair_keys`.
      parts: ``[n]``; 0 train, 1 valid, 2 test.
    """
    later = np.zeros(len(keys), bool)
    in_order = np.sort(keys)
    if not np.any(in_order[1:] == in_order[:-1]):
        return later  # the usual case, and far cheaper than looking up
    for part in (0, 1):
        here, after = parts == part, parts > part
        if here.any() and after.any():
            later[here] = np.isin(keys[here], keys[after])
    return later
