"""The loop: what it logs, when it stops, and that a cut-off run ends where it would."""

import dataclasses
import json
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax.checkpoint import Checkpoints, tree_digest
from recjax.data import make_context, split, synthetic, write
from recjax.lists import item_lists
from recjax.models import MF, LightGCN
from recjax.objectives import BPR, Softmax
from recjax.phases import Phases
from recjax.training import (
    Training,
    _epoch,
    fit,
    init_state,
    make_epoch,
    restore_params,
)
from recjax.types import Interactions, Spec

LOG = split(synthetic(num_users=40, num_items=30, rows_per_user=10))
SPEC = Spec(40, 30)
MODEL = LightGCN(dim=8, layers=2, objective=Softmax(), init_scale=0.1)
SETTINGS = Training(epochs=6, batch_size=64, learning_rate=0.01, patience=99)


def part(code):
    rows = LOG.interactions.take(LOG.parts == code)
    return Interactions(rows.users, rows.items)


@pytest.fixture(scope="module")
def context():
    return make_context(part(0), SPEC)


@pytest.fixture(scope="module")
def valid():
    rows = part(1)
    return item_lists(rows.users, rows.items, SPEC.num_users)


def digest(result):
    state = result.state._replace(key=jax.random.key_data(result.state.key))
    return tree_digest((result.params, state))


def test_it_learns_and_keeps_the_best_epoch(context, valid):
    settings = dataclasses.replace(SETTINGS, epochs=25)
    result = fit(MODEL, context, SPEC, training=settings, valid=valid)
    scores = [record.valid["ndcg@20"] for record in result.records]
    assert max(scores) > 1.3 * scores[0]
    assert result.best_epoch == 1 + int(np.argmax(scores))
    losses = [record.losses["loss"] for record in result.records]
    assert losses[-1] < losses[0]
    shorter = dataclasses.replace(settings, epochs=result.best_epoch)
    again = fit(MODEL, context, SPEC, training=shorter)
    assert tree_digest(again.params) == tree_digest(result.params)


def test_training_on_does_not_take_the_result_away(context):
    settings = dataclasses.replace(SETTINGS, epochs=1)
    result = fit(MODEL, context, SPEC, training=settings)
    before = tree_digest(result.params)
    make_epoch(MODEL, optax.adam(0.01), batch_size=64)(result.state, context)
    assert tree_digest(result.params) == before


def test_patience_counts_looks_without_improvement(context, valid):
    settings = dataclasses.replace(
        SETTINGS, epochs=200, learning_rate=0.1, patience=3, evaluate_every=2
    )
    result = fit(MODEL, context, SPEC, training=settings, valid=valid)
    assert result.stopped == "patience"
    assert len(result.records) == result.best_epoch + 3 * 2
    looks = [bool(record.valid) for record in result.records]
    assert looks == [epoch % 2 == 0 for epoch in range(1, len(looks) + 1)]


@pytest.mark.parametrize(("cut", "decay"), [(1, 0.0), (3, 0.0), (3, 0.75)])
def test_an_interrupted_run_ends_bit_for_bit_the_same(
    context, valid, tmp_path, cut, decay
):
    settings = dataclasses.replace(SETTINGS, decay=decay)
    whole = fit(MODEL, context, SPEC, training=settings, valid=valid)
    seen = []
    with Checkpoints(tmp_path) as checkpoints:
        first = fit(
            MODEL,
            context,
            SPEC,
            training=settings,
            valid=valid,
            checkpoints=checkpoints,
            on_epoch=seen.append,
            should_stop=lambda: len(seen) == cut,
        )
    assert first.stopped == "interrupted"
    assert len(first.records) == cut
    with Checkpoints(tmp_path) as checkpoints:
        second = fit(
            MODEL,
            context,
            SPEC,
            training=settings,
            valid=valid,
            checkpoints=checkpoints,
        )
        params, epoch = restore_params(MODEL, SPEC, checkpoints, training=settings)
    assert second.records == whole.records
    assert digest(second) == digest(whole)
    assert tree_digest(params) == tree_digest(whole.params)
    assert epoch == whole.best_epoch


