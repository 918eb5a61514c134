"""Whether the row of a table that claims to be best is, against every other row."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from recjax.significance import holm, mean_over_seeds, paired_bootstrap


def compare(
    values: Mapping[str, np.ndarray], claimed: str, others: Sequence[str], metric: str
) -> dict[str, Any]:
    """A paired bootstrap over users of one row against others, corrected by Holm.

    Args:
      values: of single users, see `experiments._results.read_values`.
      claimed: the row that is claimed to be better.
      others: rows; those without values are left out.
      metric: such as ``"ndcg@20"``.

    Returns:
      ``{"row": claimed, "metric": metric, "against": {row: {"difference", "interval",
      "p_value", "holm"}}}``; without rows where the claimed one has no values.
    """
    against: dict[str, dict[str, Any]] = {}
    comparison = {"row": claimed, "metric": metric, "against": against}
    ours = _of_users(values, claimed, metric)
    if ours is None:
        return comparison
    for row in others:
        theirs = _of_users(values, row, metric)
        if row == claimed or theirs is None:
            continue
        found = paired_bootstrap(jax.random.key(0), ours, theirs)
        against[row] = {
            "difference": found.difference,
            "interval": list(found.interval),
            "p_value": found.p_value,
        }
    corrected = holm({row: found["p_value"] for row, found in against.items()})
    for row, value in corrected.items():
        against[row]["holm"] = value
    return comparison


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
