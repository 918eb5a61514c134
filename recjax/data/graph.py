"""From training interactions to the `Context` on device, and attributes to pairs."""

from typing import Any

import jax
import numpy as np
import pyarrow as pa

from recjax.graphs import Normalisation, make_graph
from recjax.lists import item_lists
from recjax.sampling import make_negative_table
from recjax.types import Context, Feature, Interactions, Spec


def make_context(
    train: Interactions,
    spec: Spec,
    *,
    attributes: tuple[np.ndarray, np.ndarray] | None = None,
    features: dict[str, Feature] | None = None,
    normalisation: Normalisation = "symmetric",
    negative_power: float = 0.0,
) -> Context:
    """Moves the training data to the device, once.

    Args:
      train: training interactions; repeated pairs count once.
      spec: sizes of the dataset.
      attributes: items ``[m]`` and attributes ``[m]``, see `attribute_pairs`.
      features: item feature tables by name.
      normalisation: of the graph's weights, see `recjax.graphs.make_graph`.
      negative_power: negatives are drawn in proportion to an item's training count to
        this power; 0 draws them uniformly.

    Returns:
      The context.

    Raises:
      ValueError: an id is outside the spec, or there is no training row.

    Examples:
      >>> import numpy as np
      >>> from recjax.types import Interactions, Spec
      >>> train = Interactions(np.array([0, 0, 1]), np.array([0, 1, 1]))
      >>> context = make_context(train, Spec(num_users=2, num_items=3))
      >>> context.item_counts.tolist()
      [1.0, 2.0, 0.0]
    """
    if train.num_rows == 0:
        raise ValueError("no training interactions: there is nothing to learn from")
    graph = make_graph(
        (train.users, train.items),
        spec,
        attributes=attributes,
        normalisation=normalisation,
    )
    seen = item_lists(train.users, train.items, spec.num_users)
    users = np.repeat(np.arange(spec.num_users, dtype=np.int32), np.diff(seen.pointer))
    counts = np.bincount(seen.items, minlength=spec.num_items).astype(np.float32)
    fields: dict[str, Any] = dict(
        graph=graph,
        users=users,
        items=seen.items,
        seen=seen,
        item_counts=counts,
        negatives=make_negative_table(seen, counts, power=negative_power),
        features={
            name: Feature(*feature) for name, feature in (features or {}).items()
        },
    )
    return jax.device_put(Context(**fields))


def attribute_pairs(
    items: pa.Table, columns: tuple[str, ...]
) -> tuple[tuple[np.ndarray, np.ndarray], list[str]]:
    """Item-attribute pairs from metadata columns; list columns give several a row.

    Args:
      items: the item table of a dataset.
      columns: names of its columns; every distinct value becomes an attribute node.

    Returns:
      The pairs (items ``[m]``, attributes ``[m]``) and the A attribute names, such as
      ``"genres=Comedy"``.

    Raises:
      ValueError: a column does not exist.

    Examples:
      >>> import pyarrow as pa
      >>> table = pa.table({"id": ["x", "y"], "genre": [["a", "b"], ["b"]]})
      >>> (of_items, attributes), names = attribute_pairs(table, ("genre",))
      >>> of_items.tolist(), attributes.tolist(), names
      ([0, 0, 1], [0, 1, 1], ['genre=a', 'genre=b'])
    """
    of_items, attributes, names = [], [], []
    for column in columns:
        if column not in items.column_names:
            raise ValueError(
                f"items have no column {column!r}; there are {items.column_names}"
            )
        values = items[column].combine_chunks()
        rows = np.arange(len(values))
        if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
            rows = values.value_parent_indices().to_numpy(zero_copy_only=False)
            values = values.flatten()
        known = values.is_valid().to_numpy(zero_copy_only=False)
        codes = values.cast(pa.string()).drop_null().dictionary_encode()
        of_items.append(rows[known])
        attributes.append(codes.indices.to_numpy() + len(names))
        names += [f"{column}={value}" for value in codes.dictionary.to_pylist()]
    if not of_items:
        return (np.zeros(0, np.int32), np.zeros(0, np.int32)), names
    return (
        np.concatenate(of_items).astype(np.int32),
        np.concatenate(attributes).astype(np.int32),
    ), names
