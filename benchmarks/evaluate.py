r"""Full ranking of every user against the whole catalogue, seen items masked.

    python -m benchmarks.evaluate --dataset ../shared/data/gowalla \
        --peers recbole --out FILE.json

Recall@20 and NDCG@20 of all users with a test item.  The vectors are random ones,
smoothed over the training graph, by A^4 + A^5: without any training they find far more
than chance does (Recall@20 of 0.12 on Gowalla), so that equal metrics mean something.
A peer ranks by the same vectors, and its metrics must equal ours to four decimals.

The peer ranks for all users unless told to rank for some (`--peer-users`); then its
seconds are scaled to all, its name says so, and its metrics are compared with ours over
those users.  Scaling flatters RecBole, whose time grows faster than the users: it joins
the results of each batch to those of all before.
"""

from collections.abc import Sequence

import jax
import numpy as np

from benchmarks import command, peers, timing
from benchmarks.command import Option, Settings
from benchmarks.problems import Problem
from recjax.data import make_context
from recjax.evaluation import evaluate
from recjax.layers import propagate_layers
from recjax.lists import item_lists
from recjax.models import MF
from recjax.objectives import BPR

_K = 20


def measure(
    problem: Problem,
    settings: Settings,
    *,
    batch_size: int = 8192,
    peer_users: int = 0,
) -> dict:
    """Times evaluations.

    Args:
      problem: with test pairs.
      settings: of the run.
      batch_size: users that we rank for at a time, at most.
      peer_users: users that peers rank for; 0 for all.

    Returns:
      The results, see `benchmarks.command.results`.

    Raises:
      ValueError: a peer is unknown, or finds other metrics.
    """
    others = peers.find("evaluate", settings.peers)
    spec, test = problem.spec, problem.test
    context = make_context(problem.train, spec)
    targets = item_lists(test.users, test.items, spec.num_users)
    # Dot products, not cosines, of vectors that stay as they are.
    model = MF(dim=settings.dim, objective=BPR())
    num = spec.num_users + spec.num_items
    nodes = jax.random.normal(jax.random.key(0), (num, settings.dim))
    # One of the two carries a user to items, the other items to users.
    *_, four, five = propagate_layers(context.graph, nodes, depth=5)
    nodes = (four + five).astype(settings.dtype)
    params = {"nodes": nodes}
    users = np.unique(test.users)
    if not len(users):
        raise ValueError(f"{problem.name}: no user has a test item to rank for")

    def ours(some: np.ndarray | None = None) -> dict[str, float]:
        return evaluate(
            model,
            params,
            context,
            targets,
            users=some,
            ks=(_K,),
            metrics=("recall", "ndcg"),
            batch_size=batch_size,
        )

    some = users[: peer_users or None]
    share = len(some) / len(users)
    scaled = f" ({len(some)} users, scaled to {len(users)})" if share < 1 else ""
    part = problem._replace(test=test.take(np.isin(test.users, some)))
    vectors = np.array(nodes, np.float32)
    ways = {"recjax": ours}
    for name, peer in others.items():
        ways[name + scaled] = peer(part, vectors, k=_K)

    metrics: dict[str, dict[str, float]] = {}

    def kept(name, way):
        def run():
            metrics[name] = way()

        return run

    cases = {name: kept(name, way) for name, way in ways.items()}
    times = timing.interleave(cases, repeats=settings.repeats)
    expected = ours(some)
    for name, found in metrics.items():
        for key, value in expected.items():
            if name != "recjax" and not abs(found[key] - value) < 5e-5:
                raise ValueError(
                    f"{name} finds {key} {found[key]:.6f}, and we {value:.6f}: times "
                    "are compared at equal metrics only"
                )
    rows = timing.rows(
        "evaluation",
        times,
        work={"users": len(users)},
        calls={name: share for name in cases if name != "recjax"},
    )
    return command.results(
        "evaluate",
        settings,
        rows,
        {"batch_size": batch_size, "k": _K},
        problem=problem.describe() | {"ranked users": len(users)},
        metrics=metrics,
        notes=[
            f"{name}: "
            + ", ".join(f"{key} {value:.4f}" for key, value in values.items())
            for name, values in metrics.items()
        ],
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Reads options, measures, prints, and writes JSON where asked."""
    own = (
        Option("batch_size", 8192, "users that we rank for at a time, at most"),
        Option("peer_users", 0, "users that peers rank for; 0 for all"),
    )
    command.run(measure, __doc__, argv, own=own, repeats=3)


if __name__ == "__main__":
    main()
