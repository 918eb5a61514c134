"""Folders of integer ids: ``interactions.npz``, and LightGCN's ``train.txt``."""

import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa

from recjax.data._arrow import pc
from recjax.data._csv import naming
from recjax.data._log import Log, Step
from recjax.data._names import PARTS, pick_target
from recjax.data._pairs import leaked, pair_keys
from recjax.types import Feature, Interactions

# Memory for more than the ids alone would not be there.
_MOST_IDS = 100_000_000


def refuse_pickle(path: Path) -> ValueError:
    """The error for a pickle, which is never loaded, and how to convert one."""
    return ValueError(
        f"{path}: pickles are never loaded, for they can run any code. Where you trust "
        'the file, convert it once to CSV or npz, for a data frame: python -c "import '
        "pandas; pandas.read_pickle('file.pkl').to_csv('file.csv', index=False)\" or, "
        "for arrays: numpy.savez('interactions.npz', num_users=..., num_items=..., "
        "train_user=..., train_item=...)"
    )


def load_array(path: Path) -> np.ndarray:
    """A ``.npy`` file; never a pickle."""
    try:
        return np.load(path, allow_pickle=False)
    except ValueError as error:
        with path.open("rb") as stream:
            if stream.read(6) != b"\x93NUMPY":
                # NumPy takes whatever it does not know for a pickle.
                raise ValueError(f"{path}: not a NumPy file") from None
        if "allow_pickle" in str(error):
            raise refuse_pickle(path) from None
        raise ValueError(f"{path}: {error}") from None
    except (OSError, EOFError) as error:
        raise ValueError(f"{path}: not a NumPy file ({error})") from None


def read_features(paths: list[Path], num_items: int) -> dict[str, Feature]:
    """Feature tables ``[I, F]`` by file name, row i for item i."""
    features = {}
    for path in sorted(paths):
        values = load_array(path)
        if values.ndim != 2 or not values.shape[1] or values.dtype.kind not in "iuf":
            raise ValueError(
                f"{path}: a feature table has numbers in the shape [items, width], got "
                f"{values.dtype} {list(values.shape)}"
            )
        if len(values) != num_items:
            raise ValueError(
                f"{path}: {len(values)} feature rows for {num_items} items; there must "
                "be one row an item, in the order of the item ids"
            )
        if values.dtype not in (np.float16, np.float32):
            values = values.astype(np.float32)
        name = path.stem.removesuffix("_feat")
        features[name] = Feature(values, np.ones(num_items, bool))
    return features


