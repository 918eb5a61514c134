"""Trains on a table several times larger than the memory of any one device.

    python -m benchmarks.capacity --devices 32 --budget 64 --times 4

Simulated devices, each with a budget of memory (MiB).  The table alone is `--times` as
large as the budget; matrix factorisation trains on it, with rows looked up by
all-to-all and a lazy optimizer.  What a device needs is read from the compiled programs
that make the table and that train: arguments, results and work, and what else of the
training data lies there.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from recjax.data import make_context
from recjax.models import MF
from recjax.optimizers import lazy_adagrad, lazy_adam
from recjax.sharding import Parallel, make_mesh, shard_context, table_shardings
from recjax.training import Sampled, init_state, make_epoch
from recjax.types import Interactions, Spec

OPTIMIZERS = {
    "adam": lazy_adam(1e-2),
    "adagrad": lazy_adagrad(1e-2),
    "adagrad-row": lazy_adagrad(1e-2, one_a_row=True),
}


def measure(
    *,
    devices: int = 32,
    budget: float = 64.0,
    times: float = 4.0,
    dim: int = 128,
    optimizer: str = "adam",
    batch_size: int = 256,
    pairs: int = 2048,
) -> dict[str, Any]:
    """Trains an epoch on a sharded table.

    Args:
      devices: of which there must be as many, M parts of the table.
      budget: MiB of each.
      times: bytes of the table over the budget.
      dim: D.
      optimizer: one of `OPTIMIZERS`.
      batch_size: B.
      pairs: training pairs.

    Returns:
      Bytes of the table, the budget, what a device needs, and the losses.

    Raises:
      ValueError: a device needs more than its budget.
    """
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"optimizer {optimizer!r}: use one of {list(OPTIMIZERS)}")
    room = int(budget * 2**20)
    rows = math.ceil(times * room / (4 * dim) / devices) * devices
    spec = Spec(rows // 2, rows - rows // 2)
    rng = np.random.default_rng(0)
    train = Interactions(
        rng.integers(0, spec.num_users, pairs), rng.integers(0, spec.num_items, pairs)
    )
    model, rule = MF(dim), OPTIMIZERS[optimizer]
    parallel = Parallel(make_mesh(1, devices))
    context = shard_context(make_context(train, spec), parallel)
    key = jax.random.key(0)

    def init():
        return init_state(model, rule, spec, key)

    where = table_shardings(jax.eval_shape(init), spec, parallel.mesh)
    of_init = _needs(jax.jit(init, out_shardings=where).lower().compile())
    state = init_state(model, rule, spec, key, mesh=parallel.mesh)
    run_epoch: Any = make_epoch(
        model, rule, batch_size=batch_size, parallel=parallel, sampled=Sampled(())
    )
    compiled = run_epoch.lower(state, context).compile()
    read = compiled.memory_analysis().argument_size_in_bytes
    beside = max(0, _on_one(state) + _on_one(context) - read)
    of_steps = _needs(compiled) + beside
    found = {
        "devices": devices,
        "optimizer": optimizer,
        "table_bytes": state.params["nodes"].nbytes,
        "budget_bytes": room,
        "making_bytes": of_init,
        "training_bytes": of_steps,
    }
    if max(of_init, of_steps) > room:
        raise ValueError(f"a device needs more than its budget: {found}")
    state, logs = run_epoch(state, context)
    return found | {"losses": [float(x) for x in np.asarray(logs["loss"])]}


def _needs(compiled: Any) -> int:
    """Bytes of a device while a program runs."""
    size = compiled.memory_analysis()
    return (
        size.argument_size_in_bytes
        + size.output_size_in_bytes
        - size.alias_size_in_bytes
        + size.temp_size_in_bytes
    )


def _on_one(tree: Any) -> int:
    """Bytes of the arrays of a tree on the first of their devices."""
    return sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(tree))


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Reads options, trains, and prints what was needed as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--devices", type=int, default=32, help="simulated devices")
    parser.add_argument("--budget", type=float, default=64.0, help="MiB of each")
    parser.add_argument("--times", type=float, default=4.0, help="table over budget")
    parser.add_argument("--dim", type=int, default=128, help="width of the table")
    parser.add_argument("--optimizer", default="adam", choices=list(OPTIMIZERS))
    options = vars(parser.parse_args(argv))
    try:
        if min(options["devices"], options["dim"]) < 1 or options["budget"] <= 0:
            raise ValueError(f"sizes must be positive: {options}")
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", options["devices"])
        found = measure(**options)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print(json.dumps(found, indent=2))
    return found


if __name__ == "__main__":
    main()
