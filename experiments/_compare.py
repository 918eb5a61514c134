"""Whether the row of a table that claims to be best is, against every other row."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from recjax.significance import holm, mean_over_seeds, paired_bootstrap


def compare(
    values: Mapping[str, np.ndarray],
    claimed: str,
    means: Mapping[str, float],
    metric: str,
    before: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A paired bootstrap over users of one row against others, corrected by Holm.

    Args:
      values: of single users, see `experiments._results.read_values`.
      claimed: the row that is claimed to be better.
      means: the metric of each row, over users and seeds.
      metric: such as ``"ndcg@20"``.
      before: what this returned last.  Where users of one of the two rows are not
        there, what was found then stays, if the means still differ by as much.

    Returns:
      ``{"row": claimed, "metric": metric, "against": {row: {"difference", "interval",
      "p_value", "holm"}}}``, without the rows of which nothing is known.
    """
    earlier: Mapping[str, Mapping[str, Any]] = {}
    if before and (before["row"], before["metric"]) == (claimed, metric):
        earlier = before["against"]
    against: dict[str, dict[str, Any]] = {}
    ours = _of_users(values, claimed, metric)
    for row in means:
        if row == claimed:
            continue
        theirs = _of_users(values, row, metric)
        if ours is not None and theirs is not None:
            found = paired_bootstrap(jax.random.key(0), ours, theirs)
            against[row] = {
                "difference": found.difference,
                "interval": list(found.interval),
                "p_value": found.p_value,
            }
        elif row in earlier:
            difference = means[claimed] - means[row]
            # A row that ran again, with other figures, would differ by more.
            if abs(difference - earlier[row]["difference"]) < 1e-9:
                against[row] = dict(earlier[row])
    corrected = holm({row: found["p_value"] for row, found in against.items()})
    for row, value in corrected.items():
        against[row]["holm"] = value
    return {"row": claimed, "metric": metric, "against": against}


def _of_users(
    values: Mapping[str, np.ndarray], row: str, metric: str
) -> np.ndarray | None:
    """A row's value for each user, the mean over seeds; None where there is none."""
    seeds = 0
    while f"{row}/{seeds}/{metric}" in values:
        seeds += 1
    if not seeds:
        return None
    tables = [
        {"user": values[f"{row}/user"], metric: values[f"{row}/{seed}/{metric}"]}
        for seed in range(seeds)
    ]
    _, means = mean_over_seeds(tables, metric)
    return means
