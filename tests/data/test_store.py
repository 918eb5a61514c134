"""Prepared datasets: written whole or not at all, read only where sound."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tensorflow_datasets as tfds

from recjax.data import _blocks, _staging, _store
from recjax.data._log import Log, Step
from recjax.data._manifest import MANIFEST, Manifest, read_manifest, write_manifest
from recjax.data._store import is_prepared, load, open_part, write
from recjax.types import Feature, Interactions, Spec

PARTS = ("train", "valid", "test")
CONFIG = {"core": 5, "split": {"by": "time", "parts": [0.8, 0.1, 0.1]}}
COLUMNS = ("values", "times", "relations")

# What the child processes below start from.
CHILD = """
import os, sys, time
import numpy as np
sys.path.insert(0, {folder!r})
from test_store import CONFIG, make_log
from recjax.data import _blocks, _staging, _store
"""


def make_log(num_rows=200, seed=0, columns=COLUMNS, width=3):
    """A log with odd ids, every optional column, features and a list column."""
    rng = np.random.default_rng(seed)
    num_users, num_items = 20, 30
    present = rng.random(num_items) < 0.7
    values = rng.standard_normal((num_items, width)).astype(np.float32)
    optional = {
        "values": rng.random(num_rows, dtype=np.float32),
        "times": rng.integers(2**40, size=num_rows),
        "relations": rng.integers(2, size=num_rows, dtype=np.int32),
    }
    titles = pa.array([None if i % 7 == 0 else f"Фильм {i}" for i in range(num_items)])
    genres = pa.array([["a b", "愛"][: i % 3] for i in range(num_items)])
    return Log(
        Interactions(
            rng.integers(num_users, size=num_rows, dtype=np.int32),
            rng.integers(num_items, size=num_rows, dtype=np.int32),
            **{name: optional[name] for name in columns},
        ),
        users=pa.table({"id": [f"Ünal  {u} 用户/.." for u in range(num_users)]}),
        items=pa.table(
            {
                "id": [f"item-{i:03}" for i in range(num_items)],
                "title": titles,
                "genres": genres,
            }
        ),
        parts=rng.choice(3, num_rows, p=[0.7, 0.2, 0.1]).astype(np.int8),
        part_names=PARTS,
        relation_names=("view", "buy") if "relations" in columns else (),
        features={"text": Feature(np.where(present[:, None], values, 0), present)},
        report=(Step("read", num_rows + 5, num_rows, {"malformed": 5}),),
    )


def expected(log, part, keep=None):
    """Rows of a part, sorted by user, then item, then their place in the log."""
    rows = np.flatnonzero(log.parts == log.part_names.index(part))
    if keep is not None:
        rows = rows[log.interactions.relations[rows] == keep]
    users, items = log.interactions.users, log.interactions.items
    rows = np.array(sorted(rows, key=lambda r: (users[r], items[r], r)), np.int64)
    return log.interactions.take(rows)


def assert_same(got, want):
    for name, one, other in zip(Interactions._fields, got, want, strict=True):
        assert (one is None) == (other is None), name
        if one is not None:
            assert one.dtype == other.dtype, name
            np.testing.assert_array_equal(one, other, name)


def snapshot(folder):
    """Content and change time of every file."""
    return {
        file: (file.read_bytes(), file.stat().st_mtime_ns)
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def rewrite(path, **changes):
    """Changes the manifest as somebody who also mends its digest would."""
    write_manifest(path, read_manifest(path)._replace(**changes))


def run_child(code, **options):
    code = CHILD.format(folder=os.path.dirname(__file__)) + textwrap.dedent(code)
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data" / "tiny"


@pytest.fixture
def small_blocks(monkeypatch):
    """Several blocks a shard and several shards a part."""
    monkeypatch.setattr(_blocks, "BLOCK_ROWS", 16)
    monkeypatch.setattr(_blocks, "SHARD_BLOCKS", 3)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("columns", [COLUMNS, ("times",), ()])
def test_round_trip(path, columns):
    log = make_log(columns=columns)
    assert write(log, path, name="tiny", config=CONFIG) == path
    dataset = load(path, parts=PARTS)
    assert len(list(path.rglob("*train*"))) == 3  # shards
    for part in PARTS:
        assert_same(open_part(path, part)[:], expected(log, part))
        keep = 1 if log.relation_names and part != "train" else None
        assert_same(dataset.part(part), expected(log, part, keep))
    assert dataset.users.equals(log.users)
    assert dataset.items.equals(log.items)
    assert dataset.items["genres"].type == pa.list_(pa.string())
    assert dataset.spec == Spec(20, 30, features=(("text", 3),))
    feature = dataset.features["text"]
    assert isinstance(feature.values, np.memmap)
    np.testing.assert_array_equal(feature.values, log.features["text"].values)
    np.testing.assert_array_equal(feature.present, log.features["text"].present)
    assert dataset.relation_names == log.relation_names
    manifest = read_manifest(path)
    assert manifest.config == CONFIG
    assert manifest.report == [step._asdict() for step in log.report]


@pytest.mark.parametrize(("target", "found"), [(None, "buy"), ("view", "view")])
def test_held_out_parts_hold_the_target_only(path, target, found):
    log = make_log()
    write(log, path, name="tiny", config=CONFIG, target=target)
    dataset = load(path, parts=PARTS)
    assert dataset.target == found
    keep = log.relation_names.index(found)
    assert_same(dataset.part("train"), expected(log, "train"))
    assert_same(dataset.part("valid"), expected(log, "valid", keep=keep))
    assert_same(dataset.part("test"), expected(log, "test", keep=keep))


def test_empty_part(path):
    log = make_log()
    log = log._replace(parts=np.minimum(log.parts, 1))
    write(log, path, name="tiny", config=CONFIG)
    assert load(path, parts=("test",)).part("test").num_rows == 0
    assert len(open_part(path, "test")) == 0


def test_tfds_opens_it_as_any_dataset(path):
    log = make_log()
    write(log, path, name="tiny", config=CONFIG)
    builder = tfds.builder_from_directory(path / "interactions" / "1.0.0")
    assert set(builder.info.splits) == set(PARTS)
    block = builder.as_data_source(split="valid")[0]
    np.testing.assert_array_equal(block["item"], expected(log, "valid").items)


def test_writes_silently_without_tensorflow(path, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    child = run_child(
        f"""
        assert "tensorflow_datasets" in sys.modules  # by test_store
        _store.write(make_log(), {str(path)!r}, name="tiny", config=CONFIG)
        _store.load({str(path)!r})
        assert "tensorflow" not in sys.modules
        """,
        env=os.environ | {"TMPDIR": str(scratch)},
    )
    assert child.communicate() == ("", "")
    assert child.returncode == 0
    assert list(scratch.iterdir()) == []
    assert sorted(x.name for x in path.iterdir()) == sorted(_staging.CONTENT)


def test_import_is_light():
    code = "import sys, recjax.data._store; print('tensorflow_datasets' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code]) == b"False\n"


def test_training_never_opens_the_test_part(path):
    log = make_log()
    write(log, path, name="tiny", config=CONFIG)
    (shard,) = path.rglob("*-test.array_record*")
    whole = shard.read_bytes()
    shard.write_bytes(whole[::-1])
    assert_same(load(path).part("train"), expected(log, "train"))
    shard.unlink()
    dataset = load(path)
    assert_same(dataset.part("valid"), expected(log, "valid", keep=1))
    with pytest.raises(ValueError, match=r"'test' is not loaded; .*'train', 'valid'"):
        dataset.part("test")
    for read in (lambda: load(path, parts=("test",)), lambda: open_part(path, "test")):
        with pytest.raises(ValueError, match=rf"{shard.name} is missing.*--overwrite"):
            read()


def test_unknown_part(path):
    write(make_log(), path, name="tiny", config=CONFIG)
    with pytest.raises(ValueError, match=r"no part 'dev'.*'train', 'valid', 'test'"):
        load(path, parts=("dev",))


def test_second_write_does_nothing(path, monkeypatch):
    log = make_log()
    assert not is_prepared(path, CONFIG)
    write(log, path, name="tiny", config=CONFIG)
    before = snapshot(path)
    monkeypatch.setattr(_store, "_write_content", None)
    assert is_prepared(path, CONFIG)
    as_tuples = CONFIG | {"split": {"by": "time", "parts": (0.8, np.float64(0.1), 0.1)}}
    write(log, path, name="tiny", config=as_tuples)
    assert snapshot(path) == before


def test_other_config_is_refused(path):
    log = make_log()
    write(log, path, name="tiny", config=CONFIG)
    before = snapshot(path)
    other = CONFIG | {"core": 10}
    assert not is_prepared(path, other)
    message = r"config\.core is 5 on disk, 10 asked(.|\n)*--overwrite.*--out"
    with pytest.raises(ValueError, match=message):
        write(log, path, name="tiny", config=other)
    with pytest.raises(ValueError, match="target is 'buy' on disk, 'view' asked"):
        write(log, path, name="tiny", config=CONFIG, target="view")
    # The same configuration, but the source has changed.
    with pytest.raises(ValueError, match="split hash is"):
        write(make_log(seed=1), path, name="tiny", config=CONFIG)
    assert snapshot(path) == before
    write(log, path, name="tiny", config=other, overwrite=True)
    assert read_manifest(path).config == other
    assert [x.name for x in path.parent.iterdir()] == ["tiny"]


def test_foreign_folder_is_never_replaced(path):
    path.mkdir(parents=True)
    (path / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(ValueError, match=r"is not a dataset.*thesis.*--out"):
            write(make_log(), path, name="t", config=CONFIG, overwrite=overwrite)
    assert (path / "thesis.tex").read_text() == "years of work"
    with pytest.raises(ValueError, match="is a file"):
        write(make_log(), path / "thesis.tex", name="t", config=CONFIG)


def all_files():
    shards = [
        f"interactions/1.0.0/interactions-{part}.array_record-00000-of-00001"
        for part in PARTS
    ]
    return [
        MANIFEST,
        "users.parquet",
        "items.parquet",
        "features/text.npy",
        "features/text.present.npy",
        "interactions/1.0.0/dataset_info.json",
        "interactions/1.0.0/features.json",
        *shards,
    ]


def test_every_file_is_listed(path):
    write(make_log(), path, name="tiny", config=CONFIG)
    found = {x.relative_to(path).as_posix() for x in path.rglob("*") if x.is_file()}
    assert found == set(all_files())
    assert found == {*read_manifest(path).files, MANIFEST}


@pytest.mark.parametrize("name", all_files())
@pytest.mark.parametrize("damage", ["flipped", "cut", "missing"])
def test_damage_is_refused_and_named(path, name, damage):
    log = make_log()
    write(log, path, name="tiny", config=CONFIG)
    file = path / name
    content = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(content[:-1] if name != MANIFEST else content[:-3])
    else:
        # In a digit or letter, so that the manifest stays JSON.
        place = max(i for i, x in enumerate(content) if chr(x).isalnum())
        place = place if name != MANIFEST else content.index(b"20", 40)
        content[place] ^= 1
        file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{Path(name).name}.*--overwrite"):
        load(path, parts=PARTS)
    assert not is_prepared(path, CONFIG)
    write(log, path, name="tiny", config=CONFIG, overwrite=name == MANIFEST)
    assert_same(load(path).part("train"), expected(log, "train"))


def test_newer_format_is_refused(path):
    write(make_log(), path, name="tiny", config=CONFIG)
    content = json.loads((path / MANIFEST).read_text())
    (path / MANIFEST).write_text(json.dumps(content | {"format": 2}))
    with pytest.raises(ValueError, match=r"dataset\.json is of format 2.* up to 1"):
        load(path)


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "features/../../secret", "a//b", ".hidden", ""]
)
def test_unsafe_file_names_are_refused(path, name):
    write(make_log(), path, name="tiny", config=CONFIG)
    rewrite(path, files=read_manifest(path).files | {name: {"size": 1, "sha256": ""}})
    with pytest.raises(ValueError, match="unsafe file"):
        load(path)


def test_unsafe_feature_name_is_refused(path):
    write(make_log(), path, name="tiny", config=CONFIG)
    rewrite(path, features={"../text": {"width": 3}})
    with pytest.raises(ValueError, match=r"feature name '\.\./text' is unfit"):
        load(path)


def test_link_out_of_the_folder_is_refused(path, tmp_path):
    write(make_log(), path, name="tiny", config=CONFIG)
    os.rename(path / "users.parquet", tmp_path / "outside.parquet")
    (path / "users.parquet").symlink_to(tmp_path / "outside.parquet")
    with pytest.raises(ValueError, match=r"users\.parquet leads out"):
        load(path)


def test_shards_elsewhere_are_refused(path):
    write(make_log(), path, name="tiny", config=CONFIG)
    info = path / "interactions/1.0.0/dataset_info.json"
    info.write_text(info.read_text().replace("{DATASET}-", "../1.0.0/../{DATASET}-", 1))
    files = read_manifest(path).files
    rewrite(
        path, files=files | {str(info.relative_to(path)): _store.describe_file(info)}
    )
    with pytest.raises(ValueError, match="the manifest says"):
        load(path)


def test_hostile_features_file_imports_nothing(path, tmp_path, monkeypatch):
    # `tfds.builder_from_directory` imports the class that features.json names.
    write(make_log(), path, name="tiny", config=CONFIG)
    (tmp_path / "evil_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    file = path / "interactions/1.0.0/features.json"
    content = json.loads(file.read_text()) | {"pythonClassName": "evil_module.Evil"}
    file.write_text(json.dumps(content))
    files = read_manifest(path).files
    rewrite(
        path, files=files | {str(file.relative_to(path)): _store.describe_file(file)}
    )
    load(path)
    assert "evil_module" not in sys.modules


# Where a child process stops and waits to be killed.
STOP = """
def stop(*arguments):
    print("here", flush=True)
    time.sleep(600)