def test_a_resumed_run_remembers_how_long_it_has_waited(context, valid, tmp_path):
    settings = dataclasses.replace(SETTINGS, epochs=60, learning_rate=0.1, patience=4)
    whole = fit(MODEL, context, SPEC, training=settings, valid=valid)
    assert whole.stopped == "patience"
    seen = []
    for stop in (len(whole.records) - 2, 10**6):
        seen.clear()
        with Checkpoints(tmp_path) as checkpoints:
            result = fit(
                MODEL,
                context,
                SPEC,
                training=settings,
                valid=valid,
                checkpoints=checkpoints,
                on_epoch=seen.append,
                should_stop=lambda stop=stop: len(seen) >= stop,
            )
    assert result.stopped == "patience"
    assert result.records == whole.records
    assert digest(result) == digest(whole)


def test_other_settings_do_not_resume(context, valid, tmp_path):
    short = dataclasses.replace(SETTINGS, epochs=1)
    with Checkpoints(tmp_path) as checkpoints:
        fit(
            MODEL,
            context,
            SPEC,
            training=short,
            checkpoints=checkpoints,
            fingerprint={"data": "abc"},
        )
        with pytest.raises(ValueError, match="data 'abc', this run has 'xyz'"):
            fit(
                MODEL,
                context,
                SPEC,
                training=short,
                checkpoints=checkpoints,
                fingerprint={"data": "xyz"},
            )


@dataclasses.dataclass(frozen=True)
class Exploding(MF):
    """A loss that becomes infinite once the item table has moved enough."""

    def loss(self, params, context, batch, key):
        loss, aux = super().loss(params, context, batch, key)
        moved = jnp.abs(params["nodes"]).max() > 0.6
        return jnp.where(moved, jnp.inf, loss), aux


def test_a_loss_that_is_not_finite_names_epoch_and_step(context):
    settings = dataclasses.replace(SETTINGS, learning_rate=0.05, epochs=50)
    with pytest.raises(FloatingPointError, match=r"inf from step \d of 5 in epoch \d"):
        fit(Exploding(dim=4), context, SPEC, training=settings)


def test_an_epoch_is_one_compiled_call_without_host_transfers(context):
    traces = 0

    @dataclasses.dataclass(frozen=True)
    class Counted(MF):
        def loss(self, params, context, batch, key):
            nonlocal traces
            traces += 1
            return super().loss(params, context, batch, key)

    adam = optax.adam(0.01)
    run_epoch = make_epoch(Counted(dim=4), adam, batch_size=64)
    state = init_state(Counted(dim=4), adam, SPEC, jax.random.key(0))
    state, logs = run_epoch(state, context)
    with jax.transfer_guard("disallow"):
        for _ in range(3):
            state, logs = run_epoch(state, context)
    assert traces == 1
    assert int(state.epoch) == 4
    assert logs["loss"].shape == (-(-context.users.shape[0] // 64),)


def test_the_order_does_not_depend_on_what_came_before(context):
    """Epoch 3 after a resume draws what epoch 3 of an unbroken run draws."""
    adam = optax.adam(0.01)
    run_epoch = make_epoch(MODEL, adam, batch_size=64)
    state = init_state(MODEL, adam, SPEC, jax.random.key(5))
    losses = []
    for _ in range(2):
        copy = jax.tree.map(jnp.copy, state)
        state, logs = run_epoch(state, context)
        losses.append(logs["loss"])
        _, again = run_epoch(copy, context)
        np.testing.assert_array_equal(again["loss"], logs["loss"])
    # Without a step, only the order and the negatives can tell two epochs apart.
    still = optax.sgd(0.0)
    run_epoch = make_epoch(MODEL, still, batch_size=64)
    state = init_state(MODEL, still, SPEC, jax.random.key(5))
    state, first = run_epoch(state, context)
    state, second = run_epoch(state, context)
    assert (first["loss"] != second["loss"]).all()


@pytest.mark.parametrize("pairs", ["shuffled", "by_user"])
def test_batches_drawn_ahead_are_those_that_steps_would_draw(
    context, monkeypatch, pairs
):
    model, adam = MF(dim=4, objective=BPR(num_negatives=3)), optax.adam(0.01)
    found = []
    # Before the steps by threes and a rest, one by one, and in each step.
    for ahead, together in ((10**9, 3 * 64 * 3), (10**9, 1), (0, 1)):
        monkeypatch.setattr(_epoch, "_DRAWN_AHEAD", ahead)
        monkeypatch.setattr(_epoch, "_DRAWN_TOGETHER", together)
        run_epoch = make_epoch(model, adam, batch_size=64, pairs=pairs)
        state = init_state(model, adam, SPEC, jax.random.key(0))
        found.append(run_epoch(state, context)[1]["loss"])
    np.testing.assert_array_equal(found[0], found[2])
    np.testing.assert_array_equal(found[1], found[2])


def test_the_learning_rate_falls_in_the_last_epochs(context):
    settings = dataclasses.replace(SETTINGS, epochs=3, decay=2 / 3)
    found = fit(MODEL, context, SPEC, training=settings)
    total = 3 * found.steps
    fallen = [max(step - found.steps, 0) for step in range(total)]
    rates = [0.01 * (1 - step / (2 * found.steps)) for step in fallen]

    def schedule(count):
        return jnp.asarray(rates)[count]

    expected = fit(
        MODEL, context, SPEC, training=settings, optimizer=optax.adam(schedule)
    )
    for name, leaf in expected.params.items():
        np.testing.assert_allclose(found.params[name], leaf, rtol=1e-3, atol=1e-5)
    plain = fit(MODEL, context, SPEC, training=dataclasses.replace(settings, decay=0.0))
    assert np.abs(plain.params["nodes"] - found.params["nodes"]).max() > 1e-3


def test_pairs_by_user_train_as_well(context):
    settings = dataclasses.replace(SETTINGS, pairs="by_user", epochs=8)
    by_user = fit(MODEL, context, SPEC, training=settings)
    shuffled = fit(
        MODEL, context, SPEC, training=dataclasses.replace(settings, pairs="shuffled")
    )
    losses = [record.losses["loss"] for record in by_user.records]
    assert losses[-1] < losses[0]
    assert losses[0] != shuffled.records[0].losses["loss"]


def test_phases_add_up(context, valid):
    with Phases() as phases:
        fit(MODEL, context, SPEC, training=SETTINGS, valid=valid, phases=phases)
    seconds = dict(phases.seconds)
    total = seconds.pop("total")
    assert seconds.keys() == {"compile", "step", "evaluate"}
    assert all(value > 0 for value in seconds.values())
    assert sum(seconds.values()) <= total * 1.01


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"epochs": 0}, "epochs 0"),
        ({"batch_size": -1}, "batch_size -1"),
        ({"learning_rate": 0.0}, "learning_rate 0.0"),
        ({"decay": 1.5}, "decay 1.5"),
        ({"select_by": "ndgc@20"}, "'ndgc@20'"),
        ({"select_by": "ndcg"}, "cutoff"),
        ({"checkpoint_every": 0}, "checkpoint_every 0"),
    ],
)
def test_settings_that_cannot_work(setting, message):
    with pytest.raises(ValueError, match=message):
        Training(**setting)


