"""Preparing generated interactions from a CSV file: seconds and peak memory.

    python -m benchmarks.prepare --rows 10000000 --out FILE.json

Users and items are drawn from skewed distributions, with text ids, ratings and times;
the file is written in blocks by this process, and read, cleaned, split and stored by
``recjax data prepare`` in a process of its own, whose peak memory is reported.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv

from benchmarks import command, limits, render
from recjax.data import open_part
from recjax.run_folder import environment

_BLOCK = 500_000


def write_rows(path: Path, rows: int, users: int, items: int) -> None:
    """Writes a CSV file of random interactions.

    Args:
      path: the file.
      rows: its rows.
      users: distinct users at most.
      items: distinct items at most.
    """
    rng = np.random.default_rng(0)
    schema = pa.schema(
        {
            "user": pa.string(),
            "item": pa.string(),
            "rating": pa.int8(),
            "timestamp": pa.int64(),
        }
    )
    with csv.CSVWriter(path, schema) as writer:
        for start in range(0, rows, _BLOCK):
            size = min(_BLOCK, rows - start)
            user = (users * rng.random(size) ** 2).astype(np.int64)
            item = (items * rng.random(size) ** 3).astype(np.int64)
            block = {
                "user": np.char.add("user-", user.astype(str)),
                "item": np.char.add("item-", item.astype(str)),
                "rating": rng.integers(1, 6, size, np.int8),
                "timestamp": rng.integers(1_500_000_000, 1_600_000_000, size),
            }
            writer.write_batch(pa.record_batch(block, schema=schema))


def measure(rows: int, users: int, items: int) -> dict:
    """Generates and prepares.

    Args:
      rows: interactions.
      users: distinct users at most.
      items: distinct items at most.

    Returns:
      The results, see `benchmarks.command.results`: seconds, peak memory, rows stored
      by part, and what ran.
    """
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder, "rows.csv"), Path(folder, "dataset")
        write_rows(path, rows, users, items)
        size = path.stat().st_size
        words = ("data", "prepare", str(path), "--out", str(out))
        start = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", "recjax", *words])
        _, code, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        if code:
            raise SystemExit(f"recjax {' '.join(words)} ended with {code}")
        parts = {part: len(open_part(out, part)) for part in ("train", "valid", "test")}
    memory = usage.ru_maxrss * 1024
    row = {
        "group": "prepare",
        "name": "recjax data prepare",
        "is_ours": True,
        "seconds": seconds,
        "rows_per_second": rows / seconds,
        "bytes_per_second": size / seconds,
        "memory_bytes": memory,
    }
    return {
        "benchmark": "prepare",
        "problem": {"name": "generated CSV", "rows": rows, "bytes": size},
        "stored_rows": parts,
        "rows": [row],
        "host": limits.host(),
        **environment(),
        # Of the process that did the work, not of this one.
        "peak_memory_bytes": memory,
    }


def main() -> None:
    """Reads options, measures, prints, and writes JSON where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--users", type=int, default=500_000)
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = measure(options.rows, options.users, options.items)
    print(render.section(found))
    if options.out:
        command.write(options.out, found)


if __name__ == "__main__":
    main()
