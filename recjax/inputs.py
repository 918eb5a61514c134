"""What a run reads: a dataset, or each process's share of it, and its context."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from recjax.data import (
    Dataset,
    attribute_pairs,
    dataset_relations,
    find,
    load,
    make_context,
)
from recjax.data._manifest import read_manifest
from recjax.lists import item_lists
from recjax.sharding import gather_rows, pad_spec, wait_for_all
from recjax.types import Context, ItemLists, Spec


def find_together(dataset: str | Path) -> Path:
    """The folder of a dataset, which the first of several processes prepares.

    Args:
      dataset: a prepared folder, its name, or a source; see `recjax.data.find`.

    Returns:
      The folder.
    """
    if jax.process_index() == 0:
        find(dataset)
    wait_for_all("dataset")
    return find(dataset)


def load_together(path: Path, parts: Sequence[str] = ("train", "valid")) -> Dataset:
    """A dataset of which each process reads its share of the rows from disk.

    Args:
      path: its folder.
      parts: the parts to read.

    Returns:
      The whole dataset, in every process.
    """
    share = (jax.process_index(), jax.process_count())
    data = load(path, parts, share=share)
    rows = {name: gather_rows(part) for name, part in data.parts.items()}
    return data._replace(parts=rows)


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


def sizes(dataset: str | Path) -> tuple[Spec, int]:
    """The sizes of a dataset and its training pairs; a source is prepared for it.

    Args:
      dataset: a prepared folder, its name, or a source; see `recjax.data.find`.

    Returns:
      The spec, and the rows of the training part.

    Raises:
      ValueError: there is no such dataset.
    """
    manifest = read_manifest(find(dataset))
    spec = Spec(manifest.num_users, manifest.num_items)
    return spec, int(manifest.parts["train"]["rows"])


def as_trained(dataset: Dataset, config: dict[str, Any]) -> Dataset:
    """The dataset with the features that a run was trained with, and no later ones.

    Args:
      dataset: with all its features.
      config: of the run.

    Returns:
      The dataset.
    """
    # Runs of before they were noted have what there is.
    return dataset.with_features(config.get("features", dataset.feature_hashes))


def build_context(
    dataset: Dataset,
    attributes: Sequence[str],
    negative_power: float,
    relations: Sequence[str] = (),
    *,
    node_multiple: int = 1,
) -> tuple[Spec, Context]:
    """The spec and the context of a dataset's training part.

    Args:
      dataset: with its train part loaded.
      attributes: item columns whose values become nodes.
      negative_power: see `recjax.data.make_context`.
      relations: names of behaviours, and of relations of `recjax.data.graph_triples`,
        that become typed edges; none for an untyped graph of the target's rows.
      node_multiple: see `recjax.sharding.pad_spec`.

    Returns:
      The spec, with the number of attributes, and the context.

    Raises:
      ValueError: an attribute column or a relation does not exist.
    """
    if relations:
        return dataset_relations(
            dataset, (*relations, *attributes), negative_power=negative_power
        )
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
    """The items that each user has in a part, as `evaluate` takes them.

    Args:
      dataset: with that part loaded.
      part: its name.

    Returns:
      U lists.
    """
    rows = dataset.target_rows(part)
    return item_lists(rows.users, rows.items, dataset.spec.num_users)
