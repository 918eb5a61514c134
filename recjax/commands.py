"""What each command does with its options, see `recjax.options`."""

import contextlib
import dataclasses
import json
import logging
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
from recjax.alignments import ALIGNMENTS
from recjax.cli import parse
from recjax.console import metrics_table, models_table, recommendation_table
from recjax.data import SOURCES, Cleaning, describe, find, prepare
from recjax.data._names import unknown
from recjax.embedding import embed
from recjax.evaluation import METRICS, evaluate, recommend
from recjax.lists import item_lists
from recjax.models import MODELS
from recjax.models.aligned import ENCODERS
from recjax.objectives import OBJECTIVES
from recjax.options import Describe, Embed, Evaluate, List, Prepare, Recommend, Train
from recjax.training import Record

# JAX counts in int32.
_LARGEST = 2**31 - 1
# Options that name a part of the model, the outer ones first.
_PARTS = {
    "--model.objective": OBJECTIVES,
    "--model.alignment": ALIGNMENTS,
    "--model.encoder": ENCODERS,
    "--model.encoder.objective": OBJECTIVES,
}

SHOWN = ("recall@20", "ndcg@20", "hit_rate@20", "mrr@20", "coverage@20")
"""Columns of the table after training; summary.json has the rest."""


def run(name: str, words: Sequence[str]) -> int:
    """Runs a command and returns its exit code."""
    # What Orbax logs as an error comes back as an exception too.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    with _warnings_as_lines():
        try:
            return _run(name, words)
        except (MemoryError, jax.errors.JaxRuntimeError) as error:
            said = str(error).splitlines()[0]
            if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in said:
                raise ValueError(
                    f"out of memory ({said}): lower --batch-size or --model.dim, or "
                    "leave out rare users and items by --cleaning.min-user and min-item"
                ) from None
            raise


def _run(name: str, words: Sequence[str]) -> int:
    if name == "data list":
        return _list(parse(List, None, words, name))
    if name == "data prepare":
        return _prepare(_parse(Prepare, None, words, name))
    if name == "data describe":
        return _describe(parse(Describe, None, words, name))
    if name == "embed":
        return _embed(_parse(Embed, None, words, name))
    if name == "train":
        default, words = _train_defaults(words)
        return _train(_parse(Train, default, words, name))
    if name == "evaluate":
        return _evaluate(_parse(Evaluate, None, words, name))
    return _recommend(_parse(Recommend, None, words, name))


def _parse(command: type, default: Any, words: Sequence[str], name: str) -> Any:
    """As `parse`, without losing values of an option that is given twice."""
    for field in dataclasses.fields(command):
        option = "--" + field.name.replace("_", "-")
        given = [word.partition("=")[0] for word in words]
        if str(field.type).startswith("tuple") and given.count(option) > 1:
            raise ValueError(f"{option} is there twice: put all its values after one")
    return parse(command, default, words, name)


@contextlib.contextmanager
def _warnings_as_lines() -> Generator[None]:
    """Shows what the package warns of, such as a damaged checkpoint, on stderr."""
    before = sys.unraisablehook

    def show(lost: Any) -> None:
        # Orbax gives up at the first file it cannot read or write, and the callbacks
        # of the others find their loop closed.
        if str(lost.exc_value) != "Event loop is closed":
            before(lost)

    log, handler = logging.getLogger("recjax"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("recjax: %(message)s"))
    propagate, log.propagate = log.propagate, False
    log.addHandler(handler)
    sys.unraisablehook = show
    try:
        yield
    finally:
        sys.unraisablehook = before
        log.removeHandler(handler)
        log.propagate = propagate


def _list(_: List) -> int:
    width = max(len(source.name) for source in SOURCES)
    for source in SOURCES:
        needs = f"  [{source.needs}]" if source.needs else ""
        print(f"{source.name:<{width}}  {source.what}{needs}")
    return 0


def _prepare(options: Prepare) -> int:
    path = prepare(
        options.source,
        options.out,
        cleaning=None if options.cleaning == Cleaning() else options.cleaning,
        split_by=options.split,
        format=options.format,
        columns=options.columns,
        items_file=options.items_file,
        users_file=options.users_file,
        list_columns=options.list_columns,
        list_separator=options.list_separator,
        overwrite=options.overwrite,
    )
    print(path)
    return 0


