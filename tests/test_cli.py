"""The command line as a user meets it: right words, wrong words, bad files."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recjax import run_folder
from recjax.cli import fail, main
from recjax.data import Split, load, split, synthetic, write
from recjax.models import Popular
from recjax.run_folder import MetricsLog
from recjax.training import Record


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Datasets and runs of a test stay in its own folder."""
    monkeypatch.setenv("RECJAX_DATA_DIR", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    log = split(synthetic(num_users=40, num_items=30, rows_per_user=10))
    return str(write(log, tmp_path_factory.mktemp("d") / "small", name="s", config={}))


FAST = ["--epochs", "2", "--batch-size", "128", "--no-baselines"]


@pytest.fixture(scope="module")
def run(small, tmp_path_factory):
    out = str(tmp_path_factory.mktemp("runs") / "one")
    call("train", small, "--model", "lightgcn", *FAST, "--model.dim", "8", "--out", out)
    return out


def call(*words):
    """Exit code of a command."""
    try:
        main(words)
    except SystemExit as stop:
        return stop.code or 0
    return 0


def refused(capsys, *words):
    """The one line of a command that must be refused."""
    capsys.readouterr()
    assert call(*words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("recjax: ")
    return lines[0]


def test_help_and_version(capsys):
    for words in ((), ("--help",), ("-h",), ("data",), ("data", "--help")):
        assert call(*words) == 0
        assert "recjax train DATASET" in capsys.readouterr().out
    assert call("--version") == 0
    assert capsys.readouterr().out == "recjax 0.1.0\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("train",), ("--model.layers", "--model.objective NAME", "--epochs INT")),
        (("train", "--model", "mf"), ("--model.fold-in-ridge",)),
        (("train", "--model.objective", "softmax"), ("temperature FLOAT",)),
        (("evaluate",), ("--ks", "RUN")),
        (("recommend",), ("--history", "-k INT")),
        (("data", "prepare"), ("--split.strategy", "--cleaning.min-user")),
        (("data", "describe"), ("dataset",)),
    ],
)
def test_help_of_commands_shows_types_and_defaults(capsys, words, expected):
    assert call(*words, "--help") == 0
    text = capsys.readouterr().out
    for part in expected:
        assert part.lower() in text.lower()


def test_wrong_words_cost_one_line(capsys, small, run):
    cases = {
        ("trian",): "'train'",
        ("data", "prepar"): "'data prepare'",
        ("train", small, "--epoch", "3"): "--epochs",
        ("train", small, "--model.dims", "3"): "--model.dim",
        ("train", small, "--model", "lightgnc"): "'lightgcn'",
        ("train", small, "--model.objective", "sofmax"): "'softmax'",
        ("train", small, "--model", "popular", "--model.objective", "bpr"): "no obj",
        ("train", small, "--model"): "needs a name",
        ("train", small, "--epochs", "many"): "'many'",
        ("train", small, "--epochs", "0"): "at least 1",
        ("train", small, "--pairs", "users"): "by_user",
        ("train", small, "--select-by", "ndgc@20"): "ndcg@20",
        ("train", small, "--attributes", "grup"): "'grup'",
        ("train", "movielens-smal"): "'movielens-small'",
        ("train",): "required",
        ("evaluate", run + "x"): "one",
        ("evaluate", run, "--part", "tset"): "'test'",
        ("evaluate", run, "--metrics", "recal"): "recall",
        ("evaluate", run, "--ks", "0"): "positive",
        ("recommend", run): "--user",
        ("recommend", run, "--user", "user 3x"): "no user 'user 3x'",
        ("recommend", run, "--history", "nothing"): "no item 'nothing'",
        ("recommend", run, "--user", "1", "-k", "0"): "at least 1",
        ("data", "describe", run): "recjax: ",
        ("data", "prepare", "nowhere.csv"): "nowhere.csv",
        ("data", "prepare", "movielens-small", "--split.strategy", "leave"): "leave",
    }
    for words, expected in cases.items():
        assert expected in refused(capsys, *words), words


