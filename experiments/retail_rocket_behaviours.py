"""Views, carts and buys on Retail Rocket: what should a customer buy next?

    python -m experiments.retail_rocket_behaviours [ROW ...] \
        --data-dir ../shared/data --seeds 5 \
        --out experiments/results/retail_rocket_behaviours.json

Data: 2,174 customers x 30,113 products; 75,374 views, 12,456 carts and 9,551 buys to
train on, and one buy of each customer to test on.  Protocol: all products ranked,
training buys masked, every other product is listed whether it was viewed or not.  1,260
of the 2,174 test products have no training buy, and 211 no row at all: no model can
find these, which leaves a Recall of at most .903.

The public split takes a held-out pair out of the views and carts too, and gives its
test rows no time (all are 1), so that nobody can tell which training rows came later.
Validation does the same: the latest training buy of each of the 885 customers who have
two or more, with the pair hidden in all behaviours (``Split.hide_pairs``); rows of a
customer that came after it stay, as they may in the test.  Epochs and settings are
chosen there; every row is then trained on all training rows, and test is read once.
Test is easier than valid for every row: most of its customers have two buys in all,
often of one visit, and one of the two is in training.

What is known from other tables of this data: a filter on the summed behaviours gives
Recall@10/20/40 .0713/.1109/.1518, one on buys .0488/.0566/.0681, and a LightGCN on the
union .125 at 20; settings of all three were looked at on test.

Those models take behaviours without their times.  Times are what tells here: products
that one customer goes through within a minute or two are alike, far more so than
products of one customer (the row "of a day" has the same model with tau of three
hours).  `CoVisit` is made of that and of nothing else.  Two thirds of its hits on valid
rest on one other customer: the catalogue is that thin.  About a hundred settings of
kernels (box, exponential, Cauchy, power law, sessions by gaps), weights, directions,
normalisations, recency of a customer's rows and mixtures with trained scores were
looked at on valid before, with scripts; kernels of the same width differ little, and
neither recency nor a LightGCN mixed in adds anything.  ``known=0`` lists no product
that the customer visited, which suits a split that hides held-out pairs in all
behaviours; "visited items as all" does without.

Trained rows are of width 32 and 8 epochs, a fraction of what papers take, and have one
setting each.  Seconds are of one core that others used too, and of runs that stood
still for a while: they tell little.
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


def without(**changes: Any) -> Row:
    """The CoVisit that the grid chooses, but for some of its settings."""
    settings: dict[str, Any] = dict(
        weights=(1.0, 2.0, 5.0),
        pair_weights=(1.0, 0.5, 0.5),
        scale=60.0,
        second_step=0.3,
        known=0.0,
    )
    return row_of("co_visit", behaviours=BEHAVIOURS, **settings | changes)


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
        "co_visit", behaviours=BEHAVIOURS, known=0.0, grid=BEST, tried=100
    ),
    "CoVisit, visited items as all": row_of(
        "co_visit", behaviours=BEHAVIOURS, grid=BEST, tried=100
    ),
    "CoVisit, one step": without(second_step=0.0),
    "CoVisit, behaviours alike": without(weights=(), pair_weights=()),
    "CoVisit, of a day": without(scale=10_800.0),
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
    claimed="CoVisit",
)


def main(argv: Sequence[str] | None = None) -> dict:
    """The command line, see `experiments._table.main`."""
    return run(TABLE, __doc__, "retail_rocket_behaviours", argv)


if __name__ == "__main__":
    main()
