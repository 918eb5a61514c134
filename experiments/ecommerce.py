"""E-commerce: a customer looked at some things and bought others; what comes next?

    python -m experiments.ecommerce --data-dir ../shared/data --user 17

Retail Rocket, 2,174 customers and 30,113 products without names.  Views, carts and buys
are edges of one graph, each with its relation and its age.  `CoVisit` joins products
that customers went through within minutes of each other; nothing is trained.  Each
customer's latest training buy is held out here, with its views and carts, and the
list is judged by it; the test part stays unread, it belongs to
``experiments.retail_rocket_behaviours``.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments._table import dataset_folder
from experiments.retail_rocket_behaviours import BEHAVIOURS, TABLE
from recjax.data import Dataset, dataset_relations, load
from recjax.evaluation import evaluate, recommend
from recjax.lists import item_lists
from recjax.models import CoVisit, Popular
from recjax.types import Context, Params

_UNITS = (("days", 86_400), ("hours", 3_600), ("minutes", 60), ("seconds", 1))


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Reads options, tells the story.

    Returns:
      Recall@20 on the held-out buys by model, and the products listed with the one of
      the customer's that each was visited with.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--user", default="17", help="the customer's id")
    options = parser.parse_args(argv)
    data = load(dataset_folder(TABLE, options.data_dir))
    spec, context = dataset_relations(data, BEHAVIOURS)
    valid = data.target_rows("valid")
    targets = item_lists(valid.users, valid.items, spec.num_users)
    user = int(data.find_users([options.user])[0])
    _tell(data, user)

    found: dict[str, Any] = {}
    model = CoVisit(weights=(1.0, 2.0, 5.0), known=0.0)
    params = model.solve(context)
    for name, one, state in (
        ("Popular", Popular(), Popular().solve(context)),
        ("CoVisit", model, params),
    ):
        scores = evaluate(one, state, context, targets, ks=(20,), metrics=("recall",))
        found[name] = scores["recall@20"]
        print(f"{name}: {found[name]:.3f} of held-out buys are among 20 products")
    items, values = recommend(model, params, context, users=np.array([user]), k=10)
    # Products that nothing leads to have no score, and no place in a list.
    items, values = items[0][values[0] > 0], values[0][values[0] > 0]
    with_ = _visited_with(params, context, user, items)
    found["listed"] = list(zip(data.titles(items), data.titles(with_), strict=True))
    print(f"for customer {options.user}:")
    for (product, other), value in zip(found["listed"], values, strict=True):
        print(f"  {value:8.4f}  product {product}, visited with {other}")
    if not found["listed"]:
        print("  nothing: no other customer visited anything of this one's")
    return found


def _tell(data: Dataset, user: int) -> None:
    """What the customer did, the latest first."""
    rows = data.part("train")
    own = rows.take(rows.users == user)
    if own.times is None or own.relations is None or rows.times is None:
        raise ValueError(f"{data.name} has no times or no behaviours to tell of")
    print(f"customer {data.users['id'][user]} did {own.num_rows} things; the latest:")
    for row in np.argsort(-own.times, kind="stable")[:8]:
        what = data.relation_names[own.relations[row]]
        ago = _ago(int(own.times.max() - own.times[row]))
        print(f"  {what:<5} product {data.titles([own.items[row]])[0]}{ago}")


def _ago(seconds: int) -> str:
    """How long before the last thing."""
    for name, size in _UNITS:
        if seconds >= 2 * size:
            return f", {seconds // size} {name} before"
    return ""


def _visited_with(
    params: Params, context: Context, user: int, items: np.ndarray
) -> np.ndarray:
    """For each item the user's own that it was visited with most."""
    graph = {name: np.asarray(x) for name, x in params["graph"].items()}
    history = {name: np.asarray(x) for name, x in params["history"].items()}
    mine = slice(*history["pointer"][user : user + 2])
    weight = np.zeros(context.item_counts.shape[0])
    weight[history["items"][mine]] = history["weights"][mine]
    best = []
    for item in items:
        row = slice(*graph["pointer"][item : item + 2])
        known = graph["items"][row]
        share = weight[known] * graph["weights"][row]
        # Of an item two steps away: what it was visited with, known to the user or not.
        share = share if share.any() else graph["weights"][row]
        best.append(known[int(np.argmax(share))])
    return np.array(best, np.int64)


if __name__ == "__main__":
    main()