"""
STAGES = {
    "in a shard": """
        _blocks.BLOCK_ROWS = 16
        generate = _blocks.Blocks._generate_examples
        def slow(self, part):
            for number, example in enumerate(generate(self, part)):
                yield example
                if number == 2:
                    stop()
        _blocks.Blocks._generate_examples = slow
        """,
    "before the manifest": "_store.write_manifest = stop",
    "before the renames": "_store.publish = stop",
    "between the renames": """
        rename = os.rename
        def slow(source, target):
            # TFDS renames too, inside the temporary folder.
            if "-new-" in str(source) and str(target).endswith("/tiny"):
                stop()
            rename(source, target)
        os.rename = slow
        """,
}


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("stage", STAGES)
def test_killed_writer_leaves_nothing_to_load(path, stage, earlier):
    log = make_log(seed=1)
    if earlier:
        write(log, path, name="earlier", config={"core": 1})
    child = run_child(
        STOP
        + textwrap.dedent(STAGES[stage])
        + f"\n_store.write(make_log(), {str(path)!r}, name='t', config=CONFIG, "
        "overwrite=True)"
    )
    assert child.stdout.readline() == "here\n", child.stderr.read()
    (temporary,) = path.parent.glob(".tiny.recjax-new-*")
    # A living writer's folder stays while another one cleans up.
    _staging.clean_leftovers(path)
    assert temporary.exists()
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    child.communicate()

    with pytest.raises(ValueError, match="temporary folder"):
        load(temporary)
    if earlier:
        _staging.clean_leftovers(path)
        assert_same(load(path).part("train"), expected(log, "train"))
    else:
        with pytest.raises(ValueError, match="no dataset at"):
            load(path)
    write(make_log(), path, name="t", config=CONFIG, overwrite=True)
    assert_same(load(path).part("train"), expected(make_log(), "train"))
    assert [x.name for x in path.parent.iterdir()] == ["tiny"]


@pytest.mark.parametrize("limit", [1000, 70_000], ids=["interactions", "features"])
def test_full_disk_leaves_the_earlier_dataset(path, limit):
    log = make_log(seed=1)
    write(log, path, name="earlier", config={"core": 1})
    before = snapshot(path)
    child = run_child(
        f"""
        import resource
        log = make_log(width=1000)
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
        try:
            _store.write(log, {str(path)!r}, name="t", config=CONFIG, overwrite=True)
        except OSError as error:
            print(error)
        """
    )
    output, errors = child.communicate()
    assert child.returncode == 0, errors
    assert output
    assert snapshot(path) == before
    assert [x.name for x in path.parent.iterdir()] == ["tiny"]


def test_failed_rename_puts_the_earlier_dataset_back(path, monkeypatch):
    write(make_log(seed=1), path, name="earlier", config={"core": 1})
    before = snapshot(path)
    rename = os.rename

    def failing(source, target):
        if "-new-" in str(source) and target == path:
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(OSError, match="No space left"):
        write(make_log(), path, name="t", config=CONFIG, overwrite=True)
    assert snapshot(path) == before
    assert [x.name for x in path.parent.iterdir()] == ["tiny"]


def test_faster_writer_wins(path, monkeypatch):
    """Another process publishes while this one writes."""
    write_content = _store._write_content

    def meanwhile(log, folder, identity):
        write_content(log, folder, identity)
        monkeypatch.setattr(_store, "_write_content", write_content)
        write(make_log(), path, name="tiny", config=rival)

    for rival, outcome in ((CONFIG, None), ({"core": 1}, "config.core is 1 on disk")):
        monkeypatch.setattr(_store, "_write_content", meanwhile)
        if outcome is None:
            write(make_log(), path, name="tiny", config=CONFIG)
        else:
            with pytest.raises(ValueError, match=outcome):
                write(make_log(), path, name="tiny", config=CONFIG)
        assert read_manifest(path).config == rival
        assert [x.name for x in path.parent.iterdir()] == ["tiny"]
        shutil.rmtree(path)


@pytest.mark.usefixtures("small_blocks")
def test_random_access_equals_slicing(path, rng):
    log = make_log()
    write(log, path, name="tiny", config=CONFIG)
    rows, whole = open_part(path, "train"), expected(log, "train")
    count = whole.num_rows
    assert len(rows) == count
    for chosen in (
        slice(None),
        slice(5, 40),
        slice(16, 32),
        slice(-3, None),
        slice(40, 5),
        slice(None, None, -7),
        rng.integers(count, size=50),
        rng.permutation(count).astype(np.int32),
        np.array([], np.int64),
        rng.random(count) < 0.3,
    ):
        assert_same(
            rows[chosen], Interactions(*(x if x is None else x[chosen] for x in whole))
        )
    for wrong in (np.array([count]), np.array([-1]), np.array([0.5]), 3):
        with pytest.raises(ValueError, match=r"rows (must lie in \[0|are a slice)"):
            rows[wrong]


@pytest.mark.usefixtures("small_blocks")
def test_random_access_reads_the_touched_blocks_only(path):
    write(make_log(), path, name="tiny", config=CONFIG)
    rows, read = open_part(path, "train"), []

    class Spy:
        def __getitem__(self, number, source=rows.source):
            read.append(number)
            return source[number]

    object.__setattr__(rows, "source", Spy())
    rows[np.array([50, 3, 49])]
    assert sorted(read) == [0, 3]
    read.clear()
    rows[30:34]
    assert read == [1, 2]


def test_find_and_titles(path):
    write(make_log(), path, name="tiny", config=CONFIG)
    dataset = load(path)
    found = dataset.find_users(["Ünal  7 用户/..", "Ünal  0 用户/.."])
    assert found.dtype == np.int32
    assert found.tolist() == [7, 0]
    assert dataset.find_items(np.array(["item-029"])).tolist() == [29]
    assert dataset.find_items([]).tolist() == []
    assert dataset.titles(np.array([1, 0])) == ["Фильм 1", "item-000"]
    with pytest.raises(ValueError, match=r"no item 'itm-012'.*'item-012'"):
        dataset.find_items(["item-000", "itm-012"])
    with pytest.raises(ValueError, match=r"no item 'item-x12'.*'item-012'"):
        dataset.find_items(["item-x12"])
    with pytest.raises(
        ValueError, match=r"'\?' \(and 1 more\); ids look like \['item-"
    ):
        dataset.find_items(["?", "!"])
    with pytest.raises(ValueError, match="got the string 'item-001'"):
        dataset.find_items("item-001")
    with pytest.raises(ValueError, match=r"\[0, 30\); got 3 to 30"):
        dataset.titles([3, 30])


def wrong_logs():
    log = make_log()
    rows = log.interactions
    text = log.features["text"]
    return [
        (log._replace(parts=None), "split it first"),
        (log._replace(part_names=("a", "b", "c")), "'train' is needed"),
        (log._replace(part_names=("train", "x/y", "c")), r"parts are among .*x/y"),
        (log._replace(parts=log.parts - 1), r"parts must lie in \[0, 3\); got -1"),
        (log._replace(users=log.users[:5]), r"users must lie in \[0, 5\); got 0 to 19"),
        (log._replace(interactions=rows._replace(items=rows.items[:3])), r"items must"),
        (
            log._replace(interactions=rows._replace(times=rows.times * 1.0)),
            r"times must be int64 \[200\]; got float64",
        ),
        (log._replace(relation_names=()), r"relations must lie in \[0, 0\)"),
        (log._replace(interactions=rows._replace(relations=None)), "both or neither"),
        (
            log._replace(users=pa.table({"id": ["a"] * 20})),
            "20 rows of 1 ids",
        ),
        (log._replace(users=pa.table({"id": range(20)})), "must be strings; got int64"),
        (log._replace(users=pa.table({"name": ["a"] * 20})), "first column of users"),
        (log._replace(features={"../x": text}), r"feature name '\.\./x'"),
        (log._replace(features={"a": text, "A": text}), "by case only"),
        (
            log._replace(features={"a": text._replace(values=text.values[:3])}),
            r"\[30, F\].*got \[3, 3\] float32",
        ),
        (
            log._replace(
                features={"a": text._replace(values=text.values.astype(object))}
            ),
            "got .* object",
        ),
        (
            log._replace(features={"a": text._replace(present=text.present[:3])}),
            r"presence of feature 'a' must be \[30\] bool; got \[3\]",
        ),
    ]


@pytest.mark.parametrize(("log", "message"), wrong_logs())
def test_malformed_log_is_refused(path, log, message):
    with pytest.raises(ValueError, match=message):
        write(log, path, name="tiny", config=CONFIG)
    assert not path.exists()


def test_malformed_arguments_are_refused(path):
    with pytest.raises(ValueError, match=r"no target behaviour 'like'.*view, buy"):
        write(make_log(), path, name="tiny", config=CONFIG, target="like")
    with pytest.raises(ValueError, match="'buy', but the log has one behaviour only"):
        write(make_log(columns=()), path, name="tiny", config=CONFIG, target="buy")
    with pytest.raises(ValueError, match="config must hold JSON values only"):
        write(make_log(), path, name="tiny", config={"path": path})
    with pytest.raises(ValueError, match="name of the dataset is empty"):
        write(make_log(), path, name=" ", config=CONFIG)


def test_manifest_is_all_of_it(path):
    write(make_log(), path, name="tiny", config=CONFIG)
    content = json.loads((path / MANIFEST).read_text())
    assert set(content) == {"format", "digest", *Manifest._fields}
