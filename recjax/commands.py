"""What each command does with its options, see `recjax.options`."""

import contextlib
import dataclasses
import json
import logging
import sys
import warnings
from collections.abc import Generator, Sequence
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from recjax import pipeline
from recjax.cli import parse
from recjax.console import (
    explanation_table,
    metrics_table,
    recommendation_table,
)
from recjax.data import SOURCES, Cleaning, attribute_pairs, describe, find, prepare
from recjax.data._names import unknown
from recjax.embedding import embed
from recjax.evaluation import METRICS, evaluate, recommend
from recjax.inputs import sizes, target_lists
from recjax.interests import explain
from recjax.lists import item_lists
from recjax.model_words import chosen_model, take_model_words
from recjax.options import (
    Describe,
    Embed,
    Evaluate,
    List,
    Plan,
    Prepare,
    Recommend,
    Train,
)
from recjax.plan import plan, plan_table
from recjax.train_command import LARGEST, train, train_defaults
from recjax.training import Training
from recjax.types import Spec


def run(name: str, words: Sequence[str]) -> int:
    """Runs a command and returns its exit code."""
    with _plain_stderr():
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
        default, words = train_defaults(words)
        return train(_parse(Train, default, words, name))
    if name == "evaluate":
        return _evaluate(_parse(Evaluate, None, words, name))
    if name == "plan":
        chosen, words = take_model_words(words)
        return _plan(_parse(Plan, Plan(model=chosen_model(chosen)), words, name))
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
def _plain_stderr() -> Generator[None]:
    """Keeps stderr to what the package warns of, such as a damaged checkpoint.

    Orbax gives up at the first file that it cannot read or write, which is an
    exception.  What it and its other reads say of it later is not shown, as they log
    it, are never awaited, or find their loop closed.
    """
    before = sys.unraisablehook

    def show(lost: Any) -> None:
        if str(lost.exc_value) != "Event loop is closed":
            before(lost)

    # These two stay so when the command has ended: reads may be as late as that.
    for logger in ("absl", "asyncio"):
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
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
        triples_file=options.triples_file,
        links_file=options.links_file,
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


def _evaluate(options: Evaluate) -> int:
    if options.part not in ("valid", "test"):
        raise unknown("part", options.part, ("valid", "test"))
    if not options.ks or not 1 <= min(options.ks) <= max(options.ks) <= LARGEST:
        raise ValueError(f"--ks {options.ks} must be positive, at most {LARGEST}")
    if not options.metrics:
        raise ValueError(f"--metrics needs a name: {', '.join(METRICS)}")
    run = pipeline.load_run(options.run, (options.part,))
    targets = target_lists(run.dataset, options.part)
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
    pairs, attributes = attribute_pairs(data.items, options.explain)
    for name, seen, row, values in zip(names, known, found, scores, strict=True):
        kept = row >= 0
        row, values = row[kept], values[kept]
        listed: list[dict[str, Any]] = [
            {"item": ids[int(item)].as_py(), "title": title, "score": float(score)}
            for item, title, score in zip(row, data.titles(row), values, strict=True)
        ]
        line: dict[str, Any] = {"user": name, "items": listed}
        if options.explain:
            favours, why = explain(run.context.seen, seen, row, pairs, attributes)
            line["favours"] = favours
            for entry, because in zip(listed, why, strict=True):
                entry["because"] = because
        if options.json:
            print(json.dumps(line, ensure_ascii=False))
            continue
        print(recommendation_table(name, data.titles(seen), listed))
        if options.explain:
            print(explanation_table(line["favours"], listed))
    return 0


def _plan(options: Plan) -> int:
    spec, pairs = Spec(options.users, options.items), options.interactions
    if options.dataset:
        if any((*spec[:2], pairs)):
            raise ValueError(
                "give either a dataset or --users, --items and --interactions"
            )
        spec, pairs = sizes(options.dataset)
    training = Training(
        batch_size=options.batch_size,
        fanouts=options.fanouts,
        sample_by=options.sample_by,
        capacity=options.capacity,
    )
    found = plan(
        options.model,
        spec,
        pairs,
        training=training,
        parallel=options.parallel,
        chip=options.chip,
    )
    if options.json:
        more = {"total": found.total, "bottleneck": found.bottleneck}
        print(json.dumps(found._asdict() | more, indent=2))
    else:
        print(plan_table(found))
    return 0
