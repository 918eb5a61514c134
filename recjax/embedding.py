"""Vectors of a dataset's item texts: made once, kept, and added as a feature."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recjax import encoders
from recjax.data import add_feature, data_home, find, has_feature, item_texts, load
from recjax.types import Feature


def embed(
    dataset: str | Path,
    encoder: str | Path,
    *,
    fields: Sequence[str] = ("title",),
    template: str = "",
    name: str = "text",
    length: int | None = None,
    overwrite: bool = False,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Makes a vector of each item's text, and adds them to the dataset as a feature.

    Texts are made of item metadata alone (`recjax.data.item_texts`); the manifest says
    so, with the fields, the template and the encoder.  Vectors are written below
    `recjax.data.data_home` as they are done, by a hash of the encoder's weights, the
    texts and the length: a killed call goes on where it was, and a dataset that is
    prepared again gets its vectors from there.

    Args:
      dataset: a prepared folder, its name, or a source; see `recjax.data.find`.
      encoder: see `recjax.encoders.load`.
      fields: item columns of the text.
      template: see `recjax.data.item_texts`.
      name: of the feature.
      length: tokens of the longest text, the rest of which is cut; None for the
        encoder's own.
      overwrite: replace a feature of that name that was made in another way.
      on_batch: called with the numbers of texts done and of all texts.

    Returns:
      The dataset's folder.

    Raises:
      ValueError: from the dataset, the fields, the encoder, or a feature of that name.
      OSError: the disk is full or may not be written.
    """
    path = find(dataset)
    items = load(path, parts=()).items
    texts, present = item_texts(items, fields, template)
    if not present.any():
        raise ValueError(f"no item of {path} has a text in {', '.join(fields)}")
    tower, params, tokenizer = encoders.load(encoder)
    if tokenizer is None:
        raise ValueError(f"{encoder} takes images, and embed makes vectors of texts")
    length = tower.length if length is None else length
    # A length that leaves no room is refused before there is a bar.
    encoders.tokenize(tokenizer, [], length=length)
    made_by = {
        "command": "recjax embed",
        "encoder": Path(encoder).name,
        "weights": encoders.fingerprint(encoder),
        "pooling": tower.pooling,
        "normalise": tower.normalise,
        "length": length,
        "fields": list(fields),
        "template": template,
        "reads": ["items.parquet"],
    }
    # Before the work, not after it.
    if has_feature(path, name, made_by=made_by, overwrite=overwrite):
        return path
    rows = np.flatnonzero(present)
    known = [texts[row] for row in rows]
    key = {"weights": made_by["weights"], "length": length, "texts": known}
    store = _Store(data_home() / ".vectors" / _hash(key), len(known), tower.dim)
    todo = store.missing()
    on_batch(len(known) - len(todo), len(known))
    for places, vectors in encoders.encode_batches(
        tower, params, tokenizer, [known[row] for row in todo], length=length
    ):
        store.put(todo[places], vectors)
        on_batch(store.num_done, len(known))
    values = np.zeros((len(texts), tower.dim), np.float32)
    values[rows] = store.vectors()
    feature = Feature(values, present)
    return add_feature(path, name, feature, made_by=made_by, overwrite=overwrite)


class _Store:
    """Vectors on disk that outlive a killed process, row by row."""

    def __init__(self, folder: Path, rows: int, width: int) -> None:
        """Opens what is there, or begins."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._vectors = _open(folder / "vectors.npy", (rows, width), np.float32)
        # A digest of each row, zeros where it is not done: a row that was cut off in
        # the middle, or altered since, does not fit it.
        self._digests = _open(folder / "digests.npy", (rows, 16), np.uint8)

        self._done = np.array(
            [
                digest.tobytes() == _digest(vector)
                for digest, vector in zip(self._digests, self._vectors, strict=True)
            ],
            bool,
        )

    @property
    def num_done(self) -> int:
        """Rows that are there."""
        return int(self._done.sum())

    def missing(self) -> np.ndarray:
        """Rows that are not there yet."""
        return np.flatnonzero(~self._done)

    def put(self, rows: np.ndarray, vectors: np.ndarray) -> None:
        """Writes vectors of some rows."""
        self._vectors[rows] = vectors
        for row, vector in zip(rows, vectors, strict=True):
            self._digests[row] = np.frombuffer(_digest(vector), np.uint8)
        self._vectors.flush()
        self._digests.flush()
        self._done[rows] = True

    def vectors(self) -> np.ndarray:
        """All of them."""
        return np.array(self._vectors)


def _open(file: Path, shape: tuple[int, int], dtype: Any) -> np.memmap:
    """An array on disk, made of zeros where it is not there or of another shape."""
    try:
        found = np.lib.format.open_memmap(file, "r+")
        if found.shape == shape and found.dtype == dtype:
            return found
    except (OSError, ValueError):
        pass
    # Begun under another name: a file that is there is whole.
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    np.lib.format.open_memmap(part, "w+", dtype, shape).flush()
    part.replace(file)
    return np.lib.format.open_memmap(file, "r+")


def _digest(vector: np.ndarray) -> bytes:
    return hashlib.blake2b(vector.tobytes(), digest_size=16).digest()


def _hash(key: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
