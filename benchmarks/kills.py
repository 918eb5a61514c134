"""Kill -9 of one of several training processes, again and again.

    python -m benchmarks.kills --processes 2 --kills 20

Each time, all processes start (again, with --resume), one of them is killed at a random
moment, every second time while a checkpoint is being written, and three things are
asked: do the others end within a minute, with an error that says so; is there a
checkpoint of the last epoch that was saved, or of a later one; and, at the end, after a
SIGTERM to one that makes all of them save and leave, are the losses of all epochs those
of a run that nobody disturbed.
"""

import argparse
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from recjax.data import synthetic

LONGEST_WAIT = 60.0
_STARTING = 900.0
_SIGNS = ("another one may be gone", "another task died", "recjax: process")


def write_pairs(path: Path) -> None:
    """A small made-up dataset as a table."""
    log = synthetic(num_users=120, num_items=90, num_groups=3, rows_per_user=14)
    rows = log.interactions
    lines = [f"u{u},i{i}" for u, i in zip(rows.users, rows.items, strict=True)]
    path.write_text("user,item\n" + "\n".join(lines) + "\n")


def start(
    folder: Path, processes: int, epochs: int, words: Sequence[str] = ()
) -> list[subprocess.Popen]:
    """Starts the processes of a run, on four devices in all."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(4 // processes),
        "RECJAX_DATA_DIR": str(folder / "data"),
        # Programs are compiled once for all starts.
        "JAX_COMPILATION_CACHE_DIR": str(folder / "programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
    }
    command = [sys.executable, "-m", "recjax", "train", str(folder / "pairs.csv")]
    command += ["--model.dim", "8", "--batch-size", "64", "--no-baselines"]
    command += ["--parallel", "mesh:data=2,model=2", "--patience", "100000"]
    command += ["--epochs", str(epochs), *words]
    if processes > 1:
        command += ["--coordinator", f"localhost:{port}"]
        command += ["--num-processes", str(processes)]
    found = []
    for number in range(processes):
        own = ["--process-id", str(number)] if processes > 1 else []
        with (folder / f"said.{number}").open("w") as said:
            found.append(
                subprocess.Popen(
                    command + own, stdout=said, stderr=said, env=environment
                )
            )
    return found


def whole_epochs(run: Path) -> list[int]:
    """Epochs of the checkpoints that Orbax has published."""
    there = (run / "checkpoints").glob("*")
    return sorted(int(path.name) for path in there if path.name.isdecimal())


def is_saving(run: Path) -> bool:
    """Whether a checkpoint is being written."""
    return any((run / "checkpoints").glob("*orbax-checkpoint-tmp*"))


def wait_until(
    ready: Callable[[], bool], alive: Sequence[subprocess.Popen], seconds: float
) -> bool:
    """Whether it came to that in time, and with all processes alive."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and all(one.poll() is None for one in alive):
        if ready():
            return True
        time.sleep(0.002)
    return False


def kill_one(
    folder: Path, processes: int, rng: random.Random, *, saving: bool
) -> dict[str, Any]:
    """One start, one kill, and what became of the others."""
    run = folder / "run"
    before = whole_epochs(run)
    words = ["--out", str(run)] + (["--resume"] if before else [])
    if not before:
        shutil.rmtree(run, ignore_errors=True)
    running = start(folder, processes, 100_000, words)
    try:
        last = before[-1] if before else 0
        if not wait_until(
            lambda: (whole_epochs(run) or [0])[-1] > last, running, _STARTING
        ):
            raise RuntimeError(f"no epoch was done: {_said(folder, processes)}")
        time.sleep(rng.uniform(0, 2.0))
        if saving:
            wait_until(lambda: is_saving(run), running, 30.0)
        victim = rng.randrange(processes)
        kept, was_saving = whole_epochs(run)[-1], is_saving(run)
        running[victim].kill()
        since = time.monotonic()
        others = [one for n, one in enumerate(running) if n != victim]
        for one in others:
            one.wait(max(0.0, LONGEST_WAIT + since - time.monotonic()))
        seconds = time.monotonic() - since
    finally:
        for one in running:
            one.kill()
            one.wait()
    said = _said(folder, processes)
    others = [text for number, text in said.items() if number != victim]
    return {
        "victim": victim,
        "saving": was_saving,
        "seconds": round(seconds, 2),
        "codes": str([one.returncode for one in running]),
        "clear": all(any(sign in text for sign in _SIGNS) for text in others),
        "kept": kept,
        "after": whole_epochs(run)[-1],
    }


def interrupt_one(folder: Path, processes: int) -> list[int | None]:
    """SIGTERM to one process, as before a preemption: all save and end; their codes."""
    run = folder / "run"
    last = whole_epochs(run)[-1]
    words = ["--out", str(run), "--resume"]
    running = start(folder, processes, 100_000, words)
    try:
        if not wait_until(lambda: whole_epochs(run)[-1] > last, running, _STARTING):
            raise RuntimeError(f"no epoch was done: {_said(folder, processes)}")
        running[-1].terminate()
        for one in running:
            one.wait(LONGEST_WAIT)
    finally:
        for one in running:
            one.kill()
            one.wait()
    return [one.returncode for one in running]


def _said(folder: Path, processes: int) -> dict[int, str]:
    return {n: (folder / f"said.{n}").read_text()[-3000:] for n in range(processes)}


def losses(run: Path) -> list[float]:
    """The loss of each epoch of a run."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def measure(folder: Path, processes: int, kills: int, seed: int = 0) -> dict:
    """Kills, resumes, and compares with a run that was left alone.

    Args:
      folder: for the runs; must be new.
      processes: 2 or 4.
      kills: how many.
      seed: of the moments and the victims.

    Returns:
      What happened at each kill, and the largest difference of the losses.
    """
    rng = random.Random(seed)
    write_pairs(folder / "pairs.csv")
    events = []
    for number in range(kills):
        event = kill_one(folder, processes, rng, saving=number % 2 == 1)
        print(event, flush=True)
        events.append(event)
    codes = interrupt_one(folder, processes)
    epochs = whole_epochs(folder / "run")[-1] + 2
    for name, count, words in (("run", processes, ["--resume"]), ("alone", 1, [])):
        ended = start(folder, count, epochs, ["--out", str(folder / name), *words])
        if any(one.wait(_STARTING) for one in ended):
            raise RuntimeError(f"{name} failed: {_said(folder, count)}")
    pairs = list(zip(losses(folder / "run"), losses(folder / "alone"), strict=True))
    return {
        "processes": processes,
        "kills": events,
        "codes_after_sigterm": codes,
        "epochs": len(pairs),
        "largest_relative_difference": max(abs(a - b) / abs(b) for a, b in pairs),
        "longest_wait": max(float(event["seconds"]) for event in events),
        "lost": sum(event["after"] < event["kept"] for event in events),
        "unclear": sum(not event["clear"] for event in events),
    }


def main(argv: Sequence[str] | None = None) -> dict:
    """Reads options, measures, and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, default=2, choices=(2, 4))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(
            Path(folder), options.processes, options.kills, seed=options.seed
        )
    print(json.dumps({k: v for k, v in found.items() if k != "kills"}, indent=2))
    return found


if __name__ == "__main__":
    main()
