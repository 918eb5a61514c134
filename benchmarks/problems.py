"""What a benchmark runs on: a dataset by name or path, or a made-up one of any size."""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recjax.data import read, split
from recjax.lists import distinct
from recjax.types import Feature, Interactions, Spec


class Problem(NamedTuple):
    """Interactions to train on, and others to rank for.

    Attributes:
      name: of the dataset.
      spec: its sizes.
      train: distinct pairs.
      test: pairs that are not among them.
      features: item feature tables by name.
    """

    name: str
    spec: Spec
    train: Interactions
    test: Interactions
    features: dict[str, Feature] = {}  # noqa: RUF012 - never mutated

    def describe(self) -> dict:
        """Sizes, for the results."""
        users, items = self.spec.num_users, self.spec.num_items
        return {
            "name": self.name,
            "users": users,
            "items": items,
            "nodes": users + items,
            "edges": 2 * self.train.num_rows,
        }


def load(source: str) -> Problem:
    """A problem by what the command line says.

    Args:
      source: ``synthetic:NODESxEDGES``, or anything that `recjax.data.read` reads; a
        source without parts is split as `recjax.data.split` does.

    Returns:
      The problem; all rows but those of the test part are trained on.

    Raises:
      ValueError: there is no such source, or it makes no sense.
    """
    if source.startswith("synthetic"):
        numbers = re.fullmatch(r"synthetic:(\d+)x(\d+)", source)
        if not numbers:
            raise ValueError(
                f"{source}: write synthetic:NODESxEDGES, such as 1000x8000"
            )
        return synthetic(*map(int, numbers.groups()))
    log = read(source)
    if log.parts is None:
        log = split(log)
    spec = Spec(len(log.users), len(log.items))
    is_test = np.asarray(log.parts) == 2
    train, test = (
        _distinct(log.interactions.take(rows), spec) for rows in (~is_test, is_test)
    )
    return Problem(Path(source).name, spec, train, test, log.features)


def most_pairs(nodes: int) -> int:
    """Pairs that `synthetic` finds among so many nodes: a quarter of all."""
    return (nodes // 2) * (nodes - nodes // 2) // 4


def synthetic(
    nodes: int, edges: int, *, test_share: float = 0.2, seed: int = 0
) -> Problem:
    """Random distinct pairs with a few busy users and many quiet ones; so for items.

    Args:
      nodes: N, half of them users.
      edges: E of the training graph, two for each pair.
      test_share: test pairs, as a share of the training pairs.
      seed: equal seeds give equal problems.

    Returns:
      The problem.

    Raises:
      ValueError: E is odd, or more than a quarter of the pairs that there are.
    """
    if edges % 2:
        raise ValueError(f"edges {edges} must be even: every pair gives two")
    num_users = nodes // 2
    num_items = nodes - num_users
    train = edges // 2
    total = train + int(test_share * train)
    if not 0 < total <= most_pairs(nodes):
        raise ValueError(
            f"edges {edges} of {nodes} nodes take {total} pairs, test pairs included: "
            f"there must be at least 1, and at most {most_pairs(nodes)}, a quarter of "
            "all"
        )
    rng = np.random.default_rng(seed)
    keys = np.zeros(0, np.int64)
    while len(keys) < total:
        size = int(1.25 * (total - len(keys))) + 16
        users = (num_users * rng.random(size) ** 1.5).astype(np.int64)
        items = (num_items * rng.random(size) ** 2).astype(np.int64)
        keys = distinct(np.concatenate([keys, users * num_items + items]))
    keys = rng.permutation(keys)[:total]
    # Shuffled: busy nodes that are neighbours in memory would please the cache.
    users = rng.permutation(num_users).astype(np.int32)[keys // num_items]
    items = rng.permutation(num_items).astype(np.int32)[keys % num_items]
    rows = Interactions(users, items)
    part = np.arange(total) < train
    return Problem(
        f"synthetic:{nodes}x{edges}",
        Spec(num_users, num_items),
        rows.take(part),
        rows.take(~part),
    )


def _distinct(rows: Interactions, spec: Spec) -> Interactions:
    keys = distinct(rows.users.astype(np.int64) * spec.num_items + rows.items)
    users, items = np.divmod(keys, max(spec.num_items, 1))
    return Interactions(users.astype(np.int32), items.astype(np.int32))
