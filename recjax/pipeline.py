"""A run from dataset to summary: what the command line does, as functions."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from recjax.alignments import ALIGNMENTS
from recjax.checkpoint import Checkpoints
from recjax.config import differences, from_dict, to_dict, wrong_kind
from recjax.data import (
    Dataset,
    attribute_pairs,
    find,
    load,
    make_context,
)
from recjax.data._manifest import read_manifest
from recjax.evaluation import evaluate
from recjax.lists import item_lists
from recjax.models import MODELS, Diffusion
from recjax.objectives import OBJECTIVES
from recjax.phases import Phases
from recjax.run_folder import (
    MetricsLog,
    create,
    damaged,
    environment,
    read_config,
    tidy,
    write_json,
)
from recjax.sharding import (
    Parallel,
    gather_rows,
    pad_spec,
    shard_context,
    wait_for_all,
)
from recjax.training import Record, Training, fit, restore_params
from recjax.types import Context, ItemLists, Params, Spec, prepare

CONFIG_TYPES = (
    *MODELS.values(),
    *OBJECTIVES.values(),
    *ALIGNMENTS.values(),
    Diffusion,
    Training,
)
REPORTED = ("recall", "ndcg", "precision", "hit_rate", "mrr", "map")
OF_LISTS = ("coverage", "gini", "average_popularity")
CUTOFFS = (10, 20)
# Nodes of a run on many devices are filled up to this, so that it may go on with any
# number of them that divides it.
_NODE_MULTIPLE = 64


class Loaded(NamedTuple):
    """A finished run, ready to rank.

    Attributes:
      config: as written by `train`.
      model: the model.
      params: its best parameters.
      dataset: the parts that were asked for.
      context: the training data on device.
    """

    config: dict[str, Any]
    model: Any
    params: Params
    dataset: Dataset
    context: Context


def train(
    dataset: str | Path,
    model: Any,
    training: Training,
    *,
    out: str | Path,
    resume: bool = False,
    attributes: Sequence[str] = (),
    baselines: Sequence[str] = (),
    on_epoch: Callable[[Record], None] = lambda record: None,
    should_stop: Callable[[], bool] = lambda: False,
    parallel: Parallel | None = None,
) -> dict[str, Any] | None:
    """Trains a model, reports on the test part once, and leaves a run folder.

    The test part is read from disk only after the epoch is chosen.

    Args:
      dataset: a prepared folder, its name, or a source; see `recjax.data.find`.
      model: a model from `recjax.models`.
      training: settings; of no effect on closed-form models.
      out: the run folder.
      resume: go on from its last checkpoint.
      attributes: item columns whose values become nodes of the graph.
      baselines: names of closed-form models to report on beside it.
      on_epoch: called after every epoch.
      should_stop: asked after every epoch; True saves and ends the run.
      parallel: how the run is spread over devices and processes.  Of several processes
        all call this, each reads its share of the rows, and the first one writes.

    Returns:
      The summary, as in ``summary.json``; None where the run was interrupted.

    Raises:
      ValueError: the dataset, the folder or a setting does not fit.
      FloatingPointError: the loss is not finite.
      OSError: the disk is full.
    """
    phases = Phases()
    with phases:
        with phases("input"):
            path = _find(dataset)
            data = _load(path)
            # Once for all devices that a run will ever have: its tables keep their
            # shapes.
            multiple = 1 if parallel is None else _NODE_MULTIPLE
            if resume:
                multiple = read_config(out).get("node_multiple", 1)
            spec, context = build_context(
                data, attributes, training.negative_power, node_multiple=multiple
            )
            context = shard_context(prepare(model, context), parallel)
        config = {
            "dataset": str(Path(path).resolve()),
            "split_hash": data.split_hash,
            "model": to_dict(model),
            "training": to_dict(training),
            "attributes": list(attributes),
            "node_multiple": multiple,
        }
        # As it will be read again, with lists where tuples were.
        config = json.loads(json.dumps(config))
        mesh = None if parallel is None else parallel.mesh
        first = jax.process_index() == 0
        folder = Path(out)
        if first:
            _enter(out, config, resume=resume)
        wait_for_all("folder")
        valid = target_lists(data, "valid")
        if hasattr(model, "solve"):
            with tidy(folder, resume or not first), phases("step"):
                params = model.solve(context)
            outcome = {"best_epoch": None, "stopped": "solved"}
        else:
            with (
                tidy(folder, resume or not first),
                Checkpoints(folder / "checkpoints") as checkpoints,
                MetricsLog(folder) as log,
            ):

                def note(record: Record) -> None:
                    if first:
                        log.write(record)
                        on_epoch(record)

                result = fit(
                    model,
                    context,
                    spec,
                    training=training,
                    valid=valid if valid.items.size else None,
                    checkpoints=checkpoints,
                    fingerprint=_fingerprint(config),
                    on_epoch=note,
                    should_stop=should_stop,
                    phases=phases,
                    parallel=parallel,
                )
            if result.stopped == "interrupted":
                return None
            params = result.params
            outcome = {
                "best_epoch": result.best_epoch,
                "epochs": len(result.records),
                "stopped": result.stopped,
                "steps_per_epoch": result.steps,
            }
        # Only now: everything that could choose anything has been chosen.
        parts = {"valid": valid, "test": target_lists(_load(path, ("test",)), "test")}
        with phases("evaluate"):
            scores = _report(model, params, context, parts, mesh)
        others = {}
        with phases("baselines"):
            for name in baselines:
                other = MODELS[name]()
                others[name] = _report(
                    other, other.solve(context), context, {"test": parts["test"]}, mesh
                )
    summary = {
        "model": to_dict(model),
        "dataset": data.name,
        "split_hash": data.split_hash,
        "protocol": protocol(spec, training, model),
        **outcome,
        **scores,
        "baselines": others,
        "seconds": {name: round(x, 3) for name, x in phases.seconds.items()},
        **environment(),
    }
    if first:
        write_json(folder / "summary.json", summary)
    return summary


def read_run(run: str | Path) -> tuple[dict[str, Any], Any, Training]:
    """How a run was made.

    Args:
      run: its folder.

    Returns:
      The content of ``config.json``, and the model and the settings that it means.

    Raises:
      ValueError: there is no run, or its ``config.json`` was altered.
    """
    config = read_config(run)
    file = Path(run) / "config.json"
    try:
        model = from_dict(config["model"], CONFIG_TYPES)
        training = from_dict(config["training"], CONFIG_TYPES)
    except (ValueError, TypeError) as error:
        raise damaged(file, str(error)) from None
    for key, value, kinds in (
        ("model", model, tuple(MODELS.values())),
        ("training", training, (Training,)),
    ):
        if not isinstance(value, kinds):
            raise damaged(file, f"{key} is a {type(value).__name__}")
        if (wrong := wrong_kind(value)) is not None:
            raise damaged(file, wrong)
    return config, model, training


def load_run(run: str | Path, parts: Sequence[str] = ("train",)) -> Loaded:
    """Opens a run for evaluating and recommending.

    Args:
      run: its folder.
      parts: parts of the dataset to load; ``train`` is always among them.

    Returns:
      Model, best parameters, dataset and context.

    Raises:
      ValueError: no run, no checkpoint, or the dataset is not the one trained on.
    """
    config, model, training = read_run(run)
    if not Path(config["dataset"]).exists():
        raise ValueError(
            f"{run} was trained on {config['dataset']}, which is gone: prepare it "
            "there again or, if it was moved, say where it is now: recjax train "
            f"FOLDER --resume --out {run}"
        )
    dataset = load(config["dataset"], tuple(dict.fromkeys(("train", *parts))))
    if dataset.split_hash != config["split_hash"]:
        raise ValueError(
            f"{config['dataset']} has the split {dataset.split_hash[:16]}, the run was "
            f"trained on {config['split_hash'][:16]}: prepare the dataset as it was"
        )
    spec, context = build_context(
        dataset,
        config["attributes"],
        training.negative_power,
        node_multiple=config.get("node_multiple", 1),
    )
    context = prepare(model, context)
    if hasattr(model, "solve"):
        return Loaded(config, model, model.solve(context), dataset, context)
    with Checkpoints(Path(run) / "checkpoints") as checkpoints:
        params, _ = restore_params(
            model,
            spec,
            checkpoints,
            training=training,
            fingerprint=_fingerprint(config),
        )
    return Loaded(config, model, params, dataset, context)


def has_features(dataset: str | Path) -> bool:
    """Whether a dataset has item features; a source is prepared for it.

    Args:
      dataset: a prepared folder, its name, or a source; see `recjax.data.find`.

    Returns:
      Whether there is any.

    Raises:
      ValueError: there is no such dataset.
    """
    # The manifest alone: the files are read, and checked, when they are needed.
    return bool(read_manifest(find(dataset)).features)


def build_context(
    dataset: Dataset,
    attributes: Sequence[str],
    negative_power: float,
    *,
    node_multiple: int = 1,
) -> tuple[Spec, Context]:
    """The spec and the context of a dataset's training part (of its target).

    Args:
      dataset: with its train part loaded.
      attributes: item columns whose values become nodes.
      negative_power: see `recjax.data.make_context`.
      node_multiple: see `recjax.sharding.pad_spec`.

    Returns:
      The spec, with the number of attributes, and the context.

    Raises:
      ValueError: an attribute column does not exist.
    """
    pairs, names = attribute_pairs(dataset.items, tuple(attributes))
    spec = dataset.spec._replace(num_attributes=len(names))
    spec = pad_spec(spec, node_multiple)
    context = make_context(
        dataset.target_rows("train"),
        spec,
        attributes=pairs,
        features=dataset.features,
        negative_power=negative_power,
    )
    return spec, context


def target_lists(dataset: Dataset, part: str) -> ItemLists:
    """The items that each user has in a part, as `evaluate` takes them."""
    rows = dataset.target_rows(part)
    return item_lists(rows.users, rows.items, dataset.spec.num_users)


def protocol(spec: Spec, training: Training, model: Any) -> str:
    """How the numbers of a summary came about, in a sentence."""
    chosen = (
        "no choice made"
        if hasattr(model, "solve")
        else f"epoch chosen by {training.select_by} on valid"
    )
    return (
        f"full ranking of {spec.num_items} items; training items masked; mean over "
        "users with a held-out item; ideal DCG of min(|held out|, K) ones; ties to the "
        f"lower id; {chosen}; test read once"
    )


def _enter(out: str | Path, config: dict[str, Any], *, resume: bool) -> Path:
    """The folder of a run: a new one, or one whose configuration is the same."""
    folder = create(out, config, resume=resume)
    if resume:
        before, _, _ = read_run(folder)
        lines = differences(_fingerprint(before), _fingerprint(config))
        if lines:
            raise ValueError(
                f"{folder} has {'; '.join(lines)}: resume with the same, or choose "
                "another --out"
            )
        if before != config:
            # More epochs, or a dataset that was moved.
            write_json(folder / "config.json", config)
    return folder


def _fingerprint(config: dict[str, Any]) -> dict[str, Any]:
    """What must not change between the parts of one run; its length may."""
    training = {k: v for k, v in config["training"].items() if k != "epochs"}
    keys = ("split_hash", "model", "attributes")
    fixed = {key: config[key] for key in keys} | {"training": training}
    return fixed | {"node_multiple": config.get("node_multiple", 1)}


def _find(dataset: str | Path) -> Path:
    """The folder of a dataset, which the first of several processes prepares."""
    if jax.process_index() == 0:
        find(dataset)
    wait_for_all("dataset")
    return find(dataset)


def _load(path: Path, parts: Sequence[str] = ("train", "valid")) -> Dataset:
    """A dataset of which each process reads its share of the rows from disk."""
    share = (jax.process_index(), jax.process_count())
    data = load(path, parts, share=share)
    rows = {name: gather_rows(part) for name, part in data.parts.items()}
    return data._replace(parts=rows)


def _report(
    model: Any,
    params: Params,
    context: Context,
    parts: dict[str, ItemLists],
    mesh: Mesh | None,
) -> dict[str, dict[str, float]]:
    return {
        part: evaluate(
            model,
            params,
            context,
            lists,
            ks=CUTOFFS,
            metrics=REPORTED + OF_LISTS,
            mesh=mesh,
        )
        for part, lists in parts.items()
    }