def _describe(options: Describe) -> int:
    print(describe(find(options.dataset)))
    return 0


def _embed(options: Embed) -> int:
    fields = [field.strip() for field in options.fields.split(",") if field.strip()]
    with contextlib.ExitStack() as closing:
        bar: tqdm | None = None

        def on_batch(done: int, total: int) -> None:
            nonlocal bar
            if bar is None:
                bar = tqdm(total=total, initial=done, desc=options.name, unit="text")
                closing.enter_context(bar)
            bar.update(done - bar.n)

        print(embed(**vars(options) | {"fields": fields}, on_batch=on_batch))
    return 0


def _train(options: Train) -> int:
    name = next(name for name, kind in MODELS.items() if type(options.model) is kind)
    _check_numbers(options.model)
    _check_numbers(options.training)
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

    with _stop_signals() as stop, contextlib.ExitStack() as closing:
        summary = pipeline.train(
            options.dataset,
            options.model,
            options.training,
            out=out,
            resume=options.resume,
            attributes=options.attributes,
            baselines=[other for other in baselines if other != name],
            on_epoch=on_epoch,
            should_stop=lambda: bool(stop),
        )
    if summary is None:
        again = f"recjax train --resume --out {out}"
        print(f"stopped and saved; go on with: {again}", file=sys.stderr)
        return 128 + stop[0]
    rows = {name: summary["test"]}
    rows |= {other: scores["test"] for other, scores in summary["baselines"].items()}
    print(f"\ntest part of {summary['dataset']}, {summary['protocol']}\n")
    print(models_table(rows, SHOWN))
    seconds = ", ".join(f"{k} {v:.1f}" for k, v in summary["seconds"].items())
    memory = summary["peak_memory_bytes"] / 2**30
    print(f"\nseconds: {seconds}; peak memory {memory:.2f} GiB\nrun: {out}")
    return 0


def _check_numbers(options: Any) -> None:
    """Refuses numbers that JAX would stumble over."""
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if dataclasses.is_dataclass(value):
            _check_numbers(value)
        elif isinstance(value, int) and abs(value) > _LARGEST:
            raise ValueError(f"{field.name} {value} must be at most {_LARGEST}")
        elif isinstance(value, float) and not np.isfinite(value):
            raise ValueError(f"{field.name} {value} must be a finite number")


def _evaluate(options: Evaluate) -> int:
    if options.part not in ("valid", "test"):
        raise unknown("part", options.part, ("valid", "test"))
    if not options.ks or not 1 <= min(options.ks) <= max(options.ks) <= _LARGEST:
        raise ValueError(f"--ks {options.ks} must be positive, at most {_LARGEST}")
    if not options.metrics:
        raise ValueError(f"--metrics needs a name: {', '.join(METRICS)}")
    run = pipeline.load_run(options.run, (options.part,))
    targets = pipeline.target_lists(run.dataset, options.part)
    if not targets.items.size:
        raise ValueError(
            f"the {options.part} part of {run.config['dataset']} is empty: there is "
            "nothing to evaluate; choose another --part, or prepare it by another split"
        )
    scores = evaluate(
        run.model,
        run.params,
        run.context,
        targets,
        ks=options.ks,
        metrics=options.metrics,
    )
    if options.json:
        print(json.dumps(scores, indent=2))
    else:
        print(metrics_table(scores))
    return 0


