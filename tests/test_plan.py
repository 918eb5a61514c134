"""Plans hold what compiled steps need, and say what stands in the way."""

import jax
import numpy as np
import pytest

from benchmarks.scaling import collective_bytes
from recjax.cli import main
from recjax.data import make_context
from recjax.models import MF, SGL, VBPR, DirectAU, LightGCN
from recjax.objectives import BPR
from recjax.plan import Chip, plan
from recjax.sharding import mesh_sizes, read_parallel, shard_context
from recjax.training import Sampled, Training, init_state, make_epoch, make_optimizer
from recjax.types import Interactions, Spec

SPEC, PAIRS = Spec(12_000, 8_000), 120_000
CASES = {
    "mf rows": (MF(dim=32), (), "none"),
    "mf rows, mesh": (MF(dim=32), (), "mesh:data=2,model=4"),
    "mf": (MF(dim=32, objective=BPR()), None, "none"),
    "lightgcn, deep": (LightGCN(dim=32, layers=4, objective=BPR()), None, "none"),
    "lightgcn drawn": (LightGCN(dim=32, layers=2), (4, 3), "none"),
    "lightgcn drawn, mesh": (
        LightGCN(dim=32, layers=2),
        (4, 3),
        "mesh:data=2,model=4",
    ),
    "lightgcn, model": (LightGCN(dim=32, layers=2), None, "mesh:model=8"),
    "lightgcn, ring": (
        LightGCN(dim=128, layers=2),
        None,
        "mesh:model=8,exchange=ring",
    ),
    "lightgcn, both": (LightGCN(dim=32, layers=3), None, "mesh:data=2,model=4"),
}


@pytest.fixture(scope="module")
def context():
    rng = np.random.default_rng(0)
    pairs = rng.choice(SPEC.num_users * SPEC.num_items, PAIRS, replace=False)
    users, items = np.divmod(pairs, SPEC.num_items)
    return make_context(
        Interactions(users.astype(np.int32), items.astype(np.int32)), SPEC
    )


def on_one(tree):
    return sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", CASES)
def test_bytes_are_those_of_the_compiled_step(context, name):
    """Those that a device holds, and those that arrive at it in a step."""
    model, fanouts, words = CASES[name]
    training = Training(batch_size=512, fanouts=fanouts)
    parallel = read_parallel(words)
    optimizer = make_optimizer(training, PAIRS)
    mesh = None if parallel is None else parallel.mesh
    state = init_state(model, optimizer, SPEC, jax.random.key(0), mesh=mesh)
    data = shard_context(context, parallel)
    run_epoch = make_epoch(
        model,
        optimizer,
        batch_size=512,
        parallel=parallel,
        sampled=None if fanouts is None else Sampled(fanouts),
    )
    compiled = run_epoch.lower(state, data).compile()
    size = compiled.memory_analysis()
    # What the step does not read is there too.
    work = size.temp_size_in_bytes + size.output_size_in_bytes
    work -= size.alias_size_in_bytes
    needed = on_one(state) + on_one(data) + work
    found = plan(model, SPEC, PAIRS, training=training, parallel=words)
    assert found.total == pytest.approx(needed, rel=0.15)
    held = found.held
    assert held["tables"] + held["optimizer"] == pytest.approx(on_one(state), rel=1e-3)
    arrives = found.steps * sum(found.exchanged.values())
    received = sum(collective_bytes(compiled.as_text()).values())
    assert arrives == pytest.approx(received, rel=0.15)
    data_bytes = held["graph"] + held["lists"]
    assert data_bytes == pytest.approx(on_one(data), rel=0.03)


def test_a_step_moves_what_its_parts_move():
    found = plan(LightGCN(dim=64, layers=3), SPEC, PAIRS, parallel="mesh:model=4")
    # Three quarters of the table are elsewhere, in six sums.
    table = 4 * 64 * 20_000
    assert found.exchanged["gathered tables"] == 6 * 0.75 * table
    assert plan(MF(), SPEC, PAIRS).exchanged == {}
    both = plan(MF(), SPEC, PAIRS, parallel="mesh:data=2,model=4")
    assert both.exchanged["gradients"] == 2 * 0.5 * table / 4
    assert "rows and their gradients" not in both.exchanged
    near = Chip(link=1e6, network=2e6, per_host=4)
    far = Chip(link=1e6, network=2e6, per_host=3)
    seconds = [
        plan(LightGCN(), SPEC, PAIRS, parallel="mesh:model=4", chip=chip).seconds
        for chip in (near, far)
    ]
    assert seconds[0]["exchange"] == 2 * seconds[1]["exchange"]


def test_the_bottleneck_is_what_takes_most():
    def bottleneck(model=LightGCN(), parallel="none", **chip):  # noqa: B008 - frozen
        return plan(model, SPEC, PAIRS, parallel=parallel, chip=Chip(**chip)).bottleneck

    assert bottleneck(memory=1e6).startswith("memory: it does not fit, and work takes")
    assert bottleneck() == "memory bandwidth"
    slow = bottleneck(parallel="mesh:model=8", link=1e9)
    assert slow == "exchange: most of what arrives are gathered tables"


def test_what_cannot_be_planned_is_refused():
    for model in (SGL(), VBPR()):
        with pytest.raises(ValueError, match="mf, lightgcn and directau"):
            plan(model, SPEC._replace(features=(("image", 4),)), PAIRS)
    with pytest.raises(ValueError, match="each must be at least 1"):
        plan(MF(), Spec(0, 5), 3)
    with pytest.raises(ValueError, match="more than the 2 x 5 pairs"):
        plan(MF(), Spec(2, 5), 11)
    with pytest.raises(ValueError, match="one a hop: 1"):
        plan(DirectAU(layers=1), SPEC, PAIRS, training=Training(fanouts=(2, 2)))
    with pytest.raises(ValueError, match="link 0"):
        Chip(link=0)
    with pytest.raises(ValueError, match="at least 1"):
        mesh_sizes("mesh:data=0")


def test_the_command_prints_a_plan(capsys):
    sizes = ["--users", "12000", "--items", "8000", "--interactions", "120000"]
    with pytest.raises(SystemExit) as stop:
        main(["plan", *sizes, "--model", "mf", "--parallel", "mesh:model=4"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert "held by each of 4 devices" in printed and "bottleneck: " in printed
    with pytest.raises(SystemExit) as stop:
        main(["plan", "movielens-small", *sizes])
    assert stop.value.code == 2
    assert "either a dataset or --users" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main(["plan"])
    assert stop.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
