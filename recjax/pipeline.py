"""A run from dataset to summary: what the command line does, as functions."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from recjax.checkpoint import Checkpoints
from recjax.config import to_dict
from recjax.data import Dataset, load
from recjax.evaluation import evaluate
from recjax.inputs import (
    as_trained,
    build_context,
    find_together,
    load_together,
    target_lists,
)
from recjax.joint import Encoder, attach, identified
from recjax.models import MODELS
from recjax.phases import Phases
from recjax.run_config import enter, fingerprint, read_encoder, read_run
from recjax.run_folder import MetricsLog, environment, read_config, tidy, write_json
from recjax.sharding import Parallel, shard_context, wait_for_all
from recjax.training import Record, Training, fit, restore_params
from recjax.types import Context, ItemLists, Params, Spec, prepare

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
    relations: Sequence[str] = (),
    baselines: Sequence[str] = (),
    encoder: Encoder | None = None,
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
      relations: names of typed edges, see `build_context`.
      baselines: names of closed-form models to report on beside it.
      encoder: a language model that is trained along, for a `recjax.models.Hybrid`.
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
            path = find_together(dataset)
            data = load_together(path)
            # Once for all devices that a run will ever have: its tables keep their
            # shapes.
            multiple = 1 if parallel is None else _NODE_MULTIPLE
            if resume:
                before = read_config(out)
                data = as_trained(data, before)
                multiple = before.get("node_multiple", 1)
            spec, context = build_context(
                data,
                attributes,
                training.negative_power,
                relations,
                node_multiple=multiple,
            )
            # Without the tower, whose shape its own folder says.
            described = to_dict(model)
            if encoder is not None:
                encoder = identified(encoder)
                model, context = attach(model, context, data.items, encoder)
            context = shard_context(prepare(model, context), parallel)
        config = {
            "dataset": str(Path(path).resolve()),
            "split_hash": data.split_hash,
            "features": data.feature_hashes,
            "model": described,
            "training": to_dict(training),
            "attributes": list(attributes),
            "node_multiple": multiple,
        } | ({"relations": list(relations)} if relations else {})
        if encoder is not None:
            config["encoder"] = to_dict(encoder)
        # As it will be read again, with lists where tuples were.
        config = json.loads(json.dumps(config))
        mesh = None if parallel is None else parallel.mesh
        first = jax.process_index() == 0
        folder = Path(out)
        if first:
            enter(out, config, resume=resume)
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
                    fingerprint=fingerprint(config),
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
        test = target_lists(load_together(path, ("test",)), "test")
        parts = {"valid": valid, "test": test}
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
        "model": config["model"],
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
    dataset = as_trained(dataset, config)
    spec, context = build_context(
        dataset,
        config["attributes"],
        training.negative_power,
        config.get("relations", ()),
        node_multiple=config.get("node_multiple", 1),
    )
    encoder = read_encoder(config)
    if encoder is not None:
        model, context = attach(model, context, dataset.items, identified(encoder))
    context = prepare(model, context)
    if hasattr(model, "solve"):
        return Loaded(config, model, model.solve(context), dataset, context)
    with Checkpoints(Path(run) / "checkpoints") as checkpoints:
        params, _ = restore_params(
            model,
            spec,
            checkpoints,
            training=training,
            fingerprint=fingerprint(config),
        )
    return Loaded(config, model, params, dataset, context)


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
