"""What each command does; its dataclass is its options, their help and their types."""

import contextlib
import dataclasses
import json
import logging
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import numpy as np
import tyro
from tqdm import tqdm

from recjax import pipeline
from recjax.cli import parse
from recjax.config import from_dict
from recjax.console import metrics_table, models_table, recommendation_table
from recjax.data import SOURCES, Cleaning, Columns, Split, describe, find, prepare
from recjax.data._names import unknown
from recjax.data._read import Format
from recjax.evaluation import evaluate, recommend
from recjax.lists import item_lists
from recjax.models import MF, MODELS, GraphAlignment, ItemKNN, LightGCN, Popular
from recjax.objectives import OBJECTIVES
from recjax.run_folder import read_config
from recjax.training import Record, Training

_Source = tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="SOURCE")]]
_Dataset = tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="DATASET")]]
_Run = tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]

SHOWN = ("recall@20", "ndcg@20", "hit_rate@20", "mrr@20", "coverage@20")
"""Columns of the table after training; summary.json has the rest."""


def run(name: str, words: Sequence[str]) -> int:
    """Runs a command and returns its exit code."""
    # What Orbax logs as an error comes back as an exception too.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    if name == "data list":
        return _list(parse(List, None, words, name))
    if name == "data prepare":
        return _prepare(parse(Prepare, None, words, name))
    if name == "data describe":
        return _describe(parse(Describe, None, words, name))
    if name == "train":
        default, words = _train_defaults(words)
        return _train(parse(Train, default, words, name))
    if name == "evaluate":
        return _evaluate(parse(Evaluate, None, words, name))
    return _recommend(parse(Recommend, None, words, name))


@dataclasses.dataclass(frozen=True)
class List:
    """Sources that `recjax data prepare` and `recjax train` can read."""


@dataclasses.dataclass(frozen=True)
class Prepare:
    """Reads, cleans, splits and stores a dataset; does nothing where that is done."""

    source: _Source
    """A name from `recjax data list`, a file or a folder."""
    out: Path | None = None
    """Folder of the dataset; by default below ~/.cache/recjax or $RECJAX_DATA_DIR."""
    overwrite: bool = False
    """Replace a dataset there that was prepared in another way."""
    format: Format | None = None
    """What the source is, where its name and content do not tell."""
    items_file: Path | None = None
    """A table about the items, with a title column perhaps."""
    users_file: Path | None = None
    """A table about the users."""
    list_columns: tuple[str, ...] = ()
    """Columns of these that hold several values in one text."""
    list_separator: str = "|"
    """What stands between those values."""
    columns: Columns = Columns()  # noqa: RUF009 - frozen
    cleaning: Cleaning = Cleaning()  # noqa: RUF009 - frozen
    split: Split = Split()  # noqa: RUF009 - frozen


@dataclasses.dataclass(frozen=True)
class Describe:
    """Shows what a dataset holds and how it was made."""

    dataset: _Dataset
    """A prepared folder, its name, or a source."""


