"""Benchmarks run without peers at test size, and their tables say what was measured."""

import json
import math
import subprocess
import sys

import numpy as np
import optax
import pytest

from benchmarks import (
    attention,
    capacity,
    command,
    epoch,
    evaluate,
    fusion,
    growth,
    limits,
    parity,
    peers,
    problems,
    propagate,
    render,
    sampled,
    study,
    timing,
    train_step,
)
from benchmarks.timing import Times
from recjax.types import Feature

SETTINGS = command.Settings(dim=8, repeats=2, copy=1e9)
PROBLEM = problems.synthetic(80, 400)


def make_result(**more):
    rows = timing.rows(
        "step",
        {"recjax": Times((1.0, 2.0, 9.0), 5.0, 4.0, 2**20), "peer": times(6, 2, 9)},
        work={"edges": 1000},
        moved=2e9,
        copy=4e9,
    )
    return command.results("toy", SETTINGS, rows, {"layers": 3}, **more)


def times(*seconds):
    return Times(tuple(map(float, seconds)), 0.0, 0.0, None)


def test_a_made_up_problem_has_the_size_that_it_was_asked_for():
    train, test = (
        set(zip(rows.users.tolist(), rows.items.tolist(), strict=True))
        for rows in (PROBLEM.train, PROBLEM.test)
    )
    assert (len(train), len(test)) == (200, 40)
    assert not train & test
    assert PROBLEM.describe() == {
        "name": "synthetic:80x400",
        "users": 40,
        "items": 40,
        "nodes": 80,
        "edges": 400,
    }
    again = problems.load("synthetic:80x400")
    np.testing.assert_array_equal(again.train.items, PROBLEM.train.items)


def test_a_table_is_split_and_repeated_pairs_count_once(tmp_path):
    lines = ["user_id,item_id"] + [f"{u},{i}" for u in range(6) for i in range(5)] * 2
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join(lines))
    problem = problems.load(str(path))
    assert problem.spec[:2] == (6, 5)
    for rows in (problem.train, problem.test):
        assert 0 < rows.num_rows == len(set(zip(rows.users, rows.items, strict=True)))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("synthetic:400", "NODESxEDGES"),
        ("synthetic:80x401", "even"),
        ("synthetic:6x40", "at most 2,"),
        ("no such file", "no source"),
    ],
)
def test_problems_that_make_no_sense_are_refused(source, message):
    with pytest.raises(ValueError, match=message):
        problems.load(source)


@pytest.mark.parametrize("warm", [0.0, 5.0])
def test_every_round_calls_every_case_and_starts_with_another(monkeypatch, warm):
    monkeypatch.setattr(timing, "_WARM_SECONDS", warm)
    monkeypatch.setattr(timing, "_LEAST_SECONDS", 0.0)
    monkeypatch.setattr(timing, "_PAUSE_SECONDS", 0.0)
    called = []
    cases = {name: lambda name=name: called.append(name) for name in "abc"}
    found = timing.interleave(cases, repeats=4)
    rounds = "abc" + "bca" + "cab" + "abc"
    # Once more before it is timed, where it does not take too long.
    times = 2 if warm else 1
    assert "".join(called) == "aabbcc" + "".join(times * name for name in rounds)
    assert all(len(case.seconds) == 4 for case in found.values())
    with pytest.raises(ValueError, match="repeats 0"):
        timing.interleave(cases, repeats=0)


@pytest.mark.parametrize("other", [[1.0, 2.1], [1.0, math.nan], [1.0]])
def test_what_gives_other_results_is_not_timed(other):
    # Two arrays each, of which the first are equal.
    cases = {
        name: lambda x=x: (np.ones(1), np.array(x))
        for name, x in (("recjax", [1.0, 2.0]), ("peer", other))
    }
    with pytest.raises(ValueError, match=r"peer differs from ours"):
        timing.interleave(cases, repeats=1, rtol=0.01)


def test_rows_hold_medians_and_ratios_within_rounds():
    ours, peer = make_result()["rows"]
    assert ours["seconds"] == 2 and ours["quartiles"] == [1.5, 5.5]
    assert peer["seconds"] == 6 and ours["over_ours"] == 1
    assert peer["over_ours"] == 1  # of 6 / 1, 2 / 2 and 9 / 9; of the medians, 3
    assert ours["edges_per_second"] == 1000 / 2
    assert ours["bytes_per_second"] == 1e9 and ours["share_of_copy"] == 0.25
    scaled = timing.rows("step", {"recjax": times(8)}, work={}, calls={"recjax": 4})
    assert scaled[0]["seconds"] == 2