def _recommend(options: Recommend) -> int:
    if bool(options.user) == bool(options.history):
        raise ValueError("give either --user ID ... or --history ITEM ...")
    if options.k < 1:
        raise ValueError(f"-k {options.k} must be at least 1")
    run = pipeline.load_run(options.run)
    data = run.dataset
    chosen = data.find_items(options.candidates) if options.candidates else None
    if options.user:
        users, histories = data.find_users(options.user), None
        names = list(options.user)
        pointer, items = (np.asarray(x) for x in run.context.seen)
        known = [items[pointer[user] : pointer[user + 1]] for user in users]
    else:
        users, names = None, ["newcomer"]
        known = [np.unique(data.find_items(options.history))]
        histories = item_lists(np.zeros_like(known[0]), known[0], 1)
    found, scores = recommend(
        run.model,
        run.params,
        run.context,
        users=users,
        histories=histories,
        k=options.k,
        filter_seen=not options.keep_seen,
        candidates=chosen,
    )
    for name, seen in zip(names, known, strict=True):
        if not len(seen):
            print(
                f"recjax: user {name!r} has no training row to choose by: give "
                "--history ITEM ... for a list of one's own",
                file=sys.stderr,
            )
    ids = data.items["id"]
    for name, seen, row, values in zip(names, known, found, scores, strict=True):
        kept = row >= 0
        row, values = row[kept], values[kept]
        listed = [
            {"item": ids[int(item)].as_py(), "title": title, "score": float(score)}
            for item, title, score in zip(row, data.titles(row), values, strict=True)
        ]
        if options.json:
            print(json.dumps({"user": name, "items": listed}, ensure_ascii=False))
        else:
            print(recommendation_table(name, data.titles(seen), listed))
    return 0


def _train_defaults(words: Sequence[str]) -> tuple[Train, list[str]]:
    """What the options of ``train`` start from, and the words that are left.

    The model is the one that ``--model`` and the options for its parts name; without a
    name, ModalGCN where the dataset has item features.  A run that is resumed brings
    its own dataset, model and settings.
    """
    chosen, rest = _take(words, ("--model", *_PARTS))
    named, _ = _take(words, ("--out",))
    if "--resume" not in words or "--out" not in named:
        if "--model" not in chosen and _reads_features(rest):
            chosen = {"--model": "modal_gcn"} | chosen
        return Train(tyro.MISSING, _model(chosen)), rest
    config, model, training = pipeline.read_run(named["--out"])
    if chosen:
        name = next(name for name, kind in MODELS.items() if type(model) is kind)
        asked = _model({"--model": name} | chosen)
        same = type(asked) is type(model) and all(
            type(_part(asked, option)) is type(_part(model, option))
            for option in chosen.keys() & _PARTS.keys()
        )
        # Named again, the run's own model keeps the run's settings.
        model = model if same else asked
    attributes = tuple(config["attributes"])
    default = Train(config["dataset"], model, training, attributes=attributes)
    return default, rest


def _reads_features(words: Sequence[str]) -> bool:
    """Whether the dataset, where it is named first, has item features."""
    if not words or words[0].startswith("-") or {"-h", "--help"} & set(words):
        return False
    return pipeline.has_features(words[0])


def _take(
    words: Sequence[str], options: Sequence[str]
) -> tuple[dict[str, str], list[str]]:
    """The values of some options, as ``--x value`` or ``--x=value``; the rest."""
    rest: list[str] = []
    chosen: dict[str, str] = {}
    words = list(words)
    while words:
        word = words.pop(0)
        option, equals, value = word.partition("=")
        if option not in options:
            rest.append(word)
            continue
        if not equals:
            if not words or words[0].startswith("-"):
                raise ValueError(f"{option} needs a name")
            value = words.pop(0)
        chosen[option] = value
    return chosen, rest


def _model(chosen: dict[str, str]) -> Any:
    """The model of that name, with the parts of those names."""
    name = chosen.get("--model", "lightgcn").replace("-", "_")
    if name not in MODELS:
        raise unknown("model", name, MODELS)
    model = MODELS[name]()
    for option, kinds in _PARTS.items():
        if option not in chosen:
            continue
        what, part = option.removeprefix("--model."), chosen[option].replace("-", "_")
        if _part(model, option) is None:
            raise ValueError(f"the model {name} has no {what} to choose")
        if part not in kinds:
            raise unknown(what.rpartition(".")[2], part, kinds)
        model = _replace(model, what.split("."), kinds[part]())
    return model


def _part(model: Any, option: str) -> Any:
    """What a model has for an option such as ``--model.objective``; None without."""
    for field in option.removeprefix("--model.").split("."):
        model = getattr(model, field, None)
    return model


def _replace(model: Any, path: Sequence[str], part: Any) -> Any:
    """The model with another part, however deep that is."""
    if len(path) > 1:
        part = _replace(getattr(model, path[0]), path[1:], part)
    return dataclasses.replace(model, **{path[0]: part})


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
