"""Interaction rows as a TFDS dataset: one split a part, one record a block of rows.

Imported inside functions only, since importing TFDS takes 0.4 s.
"""

import dataclasses
import itertools
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from recjax.data._log import Log
from recjax.data._manifest import REMEDY, Manifest, check_file
from recjax.types import Interactions

BLOCK_ROWS = 65_536
SHARD_BLOCKS = 256

# Column on disk: field of `Interactions` and dtype.
COLUMNS = {
    "user": ("users", np.int32),
    "item": ("items", np.int32),
    "value": ("values", np.float32),
    "time": ("times", np.int64),
    "relation": ("relations", np.int32),
}
FOLDER = "interactions/1.0.0"


class _Info(tfds.core.DatasetInfo):
    def initialize_from_bucket(self) -> None:
        # Nothing of ours lies in a bucket; the original leaves an empty folder in
        # /tmp on every call.
        pass


class Blocks(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Writes and opens the interactions of one prepared dataset.

    Not registered by name: it is made for a folder, never looked up.
    """

    name = "interactions"
    VERSION = tfds.core.Version("1.0.0")
    # TFDS would look beside this file for checksums of downloads, by a package that
    # it does not declare (importlib_resources).
    code_path = None

    def __init__(self, columns: Sequence[str], log: Log | None = None, **options: Any):
        """A builder for these columns; ``log`` is needed for writing only."""
        self._columns = tuple(columns)
        self._log = log
        super().__init__(file_format="array_record", **options)

    def _info(self) -> tfds.core.DatasetInfo:
        return _Info(
            builder=self,
            description="Blocks of interactions, sorted by user, then item.",
            disable_shuffling=True,
            features=tfds.features.FeaturesDict(
                {
                    name: tfds.features.Tensor(
                        shape=(None,), dtype=COLUMNS[name][1], encoding="bytes"
                    )
                    for name in self._columns
                }
            ),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        assert self._log is not None
        return {part: self._generate_examples(part) for part in self._log.part_names}

    def _generate_examples(self, part: str) -> Iterator[tuple[int, dict]]:
        assert self._log is not None
        rows = _sorted_rows(self._log, part)
        for key in range(_num_blocks(len(rows))):
            block = self._log.interactions.take(
                rows[key * BLOCK_ROWS : (key + 1) * BLOCK_ROWS]
            )
            yield (
                key,
                {name: getattr(block, COLUMNS[name][0]) for name in self._columns},
            )

    def _generate_splits(self, dl_manager: Any, download_config: Any) -> list:
        assert self._log is not None
        # The inherited method holds a whole part in memory to sort it, and asks for
        # TensorFlow where the part exceeds 1 GB.  The blocks are in order already.
        features = self.info.features
        writer = self._example_writer()
        infos = []
        for part, examples in self._split_generators(dl_manager).items():
            template = self._get_filename_template(split_name=part)
            num_blocks = _num_blocks(_part_rows(self._log, part))
            lengths = [
                min(SHARD_BLOCKS, num_blocks - start)
                for start in range(0, num_blocks, SHARD_BLOCKS)
            ]
            num_bytes = 0

            def serialized(blocks: Iterator, features: Any = features) -> Iterator:
                nonlocal num_bytes
                for key, block in blocks:
                    record = features.serialize_example(block)
                    num_bytes += len(record)
                    yield key, record

            for shard, length in enumerate(lengths):
                file = template.sharded_filepath(
                    shard_index=shard, num_shards=len(lengths)
                )
                writer.write(file, serialized(itertools.islice(examples, length)))
            infos.append(
                tfds.core.SplitInfo(
                    name=part,
                    shard_lengths=lengths,
                    num_bytes=num_bytes,
                    filename_template=template,
                )
            )
        return infos

    def _log_download_bytes(self) -> None:
        pass  # TFDS prints a line about a download; there is none

    def _log_download_done(self) -> None:
        pass


def write_blocks(log: Log, root: Path) -> dict[str, dict[str, Any]]:
    """Writes every part under ``root``; rows and file names of each part."""
    builder = Blocks(present_columns(log.interactions), log, data_dir=str(root))
    try:
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(try_download_gcs=False)
        )
    except RuntimeError as error:
        # ArrayRecord reports a full disk this way.
        raise OSError(f"cannot write interactions under {root}: {error}") from error
    shutil.rmtree(root / "downloads", ignore_errors=True)  # TFDS makes it in any case
    return {
        part: {
            "rows": _part_rows(log, part),
            "files": [f"{FOLDER}/{name}" for name in _shards(builder, part)],
        }
        for part in log.part_names
    }


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """Rows of one part on disk, read a block at a time.

    Indexed by a slice, an integer array or a boolean mask, it gives `Interactions`
    and reads only the blocks that hold them.  Neighbouring rows share a block:
    contiguous ranges are cheap, scattered rows cost one block each.

    Attributes:
      source: the TFDS data source; record b is block b.
      num_rows: n.
      block_rows: rows of one block.
      columns: columns of a block.
    """

    source: Any
    num_rows: int
    block_rows: int
    columns: tuple[str, ...]

    def __len__(self) -> int:
        """Number of rows n."""
        return self.num_rows

    def __getitem__(self, rows: slice | np.ndarray) -> Interactions:
        """The given rows, in the given order."""
        if isinstance(rows, slice):
            start, stop, step = rows.indices(self.num_rows)
            if step == 1:
                return self._range(start, max(start, stop))
            rows = np.arange(start, stop, step)
        return self._scattered(self._positions(np.asarray(rows)))

    def _range(self, start: int, stop: int) -> Interactions:
        out = self._empty(stop - start)
        for number in range(start // self.block_rows, -(-stop // self.block_rows)):
            first = number * self.block_rows
            low, high = max(start, first), min(stop, first + self.block_rows)
            block = self._block(number)
            for name, column in out.items():
                column[low - start : high - start] = block[name][
                    low - first : high - first
                ]
        return _interactions(out)

    def _scattered(self, rows: np.ndarray) -> Interactions:
        out = self._empty(len(rows))
        order = np.argsort(rows, kind="stable")
        numbers, starts = np.unique(rows[order] // self.block_rows, return_index=True)
        for number, places in zip(numbers, np.split(order, starts)[1:], strict=True):
            block = self._block(int(number))
            for name, column in out.items():
                column[places] = block[name][rows[places] - number * self.block_rows]
        return _interactions(out)

    def _positions(self, rows: np.ndarray) -> np.ndarray:
        if rows.dtype == np.bool_ and rows.shape == (self.num_rows,):
            return np.flatnonzero(rows)
        if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
            raise ValueError(
                "rows are a slice, an integer array [n] or a boolean mask "
                f"[{self.num_rows}]; got {rows.dtype} of shape {rows.shape}"
            )
        rows = rows.astype(np.int64)
        if rows.size and not (0 <= rows.min() and rows.max() < self.num_rows):
            raise ValueError(
                f"rows must lie in [0, {self.num_rows}); got {rows.min()} to "
                f"{rows.max()}"
            )
        return rows

    def _block(self, number: int) -> dict[str, np.ndarray]:
        block = self.source[number]
        expected = min(self.block_rows, self.num_rows - number * self.block_rows)
        for name in self.columns:
            if len(block[name]) != expected:
                raise ValueError(
                    f"block {number} holds {len(block[name])} rows of {name!r}, "
                    f"expected {expected}; {REMEDY}"
                )
        return block

    def _empty(self, num_rows: int) -> dict[str, np.ndarray]:
        return {name: np.empty(num_rows, COLUMNS[name][1]) for name in self.columns}


def open_blocks(root: Path, manifest: Manifest, part: str) -> Rows:
    """Rows of a part, after the files of this part (and no other) were checked."""
    if part not in manifest.parts:
        raise ValueError(f"no part {part!r} in {root}; it has {list(manifest.parts)}")
    for name in ("dataset_info.json", "features.json"):
        check_file(root, manifest, f"{FOLDER}/{name}")
    # Not `tfds.builder_from_directory`: it imports whatever features.json names.
    builder = Blocks(manifest.columns, data_dir=str(root))
    shards = [f"{FOLDER}/{name}" for name in _shards(builder, part)]
    if shards != manifest.parts[part]["files"]:
        raise ValueError(
            f"{root / FOLDER} has the files {shards} for {part!r}, the manifest says "
            f"{manifest.parts[part]['files']}; {REMEDY}"
        )
    for name in shards:
        check_file(root, manifest, name)
    return Rows(
        source=builder.as_data_source(split=part),
        num_rows=manifest.parts[part]["rows"],
        block_rows=manifest.block_rows,
        columns=tuple(manifest.columns),
    )


def present_columns(interactions: Interactions) -> list[str]:
    """Names on disk of the columns that are there."""
    return [
        name
        for name, (field, _) in COLUMNS.items()
        if getattr(interactions, field) is not None
    ]


def _interactions(columns: dict[str, np.ndarray]) -> Interactions:
    return Interactions(**{COLUMNS[name][0]: x for name, x in columns.items()})


def _shards(builder: Blocks, part: str) -> list[str]:
    # Relative to the folder: a template that leads elsewhere does not match.
    return [
        os.path.relpath(file, builder.data_dir)
        for file in builder.info.splits[part].filepaths
    ]


def _part_rows(log: Log, part: str) -> int:
    return int(np.count_nonzero(log.parts == log.part_names.index(part)))


def _num_blocks(num_rows: int) -> int:
    # TFDS refuses a split of no record: an empty part is one empty block.
    return max(1, -(-num_rows // BLOCK_ROWS))


def _sorted_rows(log: Log, part: str) -> np.ndarray:
    rows = np.flatnonzero(log.parts == log.part_names.index(part))
    users, items = log.interactions.users[rows], log.interactions.items[rows]
    # One packed key sorts twice as fast as lexsort and cannot overflow: both ids are
    # below 2^31.  Stable, so that repeated pairs keep their order.
    key = users.astype(np.int64) * log.items.num_rows + items
    return rows[np.argsort(key, kind="stable")]
