"""RecBole's own full-ranking evaluation, of vectors that are given to it.

Everything runs in RecBole (1.2): its atomic files, its dataset and loaders, its
matrix-factorisation model with our vectors as weights, and ``Trainer.evaluate``.
Settings are its defaults, ``eval_batch_size`` of 4,096 scores among them, but for the
metrics, which are those of ours.

With Python 3.12 or later RecBole 1.2.1 does not install, as there is no ray for it.
"""

import contextlib
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

# Names that NumPy 2 took away, and that RecBole's configuration still looks up.
for _old, _new in (
    ("float_", "float64"),
    ("complex_", "complex128"),
    ("unicode_", "str_"),
):
    if not hasattr(np, _old):
        setattr(np, _old, getattr(np, _new))

from recbole.config import Config  # noqa: E402
from recbole.data import create_dataset, data_preparation  # noqa: E402
from recbole.model.general_recommender.bpr import BPR  # noqa: E402
from recbole.trainer import Trainer  # noqa: E402

import benchmarks.peers.torch_common  # noqa: E402, F401 - as many threads as others
from benchmarks.problems import Problem  # noqa: E402

_NAME = "pairs"


def evaluate(
    problem: Problem, vectors: np.ndarray, *, k: int
) -> Callable[[], dict[str, float]]:
    """Prepares an evaluation of all users with a test item.

    Args:
      problem: training pairs are masked, test pairs are to be found.
      vectors: ``[U + I, D]``, users first; a score is a dot product.
      k: cutoff.

    Returns:
      A function that runs it, to ``recall@k`` and ``ndcg@k``.
    """
    settings: dict[str, Any] = {
        "benchmark_filename": ["train", "valid", "test"],
        "load_col": {"inter": ["user_id", "item_id"], "item": ["item_id"]},
        "metrics": ["Recall", "NDCG"],
        "topk": [k],
        "embedding_size": vectors.shape[1],
        "metric_decimal_place": 9,
        "show_progress": False,
    }
    users, items = np.split(vectors, [problem.spec.num_users])
    with tempfile.TemporaryDirectory() as name:
        # It writes logs into the working folder, and reads the command line.
        with (
            contextlib.chdir(name),
            mock.patch.object(sys, "argv", sys.argv[:1]),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # of pandas 3, about its ways
            folder = Path(_NAME)
            folder.mkdir()
            _write(folder, problem)
            settings["data_path"] = name
            config = Config(model="BPR", dataset=_NAME, config_dict=settings)
            dataset = create_dataset(config)
            train, _, test = data_preparation(config, dataset)
            model = BPR(config, train.dataset).to(config["device"])
            trainer = Trainer(config, model)
    with torch.no_grad():
        for field, embedding, table in (
            ("user_id", model.user_embedding, users),
            ("item_id", model.item_embedding, items),
        ):
            # Its ids go by first appearance; 0 is padding.
            ours = dataset.field2id_token[field][1:].astype(np.int64)
            embedding.weight[1:] = torch.from_numpy(table[ours])

    def run() -> dict[str, float]:
        found = trainer.evaluate(test, load_best_model=False)
        return {name: float(value) for name, value in found.items()}

    return run


def _write(folder: Path, problem: Problem) -> None:
    """Atomic files, with every item of the catalogue, seen or not."""
    # There must be a validation part, and it is masked: a training pair again.
    parts = {
        "train": problem.train,
        "valid": problem.train.take(np.arange(1)),
        "test": problem.test,
    }
    for part, rows in parts.items():
        lines = [f"{u}\t{i}" for u, i in zip(rows.users, rows.items, strict=True)]
        text = "\n".join(["user_id:token\titem_id:token", *lines])
        (folder / f"{_NAME}.{part}.inter").write_text(text + "\n")
    ids = map(str, range(problem.spec.num_items))
    (folder / f"{_NAME}.item").write_text("\n".join(["item_id:token", *ids]) + "\n")
