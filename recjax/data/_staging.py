"""Whole folders appear at once: written beside, renamed at the end.

Nothing here reads a dataset; it only moves folders.
"""

import contextlib
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from recjax.data._manifest import MANIFEST, TEMPORARY

# Names inside a dataset; a folder with anything else in it is never replaced.
CONTENT = {MANIFEST, "interactions", "users.parquet", "items.parquet", "features"}


def _sibling(root: Path, kind: str) -> Path:
    return root.parent / f".{root.name}.recjax-{kind}-{uuid.uuid4().hex}"


@contextlib.contextmanager
def staging(root: Path) -> Iterator[Path]:
    """A temporary folder beside ``root``, removed at the end if it is still there."""
    root.parent.mkdir(parents=True, exist_ok=True)
    folder = _sibling(root, "new")
    folder.mkdir()
    # The lock says that the writer lives; the kernel drops it however the writer ends.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems have none
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def publish(folder: Path, root: Path) -> None:
    """Makes the temporary folder the dataset, in place of an earlier one."""
    if not root.exists():
        os.rename(folder, root)
        return
    # A folder cannot be renamed onto a full one.  Killed between the two renames, the
    # earlier dataset lies beside; `clean_leftovers` puts it back.
    earlier = _sibling(root, "old")
    os.rename(root, earlier)
    try:
        os.rename(folder, root)
    except OSError:
        if not root.exists():
            os.rename(earlier, root)
        raise
    shutil.rmtree(earlier, ignore_errors=True)


def clean_leftovers(root: Path) -> None:
    """Removes what killed writers of ``root`` left; puts a half-replaced one back."""
    if not root.parent.is_dir():
        return
    for entry in sorted(root.parent.iterdir()):
        match = TEMPORARY.fullmatch(entry.name)
        if not match or not entry.name.startswith(f".{root.name}.recjax-"):
            continue
        if match[1] == "old":
            if root.exists():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                os.rename(entry, root)
        elif not _is_locked(entry):
            shutil.rmtree(entry, ignore_errors=True)


def _is_locked(folder: Path) -> bool:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True  # alive, or no locks here: rather leave it than break a writer
    finally:
        os.close(descriptor)
    return False


def check_replaceable(root: Path) -> None:
    """Refuses a path where something other than a dataset is."""
    if root.is_dir():
        foreign = sorted({entry.name for entry in root.iterdir()} - CONTENT)
        if foreign:
            raise ValueError(
                f"{root} is not a dataset (it holds {foreign[:3]}) and is not "
                "replaced; choose another folder with --out"
            )
    elif root.exists():
        raise ValueError(f"{root} is a file; choose another folder with --out")