def test_the_bytes_of_a_sum_are_those_of_its_edges_and_nodes():
    assert propagate.moved_bytes(10, 100, 8, 4) == 100 * (8 + 32) + 10 * (4 + 32)


def test_copying_is_measured():
    assert limits.copy_bandwidth(2**20) > 1e6
    assert limits.free_memory() > 2**20


def test_busy_cores_are_the_share_of_ticks_that_were_not_idle(monkeypatch):
    ticks = iter([(100, 1000), (150, 1200)])
    monkeypatch.setattr(limits, "_core_ticks", lambda: next(ticks))
    monkeypatch.setattr(limits.os, "cpu_count", lambda: 4)
    assert limits.busy_cores(0.0) == 4 * 50 / 200


BENCHMARKS = {
    "propagate": (propagate, {}, ["recjax", "recjax csr", "BCSR product", "jraph"]),
    "train_step": (
        train_step,
        {"layers": 1, "batch_size": 32, "steps": 2},
        ["recjax", "neighbour sums alone"],
    ),
    "evaluate": (evaluate, {"batch_size": 16, "peer_users": 5}, ["recjax"]),
    "attention": (
        attention,
        {"heads": 2, "full_nodes": 30},
        ["recjax", "all scores at once"],
    ),
    "study": (
        study,
        {"seeds": 2, "grid": 2, "layers": 1, "batch_size": 32, "steps": 2},
        ["one program of 4 runs", "one by one, settings as arguments"],
    ),
    "epoch": (
        epoch,
        {"models": "mf,lightgcn", "batch_size": 64},
        ["mf", "lightgcn"],
    ),
    "fusion": (fusion, {"modalities": 2}, ["fuse_sum", "fuse_experts", "film"]),
}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_each_benchmark_measures_and_renders(name):
    module, options, cases = BENCHMARKS[name]
    found = json.loads(json.dumps(module.measure(PROBLEM, SETTINGS, **options)))
    assert found["benchmark"] == name
    assert found["problem"]["edges"] == 400
    assert {"device", "host", "versions", "peak_memory_bytes"} <= set(found)
    for row in found["rows"]:
        assert len(row["seconds_all"]) == 2
        assert 0 < row["seconds"] < 60 and row["compile_seconds"] >= 0
    text = render.section(found)
    assert f"## {name}: synthetic:80x400" in text and found["device"] in text
    for case in cases:
        assert f"| {case} " in text


def test_an_epoch_is_one_of_a_model_that_is_trained_with_the_features_it_reads():
    with pytest.raises(ValueError, match="'popular': give names out of"):
        epoch.measure(PROBLEM, SETTINGS, models="popular")
    with pytest.raises(ValueError, match="features"):
        epoch.measure(PROBLEM, SETTINGS, models="vbpr")
    look = Feature(np.ones((PROBLEM.spec.num_items, 3)), np.ones(40, bool))
    problem = PROBLEM._replace(features={"look": look})
    found = epoch.measure(problem, SETTINGS, models="vbpr", batch_size=64)
    assert found["rows"][0]["interactions_per_second"] > 0


def test_a_study_is_timed_at_equal_losses_only(monkeypatch):
    small = {"seeds": 1, "grid": 2, "layers": 1, "batch_size": 32, "steps": 2}
    with pytest.raises(ValueError, match="without peers"):
        study.measure(PROBLEM, SETTINGS._replace(peers=("torch-csr",)), **small)
    real = study.make_epoch
    monkeypatch.setattr(
        study,
        "make_epoch",
        lambda model, optimizer, **more: real(model, optax.sgd(0.5), **more),
    )
    with pytest.raises(ValueError, match="differs from ours"):
        study.measure(PROBLEM, SETTINGS, **small)


def test_growth_has_a_slope_a_size_and_leaves_out_what_memory_cannot_hold(monkeypatch):
    monkeypatch.setattr(limits, "free_memory", lambda: 1 << 20)
    settings, sizes = SETTINGS._replace(repeats=1), {"edges": 200, "layers": 1}
    found = growth.measure(settings, nodes=400, most_edges=20_000, **sizes)
    edges = [row["x"] for row in found["rows"] if row["group"] == "edges"]
    assert edges == [2, 20, 200, 2000]
    assert "edges 20,000 left out" in found["notes"][0]
    assert set(found["slopes"]) == {"edges", "nodes", "width", "layers"}
    assert "Slope of log seconds over log edges" in render.section(found)
    with pytest.raises(ValueError, match="too many for 60 nodes"):
        growth.measure(settings, nodes=60, most_edges=20_000, **sizes)