TRAIN = [sys.executable, "-m", "recjax", "train"]
OPTIONS = [
    *("--model.objective", "softmax", "--model.dim", "16", "--batch-size", "64"),
    *("--epochs", "40", "--patience", "99", "--no-baselines"),
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "small"
    return write(LOG, path, name="small", config={})


def train(dataset, out, *options):
    return subprocess.run(
        [*TRAIN, str(dataset), *OPTIONS, "--out", str(out), *options],
        capture_output=True,
        text=True,
        check=False,
    )


def lines(run):
    file = run / "metrics.jsonl"
    text = file.read_text() if file.exists() else ""
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


def best_digest(run, dataset):
    found = json.loads((run / "summary.json").read_text())
    return found["best_epoch"], found["valid"], found["test"], found["epochs"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_resumes_to_the_same_end(dataset, tmp_path, number):
    whole = tmp_path / "whole"
    assert train(dataset, whole).returncode == 0
    cut = tmp_path / "cut"
    process = subprocess.Popen(
        [*TRAIN, str(dataset), *OPTIONS, "--out", str(cut)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while len(lines(cut)) < 3 and process.poll() is None:
        time.sleep(0.01)
    # Anywhere in the fourth epoch or the saving of the third.
    time.sleep(np.random.default_rng().uniform(0, 0.1))
    process.send_signal(number)
    code = process.wait(timeout=60)
    assert code == (-signal.SIGKILL if number == signal.SIGKILL else 143)
    assert not (cut / "summary.json").exists()
    refused = train(dataset, cut)
    assert refused.returncode == 2
    assert "--resume" in refused.stderr
    resumed = train(dataset, cut, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert lines(cut) == lines(whole)
    assert best_digest(cut, dataset) == best_digest(whole, dataset)
    with (
        Checkpoints(cut / "checkpoints") as one,
        Checkpoints(whole / "checkpoints") as other,
    ):
        assert one.epochs() == other.epochs()
