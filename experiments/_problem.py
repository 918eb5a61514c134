"""The data that the rows of a table are trained and scored on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments._rows import Row, Table
from recjax.data import Dataset, load, open_part
from recjax.evaluation import evaluate
from recjax.inputs import build_context, target_lists
from recjax.types import Context, Interactions, ItemLists, Params, Spec, prepare


class Problem:
    """The data of a table, on the device where needed; test is read when asked."""

    def __init__(self, table: Table, path: Path) -> None:
        """Loads the training and the validation part; ValueError where one is empty."""
        self.table, self._path = table, path
        self._base: dict[Any, tuple[Spec, Context]] = {}
        self.data = load(path)
        self.valid = target_lists(self.data, "valid")
        if not self.valid.items.size:
            raise ValueError(f"{path} has no validation rows to choose epochs by")
        self._test: ItemLists | None = None

    def context(self, row: Row, *, merged: bool) -> tuple[Spec, Context]:
        """Sizes and context for a model; of train and valid together, if merged."""
        power = row.training.negative_power if row.training else 0.0
        key = power, merged, row.behaviours, row.features
        if key not in self._base:
            data = self.data
            if row.features:
                data = _with_features(data, row.features)
            if merged:
                # With what is hidden there of other behaviours.
                valid = open_part(self._path, "valid")[:] if row.behaviours else None
                data = merge_valid(data, valid)
            self._base[key] = build_context(
                data, self.table.attributes, power, row.behaviours
            )
        spec, context = self._base[key]
        return spec, prepare(row.model, context)

    def score(
        self,
        row: Row,
        params: Params,
        context: Context,
        targets: ItemLists,
        seen: ItemLists | None = None,
    ) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """Metrics, and those of single users; of items but those seen, or known."""
        table = self.table
        return evaluate(
            row.model,
            params,
            context,
            targets,
            seen=seen,
            ks=table.ks,
            metrics=table.metrics,
            per_user=True,
        )

    def test_scores(
        self, row: Row, params: Params, context: Context
    ) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """The same on the test part."""
        if self._test is None:
            self._test = target_lists(load(self._path, ("test",)), "test")
        return self.score(row, params, context, self._test)

    def facts(self) -> dict[str, Any]:
        """What the data are."""
        data = self.data
        return {
            "name": data.name,
            "split_hash": data.split_hash,
            "users": data.spec.num_users,
            "items": data.spec.num_items,
            "train": data.target_rows("train").num_rows,
            "valid": data.target_rows("valid").num_rows,
        }

    def protocol(self) -> str:
        """How the numbers come about, in a sentence."""
        masked, fitted = "training items masked", ""
        if self.table.retrain:
            masked = "training and validation items masked"
            fitted = (
                ", then trained on train and valid for the mean of the epochs that the "
                "seeds chose"
            )
        return (
            f"full ranking of {self.data.spec.num_items:,} items; {masked}; mean over "
            "users with a held-out item; ideal DCG of min(|held out|, K) ones; epoch "
            f"chosen on valid{fitted}; test read once a seed"
        )


def _with_features(data: Dataset, names: Sequence[str]) -> Dataset:
    """With those item features alone."""
    if unknown := set(names) - set(data.features):
        raise ValueError(
            f"{data.name} has no features {sorted(unknown)}, only "
            f"{sorted(data.features)}"
        )
    hashes = data.feature_hashes
    return data.with_features({name: hashes[name] for name in names})


def merge_valid(data: Dataset, valid: Interactions | None = None) -> Dataset:
    """The dataset whose training part holds the validation part too.

    Args:
      data: with both parts.
      valid: the rows of that part, of all behaviours; None for those of the target.

    Returns:
      The dataset; without ``valid``, rows of the target behaviour only.
    """
    if valid is None:
        train, valid = data.target_rows("train"), data.target_rows("valid")
        rows = Interactions(
            np.concatenate([train.users, valid.users]),
            np.concatenate([train.items, valid.items]),
        )
    else:
        train = data.part("train")
        rows = jax.tree.map(lambda *x: np.concatenate(x), train, valid)
    return data._replace(parts={"train": rows})