@dataclasses.dataclass(frozen=True)
class Train:
    """Trains a model, chooses the epoch on the valid part, reports on the test part.

    --model NAME chooses the model (lightgcn, mf, graph_alignment, item_knn, popular)
    and --model.objective NAME what its vectors are trained for (bpr, bce, softmax,
    sampled_softmax); the options below are those of the two chosen.
    """

    dataset: _Dataset
    """A prepared folder, its name, or a source that is prepared as it is."""
    model: LightGCN | MF | GraphAlignment | ItemKNN | Popular = LightGCN()  # noqa: RUF009
    training: Annotated[Training, tyro.conf.arg(name="")] = Training()  # noqa: RUF009
    out: Path | None = None
    """The run folder; by default runs/DATASET-MODEL-SEED."""
    resume: bool = False
    """Go on with the run in that folder, with its dataset, model and settings."""
    attributes: tuple[str, ...] = ()
    """Item columns whose values become nodes of the graph."""
    baselines: bool = True
    """Report Popular and ItemKNN on the same split."""


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Metrics of a trained run, by full ranking."""

    run: _Run
    """The run folder."""
    part: str = "test"
    """Part of the dataset: valid or test."""
    ks: tuple[int, ...] = (10, 20)
    """Lengths of the lists."""
    metrics: tuple[str, ...] = ("recall", "ndcg", "precision", "hit_rate", "mrr", "map")
    """Any of recall, ndcg, precision, f1, hit_rate, mrr, map, auc, coverage, gini,
    average_popularity."""
    json: bool = False
    """Print JSON."""


@dataclasses.dataclass(frozen=True)
class Recommend:
    """The best items for users of the dataset, or for a newcomer by a list of items."""

    run: _Run
    """The run folder."""
    user: tuple[str, ...] = ()
    """Ids of users, as in the source."""
    history: tuple[str, ...] = ()
    """Ids of items that one newcomer has taken, instead of users."""
    k: Annotated[int, tyro.conf.arg(aliases=("-k",))] = 10
    """Length of the list."""
    keep_seen: bool = False
    """Recommend known items too."""
    candidates: tuple[str, ...] = ()
    """Ids of the only items to choose from."""
    json: bool = False
    """Print JSON lines, one a user."""


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


def _train(options: Train) -> int:
    name = next(name for name, kind in MODELS.items() if type(options.model) is kind)
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
            bar = closing.enter_context(tqdm(total=total, desc=name, unit="epoch"))
        bar.n = record.epoch
        chosen = options.training.select_by
        facts = {"loss": f"{record.losses['loss']:.4f}"}
        if "accuracy" in record.losses:
            facts["accuracy"] = f"{record.losses['accuracy']:.3f}"
        if chosen in record.valid:
            facts[f"valid {chosen}"] = f"{record.valid[chosen]:.4f}"
        bar.set_postfix(facts | {"best epoch": record.best_epoch})

    with _stop_signals() as stop, contextlib.ExitStack() as closing:
        summary = pipeline.train(
            options.dataset,
            options.model,
            options.training,
            out=out,
            resume=options.resume,
            attributes=options.attributes,
            baselines=[other for other in baselines if other != name],
            on_epoch=show,
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


def _evaluate(options: Evaluate) -> int:
    if options.part not in ("valid", "test"):
        raise unknown("part", options.part, ("valid", "test"))
    run = pipeline.load_run(options.run, (options.part,))
    scores = evaluate(
        run.model,
        run.params,
        run.context,
        pipeline.target_lists(run.dataset, options.part),
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

    The model is the one that ``--model`` and ``--model.objective`` name.  A run that
    is resumed brings its own dataset, model and settings.
    """
    chosen, rest = _take(words, ("--model", "--model.objective"))
    named, _ = _take(words, ("--out",))
    if "--resume" not in words or "--out" not in named:
        return Train(tyro.MISSING, _model(chosen)), rest
    config = read_config(named["--out"])
    saved = from_dict(config["model"], pipeline.CONFIG_TYPES)
    default = Train(
        config["dataset"],
        _model(chosen) if chosen else saved,
        from_dict(config["training"], pipeline.CONFIG_TYPES),
        attributes=tuple(config["attributes"]),
    )
    return default, rest


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
    """The model of that name, with the objective of that name."""
    name = chosen.get("--model", "lightgcn").replace("-", "_")
    if name not in MODELS:
        raise unknown("model", name, MODELS)
    model = MODELS[name]()
    objective = chosen.get("--model.objective", "").replace("-", "_")
    if objective:
        if not hasattr(model, "objective"):
            raise ValueError(f"the model {name} has no objective to choose")
        if objective not in OBJECTIVES:
            raise unknown("objective", objective, OBJECTIVES)
        model = dataclasses.replace(model, objective=OBJECTIVES[objective]())
    return model


@contextlib.contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM instead of dying of them; a second one kills."""
    caught: list[int] = []

    def catch(number: int, frame: FrameType | None) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    before = {one: signal.signal(one, catch) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