def test_steps_on_drawn_neighbours_have_a_slope_for_each_way(monkeypatch):
    monkeypatch.setattr(sampled, "_LEAST_EDGES", 200)
    settings = SETTINGS._replace(repeats=1)
    small = {"layers": 1, "fanout": 2, "batch_size": 8, "steps": 2}
    found = sampled.measure(settings, most_edges=2000, degree=4, **small)
    assert len(found["slopes"]) == 3
    assert [row["x"] for row in found["rows"]] == [200, 2000] * 3
    assert "Slope of log seconds over log edges" in render.section(found)
    monkeypatch.setattr(limits, "free_memory", lambda: 1 << 12)
    none = sampled.measure(settings, most_edges=2000, degree=4, **small)
    assert none["rows"] == [] and "200 edges left out" in none["notes"][0]


def test_a_table_beyond_the_memory_of_a_device_is_trained():
    # As many devices as Adam needs, which this process does not have.
    words = ["--devices", "32", "--budget", "4", "--dim", "64"]
    run = [sys.executable, "-m", "benchmarks.capacity", *words]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["table_bytes"] == 4 * found["budget_bytes"] == 2**24
    needs = found["making_bytes"], found["training_bytes"]
    # What Adam holds of the table, at the least.
    assert 3 * 2**24 / 32 < min(needs) and max(needs) <= found["budget_bytes"]
    assert np.isfinite(found["losses"]).all()
    # On the eight devices of this process it does not fit.
    with pytest.raises(ValueError, match="more than its budget"):
        capacity.measure(devices=8, budget=1.0, dim=64, batch_size=8, pairs=16)


def test_a_power_law_has_its_exponent_as_slope():
    points = [{"x": x, "seconds": 3 * x**1.5} for x in (10, 100, 1000)]
    assert growth.slope(points) == pytest.approx({"all": 1.5, "last": 1.5})


def test_a_table_is_aligned_and_leaves_unknown_columns_out():
    rows = [
        {"name": "ours", "seconds": 0.0123, "edges_per_second": 1.5e6},
        {"name": "theirs", "seconds": 2.0},
    ]
    assert render.table(rows).splitlines() == [
        "|        |  median | edges/s |",
        "| ------ | ------: | ------: |",
        "| ours   | 12.3 ms |   1.5 M |",
        "| theirs |     2 s |         |",
    ]


def test_the_page_holds_every_result_and_nothing_else(tmp_path, capsys):
    with pytest.raises(ValueError, match="no results"):
        render.page(tmp_path)
    command.write(tmp_path / "toy.json", make_result(notes=["A note."]))
    command.write(tmp_path / "other.json", {"seconds": 1})
    text = render.page(tmp_path, plots=False).read_text()
    assert "## toy" in text and "A note." in text and "| peer " in text
    assert "layers 3" in text and "25 %" in text
    assert "other.json holds no table" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.png"))


def test_peers_are_known_by_name_and_imported_only_for_what_they_do(
    monkeypatch, capsys
):
    with pytest.raises(ValueError, match="perhaps torch-csr"):
        peers.find("propagate", ["torch-scr"])
    assert peers.find("propagate", ["recbole"]) == {}
    assert "recbole has no part in propagate" in capsys.readouterr().err
    assert "benchmarks.peers.recbole" not in sys.modules
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "benchmarks.peers.torch_dense", raising=False)
    with pytest.raises(ValueError, match=r"pip install 'recjax\[bench\]'"):
        peers.find("fusion", ["torch"])
    with pytest.raises(SystemExit) as ended:
        parity.main([])
    assert ended.value.code == 2


def test_the_command_line_writes_json_and_refuses_in_a_line(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(limits, "copy_bandwidth", lambda: 1e9)
    monkeypatch.setattr(limits, "busy_cores", lambda: 1.5)
    path = tmp_path / "made" / "evaluate.json"
    words = ["--dataset", "synthetic:80x400", "--repeats", "1", "--batch-size", "16"]
    evaluate.main([*words, "--dim", "8", "--out", str(path)])
    found = json.loads(path.read_text())
    assert found["settings"]["batch_size"] == 16 and found["settings"]["dim"] == 8
    printed = capsys.readouterr()
    assert render.section(found) in printed.out
    assert "1.5 cores busy before the start" in printed.out
    assert "warning: 1.5 cores are busy" in printed.err
    with pytest.raises(SystemExit) as ended:
        evaluate.main([*words, "--peers", "recbol"])
    assert ended.value.code == 2
    assert "unknown peer 'recbol', perhaps recbole?" in capsys.readouterr().err
