"""What a table says on the way: its rows may take hours."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from recjax.training import Record


def show_epoch(record: Record) -> None:
    """What an epoch of a training has given."""
    words = f"epoch {record.epoch}: loss {record.losses['loss']:.4f}"
    if record.valid:
        scores = ", ".join(f"{name} {x:.4f}" for name, x in record.valid.items())
        words += f", valid {scores}, best {record.best_epoch}"
    _write_over(words)


def show_settings(epoch: int, records: Sequence[Record | None], *, by: str) -> None:
    """What an epoch of the trainings of a grid has given."""
    running = [record for record in records if record]
    words = f"epoch {epoch}: {len(running)} of {len(records)} settings go on"
    scores = [record.valid[by] for record in running if record.valid]
    if scores:
        words += f", valid {by} up to {max(scores):.4f}"
    _write_over(words)


def _write_over(words: str) -> None:
    """A line that the next one takes the place of: as long as any, narrower than 80."""
    print(f"  {words:<76}", end="\r", file=sys.stderr, flush=True)


def run_line(run: Mapping[str, Any]) -> str:
    """What a seed has come to."""
    words = f"seed {run['seed']}: "
    if "best_epoch" in run:
        words += f"epoch {run['best_epoch']} of {run['epochs']}, "
    scores = ", ".join(f"{name} {value:.4f}" for name, value in run["valid"].items())
    return f"{words}valid {scores}; {run['seconds']['total']:.1f} s"
