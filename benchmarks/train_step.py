r"""A LightGCN training step: recjax, and peers on the same batches.

    python -m benchmarks.train_step --dataset ../shared/data/gowalla \
        --peers torch-csr,torch-coo,pyg --out FILE.json

One step is full propagation, BPR with one negative, L2 on the batch's rows, the
derivative, and Adam.  Ours is timed where it runs, inside the scan of an epoch, and
shuffles and draws its negatives there; peers get batches that are drawn before, so that
sampling counts against us alone.  Loss and derivatives of a batch must be equal before
anything is timed.

A step of L layers cannot do without 2 L neighbour sums, L forward and L backward: they
are timed too, chained in one compiled call.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import command, peers, timing
from benchmarks.command import Option, Settings
from benchmarks.problems import Problem
from recjax.data import make_context
from recjax.graphs import make_graph
from recjax.models import LightGCN
from recjax.objectives import BPR
from recjax.sampling import make_batch
from recjax.sparse import graph_sum
from recjax.training import init_state, make_epoch
from recjax.types import Batch, Context, Params

_LEARNING_RATE = 1e-3


def measure(
    problem: Problem,
    settings: Settings,
    *,
    layers: int = 3,
    batch_size: int = 2048,
    steps: int = 20,
    peer_steps: int = 2,
) -> dict:
    """Times steps and neighbour sums.

    Args:
      problem: its training pairs are trained on.
      settings: of the run.
      layers: L.
      batch_size: B.
      steps: steps of one timed scan of ours.
      peer_steps: steps of one timed call of a peer.

    Returns:
      The results, see `benchmarks.command.results`.

    Raises:
      ValueError: a peer is unknown, or has another loss; a number is not positive.
    """
    if min(layers, batch_size, steps, peer_steps) < 1:
        raise ValueError(
            f"layers {layers}, batch_size {batch_size}, steps {steps} and peer_steps "
            f"{peer_steps} must be at least 1"
        )
    others = peers.find("train_step", settings.peers)
    spec = problem.spec
    model = LightGCN(dim=settings.dim, layers=layers, objective=BPR(), init_scale=0.1)
    context = make_context(problem.train, spec)
    # An epoch of so many steps: the graph stays whole, only its pairs are fewer.
    count = min(steps * batch_size, problem.train.num_rows)
    steps = -(-count // batch_size)
    short = context._replace(users=context.users[:count], items=context.items[:count])
    adam = optax.adam(_LEARNING_RATE)

    params = model.init(jax.random.key(0), spec)
    params = jax.tree.map(lambda x: x.astype(settings.dtype), params)
    state = init_state(model, adam, spec, jax.random.key(0))
    state = state._replace(params=params, opt_state=adam.init(params))
    # A copy: the state is donated.
    table = np.array(params["nodes"], np.float32)
    run_epoch = make_epoch(model, adam, batch_size=batch_size)

    def ours():
        nonlocal state
        # Nothing may cross between host and device while an epoch runs.
        with jax.transfer_guard("disallow"):
            state, logs = run_epoch(state, short)
        return logs["loss"]

    batches = draw(context, batch_size, peer_steps)
    host = make_graph((problem.train.users, problem.train.items), spec)
    cases: dict[str, Callable[[], Any]] = {"recjax": ours}
    calls = {"recjax": steps}
    expected = loss_and_grad(model, params, context, batches[0])
    for name, peer in others.items():
        differentiate, cases[name] = peer(
            host,
            table,
            spec.num_users,
            batches,
            layers=layers,
            l2=model.l2,
            learning_rate=_LEARNING_RATE,
            dtype=settings.dtype,
        )
        calls[name] = peer_steps
        timing.must_agree(
            f"{name}'s loss or derivative",
            expected,
            differentiate(),
            rtol=10 * timing.RTOL[settings.dtype],
        )
    chained = "neighbour sums alone"
    cases[chained] = neighbour_sums(context, settings, layers)
    times = timing.interleave(cases, repeats=settings.repeats)
    alone = {chained: times.pop(chained)}
    rows = timing.rows("step", times, work={"interactions": batch_size}, calls=calls)
    edges = 2 * layers * 2 * problem.train.num_rows
    rows += timing.rows(f"{2 * layers} neighbour sums", alone, work={"edges": edges})
    ratio = rows[0]["seconds"] / rows[-1]["seconds"]
    return command.results(
        "train_step",
        settings,
        rows,
        {
            "layers": layers,
            "batch_size": batch_size,
            "steps": steps,
            "peer_steps": peer_steps,
        },
        step_over_its_neighbour_sums=ratio,
        notes=[f"Our step takes {ratio:.2f} times its {2 * layers} neighbour sums."],
        problem=problem.describe(),
    )


def draw(
    context: Context, batch_size: int, count: int
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Batches of users, items and negatives, each ``[B]``."""
    batches = []
    for index in range(count):
        pair_key, negative_key = jax.random.split(jax.random.key(index))
        rows = jax.random.randint(
            pair_key, (batch_size,), 0, context.users.shape[0], jnp.int32
        )
        batch = make_batch(
            negative_key,
            context,
            context.users[rows],
            context.items[rows],
            jnp.ones(batch_size),
            1,
        )
        batches.append(
            (
                np.asarray(batch.users),
                np.asarray(batch.items),
                np.asarray(batch.negatives[:, 0]),
            )
        )
    return batches


def loss_and_grad(
    model: LightGCN,
    params: Params,
    context: Context,
    batch: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> tuple[jax.Array, jax.Array]:
    """Our loss of a batch, and its derivative by the table of nodes."""
    users, items, negatives = (jnp.asarray(x) for x in batch)
    rows = Batch(users, items, negatives[:, None], jnp.ones(users.shape[0]))

    @jax.jit
    def differentiate(params, context, rows):
        return jax.value_and_grad(model.loss, has_aux=True)(
            params, context, rows, jax.random.key(0)
        )

    (loss, _), grads = differentiate(params, context, rows)
    return loss, grads["nodes"]


def neighbour_sums(
    context: Context, settings: Settings, layers: int
) -> Callable[[], jax.Array]:
    """Sums chained in one compiled call, two for each layer."""

    @jax.jit
    def chain(graph, nodes):
        def twice(nodes, _):
            return graph_sum(graph, graph_sum(graph, nodes)), None

        return jax.lax.scan(twice, nodes, length=layers)[0]

    num = int(context.graph.n_node[0])
    nodes = jax.random.normal(jax.random.key(1), (num, settings.dim), settings.dtype)
    return lambda: chain(context.graph, nodes)


def main(argv: Sequence[str] | None = None) -> None:
    """Reads options, measures, prints, and writes JSON where asked."""
    own = (
        Option("layers", 3, "propagations L"),
        Option("batch_size", 2048, "training pairs of a step"),
        Option("steps", 20, "steps of one timed scan of ours"),
        Option("peer_steps", 2, "steps of one timed call of a peer"),
    )
    command.run(measure, __doc__, argv, own=own)


if __name__ == "__main__":
    main()
