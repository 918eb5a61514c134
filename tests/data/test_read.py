"""Readers of tables: ids, values, times, columns, metadata, and bad files."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recjax.data import _csv, _read_table
from recjax.data._columns import Columns
from recjax.data._read import SOURCES, read

ODD = ["007", "7", " a  b ", "Ünïcødé 東京", 'say "hi"', "x,y", "NA", "null"]


def write(path, *lines, encoding="utf-8"):
    path.write_bytes("\n".join(lines).encode(encoding))
    return path


def quoted(text):
    return '"' + text.replace('"', '""') + '"'


def rows_of(log):
    """Rows by their ids, values and times; NaN as None, for comparing."""
    rows = log.interactions
    users, items = log.users["id"].to_pylist(), log.items["id"].to_pylist()
    values = [None] * rows.num_rows if rows.values is None else rows.values.tolist()
    times = [None] * rows.num_rows if rows.times is None else rows.times.tolist()
    return [
        (users[u], items[i], None if v != v else v, t)
        for u, i, v, t in zip(rows.users, rows.items, values, times, strict=True)
    ]


def test_ids_are_text_and_survive_exactly(tmp_path):
    lines = [f"{quoted(odd)},{quoted(odd[::-1])}" for odd in ODD]
    log = read(write(tmp_path / "a.csv", "user_id,item_id", *lines))
    assert rows_of(log) == [(odd, odd[::-1], None, None) for odd in ODD]
    assert log.interactions.users.dtype == np.int32


def test_bad_rows_are_counted_and_left_out(tmp_path):
    lines = ["a,x,1,5", "a,x", "b,y,1,5,9", ",y,1,5", "c,,1,5", "d,y,1,soon", "b,x,4,6"]
    log = read(write(tmp_path / "a.csv", "user,item,rating,time", *lines))
    assert rows_of(log) == [("a", "x", 1, 5), ("b", "x", 4, 6)]
    # Ids that only bad rows have are gone too.
    assert log.users["id"].to_pylist() == ["a", "b"]
    assert log.items["id"].to_pylist() == ["x"]
    (step,) = log.report
    assert (step.before, step.after) == (7, 2)
    assert step.detail == {
        "source": "a.csv",
        "wrong number of cells": 2,
        "missing ids": 2,
        "unreadable times": 1,
        "values that are no number": 0,
    }


@pytest.mark.parametrize("cells", [["3", "1e3"], ["x", " 2.5 ", "3", "1e3"]])
def test_values_that_are_no_finite_number_are_nan(tmp_path, cells):
    cells = ["NaN", "inf", "-inf", "", "4.5", "1e300", *cells]
    lines = [f"u,i{row},{cell}" for row, cell in enumerate(cells)]
    values = read(write(tmp_path / "a.csv", "user,item,rating", *lines))
    values = values.interactions.values
    expected = {"4.5": 4.5, "3": 3, "1e3": 1000, " 2.5 ": 2.5}
    np.testing.assert_array_equal(values, [expected.get(c, np.nan) for c in cells])
    assert values.dtype == np.float32


DAY = 24 * 3600


@pytest.mark.parametrize(
    ("cells", "seconds"),
    [
        (["5", "-3", "1500000000"], [5, -3, 1_500_000_000]),
        (["5.9", "1.5e9"], [5, 1_500_000_000]),
        (["1970-01-02", "1970-01-03"], [DAY, 2 * DAY]),
        (["1970-01-02 00:00:07", "1970-01-02T00:00:07.9"], [DAY + 7, DAY + 7]),
        (["1970-01-02T00:00:00Z"], [DAY]),
        (["1970-01-02T01:00:00+01:00", "1970-01-01T22:30:00-0130"], [DAY, DAY]),
        (["5", "1970-01-02", " 6 "], [5, DAY, 6]),
    ],
)
def test_times(tmp_path, cells, seconds):
    lines = [f"u,i,{cell}" for cell in cells]
    log = read(write(tmp_path / "a.csv", "user,item,timestamp", *lines))
    assert log.interactions.times.tolist() == seconds
    assert log.interactions.times.dtype == np.int64


@pytest.mark.parametrize(
    "header",
    [
        "userId,movieId,rating,ts",
        "uid,iid,weight,time",
        "User_ID,ItemID,count,TIME",
    ],
)
@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_known_columns_and_delimiters_are_guessed(tmp_path, header, delimiter):
    lines = [line.replace(",", delimiter) for line in (header, "a,b,2,3")]
    assert rows_of(read(write(tmp_path / "a.csv", *lines))) == [("a", "b", 2, 3)]


def test_named_columns_win_over_guessed_ones(tmp_path):
    path = write(tmp_path / "a.csv", "user,who,item,part,rating", "a,b,c,side B,1")
    log = read(path, columns=Columns(user="who", part="", value=""))
    assert rows_of(log) == [("b", "c", None, None)]
    assert log.parts is None


def test_parts_and_relations(tmp_path):
    lines = ["a,x,train,view", "a,y,valid,buy", "b,x,test,buy", "b,y,0,view"]
    log = read(write(tmp_path / "a.csv", "user,item,split,behavior", *lines))
    assert log.part_names == ("train", "valid", "test")
    assert log.parts.tolist() == [0, 1, 2, 0]
    assert log.relation_names == ("view", "buy")
    assert log.interactions.relations.tolist() == [0, 1, 1, 0]


def make_rows(num_rows, rng):
    users = [f"user\n{u}" for u in rng.integers(0, 40, num_rows)]
    items = [str(i) for i in rng.integers(0, 30, num_rows)]
    values = (rng.integers(1, 11, num_rows) / 2).tolist()
    return list(zip(users, items, values, range(num_rows), strict=True))


def write_all(folder, rows):
    """The same rows as CSV, JSON lines (both plain and packed) and Parquet."""
    names = ("user_id", "item_id", "rating", "timestamp")
    text = "\n".join(
        [",".join(names), *(",".join(quoted(str(x)) for x in row) for row in rows)]
    )
    (folder / "a.csv").write_text(text)
    with gzip.open(folder / "b.csv.gz", "wt") as file:
        file.write(text)
    text = "\n".join(json.dumps(dict(zip(names, row, strict=True))) for row in rows)
    (folder / "c.jsonl").write_text(text)
    with gzip.open(folder / "d.jsonl.gz", "wt") as file:
        file.write(text)
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    pq.write_table(pa.table(columns), folder / "e.parquet", row_group_size=7)
    return sorted(folder.iterdir())


def test_all_formats_agree_however_the_rows_are_chunked(tmp_path, rng, monkeypatch):
    # Values are whole at first; ids with line breaks cross the blocks.
    rows = [("b", "1", 4, 0), *(("b", "1", 3, t) for t in range(1, 30))]
    rows += make_rows(200, rng)
    paths = write_all(tmp_path, rows)
    monkeypatch.setattr(_csv, "_BLOCK_BYTES", 300)
    monkeypatch.setattr(_read_table, "_BLOCK_BYTES", 300)
    monkeypatch.setattr(_read_table, "_BATCH_ROWS", 7)
    monkeypatch.setattr(_read_table, "_ENCODE_ROWS", 20)
    assert len(paths) == 5
    for path in paths:
        log = read(path)
        assert rows_of(log) == rows, path.name
        in_order = list(dict.fromkeys(user for user, *_ in rows))
        assert log.users["id"].to_pylist() == in_order


def test_json_ids_that_look_like_dates_or_numbers_stay_themselves(tmp_path):
    first = {"user": "2020-01-01", "item": 7, "rating": 1, "time": "1970-01-02"}
    second = {
        "user": "2020-01-02T03:04",
        "item": 12,
        "rating": 2.5,
        "time": "1970-01-03",
    }
    third = {"user": "1999-12-31", "rating": None, "time": "1970-01-03", "item": 7}
    lines = [json.dumps(row) for row in (first, second, third, {"user": "1999-12-30"})]
    log = read(write(tmp_path / "a.jsonl", *lines))
    assert rows_of(log) == [
        ("2020-01-01", "7", 1, DAY),
        ("2020-01-02T03:04", "12", 2.5, 2 * DAY),
        ("1999-12-31", "7", None, 2 * DAY),
    ]
    assert log.report[0].detail["missing ids"] == 1


def test_parquet_types(tmp_path):
    table = pa.table(
        {
            # What pandas makes of whole numbers with a hole.
            "user": pa.array([1.0, None, 12345678901.0, 2.5]),
            "item": pa.array(["x", "y", "x", "y"]).dictionary_encode(),
            "time": pa.array([1000, 2000, 3999, 4000], pa.timestamp("ms", "UTC")),
            "rating": pa.array([1, 2, None, 4], pa.int8()),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    log = read(tmp_path / "a.parquet")
    assert rows_of(log) == [
        ("1", "x", 1, 1),
        ("12345678901", "x", None, 3),
        ("2.5", "y", 4, 4),
    ]


BAD_FILES = {
    "empty.csv": ("", "empty"),
    "header.csv": ("user,item\n", "no rows below"),
    "one.csv": ("user_id\n1\n", r"no item column among its 1 column\(s\): user_id"),
    "nothing_known.csv": ("a,b\n1,2\n", "no user column .*Columns"),
    "twice.csv": ("user,item,item\n1,2,3\n", "two columns are called 'item'"),
    "all_bad.csv": ("user,item\n1\n2\n", "2 have the wrong number of cells"),
    "no_ids.csv": ("user,item\n1,\n,2\n", "none of 2 rows"),
    "no_times.csv": ("user,item,date\n1,2,May 3\n", "none of 1 rows.*unreadable times"),
    "parts.csv": ("user,item,split\n1,2,left\n", "part column says 'left'"),
    "empty.jsonl": ("", "Empty"),
    "array.json": ('[{"user": 1, "item": 2}]', "object to array"),
    "broken.jsonl": ('{"user": 1, "item"\n', "JSON"),
    "logical.jsonl": ('{"user": true, "item": "b"}\n', "ids are text or whole numbers"),
    "listed.jsonl": ('{"user": "a", "item": [1]}\n', "ids are text or whole numbers"),
    "broken.parquet": ("user,item", "Parquet"),
    "frame.pkl": ("user,item", "pickles are never loaded.*to_csv"),
    "frame.pickle": ("user,item", "pickles are never loaded.*savez"),
    "broken.npz": ("user,item", "not a NumPy archive"),
    "what.foo": ("user,item\n1,2\n", "cannot tell what a .foo is.*csv"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_named_with_what_is_wrong(tmp_path, name):
    text, message = BAD_FILES[name]
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_wrong_encoding(tmp_path, encoding):
    path = write(tmp_path / "a.csv", "user,item", "ä,ö", encoding=encoding)
    with pytest.raises(ValueError, match=r"a\.csv: .*UTF-8"):
        read(path)


def test_a_column_typo_names_the_nearest_and_all_columns(tmp_path):
    path = write(tmp_path / "a.csv", "user,item,rating", "1,2,3")
    match = r"no value column 'ratng'; did you mean 'rating'\? .*user, item, rating"
    with pytest.raises(ValueError, match=match):
        read(path, columns=Columns(value="ratng"))


def test_an_unknown_source_names_the_nearest(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'movielens-small'"):
        read("movielens_small")
    path = write(tmp_path / "ratings.csv", "user,item", "1,2")
    with pytest.raises(ValueError, match=r"did you mean '.*ratings\.csv'"):
        read(tmp_path / "rating.csv")
    with pytest.raises(ValueError, match=r"it has ratings\.csv"):
        read(path.parent)
    assert "movielens-small" in [source.name for source in SOURCES]


def test_metadata_joins_by_id(tmp_path):
    path = write(tmp_path / "a.csv", "user,item", "u1,1", "u1,2", "u2,1")
    items = write(
        tmp_path / "items.csv",
        "item_id,name,year,tags,zip,score",
        '2,"Two, or\nmore",1999,a|b,007,0.5',
        "9,1984,,,12,",
        "2,again,1,c,1,1",
        ",nobody,1,c,1,1",
    )
    users = write(
        tmp_path / "users.jsonl", '{"id": "u2", "age": 3, "since": "2020-01-01"}'
    )
    log = read(path, items_file=items, users_file=users, list_columns=["tags"])
    assert log.items.to_pylist() == [
        dict(id="1", title=None, year=None, tags=None, zip=None, score=None),
        dict(
            id="2",
            title="Two, or\nmore",
            year=1999,
            tags=["a", "b"],
            zip="007",
            score=0.5,
        ),
        # Nobody touched it, and it is in the catalogue.
        dict(id="9", title="1984", year=None, tags=[], zip="12", score=None),
    ]
    assert log.users.to_pylist() == [
        dict(id="u1", age=None, since=None),
        dict(id="u2", age=3, since="2020-01-01"),
    ]
    step = log.report[1]
    assert (step.name, step.before, step.after) == ("read items", 4, 2)
    assert step.detail["repeated ids"] == step.detail["missing ids"] == 1
    assert step.detail["matched"] == step.detail["without rows"] == 1


def test_metadata_errors(tmp_path):
    path = write(tmp_path / "a.csv", "user,item", "1,2")
    items = write(tmp_path / "items.csv", "item,tags", "2,a|b")
    with pytest.raises(ValueError, match="no list column 'tgs'; did you mean 'tags'"):
        read(path, items_file=items, list_columns=["tgs"])
    with pytest.raises(ValueError, match=r"items_file .*no\.csv: no such file"):
        read(path, items_file=tmp_path / "no.csv")
    with pytest.raises(ValueError, match=r"items\.csv: no column of user ids"):
        read(path, users_file=items)