def test_a_run_folder_holds_what_it_says(capsys, small, run):
    folder = Path(run)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["split_hash"] == load(small).split_hash
    assert summary["model"]["type"] == "LightGCN"
    assert summary["model"]["dim"] == 8
    assert {"recall@20", "ndcg@10", "coverage@20"} <= summary["test"].keys()
    assert {"compile", "input", "step", "evaluate", "total"} <= summary[
        "seconds"
    ].keys()
    assert summary["peak_memory_bytes"] > 1e7
    assert "training items masked" in summary["protocol"]
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]
    assert list(folder.glob("events.out.tfevents.*"))
    refused_line = refused(capsys, "train", small, *FAST, "--out", run)
    assert "--resume" in refused_line


def test_evaluate_repeats_the_summary(capsys, run):
    capsys.readouterr()
    assert call("evaluate", run, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    summary = json.loads((Path(run) / "summary.json").read_text())
    for name, value in found.items():
        assert value == pytest.approx(summary["test"][name], rel=1e-6), name


def test_recommend_for_users_newcomers_and_candidates(capsys, small, run):
    data = load(small)
    users, items = data.users["id"].to_pylist(), data.items["id"].to_pylist()
    capsys.readouterr()
    assert (
        call("recommend", run, "--user", users[3], users[5], "-k", "4", "--json") == 0
    )
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["user"] for row in rows] == [users[3], users[5]]
    train = data.part("train")
    for row, user in zip(rows, (3, 5), strict=True):
        known = {items[i] for i in train.items[train.users == user]}
        found = [one["item"] for one in row["items"]]
        assert len(found) == 4
        assert not known & set(found)
        scores = [one["score"] for one in row["items"]]
        assert scores == sorted(scores, reverse=True)
    assert call("recommend", run, "--history", items[0], items[3], "--json") == 0
    row = json.loads(capsys.readouterr().out)
    assert row["user"] == "newcomer"
    assert not {items[0], items[3]} & {one["item"] for one in row["items"]}
    words = ("recommend", run, "--user", users[3], "--candidates", *items[:5])
    assert call(*words, "--keep-seen", "-k", "50", "--json") == 0
    row = json.loads(capsys.readouterr().out)
    assert {one["item"] for one in row["items"]} == set(items[:5])


def test_lists_longer_than_the_catalogue_end_where_it_ends(capsys, small, run):
    user = load(small).users["id"][0].as_py()
    capsys.readouterr()
    assert call("recommend", run, "--user", user, "-k", "1000", "--json") == 0
    row = json.loads(capsys.readouterr().out)
    assert 0 < len(row["items"]) < 30
    assert all(np.isfinite(one["score"]) for one in row["items"])


