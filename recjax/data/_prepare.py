"""From any source to a prepared dataset: read, clean, split, write."""

import dataclasses
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recjax.data._clean import Cleaning, clean
from recjax.data._columns import GUESS, Columns
from recjax.data._dataset import Dataset
from recjax.data._home import data_home
from recjax.data._read import Format, read, tell
from recjax.data._split import Split, split
from recjax.data._store import is_prepared, load, write

DEFAULT_CLEANING = {
    # Ratings become likes: 4 stars and more, users and items with five of them.
    "movielens-small": Cleaning(min_value=4.0, min_user=5, min_item=5),
}
"""Cleaning of sources by name, where `Cleaning()` would not be what people expect."""


def prepare(
    source: str | Path,
    out: str | Path | None = None,
    *,
    cleaning: Cleaning | None = None,
    split_by: Split = Split(),  # noqa: B008 - frozen
    format: Format | None = None,
    columns: Columns = GUESS,
    items_file: str | Path | None = None,
    users_file: str | Path | None = None,
    list_columns: Sequence[str] = (),
    list_separator: str = "|",
    triples_file: str | Path | None = None,
    links_file: str | Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Reads, cleans, splits and writes a dataset; a no-op where it is there already.

    Args:
      source: see `recjax.data.read`.
      out: folder of the dataset; None for one below `recjax.data.data_home`.
      cleaning: None for the source's own in `DEFAULT_CLEANING`, else `Cleaning()`.
      split_by: how rows are held out.
      format: see `recjax.data.read`, as the seven that follow.
      columns: which column means what.
      items_file: a table about the items.
      users_file: a table about the users.
      list_columns: columns of these with several values in one text.
      list_separator: what stands between them.
      triples_file: a table of facts about the items.
      links_file: a table of links between the users.
      overwrite: replace a dataset that was prepared in another way.

    Returns:
      The folder.

    Raises:
      ValueError: from reading, cleaning, splitting or writing; says which and why.
      OSError: the disk is full or may not be written.
    """
    source_name = str(source)
    if cleaning is None:
        cleaning = DEFAULT_CLEANING.get(source_name, Cleaning())
    if format is None:
        # Before the files are hashed: a folder of anything else may be large.
        tell(source_name, Path(source))
    config: dict[str, Any] = {
        "source": Path(source).name if Path(source).exists() else source_name,
        "content": _content_hash(
            [source, items_file, users_file, triples_file, links_file]
        ),
        "cleaning": dataclasses.asdict(cleaning),
        "split": dataclasses.asdict(split_by),
        "format": format,
        "columns": dataclasses.asdict(columns),
        "list_columns": list(list_columns),
        "list_separator": list_separator,
    }
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(source).resolve().stem).strip("-.")
    if not Path(source).exists():
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", source_name).strip("-.")
    if out is None:
        # Two files of one name in different folders are two datasets.
        suffix = f"-{config['content'][:8]}" if config["content"] else ""
        out = data_home() / f"{name or 'dataset'}{suffix}"
    if is_prepared(out, config):
        return Path(out)
    log = read(
        source,
        format=format,
        columns=columns,
        items_file=items_file,
        users_file=users_file,
        list_columns=list_columns,
        list_separator=list_separator,
        triples_file=triples_file,
        links_file=links_file,
        target=split_by.target,
    )
    return write(
        split(clean(log, cleaning), split_by),
        out,
        name=name or "dataset",
        config=config,
        target=split_by.target,
        overwrite=overwrite,
    )


def find(dataset: str | Path) -> Path:
    """The folder of a prepared dataset, preparing a source as it is where needed.

    Args:
      dataset: a prepared folder, the name of one below `recjax.data.data_home`, or a
        source for `prepare`.

    Returns:
      The folder.

    Raises:
      ValueError: nothing of that name is known.
    """
    for path in (Path(dataset), data_home() / str(dataset)):
        # One without its manifest is half of one: for `load` to refuse.
        if (path / "dataset.json").is_file() or (
            (path / "interactions").is_dir() and (path / "users.parquet").is_file()
        ):
            return path
    return prepare(dataset)


def open_dataset(
    dataset: str | Path, parts: Sequence[str] = ("train", "valid")
) -> Dataset:
    """Loads a dataset by folder, name or source; see `find` and `load`."""
    return load(find(dataset), parts)


def _content_hash(sources: Sequence[str | Path | None]) -> str:
    """SHA-256 over the files of the sources; empty where none of them is a file."""
    digest, found = hashlib.sha256(), False
    for source in sources:
        path = Path(source) if source is not None else None
        if path is None:
            continue
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.is_file())
        elif path.is_file():
            files = [path]
        else:
            # RecBole's atomic files by prefix.
            files = sorted(path.parent.glob(f"{path.name}.*")) if path.name else []
        for file in files:
            found = True
            digest.update(file.name.encode())
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest() if found else ""
