"""Views, carts and buys on Retail Rocket: what should a customer buy next?

python -m experiments.retail_rocket_behaviours [ROW ...] \
        --data-dir ../shared/data --seeds 5 \
        --out experiments/results/retail_rocket_behaviours.json
"""

from collections.abc import Sequence
from typing import Any

from experiments._rows import Row, Table, product, row_of
from experiments._table import main as run
from recjax.data import Split
from recjax.objectives import Softmax
from recjax.training import Training

BEHAVIOURS = ("view", "cart", "buy")
FAST = Training(
    epochs=8,
    batch_size=2048,
    learning_rate=4e-3,
    evaluate_every=2,
    patience=2,
    select_by="recall@20",
)
WEIGHTS = ((1.0, 1.0, 1.0), (1.0, 2.0, 5.0), (1.0, 0.5, 0.5), (0.2, 0.5, 1.0))
BEST = product(
    weights=((1.0, 1.0, 1.0), (1.0, 2.0, 5.0)),
    pair_weights=((1.0, 1.0, 1.0), (1.0, 0.5, 0.5)),
    scale=(60.0, 120.0),
    second_step=(0.03, 0.1, 0.3),
)


def trained(name: str, **settings: Any) -> Row:
    """A row that is trained on the pairs of all behaviours."""
    return row_of(name, FAST, behaviours=BEHAVIOURS, dim=32, **settings)


ROWS = {
    "Popular": row_of("popular"),
    "GF-CF, buys": row_of("gf_cf"),
    "Turbo-CF, buys": row_of(
        "turbo_cf", grid=product(alpha=(0.5, 0.9), power=(0.5, 1.0))
    ),
    "Linear filter": row_of(
        "behaviour_filter",
        behaviours=BEHAVIOURS,
        ideal_weight=0.0,
        grid=product(weights=WEIGHTS, alpha=(0.5, 0.9, 1.0)),
    ),
    "Linear and ideal filter": row_of(
        "behaviour_filter",
        behaviours=BEHAVIOURS,
        grid=product(weights=WEIGHTS, ideal_weight=(0.1, 0.3)),
    ),
    "LightGCN, buys": row_of(
        "lightgcn", FAST, dim=32, layers=2, objective=Softmax(0.1)
    ),
    "LightGCN, summed": trained("lightgcn", layers=2, objective=Softmax(0.1)),
    "LightGCN, learned weights": trained("behaviour_gcn"),
    "CRGCN": trained("crgcn"),
    "MBGCN": trained("mbgcn"),
    "RelationAttention": trained("relation_attention"),
    "R-GCN": trained("rgcn"),
    "CoVisit": row_of(
        "co_visit", behaviours=BEHAVIOURS, known=0.0, grid=BEST, tried=60
    ),
    "CoVisit, visited items as all": row_of(
        "co_visit", behaviours=BEHAVIOURS, grid=BEST, tried=60
    ),
    "CoVisit, one step": row_of(
        "co_visit",
        behaviours=BEHAVIOURS,
        known=0.0,
        second_step=0.0,
        weights=(1.0, 2.0, 5.0),
    ),
    "CoVisit, of a day": row_of(
        "co_visit",
        behaviours=BEHAVIOURS,
        known=0.0,
        scale=10_800.0,
        weights=(1.0, 2.0, 5.0),
    ),
    "CoVisit, buys": row_of("co_visit", behaviours=("buy",), known=0.0),
}

TABLE = Table(
    "retail_rocket",
    ROWS,
    split=Split(carve="latest", hide_pairs=True),
    ks=(10, 20, 40),
    metrics=("recall", "ndcg"),
    shown=("recall@10", "recall@20", "recall@40", "ndcg@20"),
    retrain=True,
)


def main(argv: Sequence[str] | None = None) -> dict:
    """The command line, see `experiments._table.main`."""
    return run(TABLE, __doc__, "retail_rocket_behaviours", argv)


if __name__ == "__main__":
    main()
