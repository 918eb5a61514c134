"""Experiments run, at test size, and say what they promise."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from experiments import (
    _compare,
    _films,
    _results,
    _table,
    _tuning,
    movielens_language,
    movielens_language_picture,
    movielens_text,
    report,
    worked_case,
)
from experiments._problem import Problem, merge_valid
from experiments._rows import Row, Table, configured, product, row_of
from recjax.data import load, split, synthetic, write
from recjax.evaluation import evaluate
from recjax.inputs import build_context, target_lists
from recjax.models import MF, ItemKNN, Popular
from recjax.objectives import Softmax
from recjax.sampling import sample_negatives
from recjax.training import Training, fit
from recjax.types import Feature, Interactions


def test_the_worked_case_lists_what_is_near_a(capsys):
    listed = worked_case.main()
    assert "A browsed B phone, C jacket, D lamp" in capsys.readouterr().out
    assert len(listed) == 5
    assert not {"B phone", "C jacket", "D lamp"} & {product for product, *_ in listed}
    # The gardeners share nothing with A.
    assert "garden" not in {category for _, category, _ in listed[:3]}
    chances = [chance for *_, chance in listed]
    assert chances == sorted(chances, reverse=True)
    assert all(0 < chance < 1 for chance in chances)


SHORT = Training(epochs=6, batch_size=128, learning_rate=0.02, patience=3)
ROWS = {
    "MF": Row(
        MF(dim=8, objective=Softmax()),
        SHORT,
        "a note",
        tried=3,
        published={"ndcg@20": 0.03},
    ),
    "popular": Row(Popular()),
}
TABLE = Table("small", ROWS, claimed="MF")


def run_table(table, dataset, **options):
    return _table.run_table(table, Problem(table, dataset), **options)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    log = split(synthetic(num_users=60, num_items=40, rows_per_user=10))
    return write(
        log, tmp_path_factory.mktemp("data") / "small", name="small", config={}
    )


@pytest.fixture(scope="module")
def measured(dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "toy.json"
    return out, run_table(
        TABLE, dataset, name="toy", seeds=2, out=out, best_on_test=True
    )


def test_a_row_is_what_fit_gives_and_its_spread(dataset, measured):
    out, found = measured
    assert json.loads(out.read_text()) == found
    row = found["rows"]["MF"]
    data = load(dataset, ("train", "valid", "test"))
    spec, context = build_context(data, (), 0.0)
    for seed, run in enumerate(row["runs"]):
        training = dataclasses.replace(SHORT, seed=seed)
        valid, test = (target_lists(data, part) for part in ("valid", "test"))
        result = fit(ROWS["MF"].model, context, spec, training=training, valid=valid)
        assert run["best_epoch"] == result.best_epoch
        assert run["epochs"] == len(result.records)
        scores = evaluate(ROWS["MF"].model, result.params, context, test, ks=(20,))
        assert run["test"]["ndcg@20"] == scores["ndcg@20"]
        best = run["best_on_test"]
        assert best["ndcg@20"] >= run["test"]["ndcg@20"]
    ndcg = [run["test"]["ndcg@20"] for run in row["runs"]]
    assert row["mean"]["ndcg@20"] == pytest.approx(np.mean(ndcg))
    assert row["sd"]["ndcg@20"] == pytest.approx(np.std(ndcg, ddof=1))
    users = _results.read_values(out)
    of_user = np.mean([users[f"MF/{s}/ndcg@20"] for s in (0, 1)], axis=0)
    assert of_user.mean() == pytest.approx(row["mean"]["ndcg@20"], rel=1e-6)
    assert row["standard_error"]["ndcg@20"] == pytest.approx(
        np.std(of_user, ddof=1) / len(users["MF/user"]) ** 0.5, rel=1e-5
    )
    assert row["settings_tried"] == 3 and row["training"]["epochs"] == 6
    popular = found["rows"]["popular"]
    assert len(popular["runs"]) == 1 and popular["sd"] == {}
    assert "best_on_test" not in popular and popular["training"] is None


def test_a_row_is_given_the_features_that_it_names(tmp_path):
    log = split(synthetic(num_users=30, num_items=20, rows_per_user=6))
    present = np.ones(20, bool)
    values = np.random.default_rng(0).normal(size=(2, 20, 3)).astype(np.float32)
    both = {"image": Feature(values[0], present), "text": Feature(values[1], present)}
    folder = write(
        log._replace(features=both), tmp_path / "data", name="small", config={}
    )
    rows = {
        "both": row_of("vbpr", SHORT),
        "text": row_of("vbpr", SHORT, features=("text",)),
        "misspelt": row_of("vbpr", SHORT, features=("txt",)),
    }
    table = Table("small", rows)
    problem = Problem(table, folder)
    for merged in (False, True):
        of_both = problem.context(rows["both"], merged=merged)
        of_text = problem.context(rows["text"], merged=merged)
        assert [list(found.features) for _, found in (of_both, of_text)] == [
            ["image", "text"],
            ["text"],
        ]
        assert [name for name, _ in of_text[0].features] == ["text"]
    with pytest.raises(ValueError, match=r"no features \['txt'\], only"):
        problem.context(rows["misspelt"], merged=False)
    out = tmp_path / "toy.json"
    found = run_table(table, folder, only=["text"], seeds=1, out=out)
    assert found["rows"]["text"]["features"] == ["text"]
    table = table._replace(rows={"text": rows["both"]})
    with pytest.raises(ValueError, match=r"'text' with features \['text'\]: --force"):
        run_table(table, folder, seeds=1, out=out)


def test_looking_at_test_chooses_nothing(dataset, measured):
    _, found = measured
    blind = run_table(TABLE, dataset, only=["MF"], seeds=1)
    run = blind["rows"]["MF"]["runs"][0]
    assert "best_on_test" not in run
    seen = found["rows"]["MF"]["runs"][0]
    assert (run["best_epoch"], run["test"]) == (seen["best_epoch"], seen["test"])


def test_rows_that_are_there_are_not_run_again(dataset, tmp_path, monkeypatch):
    out, ran = tmp_path / "made" / "toy.json", []
    real = _table.run_seeds

    def counted(row, *args, **options):
        ran.append(row.model)
        return real(row, *args, **options)

    monkeypatch.setattr(_table, "run_seeds", counted)

    def run(table=TABLE, **options):
        ran.clear()
        return run_table(table, dataset, name="toy", out=out, **options)

    run(only=["popular"])
    assert ran == [Popular()]
    found = run(seeds=1)
    assert ran == [ROWS["MF"].model]
    # In the order of the table, whatever was run first.
    assert list(found["rows"]) == list(ROWS)
    assert {name.split("/")[0] for name in _results.read_values(out)} == set(ROWS)
    run(seeds=1, force=True, only=["popular"])
    assert ran == [Popular()]

    other = ROWS | {"popular": ROWS["popular"]._replace(note="said later")}
    found = run(Table("small", other), seeds=1)
    assert ran == [] and found["rows"]["popular"]["note"] == "said later"
    assert json.loads(out.read_text()) == found
    for change, message in (
        ({"model": MF(dim=9)}, "'dim': 8"),
        ({"training": Training()}, "'epochs': 6"),
    ):
        rows = ROWS | {"MF": ROWS["MF"]._replace(**change)}
        with pytest.raises(ValueError, match=message):
            run(Table("small", rows), seeds=1)
    with pytest.raises(ValueError, match="protocol"):
        run(TABLE._replace(retrain=True), seeds=1)
    with pytest.raises(ValueError, match="perhaps popular"):
        run(only=["populr"])


def test_retraining_sees_valid_and_the_mean_of_the_chosen_epochs(dataset):
    rows = {"MF": ROWS["MF"], "knn": Row(ItemKNN())}
    found = run_table(
        Table("small", rows, retrain=True), dataset, seeds=2, best_on_test=True
    )
    assert "Trained on train and valid" in report.section(found)
    assert "validation items masked" in found["protocol"]
    found = found["rows"]
    chosen = [run["best_epoch"] for run in found["MF"]["runs"]]
    epochs = round(np.mean(chosen))
    data = load(dataset, ("train", "valid", "test"))
    merged = merge_valid(data)
    assert merged.part("train").num_rows == sum(
        data.part(name).num_rows for name in ("train", "valid")
    )
    spec, context = build_context(merged, (), 0.0)
    test = target_lists(data, "test")
    for seed, run in enumerate(found["MF"]["runs"]):
        training = dataclasses.replace(SHORT, seed=seed, epochs=epochs)
        result = fit(ROWS["MF"].model, context, spec, training=training)
        scores = evaluate(ROWS["MF"].model, result.params, context, test, ks=(20,))
        assert run["retrained"]["epochs"] == epochs
        assert run["test"]["ndcg@20"] == scores["ndcg@20"]
        assert 1 <= run["retrained"]["best_on_test"]["epoch"] <= epochs
    scores = evaluate(ItemKNN(), ItemKNN().solve(context), context, test, ks=(20,))
    assert found["knn"]["mean"]["ndcg@20"] == scores["ndcg@20"]


def test_settings_of_a_grid_change_fields_within_fields():
    grid = product(learning_rate=(0.1, 0.2), objective__temperature=(0.5,))
    assert grid == [
        {"learning_rate": 0.1, "objective.temperature": 0.5},
        {"learning_rate": 0.2, "objective.temperature": 0.5},
    ]
    model = configured(ROWS["MF"].model, grid[1] | {"l2": 0.25})
    assert model == MF(dim=8, objective=Softmax(temperature=0.5), l2=0.25)


def test_a_grid_is_tuned_on_valid_and_its_best_is_what_is_trained(dataset, capsys):
    grid = product(learning_rate=(1e-4, 0.02, 0.1), l2=(1e-4,))
    rows = {
        "MF": ROWS["MF"]._replace(grid=grid),
        "knn": Row(ItemKNN(), grid=product(neighbours=(1, 5, 20))),
    }
    found = run_table(Table("small", rows), dataset, seeds=2)["rows"]
    data = load(dataset, ("train", "valid"))
    spec, context = build_context(data, (), 0.0)
    valid = target_lists(data, "valid")
    row, best = found["MF"], []
    for setting in grid:
        training = dataclasses.replace(SHORT, learning_rate=setting["learning_rate"])
        result = fit(rows["MF"].model, context, spec, training=training, valid=valid)
        best.append(max(record.valid["ndcg@20"] for record in result.records))
    np.testing.assert_allclose(row["grid_valid"], best, rtol=1e-4)
    said = capsys.readouterr().err
    assert "epoch 1: 3 of 3 settings go on" in said
    first = [x for x in said.split("\r") if "epoch 2:" in x and "settings" in x]
    assert len(first) == 1 and "valid ndcg@20 up to" in first[0]
    chosen = grid[int(np.argmax(best))]
    assert row["setting"] == chosen and row["settings_tried"] == 3 + len(grid)
    # The first seed is that of the search.
    assert row["runs"][0]["valid"]["ndcg@20"] == pytest.approx(max(best), rel=1e-4)
    assert row["training"]["learning_rate"] == SHORT.learning_rate
    knn = found["knn"]
    for neighbours, value in zip((1, 5, 20), knn["grid_valid"], strict=True):
        model = ItemKNN(neighbours=neighbours)
        scores = evaluate(model, model.solve(context), context, valid, ks=(20,))
        assert value == scores["ndcg@20"]
    assert knn["setting"] == {"neighbours": (1, 5, 20)[np.argmax(knn["grid_valid"])]}
    assert knn["runs"][0]["valid"]["ndcg@20"] == max(knn["grid_valid"])


def test_a_run_that_was_cut_off_keeps_the_setting_that_it_chose(
    dataset, tmp_path, monkeypatch
):
    grid = product(learning_rate=(1e-4, 0.02), l2=(1e-4,))
    table = Table("small", {"MF": ROWS["MF"]._replace(grid=grid)})
    out = tmp_path / "toy.json"
    real, tuned = _table.tune, []

    def tune(*args):
        tuned.append(args)
        return real(*args)

    def cut(*args, **options):
        raise KeyboardInterrupt

    def run(table=table, **options):
        tuned.clear()
        return run_table(table, dataset, name="toy", seeds=1, out=out, **options)

    def run_cut(**options):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(_table, "run_seeds", cut)
            run(**options)

    monkeypatch.setattr(_table, "tune", tune)
    run_cut(table=Table("small", {"MF": ROWS["MF"]._replace(grid=grid[:1])}))
    # What another grid has given is not kept for this one.
    run_cut()
    assert len(tuned) == 1 and json.loads(out.read_text())["rows"] == {}
    found = run()
    assert tuned == [] and "begun" not in found
    assert json.loads(out.read_text()) == found
    whole = run_table(table, dataset, seeds=1)["rows"]["MF"]
    for key in ("setting", "grid_valid", "mean", "grid", "settings_tried"):
        assert found["rows"]["MF"][key] == whole[key]
    run()
    assert tuned == []
    # What is run again by force is tuned again; cut off, it goes on without it.
    for _ in range(2):
        run_cut(force=True)
        assert len(tuned) == 1
    assert json.loads(out.read_text())["rows"] == found["rows"]
    assert "begun" not in run() and tuned == []


def test_a_tuning_that_was_cut_off_goes_on(dataset, tmp_path, monkeypatch):
    def table_of(*rates):
        grid = product(learning_rate=rates, l2=(1e-4,))
        return Table("small", {"MF": ROWS["MF"]._replace(grid=grid)})

    def run(table, out=None, **options):
        options = {"name": "toy", "seeds": 1, "out": out} | options
        return run_table(table, dataset, **options)["rows"]["MF"]

    def cut(epoch, records, *, by):
        if epoch == 3:
            raise KeyboardInterrupt

    def run_cut(table, out, **options):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(_tuning, "show_settings", cut)
            run(table, out, **options)
        assert len(list(tmp_path.glob(f"{out.stem}.*.tuning/2/tree"))) == 1

    monkeypatch.setattr(_tuning, "_CHECKPOINT_EVERY", 2)
    table, out = table_of(1e-4, 0.02), tmp_path / "toy.json"
    whole = run(table)
    run_cut(table, out)
    found = run(table, out)
    for key in ("setting", "grid_valid", "mean"):
        assert found[key] == whole[key]
    # The seconds of a part are not those of all.
    assert "tuning_seconds" in whole and "tuning_seconds" not in found
    assert not list(tmp_path.glob("*.tuning"))
    # It begins anew by force, and with another grid.
    run_cut(table, out, force=True)
    assert "tuning_seconds" in run(table, out, force=True)
    run_cut(table, tmp_path / "other.json")
    assert "tuning_seconds" in run(table_of(1e-4, 0.1), tmp_path / "other.json")


def test_a_row_goes_on_with_the_next_seed(dataset, measured, tmp_path, monkeypatch):
    out, real, ran = tmp_path / "toy.json", _table.run_seeds, []

    def cut_after(number):
        def run_seeds(row, problem, seeds, **options):
            for run in real(row, problem, seeds, **options):
                if len(ran) == number:
                    raise KeyboardInterrupt
                ran.append(run[0]["seed"])
                yield run

        monkeypatch.setattr(_table, "run_seeds", run_seeds)
        ran.clear()

    def run(table=TABLE, **options):
        options = {"only": ["MF"], "name": "toy", "best_on_test": True} | options
        return run_table(table, dataset, **({"out": out} | options))

    def same(found):
        """As a run that was not cut off; the file and its users are one row."""
        row, other = found["rows"]["MF"], measured[1]["rows"]["MF"]
        for key in ("mean", "sd", "standard_error", "best_on_test"):
            assert row[key] == other[key]
        assert json.loads(out.read_text()) == found and "begun" not in found
        users, others = _results.read_values(out), _results.read_values(measured[0])
        others = {key: x for key, x in others.items() if key.startswith("MF/")}
        assert users.keys() == others.keys()
        assert all(np.array_equal(users[key], others[key]) for key in users)

    cut_after(1)
    with pytest.raises(KeyboardInterrupt):
        run(seeds=2)
    assert ran == [0] and json.loads(out.read_text())["rows"] == {}
    cut_after(9)
    same(run(seeds=2))
    assert ran == [1]

    # A row of one seed is given another; by force it is run anew, from the first seed,
    # and what it was stays until it is whole.
    out = tmp_path / "other.json"
    run(seeds=1)
    cut_after(9)
    same(run(seeds=2))
    assert ran == [1]
    one = run(seeds=1, force=True)["rows"]
    users = _results.read_values(out)
    cut_after(1)
    with pytest.raises(KeyboardInterrupt):
        run(seeds=2, force=True)
    assert ran == [0] and json.loads(out.read_text())["rows"] == one
    kept = _results.read_values(out)
    assert all(np.array_equal(kept[key], users[key]) for key in users)
    cut_after(9)
    same(run(seeds=2))
    assert ran == [1]

    # Without the values of its users, or without a column, nothing can be added.
    run(seeds=1, force=True)
    out.with_suffix(".npz").unlink()
    with pytest.raises(ValueError, match="1 of 2 seeds: --force"):
        run(seeds=2)
    run(seeds=1, force=True, best_on_test=False)
    with pytest.raises(ValueError, match="1 of 2 seeds; no best epoch on test"):
        run(seeds=2)
    assert "best_on_test" not in run(seeds=2, best_on_test=False)["rows"]["MF"]
    # Seeds of a retrained row share their number of epochs.
    table, other = TABLE._replace(retrain=True), tmp_path / "retrained.json"
    cut_after(1)
    with pytest.raises(KeyboardInterrupt):
        run(table, seeds=2, out=other)
    cut_after(9)
    run(table, seeds=2, out=other)
    assert ran == [0, 1]
    with pytest.raises(ValueError, match="2 of 3 seeds: --force"):
        run(table, seeds=3, out=other, best_on_test=False)


@pytest.mark.parametrize("retrain", [False, True])
def test_a_curve_is_that_of_the_training_that_is_tested(dataset, retrain, capsys):
    row = ROWS["MF"]._replace(curve={2: 0.5, 3: 0.25, 99: 0.75})
    table = Table("small", {"MF": row}, retrain=retrain)
    found = run_table(table, dataset, seeds=1)
    entry = found["rows"]["MF"]
    run = entry["runs"][0]
    tested = run["retrained"] if retrain else run
    assert list(entry["curve"]) == [str(e) for e in (2, 3) if e <= tested["epochs"]]
    # Hours may pass: every epoch says that it is done, looked at on valid or not.
    said = capsys.readouterr().err
    assert all(f"epoch {e + 1}: loss" in said for e in range(tested["epochs"]))
    assert ("valid" in said) != retrain
    # What is trained once more has nothing to choose: the recipe names its epochs.
    assert not retrain or (tested["epochs"] == SHORT.epochs and "valid" not in run)
    assert "best_on_test" not in tested and ("curve" in run) != retrain

    data = load(dataset, ("train", "valid", "test"))
    spec, context = build_context(merge_valid(data) if retrain else data, (), 0.0)
    training = dataclasses.replace(SHORT, epochs=2)
    params = fit(row.model, context, spec, training=training).params
    test = target_lists(data, "test")
    scores = evaluate(row.model, params, context, test, ks=(20,))
    assert entry["curve"]["2"] == pytest.approx(scores["recall@20"], rel=1e-6)
    # The next process reads what this one wrote.
    assert json.loads(json.dumps(entry)) == entry
    shown = f"{entry['curve']['2']:.4f}".removeprefix("0")
    assert f"MF, recall@20 on test by epoch: {shown} at 2 (published .5000)" in (
        report.section(found)
    )


def test_the_report_holds_what_was_measured(measured, tmp_path, capsys):
    out, found = measured
    text = report.section(found)
    row = found["rows"]["MF"]
    mean, sd = (f"{row[key]['ndcg@20']:.4f}"[1:] for key in ("mean", "sd"))
    assert f"{mean} ± {sd}" in text
    assert f"{row['best_on_test']['ndcg@20']:.4f}"[1:] in text
    assert "- MF: a note" in text and "no result" in text
    assert "Trained on train and valid" not in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 4 and len({line.count("|") for line in lines}) == 1
    published = [cell.strip() for cell in lines[0].split("|")].index(
        "ndcg@20 published"
    )
    assert lines[2].split("|")[published].strip() == ".0300"
    assert lines[3].split("|")[published].strip() == ""

    page = tmp_path / "README.md"
    page.write_text("before\n<!-- results toy -->\nold\n<!-- end of toy -->\nafter\n")
    for _ in range(2):
        report.main([str(out), "--into", str(page)])
        assert page.read_text() == (
            f"before\n<!-- results toy -->\n\n{text}\n<!-- end of toy -->\nafter\n"
        )
    page.write_text("no marks")
    with pytest.raises(SystemExit):
        report.main([str(out), "--into", str(page)])
    assert "<!-- end of toy -->" in capsys.readouterr().err
    with pytest.raises(ValueError, match="no table"):
        report.read(next(report.Path("experiments/results").glob("tiktok_l*.json")))


def test_the_claimed_row_is_compared_with_the_others(measured):
    out, found = measured
    comparison = found["comparison"]
    assert (comparison["row"], comparison["metric"]) == ("MF", "ndcg@20")
    [(name, against)] = comparison["against"].items()
    assert name == "popular"
    rows = found["rows"]
    gap = rows["MF"]["mean"]["ndcg@20"] - rows["popular"]["mean"]["ndcg@20"]
    assert against["difference"] == pytest.approx(gap, abs=1e-6)
    low, high = against["interval"]
    assert low < gap < high
    assert 0 < against["p_value"] <= 1
    text = report.section(found)
    assert "p is that of MF being better by ndcg@20" in text
    line = next(line for line in text.splitlines() if line.startswith("| popular"))
    assert f"{against['holm']:.3f}".lstrip("0") in line or "<.001" in line

    # Three rows: the corrected values are Holm's, and a row without values is left out.
    values = _results.read_values(out)
    values |= {f"again/{key[3:]}": x for key, x in values.items() if key[:3] == "MF/"}
    means = {name: row["mean"]["ndcg@20"] for name, row in rows.items()}
    means |= {"again": means["MF"], "gone": 0.0}
    three = _compare.compare(values, "MF", means, "ndcg@20")
    assert list(three["against"]) == ["popular", "again"]
    assert three["against"]["again"]["p_value"] == 1
    assert three["against"]["popular"]["holm"] == pytest.approx(
        min(1, 2 * against["p_value"])
    )
    assert _compare.compare(values, "gone", means, "ndcg@20")["against"] == {}

    # What was found before stays where users are not kept, unless a row ran again.
    no_users = ({}, "MF", means, "ndcg@20")
    assert _compare.compare(*no_users, three) == three
    fewer = {key: x for key, x in values.items() if key[:5] != "again"}
    assert _compare.compare(fewer, "MF", means, "ndcg@20", three) == three
    assert _compare.compare(*no_users)["against"] == {}
    assert _compare.compare(*no_users, three | {"row": "again"})["against"] == {}
    ran = means | {"again": means["again"] + 1e-6}
    kept = _compare.compare({}, "MF", ran, "ndcg@20", three)["against"]
    assert list(kept) == ["popular"]
    assert kept["popular"]["holm"] == against["p_value"]


def test_the_command_line_of_a_table(dataset, tmp_path, capsys):
    out = tmp_path / "toy.json"
    words = ["--data-dir", str(dataset.parent), "--seeds", "1", "--out", str(out)]
    found = _table.main(TABLE, "A table.", "toy", ["popular", *words])
    assert list(found["rows"]) == ["popular"]
    assert report.section(found) in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        _table.main(TABLE, "A table.", "toy", ["unknown", *words])
    assert ended.value.code == 2


def test_a_split_of_its_own_has_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("RECJAX_DATA_DIR", str(tmp_path / "home"))
    source = tmp_path / "pairs.csv"
    lines = [f"u{u},i{(u + i) % 9}" for u in range(20) for i in range(6)]
    source.write_text("\n".join(["user_id,item_id", *lines]))
    table = Table("pairs.csv", ROWS)
    some = [
        _table.dataset_folder(table._replace(split=_table.Split(valid=share)), tmp_path)
        for share in (0.1, 0.2, 0.2)
    ]
    assert some[1] == some[2] != some[0]
    rows = [load(path).part("valid").num_rows for path in some]
    assert rows == [12, 24, 24]


def test_cold_films_are_in_no_part_but_theirs():
    rng = np.random.default_rng(0)
    pairs = np.unique(rng.integers(0, (20, 40), (900, 2)), axis=0)
    pairs = Interactions(*pairs.T)
    texts = rng.normal(size=(40, 6)).astype(np.float32)
    case = _films.make_case(pairs, texts, seed=1)
    again = _films.make_case(pairs, texts, seed=1)
    jax.tree.map(np.testing.assert_array_equal, case, again)
    items = {part: set(np.unique(x.items)) for part, x in case.targets.items()}
    train = set(np.unique(case.context.items))
    assert len(items["cold"]) == 4
    assert not items["cold"] & (train | items["valid"] | items["warm"])
    sizes = [len(x.items) for x in (*case.targets.values(), case.context)]
    assert sum(sizes) == pairs.num_rows
    assert abs(sizes[3] / (sum(sizes) - sizes[2]) - 0.8) < 0.03
    # Neither drawn as a negative, nor ranked among the others; and these not there.
    users = np.repeat(np.arange(20), 50)
    drawn, _ = sample_negatives(
        jax.random.key(0), case.context.negatives, users.astype(np.int32), 1
    )
    assert not set(np.unique(drawn)) & items["cold"]
    for user in range(20):
        begin, end = case.ranked_not["warm"].pointer[user : user + 2]
        assert items["cold"] <= set(case.ranked_not["warm"].items[begin:end])
        begin, end = case.ranked_not["cold"].pointer[user : user + 2]
        assert set(case.ranked_not["cold"].items[begin:end]) == set(range(40)) - {
            *items["cold"]
        }
    # A film's rows stay with its text, whatever its new number.
    rows = [case.context.items, *(x.items for x in case.targets.values())]
    after = np.bincount(np.concatenate(rows), minlength=40)
    before = np.bincount(pairs.items, minlength=40)
    tables = (before, texts), (after, np.asarray(case.context.features["text"].values))
    old, new = ({tuple(x): n for x, n in zip(t, c, strict=True)} for c, t in tables)
    assert old == new


def test_rows_of_movielens_text_are_scored_warm_and_cold(tmp_path):
    rng = np.random.default_rng(0)
    pairs = Interactions(*np.unique(rng.integers(0, (20, 40), (500, 2)), axis=0).T)
    case = _films.make_case(pairs, rng.normal(size=(40, 6)), seed=0)
    rows, short = movielens_text.ROWS, Training(epochs=1, batch_size=128)
    names = ["Popular", "Text mean", "Text autoencoder", "LightGCN + RLMRec-Con"]
    small = {name: rows[name]._replace(training=short) for name in names}
    table = movielens_text.TABLE._replace(rows=small)
    problem = _films.TextProblem(table, case)
    out = tmp_path / "text.json"
    found = _table.run_table(table, problem, seeds=2, out=out)
    for name, row in found["rows"].items():
        assert len(row["runs"]) == (2 if "RLMRec" in name else 1)
        assert len(row.get("grid_valid", ())) == len(rows[name].grid)
    row, model = found["rows"]["Popular"], rows["Popular"].model
    params = model.solve(case.context)
    valid, unranked = case.targets["valid"], case.ranked_not["valid"]
    scores = evaluate(model, params, case.context, valid, seen=unranked, ks=(20,))
    assert row["runs"][0]["valid"]["recall@20"] == scores["recall@20"] > 0
    for part in ("warm", "cold"):
        _, scores = evaluate(
            model,
            params,
            case.context,
            case.targets[part],
            seen=case.ranked_not[part],
            ks=(20,),
            per_user=True,
        )
        kept = _results.read_values(out)
        where = np.isin(scores["user"], kept["Popular/user"])
        expected = scores["recall@20"][where]
        assert 0 < len(expected) <= 20
        np.testing.assert_array_equal(kept[f"Popular/0/{part} recall@20"], expected)
        assert row["mean"][f"{part} recall@20"] == pytest.approx(expected.mean())
    assert "warm recall@20" in report.section(found)
    with pytest.raises(ValueError, match="not retrained"):
        problem.context(rows["Popular"], merged=True)
    for named in ("behaviours", "features"):
        row = row_of("vbpr", SHORT, **{named: ("text",)})
        words = rf"a row cannot name .*{named} \('text',\)"
        with pytest.raises(ValueError, match=words):
            problem.context(row, merged=False)


def test_rows_of_movielens_language_rank_all_films_together(tmp_path):
    rng = np.random.default_rng(0)
    pairs = Interactions(*np.unique(rng.integers(0, (20, 40), (500, 2)), axis=0).T)
    pairs = pairs._replace(times=rng.permutation(pairs.num_rows))
    vectors = rng.normal(size=(40, 6)).astype(np.float32)
    case = _films.make_case(pairs, vectors, seed=0)
    rows, short = movielens_language.ROWS, Training(epochs=1, batch_size=128)
    names = ["Popular", "Text sum", "One block"]
    small = {name: rows[name]._replace(training=short) for name in names}
    table = movielens_language.TABLE._replace(rows=small)
    texts = [f"film {number}" for number in range(40)]
    problem = movielens_language.LanguageProblem(table, case, texts)
    # A film keeps its text and its vector, whatever its new number.
    now = np.asarray(case.context.features["text"].values)
    for old, new in enumerate(case.order):
        assert problem._texts[new] == texts[old]
        np.testing.assert_array_equal(now[new], vectors[old])
    _, context = problem.context(small["One block"], merged=False)
    histories = jax.device_get(context.prepared["histories"])
    user = int(np.argmax(np.bincount(case.train.users)))
    own = case.train.users == user
    expected = case.train.items[own][np.argsort(case.train.times[own])][-20:]
    kept = histories.items[user][histories.present[user]]
    np.testing.assert_array_equal(kept, expected)
    out = tmp_path / "language.json"
    found = _table.run_table(table, problem, seeds=1, out=out)
    assert set(found["rows"]) == set(names)
    model = small["Popular"].model
    params = model.solve(case.context)
    every = [set() for _ in range(20)]
    for part in ("warm", "cold"):
        pointer, items = case.targets[part]
        for user in range(20):
            every[user] |= set(items[pointer[user] : pointer[user + 1]].tolist())
    state = model.embed(params, case.context)
    scores = np.array(
        model.score(params, state, np.arange(20), np.arange(40)), np.float64
    )
    recalls = []
    for user in _results.read_values(out)["Popular/user"]:
        begin, end = np.asarray(case.context.seen.pointer)[user : user + 2]
        scores[user, np.asarray(case.context.seen.items)[begin:end]] = -np.inf
        best = set(np.argsort(-scores[user], kind="stable")[:20].tolist())
        recalls.append(len(best & every[user]) / len(every[user]))
    assert found["rows"]["Popular"]["mean"]["all recall@20"] == pytest.approx(
        np.mean(recalls)
    )
    assert "all ndcg@20" in report.section(found)


def test_numbers_below_the_picture():
    rng = np.random.default_rng(0)
    graph = rng.normal(size=(80, 4))
    graph /= np.linalg.norm(graph, axis=1, keepdims=True)
    apart = movielens_language_picture.Clouds(graph, -graph)
    together = movielens_language_picture.Clouds(graph, graph)
    apart, together = map(movielens_language_picture.numbers, (apart, together))
    assert apart["alignment"] == pytest.approx(4)
    assert together["alignment"] == pytest.approx(0)
    assert apart["uniformity of text"] == pytest.approx(together["uniformity of graph"])
    texts = rng.normal(size=(80, 3))
    true = rng.normal(size=(3, 4))
    found = movielens_language_picture.nearest_map(texts, texts @ true, ridge=1e-9)
    np.testing.assert_allclose(found, true, atol=1e-6)
