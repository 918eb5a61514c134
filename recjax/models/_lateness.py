"""How late items come in the lists of users, where nobody noted the order."""

import numpy as np

# Users with more items tell little of what came first.
_LONGEST = 10
# Rows of the usual that every item is given before its own are counted.
_PRIOR = 2.0


def item_lateness(users: np.ndarray, items: np.ndarray, num_items: int) -> np.ndarray:
    r"""Whether an item is found in long lists or in short ones.

    Someone whose list is short has only begun: an item that comes late is seldom in
    such a list, and one that people begin with often is.  Over the users of an item
    who have no more than 10 items, with d the length of a list and m the mean of log d
    over all rows of such users,

    .. math:: t_i = \frac{\sum_u \log d_u + 2 m}{|\{u\}| + 2} - m

    Args:
      users: ``[n]`` of the training rows.
      items: ``[n]``, distinct for each user.
      num_items: I.

    Returns:
      ``[I]`` float32; positive for late items, 0 for those without such users.

    Examples:
      >>> users, items = np.array([0, 1, 2, 2]), np.array([0, 0, 0, 1])
      >>> item_lateness(users, items, 3).round(2).tolist()
      [-0.07, 0.12, 0.0]
    """
    lengths = np.bincount(users, minlength=1)[users]
    counts = lengths <= _LONGEST
    logs = np.log(lengths[counts])
    mean = logs.mean() if len(logs) else 0.0
    total = np.bincount(items[counts], logs - mean, minlength=num_items)
    number = np.bincount(items[counts], minlength=num_items)
    return (total / (number + _PRIOR)).astype(np.float32)
