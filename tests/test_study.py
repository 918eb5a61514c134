"""A study is the serial runs of `fit`, in one program."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax.checkpoint import Checkpoints
from recjax.data import make_context, split, synthetic
from recjax.graphs import drop_edges
from recjax.lists import item_lists
from recjax.models import MF, LightGCN
from recjax.objectives import BPR, Softmax
from recjax.training import Training, fit, study
from recjax.types import Interactions, Spec

LOG = split(synthetic(num_users=40, num_items=30, rows_per_user=10))
SPEC = Spec(40, 30)
SEEDS = (0, 3)
SETTINGS = (
    {"learning_rate": 0.02, "temperature": 0.25, "l2": 1e-4},
    {"learning_rate": 0.1, "temperature": 0.5, "l2": 1e-2},
)


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


def lightgcn(setting):
    model = LightGCN(
        dim=8,
        layers=2,
        objective=Softmax(temperature=setting["temperature"]),
        l2=setting["l2"],
        init_scale=0.1,
    )
    return model, optax.adam(setting["learning_rate"])


@dataclasses.dataclass(frozen=True)
class Dropped(LightGCN):
    """A graph that changes every epoch, a traced share of it, and drawn negatives."""

    dropped: float = 0.2
    objective: BPR = BPR()  # noqa: RUF009

    def refresh(self, params, context, key):
        return context._replace(graph=drop_edges(key, context.graph, rate=self.dropped))


def dropped(setting):
    return (
        Dropped(dim=8, layers=2, init_scale=0.1, dropped=setting["dropped"]),
        optax.adam(0.05),
    )


@dataclasses.dataclass(frozen=True)
class Scaled(MF):
    """A setting that only the score depends on: it turns the order around."""

    sign: float = 1.0

    def score(self, params, state, users, items):
        return self.sign * super().score(params, state, users, items)


def assert_same(found, make, settings, context, training, valid):
    place = 0
    for setting in settings:
        for seed in SEEDS:
            model, optimizer = make(setting)
            expected = fit(
                model,
                context,
                SPEC,
                training=dataclasses.replace(training, seed=seed),
                valid=valid,
                optimizer=optimizer,
            )
            run = found.runs[place]
            assert (run.setting, run.seed) == (setting, seed)
            assert (run.best_epoch, run.stopped, len(run.records)) == (
                expected.best_epoch,
                expected.stopped,
                len(expected.records),
            )
            for ours, theirs in zip(run.records, expected.records, strict=True):
                assert (ours.epoch, ours.best_epoch) == (
                    theirs.epoch,
                    theirs.best_epoch,
                )
                assert ours.losses == pytest.approx(theirs.losses, rel=1e-5)
                assert ours.valid == pytest.approx(theirs.valid, rel=1e-5)
            if valid is not None:
                best = expected.records[run.best_epoch - 1]
                assert run.best_value == pytest.approx(
                    best.valid[training.select_by], rel=1e-5
                )
            jax.tree.map(
                lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5),
                found.params_of(place),
                expected.params,
            )
            place += 1
    assert place == len(found.runs)


def test_a_study_is_the_serial_runs(context, valid):
    training = Training(epochs=14, batch_size=64, patience=3)
    found = study(
        lightgcn,
        SETTINGS,
        context,
        SPEC,
        seeds=SEEDS,
        training=training,
        valid=valid,
    )
    assert_same(found, lightgcn, SETTINGS, context, training, valid)
    # Runs that stop at different times are what this is about: when two have, the
    # others go on in a smaller program.
    lengths = sorted(len(run.records) for run in found.runs)
    assert lengths[1] < lengths[-1]
    assert any(run.stopped == "patience" for run in found.runs)
    assert len({run.best_epoch for run in found.runs}) > 1


def test_runs_that_have_stopped_leave_the_program(context, valid):
    traced, sizes = [], []

    @dataclasses.dataclass(frozen=True)
    class Counted(MF):
        def loss(self, params, context, batch, key):
            traced.append(batch)
            return super().loss(params, context, batch, key)

    def make(setting):
        return Counted(dim=8, init_scale=0.1), optax.adam(setting)

    training = Training(epochs=30, batch_size=64, patience=2)
    study(
        make,
        [0.5, 0.2, 0.1, 0.05, 0.02],
        context,
        SPEC,
        training=training,
        valid=valid,
        on_epoch=lambda epoch, records: sizes.append(sum(map(bool, records))),
    )
    size, programs = 5, 1
    for going in sizes:
        if 2 * going <= size:
            size, programs = going, programs + 1
    assert len(traced) == programs > 2


class CutOffError(Exception):
    """In place of a process that is killed."""


@pytest.mark.parametrize("every", [1, 3])
def test_a_study_that_was_cut_off_ends_where_it_would_have(
    context, valid, tmp_path, every
):
    training = Training(
        epochs=14, batch_size=64, patience=3, evaluate_every=2, checkpoint_every=every
    )

    def run(seen, cut=None, checkpoints=None):
        def on_epoch(epoch, records):
            seen.append((epoch, records))
            if epoch == cut:
                raise CutOffError

        return study(
            lightgcn,
            SETTINGS,
            context,
            SPEC,
            seeds=SEEDS,
            training=training,
            valid=valid,
            checkpoints=checkpoints,
            fingerprint={"data": "small"},
            on_epoch=on_epoch,
        )

    expected_seen = []
    expected = run(expected_seen)
    going = [sum(map(bool, records)) for _, records in expected_seen]
    # It is cut off in the whole program, in the smaller one, and when all is done.
    whole, smaller = going.index(4) + 2, len(going)
    assert going[0] == 4 and going[-1] <= 2 and going[smaller - 1] <= 2
    for cut in (whole, smaller):
        with Checkpoints(tmp_path) as checkpoints, pytest.raises(CutOffError):
            run([], cut, checkpoints)
    for _ in range(2):
        seen = []
        with Checkpoints(tmp_path) as checkpoints:
            found = run(seen, checkpoints=checkpoints)
        assert seen == expected_seen
        assert found.runs == expected.runs
        jax.tree.map(np.testing.assert_array_equal, found.params, expected.params)


def test_checkpoints_of_another_study_are_refused(context, tmp_path):
    def run(settings, seeds=SEEDS, **options):
        with Checkpoints(tmp_path) as checkpoints:
            study(
                lightgcn, settings, context, SPEC, seeds=seeds,
                training=Training(epochs=1), checkpoints=checkpoints, **options,
            )  # fmt: skip

    run(SETTINGS)
    with pytest.raises(ValueError, match=r"has settings .*0\.25"):
        run([SETTINGS[1], SETTINGS[1]])
    with pytest.raises(ValueError, match="has seeds"):
        run(SETTINGS, seeds=(0, 1))
    with pytest.raises(ValueError, match="has data None"):
        run(SETTINGS, fingerprint={"data": "other"})


def test_looks_that_are_rare_and_pairs_by_user(context, valid):
    training = Training(
        epochs=5, batch_size=64, patience=3, evaluate_every=2, pairs="by_user"
    )
    found = study(
        lightgcn, SETTINGS[:1], context, SPEC, seeds=SEEDS, training=training,
        valid=valid,
    )  # fmt: skip
    assert_same(found, lightgcn, SETTINGS[:1], context, training, valid)
    looked = [bool(record.valid) for record in found.runs[0].records]
    assert looked == [False, True, False, True, True]


def test_graphs_that_change_every_epoch_and_no_validation(context):
    training = Training(epochs=3, batch_size=64)
    settings = [{"dropped": 0.1}, {"dropped": 0.6}]
    found = study(dropped, settings, context, SPEC, seeds=SEEDS, training=training)
    assert_same(found, dropped, settings, context, training, None)
    assert [run.best_epoch for run in found.runs] == [3] * 4


def test_one_trace_for_all_runs_and_one_for_ranking(context, valid):
    traces = {"loss": 0, "score": 0}

    @dataclasses.dataclass(frozen=True)
    class Counted(MF):
        def loss(self, params, context, batch, key):
            traces["loss"] += 1
            return super().loss(params, context, batch, key)

        def score(self, params, state, users, items):
            traces["score"] += 1
            return MF.score(params, state, users, items)

    def make(setting):
        return Counted(dim=4, l2=setting), optax.adam(0.01)

    def run(seeds):
        traces.update(loss=0, score=0)
        training = Training(epochs=3, batch_size=64)
        study(
            make, [0.0, 0.1, 1.0], context, SPEC, seeds=seeds, training=training,
            valid=valid,
        )  # fmt: skip
        return dict(traces)

    first = run((0, 1))
    assert first["loss"] == 1
    assert first["score"] == 1
    # The ranking is that of one run, whatever the number of them.
    assert run((0, 1, 2)) == {"loss": 1, "score": 0}


def test_a_score_with_a_setting_is_ranked_by_its_own(context, valid):
    def make(setting):
        return Scaled(dim=8, sign=setting), optax.adam(0.05)

    training = Training(epochs=6, batch_size=64)
    found = study(
        make, [1.0, -1.0], context, SPEC, seeds=(0,), training=training, valid=valid
    )
    right, wrong = ([r.valid["ndcg@20"] for r in run.records] for run in found.runs)
    assert right[-1] > 1.5 * wrong[-1]


def test_a_run_that_is_not_finite_stops_alone(context, valid):
    @dataclasses.dataclass(frozen=True)
    class Exploding(MF):
        limit: float = 1.0

        def loss(self, params, context, batch, key):
            loss, aux = super().loss(params, context, batch, key)
            moved = jnp.abs(params["nodes"]).max() > self.limit
            return jnp.where(moved, jnp.nan, 1.0) * loss, aux

    def make(setting):
        return Exploding(dim=4, limit=setting), optax.adam(0.05)

    training = Training(epochs=6, batch_size=64)
    alone = study(make, [9.0], context, SPEC, training=training, valid=valid)
    seen = []
    found = study(
        make,
        [0.6, 9.0],
        context,
        SPEC,
        training=training,
        valid=valid,
        on_epoch=lambda epoch, records: seen.append((epoch, *map(bool, records))),
    )
    bad, good = found.runs
    assert bad.stopped == "not finite" and good.stopped == "epochs"
    assert 1 <= bad.best_epoch <= len(bad.records) < 6
    assert np.isfinite(found.params_of(0)["nodes"]).all()
    for ours, theirs in zip(good.records, alone.runs[0].records, strict=True):
        assert ours.losses == pytest.approx(theirs.losses, rel=1e-5)
        assert ours.valid == pytest.approx(theirs.valid, rel=1e-5)
    assert [row[0] for row in seen] == [1, 2, 3, 4, 5, 6]
    assert [row[1] for row in seen].count(True) == len(bad.records)
    assert all(row[2] for row in seen)
    summary = found.summary()
    assert [row["diverged"] for row in summary] == [1, 0]
    assert summary[1]["mean"] == good.best_value and summary[1]["sd"] is None


def test_a_summary_is_of_the_seeds_of_a_setting(context, valid):
    found = study(
        lightgcn,
        SETTINGS,
        context,
        SPEC,
        seeds=SEEDS,
        training=Training(epochs=2, batch_size=64),
        valid=valid,
    )
    for row, runs in zip(
        found.summary(), (found.runs[:2], found.runs[2:]), strict=True
    ):
        values = [run.best_value for run in runs]
        assert row["setting"] == runs[0].setting
        assert row["mean"] == pytest.approx(np.mean(values))
        assert row["sd"] == pytest.approx(np.std(values, ddof=1))


@pytest.mark.parametrize(
    ("settings", "seeds", "message"),
    [
        ([], (0,), "0 settings"),
        ([{"l2": 0.1}], (), "0 seeds"),
        ([{"l2": 0.1}], (1, 1), "not all different"),
        ([{"l2": 0.1}, {"l1": 0.1}], (0,), "one structure"),
        ([{"l2": np.ones(2)}], (0,), "scalars"),
    ],
)
def test_studies_that_cannot_be(context, settings, seeds, message):
    with pytest.raises(ValueError, match=message):
        study(lightgcn, settings, context, SPEC, seeds=seeds)
