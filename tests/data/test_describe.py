"""The page about a prepared dataset."""

import numpy as np
import pyarrow as pa
import pytest

from recjax.data._describe import describe
from recjax.data._log import Log, Step
from recjax.data._split import Split, split, split_hash
from recjax.data._store import write
from recjax.data.synthetic import synthetic
from recjax.types import Feature, Interactions


def behaviours():
    """One user viewed items 0 to 3, bought items 0 and 1; item 4 is unknown."""
    items = np.array([0, 1, 2, 3, 0, 1], np.int32)
    return Log(
        Interactions(
            np.zeros(6, np.int32),
            items,
            relations=np.array([0, 0, 0, 0, 1, 1], np.int32),
        ),
        users=pa.table({"id": ["ann"]}),
        items=pa.table({"id": list("abcde")}),
        parts=np.array([0, 0, 0, 0, 0, 2], np.int8),
        part_names=("train", "valid", "test"),
        relation_names=("view", "buy"),
        features={
            "image": Feature(np.zeros((5, 128), np.float16), np.arange(5) % 2 == 0)
        },
        report=(
            Step("read", 1_234_567, 1_234_000, {"source": "clicks.csv", "bad": 567}),
            Step("drop repeats of the same user, item and relation " * 3, 1_234_000, 6),
        ),
    )


def table(page, heading):
    """Cells of the table whose heading starts so, without its detail lines."""
    lines = page[page.index(f"\n{heading}") + 1 :].split("\n\n")[0].splitlines()
    return [line.split() for line in lines if not line.startswith(" ")]


def test_numbers(tmp_path):
    path = write(
        behaviours(), tmp_path / "a", name="clicks", config={"core": [1000, 2]}
    )
    page = describe(path)
    assert page.startswith("clicks\n======\n")
    assert "interactions  6, density 120.000%" in page
    assert table(page, "Part") == [
        ["Part", "rows", "share"],
        ["train", "5", "83.3%"],
        ["valid", "0", "0.0%"],
        ["test", "1", "16.7%"],
    ]
    assert table(page, "Relation")[1:] == [
        ["view", "4", "80.0%"],
        ["buy", "(target)", "1", "20.0%"],
    ]
    assert [row[-6:] for row in table(page, "Degrees")[1:]] == [
        ["5", "5", "5", "5", "5", "0"],
        ["0", "0", "1", "1", "2", "1"],
        ["1", "1", "1", "1", "1", "0"],
        ["0", "0", "0", "0", "1", "4"],
    ]
    assert table(page, "Feature")[1:] == [["image", "128", "float16", "3", "60.0%"]]
    report = table(page, "Preparation")
    assert report[1] == ["read", "1,234,567", "1,234,000", "-567"]
    assert report[2][-3:] == ["1,234,000", "6", "-1,233,994"]
    assert "    source clicks.csv, bad 567" in page
    assert "core  [1,000, 2]" in page


def test_item_numbers_that_tell_what_is_held_out(tmp_path):
    # The last item of user 0 is above its three others, that of user 1 below its one.
    log = Log(
        Interactions(
            np.array([0, 0, 0, 0, 1, 1], np.int32),
            np.array([1, 2, 3, 4, 2, 0], np.int32),
        ),
        users=pa.table({"id": ["ann", "bob"]}),
        items=pa.table({"id": list("abcde")}),
        parts=np.array([0, 0, 0, 1, 0, 1], np.int8),
        part_names=("train", "valid"),
    )
    page = describe(write(log, tmp_path / "a", name="numbers", config={}))
    # A quarter and a half.
    assert table(page, "Number")[1][-2:] == ["50.0%", "37.5%"]
    none = log._replace(parts=np.zeros(6, np.int8), part_names=("train",))
    page = describe(write(none, tmp_path / "b", name="numbers", config={}))
    assert "\nNumber" not in page


def test_no_test_row_is_read(tmp_path):
    path = write(behaviours(), tmp_path / "a", name="clicks", config={})
    before = describe(path)
    (shard,) = path.rglob("*-test.array_record*")
    shard.unlink()
    assert describe(path) == before


def test_altered_dataset_is_not_described(tmp_path):
    path = write(behaviours(), tmp_path / "a", name="clicks", config={})
    (shard,) = path.rglob("*-train.array_record*")
    shard.write_bytes(shard.read_bytes()[::-1])
    with pytest.raises(ValueError, match="train"):
        describe(path)


def test_split_is_named(tmp_path):
    log = split(synthetic(), Split("leave_one_out"))
    page = describe(write(log, tmp_path / "a", name="made up", config={}))
    assert "\nsplit         leave_one_out\n" in page
    assert f"\nsplit hash    {split_hash(log)}\n" in page
    assert "\nRelation" not in page
    assert "\nConfiguration" not in page
    given = log._replace(report=())
    page = describe(write(given, tmp_path / "b", name="made up", config={}))
    assert "\nsplit         as the source gives it\n" in page
    assert "\nPreparation" not in page


def test_fits_80_columns(tmp_path):
    config = {"source": "/a/long/path" * 20, "words": "many words " * 20}
    path = write(behaviours(), tmp_path / "a", name="clicks", config=config)
    assert max(map(len, describe(path).splitlines())) <= 80
