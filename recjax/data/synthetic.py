"""Made-up interactions with planted communities, for tests and examples."""

import numpy as np
import pyarrow as pa

from recjax.data._log import Log, Step
from recjax.types import Feature, Interactions

_START = 1_500_000_000
_YEAR = 365 * 24 * 3600
_WIDTH = 16
_BLOCK_CELLS = 1 << 24


def synthetic(
    num_users: int = 200,
    num_items: int = 100,
    num_groups: int = 4,
    rows_per_user: int = 12,
    seed: int = 0,
    noise: float = 0.1,
) -> Log:
    """Users and items in groups, where users mostly take items of their own group.

    User u and item i are of the groups ``u % num_groups`` and ``i % num_groups``.
    Items of lower number are more popular (a power law within the group).

    Args:
      num_users: U.
      num_items: I.
      num_groups: number of planted communities.
      rows_per_user: distinct items of each user.
      seed: equal seeds give equal logs.
      noise: expected share of a user's rows outside their group, and the size of the
        noise in the feature vectors.

    Returns:
      A log of ``U * rows_per_user`` rows with times (within one year), users ``u0``,
      ``u1``, ..., items ``i0``, ... with a ``title`` and a ``group``, and the feature
      table ``vector`` ``[I, 16]``: the group's centre and noise.

    Raises:
      ValueError: a user wants more items than there are, or a number makes no sense.

    >>> log = synthetic(num_users=50, num_items=20, rows_per_user=5)
    >>> log.interactions.num_rows, log.items.column_names
    (250, ['id', 'title', 'group'])
    >>> same = log.interactions.users % 4 == log.interactions.items % 4
    >>> bool(same.mean() > 0.75)
    True
    """
    if not 1 <= num_groups <= min(num_users, num_items):
        raise ValueError(
            f"num_groups must be between 1 and the {num_users} users and {num_items} "
            f"items, got {num_groups}"
        )
    if not 1 <= rows_per_user <= num_items:
        raise ValueError(
            f"rows_per_user must be between 1 and the {num_items} items, got "
            f"{rows_per_user}"
        )
    if not 0 <= noise <= 1:
        raise ValueError(f"noise is a share between 0 and 1, got {noise}")
    rng = np.random.default_rng(seed)
    groups = np.arange(num_items) % num_groups
    appeal = -0.8 * np.log1p(np.arange(num_items) // num_groups)
    block = max(1, _BLOCK_CELLS // num_items)
    items = np.concatenate(
        [
            _choose(rng, users, groups, appeal, num_groups, rows_per_user, noise)
            for users in np.split(np.arange(num_users), range(block, num_users, block))
        ]
    )
    users = np.repeat(np.arange(num_users, dtype=np.int32), rows_per_user)
    times = _START + rng.integers(0, _YEAR, len(users))
    centres = rng.normal(size=(num_groups, _WIDTH))
    vectors = centres[groups] + noise * rng.normal(size=(num_items, _WIDTH))
    rows = Interactions(users, items.astype(np.int32).ravel(), times=times)
    return Log(
        rows,
        pa.table({"id": [f"u{u}" for u in range(num_users)]}),
        pa.table(
            {
                "id": [f"i{i}" for i in range(num_items)],
                "title": [f"Item {i} of group {g}" for i, g in enumerate(groups)],
                "group": [f"group {g}" for g in groups],
            }
        ),
        features={
            "vector": Feature(vectors.astype(np.float32), np.ones(num_items, bool))
        },
        report=(Step("read", len(users), len(users), {"source": "synthetic"}),),
    )


def _choose(
    rng: np.random.Generator,
    users: np.ndarray,
    groups: np.ndarray,
    appeal: np.ndarray,
    num_groups: int,
    rows_per_user: int,
    noise: float,
) -> np.ndarray:
    """Distinct items ``[users, rows_per_user]``."""
    # The largest of log weight + Gumbel noise are a draw without replacement.
    scores = appeal + rng.gumbel(size=(len(users), len(groups)))
    own = (users % num_groups)[:, None] == groups
    wanted = rng.binomial(rows_per_user, 1 - noise, len(users))
    size = own.sum(1)
    most = np.minimum(size, rows_per_user)
    least = np.maximum(0, rows_per_user - (len(groups) - size))
    wanted = np.clip(wanted, least, most)
    inside = np.argsort(np.where(own, -scores, np.inf), axis=1)
    outside = np.argsort(np.where(own, np.inf, -scores), axis=1)
    position = np.arange(rows_per_user)
    outer = np.clip(position - wanted[:, None], 0, None)
    return np.where(
        position < wanted[:, None],
        inside[:, :rows_per_user],
        np.take_along_axis(outside, outer, axis=1),
    )
