"""Prepared datasets on disk: written once, whole or not at all, and checked on load.

A dataset is a folder::

    dataset.json                 the manifest, see `recjax.data._manifest`
    interactions/1.0.0/          TFDS, one ArrayRecord split a part
    users.parquet items.parquet  ids and metadata
    features/NAME.npy            item features ``[I, F]``
    features/NAME.present.npy    which items have them, ``[I]`` bool
"""

import datetime
import errno
import importlib.metadata
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

import recjax
from recjax.data._check import check_log
from recjax.data._dataset import Dataset
from recjax.data._log import Log
from recjax.data._manifest import (
    Manifest,
    absolute,
    check_file,
    describe_file,
    differences,
    plain,
    read_manifest,
    write_manifest,
)
from recjax.data._names import pick_target
from recjax.data._split import split_hash
from recjax.data._staging import check_replaceable, clean_leftovers, publish, staging
from recjax.types import Feature, Spec

if TYPE_CHECKING:
    from recjax.data._blocks import Rows


def write(
    log: Log,
    path: str | os.PathLike,
    *,
    name: str,
    config: dict[str, Any],
    target: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes a split log as a prepared dataset; does nothing where it is there already.

    Everything is written into a temporary folder beside ``path``, which is renamed at
    the end: an interrupted call leaves nothing that could be loaded, and an earlier
    dataset stays as it was.  Rows of a part are stored sorted by user, then item.

    Args:
      log: a log with parts, one of them ``"train"``.
      path: folder of the dataset.
      name: name of the dataset, for people.
      config: how the log was made (JSON values); decides whether a dataset that is
        there already is the same.
      target: behaviour that is evaluated; None is ``buy`` where there is one, else
        the last, as for `recjax.data.Split`.
      overwrite: replace a dataset that was prepared in another way.

    Returns:
      The folder.

    Raises:
      ValueError: the log is malformed, or ``path`` holds something else.
      OSError: the disk is full or may not be written.

    Examples:
      >>> import tempfile
      >>> from recjax.data import Split, split, synthetic
      >>> log = split(synthetic(), Split("leave_one_out"))
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = write(log, folder + "/made-up", name="made up", config={})
      ...     load(path, parts=("train",)).part("train").num_rows
      2000
    """
    root = absolute(path)
    config = plain(config, "config")
    check_log(log, name)
    names = log.relation_names
    if target is not None and not names:
        raise ValueError(f"target is {target!r}, but the log has one behaviour only")
    identity = {
        "name": name,
        "config": config,
        "target": names[pick_target(names, target)] if names else None,
        "split hash": split_hash(log),
    }
    clean_leftovers(root)
    check_replaceable(root)
    if not overwrite and _is_same(root, identity):
        return Path(path)
    try:
        with staging(root) as folder:
            _write_content(log, folder, identity)
            # Asked again: another process may have been faster.
            if overwrite or not _is_same(root, identity):
                publish(folder, root)
    except OSError as error:
        if _is_full(error):
            full = os.strerror(errno.ENOSPC)
            raise OSError(errno.ENOSPC, full, str(root)) from None
        raise
    return Path(path)


def is_prepared(path: str | os.PathLike, config: dict[str, Any]) -> bool:
    """Whether a whole and unaltered dataset of this configuration is at ``path``.

    Args:
      path: folder of the dataset.
      config: as given to `write`.

    Returns:
      True where `write` would do nothing; every file is checked.

    Examples:
      >>> is_prepared("/nowhere", {"core": 1})
      False
    """
    root = absolute(path)
    try:
        manifest = read_manifest(root)
        if manifest.config != plain(config, "config"):
            return False
        for name in manifest.files:
            check_file(root, manifest, name)
    except ValueError:
        return False
    return True


def load(path: str | os.PathLike, parts: Sequence[str] = ("train", "valid")) -> Dataset:
    """Loads a prepared dataset; files of parts that are not asked stay unopened.

    Args:
      path: folder of the dataset.
      parts: parts to load; what trains a model has no business with ``"test"``.

    Returns:
      The dataset; features are memory-mapped, everything else is in memory.

    Raises:
      ValueError: a part is unknown, or the dataset is half-written, altered or of a
        newer format; the message names the file and the remedy.

    Examples:
      >>> load("/nowhere")
      Traceback (most recent call last):
      ValueError: no dataset at /nowhere; prepare one there first
    """
    from recjax.data._blocks import open_blocks

    root = absolute(path)
    manifest = read_manifest(root)
    loaded = {}
    for part in parts:
        rows = open_blocks(root, manifest, part)[:]
        if part != "train" and manifest.target is not None:
            assert rows.relations is not None
            target = manifest.relation_names.index(manifest.target)
            rows = rows.take(np.flatnonzero(rows.relations == target))
        loaded[part] = rows
    return Dataset(
        spec=Spec(
            manifest.num_users,
            manifest.num_items,
            features=tuple((n, f["width"]) for n, f in manifest.features.items()),
        ),
        name=manifest.name,
        parts=loaded,
        users=pq.read_table(check_file(root, manifest, "users.parquet")),
        items=pq.read_table(check_file(root, manifest, "items.parquet")),
        features={
            feature: Feature(
                *(
                    np.load(
                        check_file(root, manifest, file),
                        mmap_mode="r",
                        allow_pickle=False,
                    )
                    for file in feature_files(feature)
                )
            )
            for feature in manifest.features
        },
        relation_names=tuple(manifest.relation_names),
        target=manifest.target,
        split_hash=manifest.split_hash,
        feature_hashes={
            feature: manifest.files[feature_files(feature)[0]]["sha256"]
            for feature in manifest.features
        },
    )


def open_part(path: str | os.PathLike, part: str) -> "Rows":
    """Opens one part for random access, without loading it.

    For processes that train on a share of the rows each.  The rows are as stored: of
    every relation, sorted by user, then item.

    Args:
      path: folder of the dataset.
      part: name of the part.

    Returns:
      Its rows; ``len`` of it is n, and a slice, an integer array or a boolean mask
      gives `Interactions`, reading only the blocks that hold them.

    Raises:
      ValueError: as `load`.

    Examples:
      >>> import tempfile
      >>> from recjax.data import Split, split, synthetic
      >>> log = split(synthetic(), Split("leave_one_out"))
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = write(log, folder + "/made-up", name="made up", config={})
      ...     rows = open_part(path, "train")
      ...     len(rows), rows[9:12].users, rows[np.array([1999, 0])].users
      (2000, array([0, 1, 1], dtype=int32), array([199,   0], dtype=int32))
    """
    from recjax.data._blocks import open_blocks

    root = absolute(path)
    return open_blocks(root, read_manifest(root), part)


def feature_files(feature: str) -> tuple[str, str]:
    """Names of the files of a feature: its values, and its presence."""
    return f"features/{feature}.npy", f"features/{feature}.present.npy"


def _write_content(log: Log, folder: Path, identity: dict[str, Any]) -> None:
    from recjax.data import _blocks

    parts = _blocks.write_blocks(log, folder)
    pq.write_table(log.users, folder / "users.parquet")
    pq.write_table(log.items, folder / "items.parquet")
    features = {}
    for feature, table in log.features.items():
        features[feature] = write_feature(folder, feature, table)
    manifest = Manifest(
        name=identity["name"],
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        versions={"recjax": recjax.__version__}
        | {
            library: importlib.metadata.version(library)
            for library in ("tensorflow-datasets", "array_record", "pyarrow", "numpy")
        },
        config=identity["config"],
        num_users=log.users.num_rows,
        num_items=log.items.num_rows,
        columns=_blocks.present_columns(log.interactions),
        block_rows=_blocks.BLOCK_ROWS,
        parts=parts,
        relation_names=list(log.relation_names),
        target=identity["target"],
        split_hash=identity["split hash"],
        features=features,
        report=plain([step._asdict() for step in log.report], "report"),
        files={
            file.relative_to(folder).as_posix(): describe_file(file)
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        },
    )
    write_manifest(folder, manifest)


def write_feature(folder: Path, name: str, feature: Feature) -> dict[str, Any]:
    """Writes a feature into a folder, and returns what the manifest says of it."""
    (folder / "features").mkdir(exist_ok=True)
    for file, array in zip(feature_files(name), feature, strict=True):
        np.save(folder / file, np.asarray(array), allow_pickle=False)
    return {
        "width": int(feature.values.shape[1]),
        "dtype": str(feature.values.dtype),
        "present": int(np.count_nonzero(feature.present)),
    }


def _is_full(error: OSError) -> bool:
    """Whether a disk or a quota is full, which each library says in its own way."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    said = str(error)
    short = "requested and" in said and "written" in said  # NumPy
    return short or os.strerror(errno.ENOSPC) in said


def _is_same(root: Path, identity: dict[str, Any]) -> bool:
    """Whether ``root`` holds this dataset; ValueError where it holds another one.

    False where there is nothing, and where there is this dataset but damaged: writing
    it again is then the remedy.
    """
    if not root.exists() or not any(root.iterdir()):
        return False
    manifest = read_manifest(root)
    found = {
        "name": manifest.name,
        "config": manifest.config,
        "target": manifest.target,
        "split hash": manifest.split_hash,
    }
    lines = [
        line for key in identity for line in differences(found[key], identity[key], key)
    ]
    if lines:
        raise ValueError(
            f"{root} holds a dataset that was prepared in another way:\n  "
            + "\n  ".join(lines)
            + "\nreplace it with --overwrite, or choose another folder with --out"
        )
    return is_prepared(root, identity["config"])