def test_resume_needs_no_more_than_the_folder(capsys, small, tmp_path):
    out = ("--out", str(tmp_path / "again"))
    assert call("train", small, *FAST, "--model", "mf", "--model.dim", "4", *out) == 0
    assert call("train", "--resume", *out, "--epochs", "4", "--no-baselines") == 0
    lines = (tmp_path / "again/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3, 4]
    before = (tmp_path / "again/metrics.jsonl").read_bytes()
    line = refused(capsys, "train", "--resume", *out, "--model.dim", "8")
    assert "dim 4" in line
    assert (tmp_path / "again/metrics.jsonl").read_bytes() == before
    line = refused(capsys, "train", "--resume", *out, "--model", "lightgcn")
    assert "'MF'" in line
    assert "no run folder" in refused(capsys, "train", "--resume", "--out", "none")


def test_a_dataset_prepared_anew_is_not_the_one_trained_on(capsys, tmp_path):
    log = synthetic(num_users=40, num_items=30, rows_per_user=10)
    path, out = tmp_path / "data", str(tmp_path / "run")
    write(split(log), path, name="d", config={"seed": 0})
    assert call("train", str(path), *FAST, "--model.dim", "4", "--out", out) == 0
    write(split(log, Split(seed=1)), path, name="d", config={"seed": 1}, overwrite=True)
    assert "was trained on" in refused(capsys, "evaluate", out)
    capsys.readouterr()
    assert "split_hash" in refused(capsys, "train", "--resume", "--out", out)


def test_closed_form_models_and_attributes_run_too(capsys, small, tmp_path):
    for name in ("popular", "item_knn"):
        out = str(tmp_path / name)
        assert call("train", small, "--model", name, "--out", out) == 0
        assert call("evaluate", out) == 0
    out = str(tmp_path / "graph")
    words = ("--model", "graph_alignment", "--model.dim", "8", "--attributes", "group")
    assert call("train", small, *FAST, *words, "--out", out) == 0
    known = load(small).items["id"][3].as_py()
    assert call("recommend", out, "--history", known) == 0
    assert "accuracy" in (tmp_path / "graph/metrics.jsonl").read_text()


@pytest.mark.parametrize(
    ("features", "words", "expected"),
    [
        (True, (), "ModalGCN"),
        (True, ("--model", "lightgcn"), "LightGCN"),
        (False, (), "LightGCN"),
    ],
)
def test_features_choose_the_model_where_nobody_does(
    features, words, expected, tmp_path
):
    log = split(synthetic(num_users=20, num_items=12, num_groups=2, rows_per_user=6))
    log = log if features else log._replace(features={})
    source, out = str(write(log, tmp_path / "d", name="d", config={})), tmp_path / "run"
    assert call("train", source, *FAST, *words, "--out", str(out)) == 0
    assert json.loads((out / "config.json").read_text())["model"]["type"] == expected
    known = log.items["id"][3].as_py()
    assert call("recommend", str(out), "--history", known) == 0


def test_odd_files_from_raw_to_recommendation(capsys, tmp_path):
    """Ids with spaces and in other scripts, a NaN rating, a user with one row."""
    rows = ["user,item,rating,timestamp"]
    rng = np.random.default_rng(0)
    for user in ("Ann Lee", "Łukasz", "李雷", "007"):
        for item in rng.permutation(8)[:6]:
            rows.append(f"{user},фильм {item},{rng.integers(1, 6)},{len(rows)}")
    rows += ["once only,фильм 1,5,99", "Ann Lee,never rated,NaN,3", "broken,row", ""]
    path = tmp_path / "odd ratings.csv"
    path.write_text("\n".join(rows), encoding="utf-8")
    assert call("data", "prepare", str(path), "--out", "odd") == 0
    assert call("data", "describe", "odd") == 0
    page = capsys.readouterr().out
    assert "wrong number of cells 1" in page
    assert call("data", "prepare", str(path), "--out", "odd") == 0
    out = ("--out", "odd-run")
    assert call("train", "odd", *FAST, "--model.dim", "4", *out) == 0
    capsys.readouterr()
    assert call("recommend", "odd-run", "--user", "李雷", "once only") == 0
    text = capsys.readouterr().out
    assert "user 李雷" in text
    assert "user once only" in text
    assert "фильм" in text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.csv", "", "empty"),
        ("one.csv", "user\n1\n2\n", "item"),
        ("head.csv", "user,item\n", "no"),
        ("ratings.pkl", "x", "pickle"),
        ("ratings.abc", "x", "abc"),
    ],
)
def test_files_that_hold_nothing(capsys, tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    line = refused(capsys, "data", "prepare", str(tmp_path / name))
    assert name in line
    assert message in line.lower()


DAMAGES = {
    "no text": b"\xff\xfe",
    "no object": b"[]",
    "no model": {"model": None},
    "unknown model": {"model": {"type": "LightGNC"}},
    "unknown field": {"model": {"type": "MF", "width": 8}},
    "wrong kind": {"model": {"type": "MF", "dim": "8"}},
    "no model of ours": {"model": {"type": "Training"}},
    "bad setting": {"training": {"type": "Training", "epochs": 0}},
    "no attributes": {"attributes": None},
}


@pytest.mark.parametrize("change", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_config_is_named(capsys, run, tmp_path, change):
    shutil.copytree(run, tmp_path / "copy")
    file = tmp_path / "copy/config.json"
    if isinstance(change, dict):
        change = json.dumps(json.loads(file.read_text()) | change).encode()
    file.write_bytes(change)
    for words in (("evaluate", "copy"), ("train", "--resume", "--out", "copy")):
        assert "config.json cannot be used" in refused(capsys, *words)
    assert file.read_bytes() == change


def test_a_closed_form_model_does_not_take_over_a_run(capsys, small, run):
    before = (Path(run) / "summary.json").read_bytes()
    words = ("train", small, "--resume", "--out", run, "--model", "popular")
    assert "'LightGCN' where 'Popular'" in refused(capsys, *words)
    assert (Path(run) / "summary.json").read_bytes() == before


def test_a_run_keeps_its_settings_where_its_model_is_named_again(run, tmp_path):
    shutil.copytree(run, tmp_path / "copy")
    words = ("train", "--resume", "--out", "copy", "--no-baselines")
    assert call(*words, "--model", "lightgcn") == 0
    assert call(*words, "--model.objective", "softmax", "--epochs", "3") == 0
    config = json.loads((tmp_path / "copy/config.json").read_text())
    assert config["model"]["dim"] == 8
    assert config["training"]["epochs"] == 3


def test_a_run_follows_a_dataset_that_was_moved(capsys, small, tmp_path):
    shutil.copytree(small, "here")
    out = ("--out", "run")
    assert call("train", "here", *FAST, "--model", "mf", "--model.dim", "4", *out) == 0
    Path("here").rename("there")
    assert "train FOLDER --resume --out run" in refused(capsys, "evaluate", "run")
    assert call("train", "there", "--resume", *out, "--no-baselines") == 0
    assert call("evaluate", "run") == 0


def test_a_place_that_is_taken_is_left_alone(capsys, small, tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/thesis").write_text("mine")
    line = refused(capsys, "train", small, *FAST, "--out", "file")
    assert "file is a file" in line
    line = refused(capsys, "train", small, *FAST, "--out", "folder")
    assert "other files (thesis)" in line
    assert (tmp_path / "file").read_text() == "mine"
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["thesis"]
    line = refused(capsys, "evaluate", "file")
    assert "file is no run folder" in line


def test_a_run_that_fails_at_once_leaves_its_place_free(capsys, small, tmp_path):
    words = ("train", small, *FAST, "--model", "mf", "--out", "run")
    assert "not finite" in refused(capsys, *words, "--learning-rate", "1e30")
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.config.json.partial").write_text("{")
    assert call(*words, "--model.dim", "4") == 0


def test_numbers_out_of_range(capsys, small, run):
    big = str(10**12)
    for words in (
        ("train", small, "--seed", big),
        ("train", small, "--batch-size", big),
        ("train", small, "--model.l2", "nan"),
        ("train", small, "--learning-rate", "inf"),
        ("evaluate", run, "--ks", "5", big),
        ("evaluate", run, "--ks"),
        ("evaluate", run, "--metrics"),
        ("recommend", run, "--user", "1", "--user", "2"),
    ):
        option = next(word.lstrip("-").split(".")[-1] for word in words if "--" in word)
        assert option.replace("-", "_") in refused(capsys, *words).replace("-", "_")


def test_a_part_without_rows_has_no_metrics(capsys, tmp_path):
    log = synthetic(num_users=20, num_items=20, rows_per_user=6)
    path = write(split(log, Split(valid=0)), tmp_path / "d", name="d", config={})
    words = ("--model", "popular", "--no-baselines", "--out", "run")
    assert call("train", str(path), *words) == 0
    assert "valid part" in refused(capsys, "evaluate", "run", "--part", "valid")


def test_a_user_without_training_rows_is_told_so(capsys, tmp_path):
    log = synthetic(num_users=40, num_items=30, rows_per_user=10)
    log = split(log, Split("user_cold", test=0.2))
    path = write(log, tmp_path / "d", name="d", config={})
    assert call("train", str(path), "--model", "popular", "--out", "run") == 0
    cold = int(log.interactions.users[log.parts == 2][0])
    warm = int(log.interactions.users[log.parts == 0][0])
    ids = log.users["id"].to_pylist()
    capsys.readouterr()
    assert call("recommend", "run", "--user", ids[cold], ids[warm]) == 0
    found = capsys.readouterr()
    assert f"user {ids[cold]!r} has no training row" in found.err
    assert found.err.count("recjax: ") == 1
    assert f"user {ids[cold]}\n" in found.out


def test_titles_of_several_lines_stay_in_their_row(capsys, tmp_path):
    log = synthetic(num_users=20, num_items=20, rows_per_user=6)
    titles = [f"one\ntwo\t{item}" for item in range(20)]
    items = pa.table({"id": log.items["id"], "title": titles})
    path = write(split(log._replace(items=items)), tmp_path / "d", name="d", config={})
    assert call("train", str(path), "--model", "popular", "--out", "run") == 0
    capsys.readouterr()
    user = log.users["id"][0].as_py()
    assert call("recommend", "run", "--user", user, "-k", "3") == 0
    lines = capsys.readouterr().out.splitlines()
    assert all("  |" in line for line in lines[1:])
    assert "one two" in lines[2]


def test_a_damaged_checkpoint_is_passed_over_in_one_line(capsys, run, tmp_path):
    shutil.copytree(run, tmp_path / "copy")
    assert call("evaluate", "copy", "--json") == 0
    file = tmp_path / "copy/checkpoints/2/tree/manifest.ocdbt"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 16
    file.write_bytes(content)
    # In its own process: what comes from callbacks goes past every redirection.
    done = process("evaluate", str(tmp_path / "copy"), "--json")
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("recjax: checkpoint of epoch 2 is damaged")


# What Orbax's reads leave behind when one of them fails, if they are late.
GIVEN_UP = """
import asyncio
from recjax.checkpoint import Checkpoints

restore = Checkpoints.restore

async def read():
    raise ValueError("given up")

async def read_all():
    asyncio.create_task(read())
    await asyncio.sleep(0)

class Callback:
    def __del__(self):
        self.loop.call_soon_threadsafe(print)

def restore_noisily(*args, **options):
    loop = asyncio.new_event_loop()
    loop.run_until_complete(read_all())
    loop.close()
    read()
    Callback().loop = loop
    return restore(*args, **options)

Checkpoints.restore = restore_noisily
"""


def test_reads_that_are_given_up_say_nothing_more(run):
    done = process("evaluate", str(Path(run).resolve()), "--json", before=GIVEN_UP)
    assert (done.returncode, done.stderr) == (0, "")


def process(*words, before="", **options):
    """A command in a process of its own, after some lines of Python."""
    code = f"import sys\n{before}\nfrom recjax.cli import main\nmain()"
    env = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    options = {"capture_output": True, "text": True, "env": env} | options
    return subprocess.run([sys.executable, "-c", code, *words], **options, check=False)


@pytest.mark.parametrize("words", [("data", "list"), ("--help",), ("train", "--help")])
def test_a_reader_that_leaves_is_no_error(words):
    read, write_end = os.pipe()
    os.close(read)
    pipe = {"stdout": write_end, "stderr": subprocess.PIPE, "capture_output": False}
    done = process(*words, **pipe)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", [("data", "list"), ("--help",)])
def test_a_full_disk_under_the_output(words):
    with open("/dev/full", "w") as full:
        pipe = {"stdout": full, "stderr": subprocess.PIPE, "capture_output": False}
        done = process(*words, **pipe)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("recjax: No space left on device")
    assert "free some space" in line


def test_output_that_has_no_unicode():
    env = os.environ | {"PYTHONIOENCODING": "ascii"}
    before = "import recjax.cli\nrecjax.cli.USAGE = 'фильм'"
    done = process("--help", before=before, env=env)
    assert done.returncode == 0
    assert done.stdout.startswith("\\u0444")


# A shell that runs tests in the background has them ignore the signal.
SWALLOW = """
import os, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)
class Finder:
    def find_spec(self, name, path, target=None):
        if name == "recjax.commands":
            try:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(5)
            except:
                pass
sys.meta_path.insert(0, Finder())
"""


def test_ctrl_c_while_libraries_are_imported():
    done = process("data", "list", before=SWALLOW)
    assert (done.returncode, done.stderr) == (130, "recjax: interrupted\n")


def test_training_outlives_its_watcher(small, tmp_path):
    read, write_end = os.pipe()
    os.close(read)
    pipe = {"stdout": write_end, "stderr": write_end, "capture_output": False}
    words = ("--model", "mf", "--model.dim", "4", "--out", str(tmp_path / "run"))
    done = process("train", small, *FAST, *words, **pipe)
    os.close(write_end)
    assert done.returncode == 0
    assert (tmp_path / "run/summary.json").exists()


def test_a_message_is_one_line_of_bounded_length(capsys):
    with pytest.raises(SystemExit):
        fail("bad\n\x1b[2Jname " + "x" * 5000 + " remedy")
    line = capsys.readouterr().err
    assert line.startswith("recjax: bad \\x1b[2Jname xxx")
    assert line.endswith("xxx remedy\n")
    assert len(line) < 1600


def test_out_of_memory_is_one_line(capsys, small, monkeypatch):
    def solve(self, context):
        raise MemoryError("Unable to allocate 8 TiB")

    monkeypatch.setattr(Popular, "solve", solve)
    line = refused(capsys, "train", small, "--model", "popular", "--out", "run")
    assert "out of memory (Unable to allocate 8 TiB)" in line


@pytest.mark.parametrize("at", ["epoch", "end"])
def test_a_full_disk_under_the_log(small, monkeypatch, tmp_path, at):
    """The run ends in one error, and nothing is left to fail at exit."""
    path = tmp_path / "run"
    path.mkdir()
    record = Record(1, {"loss": 1.0}, {"ndcg@20": 0.5}, 1)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    closed = []

    def close(self):
        closed.append(self)
        raise full

    monkeypatch.setattr(run_folder.RecordWriter, "close", close)
    with (
        pytest.raises(ValueError if at == "epoch" else OSError),
        MetricsLog(path) as log,
    ):
        log.write(record)
        if at == "epoch":
            raise ValueError("what went wrong first")
    assert closed


def test_data_list(capsys):
    assert call("data", "list") == 0
    assert "movielens-small" in capsys.readouterr().out


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Views and buys with times and genres, and a friendship."""
    folder = tmp_path_factory.mktemp("shop")
    lines = ["user,item,time,behavior"]
    for user in range(12):
        for step in range(6):
            item = (user % 3) * 4 + step % 4
            kind = "buy" if step > 3 else "view"
            lines.append(f"u{user},i{item},{1000 * user + 30 * step},{kind}")
    (folder / "rows.csv").write_text("\n".join(lines))
    genres = [f"i{item},kind {item // 4}" for item in range(12)]
    (folder / "items.csv").write_text("\n".join(["item,genre", *genres]))
    (folder / "friends.csv").write_text("a,b\nu0,u1\nu0,stranger\n")
    call(
        "data", "prepare", str(folder / "rows.csv"), "--out", str(folder / "shop"),
        "--items-file", str(folder / "items.csv"), "--split.strategy", "leave_one_out",
        "--links-file", str(folder / "friends.csv"),
    )  # fmt: skip
    return str(folder / "shop")


def test_typed_edges_from_files_to_an_explained_list(capsys, shop, tmp_path):
    out = str(tmp_path / "run")
    words = ("--model", "crgcn", "--model.dim", "8", *FAST, "--out", out)
    assert call("train", shop, *words, "--relations", "all", "genre") == 0
    config = json.loads(Path(out, "config.json").read_text())
    assert config["relations"] == ["all", "genre"]
    assert call("train", "--resume", "--out", out, "--epochs", "3") == 0
    capsys.readouterr()
    assert call("recommend", out, "--user", "u1", "--explain", "genre", "-k", "3") == 0
    text = capsys.readouterr().out
    assert "favours" in text and "genre=kind 1 0." in text
    words = ("recommend", out, "--history", "i5", "--explain", "genre", "--json")
    assert call(*words) == 0
    line = json.loads(capsys.readouterr().out)
    assert list(line["favours"]) == ["genre=kind 1"]
    because = {entry["item"]: entry["because"] for entry in line["items"]}
    assert because["i6"] == ["genre=kind 1"] and because["i0"] == []


def test_closed_forms_read_typed_edges_too(capsys, shop, tmp_path):
    out = str(tmp_path / "run")
    words = ("--model", "co_visit", "--no-baselines", "--out", out)
    weights = ("--model.weights", "1", "3", "--relations", "view", "buy")
    assert call("train", shop, *words, *weights) == 0
    assert call("recommend", out, "--user", "u1") == 0


@pytest.mark.parametrize(
    "words, message",
    [
        (("--relations", "veiw"), "no relation 'veiw'; did you mean 'view'"),
        (("--relations", "genres"), "did you mean 'genre'"),
        ((), "CRGCN needs typed edges"),
    ],
)
def test_wrong_relations_cost_one_line(capsys, shop, tmp_path, words, message):
    out = str(tmp_path / "run")
    line = refused(capsys, "train", shop, "--model", "crgcn", *words, "--out", out)
    assert message in line
    assert not Path(out).exists()
