"""``recjax train``: which model its words mean, and what is shown while it trains."""

import contextlib
import dataclasses
import os
import signal
import sys
from collections.abc import Generator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import numpy as np
import tyro
from tqdm import tqdm

from recjax import pipeline
from recjax.console import models_table
from recjax.inputs import has_features
from recjax.joint import Encoder
from recjax.model_words import PARTS, chosen_model, part_of, take, take_model_words
from recjax.models import MODELS
from recjax.options import Train
from recjax.run_config import read_encoder, read_run
from recjax.sharding import join, leave_if_alone, read_parallel
from recjax.training import Record

LARGEST = 2**31 - 1
"""JAX counts in int32."""


SHOWN = ("recall@20", "ndcg@20", "hit_rate@20", "mrr@20", "coverage@20")
"""Columns of the table after training; summary.json has the rest."""


def train(options: Train) -> int:
    """Trains, shows how it goes, and prints what the test part says.

    Args:
      options: of the command.

    Returns:
      The exit code.
    """
    name = next(name for name, kind in MODELS.items() if type(options.model) is kind)
    _check_numbers(options.model)
    _check_numbers(options.training)
    join(options.coordinator, options.num_processes, options.process_id)
    parallel = read_parallel(options.parallel)
    seed = options.training.seed
    label = Path(options.dataset).resolve().name or "dataset"
    out = options.out or Path("runs", f"{label}-{name}-{seed}")
    baselines = ("popular", "item_knn") if options.baselines else ()
    bar: tqdm | None = None

    def show(record: Record) -> None:
        nonlocal bar
        if bar is None:
            # Not before the first epoch: an error in the data would stand beside it.
            total = options.training.epochs
            bar = tqdm(total=total, desc=name, unit="epoch")
            closing.push(contextlib.suppress(BrokenPipeError))
            closing.enter_context(bar)
        bar.n = record.epoch
        chosen = options.training.select_by
        facts = {"loss": f"{record.losses['loss']:.4f}"}
        if "accuracy" in record.losses:
            facts["accuracy"] = f"{record.losses['accuracy']:.3f}"
        if chosen in record.valid:
            facts[f"valid {chosen}"] = f"{record.valid[chosen]:.4f}"
        bar.set_postfix(facts | {"best epoch": record.best_epoch})

    def on_epoch(record: Record) -> None:
        # Whoever watched has left, such as head; that is no reason to stop.
        with contextlib.suppress(BrokenPipeError):
            show(record)

    with (
        leave_if_alone(out),
        _stop_signals() as stop,
        contextlib.ExitStack() as closing,
    ):
        summary = pipeline.train(
            options.dataset,
            options.model,
            options.training,
            out=out,
            resume=options.resume,
            attributes=options.attributes,
            encoder=_encoder(options),
            relations=options.relations,
            baselines=[other for other in baselines if other != name],
            on_epoch=on_epoch,
            should_stop=lambda: bool(stop),
            parallel=parallel,
        )
    if jax.process_index() > 0:
        return 0 if summary else 128 + (stop or [signal.SIGTERM])[0]
    if summary is None:
        again = f"recjax train --resume --out {out}"
        print(f"stopped and saved; go on with: {again}", file=sys.stderr)
        return 128 + (stop or [signal.SIGTERM])[0]
    rows = {name: summary["test"]}
    rows |= {other: scores["test"] for other, scores in summary["baselines"].items()}
    print(f"\ntest part of {summary['dataset']}, {summary['protocol']}\n")
    print(models_table(rows, SHOWN))
    seconds = ", ".join(f"{k} {v:.1f}" for k, v in summary["seconds"].items())
    memory = summary["peak_memory_bytes"] / 2**30
    print(f"\nseconds: {seconds}; peak memory {memory:.2f} GiB\nrun: {out}")
    return 0


def train_defaults(words: Sequence[str]) -> tuple[Train, list[str]]:
    """What the options of ``train`` start from, and the words that are left.

    The model is the one that ``--model`` and the options for its parts name; without a
    name, ModalGCN where the dataset has item features.  A run that is resumed brings
    its own dataset, model and settings.

    Args:
      words: after ``train``.

    Returns:
      The defaults, and the other words.
    """
    chosen, rest = take_model_words(words)
    named, _ = take(words, ("--out",))
    if "--resume" not in words or "--out" not in named:
        if "--model" not in chosen and _reads_features(rest):
            chosen = {"--model": "modal_gcn"} | chosen
        return Train(tyro.MISSING, chosen_model(chosen)), rest
    config, model, training = read_run(named["--out"])
    if chosen:
        name = next(name for name, kind in MODELS.items() if type(model) is kind)
        asked = chosen_model({"--model": name} | chosen)
        same = type(asked) is type(model) and all(
            type(part_of(asked, option)) is type(part_of(model, option))
            for option in chosen.keys() & PARTS.keys()
        )
        # Named again, the run's own model keeps the run's settings.
        model = model if same else asked
    default = Train(
        config["dataset"],
        model,
        training,
        attributes=tuple(config["attributes"]),
        relations=tuple(config.get("relations", ())),
    )
    encoder = read_encoder(config)
    if encoder is not None:
        default = dataclasses.replace(
            default,
            encoder=encoder.path,
            encoder_fields=",".join(encoder.fields),
            encoder_template=encoder.template,
            encoder_length=encoder.length,
            encoder_layers=encoder.layers,
        )
    return default, rest


def _encoder(options: Train) -> Encoder | None:
    """The language model that is trained along, if there is one."""
    if not options.encoder:
        return None
    return Encoder(
        options.encoder,
        tuple(x.strip() for x in options.encoder_fields.split(",") if x.strip()),
        options.encoder_template,
        options.encoder_length,
        options.encoder_layers,
    )


def _check_numbers(options: Any) -> None:
    """Refuses numbers that JAX would stumble over."""
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if dataclasses.is_dataclass(value):
            _check_numbers(value)
        elif isinstance(value, int) and abs(value) > LARGEST:
            raise ValueError(f"{field.name} {value} must be at most {LARGEST}")
        elif isinstance(value, float) and not np.isfinite(value):
            raise ValueError(f"{field.name} {value} must be a finite number")


def _reads_features(words: Sequence[str]) -> bool:
    """Whether the dataset, where it is named first, has item features."""
    if not words or words[0].startswith("-") or {"-h", "--help"} & set(words):
        return False
    return has_features(words[0])


@contextlib.contextmanager
def _stop_signals() -> Generator[list[int]]:
    """Collects SIGINT and SIGTERM instead of dying of them; a second one kills."""
    caught: list[int] = []

    def catch(number: int, frame: FrameType | None) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)
        # Not print: the signal may have come in the middle of one.
        os.write(2, b"\nrecjax: stopping after this epoch; once more stops at once\n")

    before = {one: signal.signal(one, catch) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