def read_npz(path: Path, target: str | None = None) -> Log:
    """Parts of an archive: ``num_users``, ``num_items``, and ``P_user``, ``P_item``.

    Parts called train, valid, test are a given split.  Any other part is a behaviour:
    its rows are training rows of that relation, and the rows of train, valid and test
    are of the target relation.  ``P_time`` (all parts or none) are unix seconds.
    Every ``.npy`` file beside the archive is a table of item features ``[I, F]``, of
    whatever made it: images, texts, or audio (say, the mean log-mel spectrum or a
    network's vector of each track in ``audio.npy``, which gives the feature ``audio``).

    Args:
      path: the archive.
      target: behaviour that train, valid and test are about; None is ``buy`` where
        there is one, else the last.

    Returns:
      The log; ids are the numbers as text, users and items without rows included.

    Raises:
      ValueError: the archive is broken, or an id is out of range.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path}: not a NumPy archive")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise refuse_pickle(path) from None
        raise ValueError(f"{path}: {error}") from None
    except Exception as error:  # zipfile and zlib have errors of their own
        raise ValueError(f"{path}: not a NumPy archive ({error})") from None
    names = [key.removesuffix("_user") for key in arrays if key.endswith("_user")]
    missing = [key for key in ("num_users", "num_items") if key not in arrays]
    if missing or not names:
        raise ValueError(
            f"{path}: expected num_users, num_items and, for each part P, P_user and "
            f"P_item; got {', '.join(arrays) or 'nothing'}"
        )
    for key in ("num_users", "num_items"):
        size = arrays[key]
        if size.shape != () or size.dtype.kind not in "iu" or size < 1:
            raise ValueError(f"{path}: {key} must be one whole number, got {size!r}")
    num_users, num_items = int(arrays["num_users"]), int(arrays["num_items"])
    relation_names = tuple(name for name in names if name not in PARTS)
    timed = [name for name in names if f"{name}_time" in arrays]
    if timed and timed != names:
        without = sorted(set(names) - set(timed))
        raise ValueError(f"{path}: {timed[0]}_time is there, {without[0]}_time is not")
    label = pick_target(relation_names, target) if relation_names else 0
    pairs = [_ids(path, arrays, name, num_users, num_items) for name in names]
    relations = [
        relation_names.index(name) if name in relation_names else label
        for name in names
    ]
    codes = [PARTS.index(name) if name in PARTS else 0 for name in names]
    lengths = [len(users) for users, _ in pairs]
    rows = Interactions(
        np.concatenate([users for users, _ in pairs]),
        np.concatenate([items for _, items in pairs]),
    )
    if timed:
        for name in names:
            kind = arrays[f"{name}_time"].dtype
            if kind.kind not in "iuf":
                raise ValueError(f"{path}: {name}_time must be seconds, got {kind}")
        times = [arrays[f"{name}_time"].astype(np.int64) for name in names]
        if [len(t) for t in times] != lengths:
            raise ValueError(f"{path}: {[len(t) for t in times]} times, {lengths} rows")
        rows = rows._replace(times=np.concatenate(times))
    if relation_names:
        labels = np.repeat(np.array(relations, np.int32), lengths)
        rows = rows._replace(relations=labels)
    parts = np.repeat(np.array(codes, np.int8), lengths)
    siblings = [p for p in path.parent.glob("*.npy") if p.is_file()]
    log = _numbered(path.name, rows, parts, num_users, num_items)
    given = any(name in PARTS for name in names)
    return log._replace(
        relation_names=relation_names,
        features=read_features(siblings, num_items),
        parts=log.parts if given else None,
        part_names=PARTS if given else (),
    )


def read_lightgcn(folder: Path) -> Log:
    """A folder of LightGCN or NGCF: ``train.txt``, ``test.txt``, maybe ``valid.txt``.

    A line is a user and all items of the user in that part.

    Raises:
      ValueError: a file is empty or has a word that is no whole number.
    """
    for name in ("train", "test"):
        if not (folder / f"{name}.txt").is_file():
            raise ValueError(f"{folder}: there is no {name}.txt in this folder")
    pieces, parts, num_users = [], [], 0
    for part, name in enumerate(PARTS):
        path = folder / f"{name}.txt"
        if path.is_file():
            rows, known = _adjacency(path)
            num_users = max(num_users, known)
            pieces.append(rows)
            parts.append(np.full(rows.num_rows, part, np.int8))
    rows = Interactions(
        np.concatenate([rows.users for rows in pieces]),
        np.concatenate([rows.items for rows in pieces]),
    )
    num_items = int(rows.items.max()) + 1
    return _numbered(folder.name, rows, np.concatenate(parts), num_users, num_items)


def numbered_ids(count: int) -> pa.Table:
    """A table of the ids "0", "1", ...; ValueError for more than could be meant."""
    if count > _MOST_IDS:
        raise ValueError(
            f"ids up to {count - 1} would be {count} users or items: number them 0, 1, "
            "... without gaps, or put the rows into a CSV file, where ids may be any"
        )
    return pa.table({"id": pa.array(np.arange(count)).cast(pa.string())})


def _numbered(
    source: str, rows: Interactions, parts: np.ndarray, num_users: int, num_items: int
) -> Log:
    """The log of rows whose codes are the ids; leaks are taken out of earlier parts."""
    leaks = leaked(pair_keys(rows, num_users, num_items), parts)
    report = [Step("read", len(parts), len(parts), {"source": source})]
    if leaks.any():
        name = "take rows of later parts out of earlier ones"
        detail = {
            f"out of {PARTS[part]}": int(np.sum(leaks & (parts == part)))
            for part in (0, 1)
        }
        report.append(Step(name, len(parts), int(np.sum(~leaks)), detail))
        rows, parts = rows.take(~leaks), parts[~leaks]
    return Log(
        rows,
        numbered_ids(num_users),
        numbered_ids(num_items),
        parts=parts,
        part_names=PARTS,
        report=tuple(report),
    )


def _ids(
    path: Path, arrays: dict[str, np.ndarray], part: str, num_users: int, num_items: int
) -> tuple[np.ndarray, np.ndarray]:
    """Users and items of one part of an archive, checked."""
    found = []
    for side, count in (("user", num_users), ("item", num_items)):
        name = f"{part}_{side}"
        if name not in arrays:
            raise ValueError(f"{path}: {part}_user is there, {name} is not")
        ids = arrays[name]
        if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
            raise ValueError(
                f"{path}: {name} must be one row of whole numbers, got {ids.dtype} "
                f"{list(ids.shape)}"
            )
        if len(ids) and (ids.min() < 0 or ids.max() >= count):
            raise ValueError(
                f"{path}: {name} goes from {ids.min()} to {ids.max()}, but num_{side}s "
                f"is {count}"
            )
        found.append(ids.astype(np.int32))
    if len(found[0]) != len(found[1]):
        raise ValueError(
            f"{path}: {len(found[0])} rows in {part}_user, {len(found[1])} in "
            f"{part}_item"
        )
    return found[0], found[1]


def _adjacency(path: Path) -> tuple[Interactions, int]:
    """Rows of one adjacency file, and the users that it knows of."""
    with naming(path):
        text = pa.scalar(path.read_bytes().decode().strip(), pa.large_string())
        lines = pc.utf8_trim_whitespace(pc.split_pattern(text, "\n").values)
        lines = lines.filter(pc.not_equal(lines, ""))
        words = pc.utf8_split_whitespace(lines)
        lengths = pc.list_value_length(words).to_numpy()
        numbers = words.flatten().cast(pa.int32()).to_numpy()
    if not len(numbers):
        raise ValueError(f"{path}: the file is empty; a line is 'user item item ...'")
    if numbers.min() < 0:
        raise ValueError(f"{path}: ids are 0 or more, got {numbers.min()}")
    first = np.cumsum(lengths) - lengths
    line_users = numbers[first]
    items = np.delete(numbers, first)
    rows = Interactions(np.repeat(line_users, lengths - 1), items)
    return rows, int(line_users.max()) + 1
