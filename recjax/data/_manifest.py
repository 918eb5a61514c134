"""The manifest of a prepared dataset: ``dataset.json``, written last, checked first.

It lists every file with its size and SHA-256, and carries a digest of itself, so that
a half-written or altered dataset is refused before anything is made of it.
"""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

FORMAT = 1
MANIFEST = "dataset.json"
REMEDY = "prepare it again with --overwrite"

# Names that become file names.  No dot: "image.present" would be two files at once.
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_SAFE_FILE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")

# Folders of a write in progress (new) and of a dataset being replaced (old).
TEMPORARY = re.compile(r"\..+\.recjax-(new|old)-[0-9a-f]{32}")


class Manifest(NamedTuple):
    """What ``dataset.json`` says; JSON values only.

    Attributes:
      name: the dataset's name.
      created: UTC date and time of preparation.
      versions: version of recjax and of the libraries that wrote the files.
      config: how the dataset was prepared, as given to `recjax.data.write`.
      num_users: U.
      num_items: I.
      columns: columns of the interactions.
      block_rows: rows of one record.
      parts: rows and file names of each part.
      relation_names: names of the behaviours.
      target: the behaviour that is evaluated; None where there is one only.
      split_hash: `recjax.data.split_hash` of the log.
      features: width, dtype and number of present rows of each item feature table.
      report: the steps of reading, cleaning and splitting.
      files: size and SHA-256 of every other file, by its relative POSIX path.
    """

    name: str
    created: str
    versions: dict[str, str]
    config: dict[str, Any]
    num_users: int
    num_items: int
    columns: list[str]
    block_rows: int
    parts: dict[str, dict[str, Any]]
    relation_names: list[str]
    target: str | None
    split_hash: str
    features: dict[str, dict[str, Any]]
    report: list[dict[str, Any]]
    files: dict[str, dict[str, Any]]


def absolute(path: str | os.PathLike) -> Path:
    """The path with ``~`` and links resolved."""
    # Links are followed: a rename onto a link would replace the link.
    return Path(os.path.realpath(Path(path).expanduser()))


def check_name(kind: str, name: str) -> None:
    """Refuses a name that is unfit for a file name."""
    if not _SAFE.fullmatch(name):
        raise ValueError(
            f"{kind} name {name!r} is unfit for a file name; use up to 64 ASCII "
            "letters, digits, '_' and '-', starting with a letter or digit"
        )


def plain(value: Any, what: str) -> Any:
    """The value as JSON gives it back: tuples as lists, NumPy scalars as numbers."""
    try:
        return json.loads(json.dumps(value, default=_scalar, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} must hold JSON values only: {error}") from error


def differences(old: Any, new: Any, where: str) -> list[str]:
    """One line for each place where two JSON values differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            line
            for key in sorted(old.keys() | new.keys())
            for line in differences(
                old.get(key, "(absent)"), new.get(key, "(absent)"), f"{where}.{key}"
            )
        ]
    return [] if old == new else [f"{where} is {old!r} on disk, {new!r} asked"]


def describe_file(file: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file."""
    with file.open("rb") as stream:
        return {
            "size": os.fstat(stream.fileno()).st_size,
            "sha256": hashlib.file_digest(stream, "sha256").hexdigest(),
        }


def check_file(root: Path, manifest: Manifest, name: str) -> Path:
    """The path of a listed file, after its size and SHA-256 were found right."""
    file = root / name
    expected = manifest.files.get(name)
    if expected is None:
        raise ValueError(f"{root / MANIFEST} does not list {name}; {REMEDY}")
    # A link may lead outside although the name does not.
    if not file.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"{file} leads out of the dataset's folder; {REMEDY}")
    if not file.is_file():
        raise ValueError(f"{file} is missing: the dataset is half-written; {REMEDY}")
    size = file.stat().st_size
    if size != expected["size"]:
        raise ValueError(
            f"{file} holds {size:,} bytes, but the manifest says "
            f"{expected['size']:,}: it was cut short or altered; {REMEDY}"
        )
    found = describe_file(file)
    if found != expected:
        raise ValueError(
            f"{file} was altered: its SHA-256 is {found['sha256'][:12]}..., but the "
            f"manifest says {expected['sha256'][:12]}...; {REMEDY}"
        )
    return file


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Writes ``dataset.json`` by renaming a complete file."""
    content = {"format": FORMAT, **manifest._asdict()}
    content["digest"] = _digest(content)
    part = root / (MANIFEST + ".part")
    with part.open("w", encoding="utf-8") as stream:
        json.dump(content, stream, indent=1, ensure_ascii=False, allow_nan=False)
        stream.write("\n")
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(part, root / MANIFEST)


def read_manifest(root: Path) -> Manifest:
    """The manifest of a dataset, itself checked; no other file is opened.

    Args:
      root: the dataset's folder.

    Returns:
      The manifest.

    Raises:
      ValueError: there is no folder or no manifest, it was altered, it is of a newer
        format, or it names files outside the folder.
    """
    file = root / MANIFEST
    if TEMPORARY.fullmatch(root.name):
        raise ValueError(
            f"{root} is the temporary folder of an interrupted write; prepare the "
            "dataset again, which removes it"
        )
    if not root.is_dir():
        raise ValueError(f"no dataset at {root}; prepare one there first")
    if not file.is_file():
        raise ValueError(f"{file} is missing: the dataset is half-written; {REMEDY}")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        version = int(content["format"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{file} is not a manifest ({error}); {REMEDY}") from error
    if version > FORMAT:
        raise ValueError(
            f"{file} is of format {version}, this recjax reads up to {FORMAT}; "
            f"update recjax, or {REMEDY}"
        )
    digest = content.pop("digest", None)
    if digest != _digest(content):
        raise ValueError(f"{file} was altered: its digest is wrong; {REMEDY}")
    del content["format"]
    try:
        manifest = Manifest(**content)
    except TypeError as error:
        raise ValueError(f"{file} is not a manifest ({error}); {REMEDY}") from error
    for name in manifest.files:
        if not _SAFE_FILE.fullmatch(name):
            raise ValueError(f"{file} names the unsafe file {name!r}; {REMEDY}")
    for feature in manifest.features:
        check_name("feature", feature)
    return manifest


def _digest(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _scalar(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not a JSON value")
