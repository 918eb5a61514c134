"""From training interactions to the graph, and to the `Context` on device.

Nodes are numbered users first, then items, then attributes: user u is node u, item i
is node U + i, attribute a is node U + I + a.  Every pair gives two directed edges,
sorted by receiver; ``edges["weight"]`` holds their normalised weights and
``globals["layout"]`` says where each receiver's edges lie (`recjax.sparse.Layout`).
"""

from typing import Any, Literal, TypeAlias

import jax
import jraph
import numpy as np
import pyarrow as pa

from recjax.lists import item_lists
from recjax.sampling import make_negative_table
from recjax.sparse import make_layout
from recjax.types import Context, Feature, Interactions, Spec

Normalisation: TypeAlias = Literal["symmetric", "row", "none"]


def make_graph(
    pairs: tuple[np.ndarray, np.ndarray],
    spec: Spec,
    *,
    attributes: tuple[np.ndarray, np.ndarray] | None = None,
    normalisation: Normalisation = "symmetric",
) -> jraph.GraphsTuple:
    """The graph of user-item pairs, and of item-attribute pairs where given.

    With d the number of distinct neighbours, an edge from j to r weighs
    ``1 / sqrt(d_j d_r)`` ("symmetric"), ``1 / d_r`` ("row": a mean over neighbours)
    or 1 ("none").  Repeated pairs count once.

    Args:
      pairs: users ``[n]`` and items ``[n]``, int.
      spec: sizes; the graph has U + I + A nodes.
      attributes: items ``[m]`` and attributes ``[m]``, int.
      normalisation: as above.

    Returns:
      The graph, as NumPy arrays; ``n_node`` and ``n_edge`` have one entry.

    Raises:
      ValueError: an id is outside the spec, or the normalisation is unknown.

    Examples:
      >>> import numpy as np
      >>> graph = make_graph((np.array([0, 1]), np.array([0, 0])), Spec(2, 1))
      >>> graph.senders.tolist(), graph.receivers.tolist()
      ([2, 2, 0, 1], [0, 1, 2, 2])
      >>> graph.edges["weight"].round(3).tolist()
      [0.707, 0.707, 0.707, 0.707]

    References:
      He et al., LightGCN, SIGIR 2020, equation 3 (symmetric normalisation).
    """
    users, items = pairs
    _check_range("user", users, spec.num_users)
    _check_range("item", items, spec.num_items)
    left, right = [np.asarray(users)], [np.asarray(items) + spec.num_users]
    if attributes is not None:
        of_items, values = attributes
        _check_range("item", of_items, spec.num_items)
        _check_range("attribute", values, spec.num_attributes)
        left.append(np.asarray(of_items) + spec.num_users)
        right.append(np.asarray(values) + spec.num_users + spec.num_items)
    num_nodes = spec.num_users + spec.num_items + spec.num_attributes
    one_way = [np.concatenate(side).astype(np.int64) for side in (left, right)]
    key = np.unique(
        np.concatenate([one_way[0], one_way[1]])
        + np.concatenate([one_way[1], one_way[0]]) * num_nodes
    )
    receivers, senders = np.divmod(key, max(num_nodes, 1))
    degree = np.bincount(receivers, minlength=num_nodes)
    if normalisation == "symmetric":
        # In float64, so that an edge and its reverse round to the same weight.
        weight = 1.0 / np.sqrt(degree[senders] * degree[receivers])
    elif normalisation == "row":
        weight = 1.0 / degree[receivers]
    elif normalisation == "none":
        weight = np.ones(len(key))
    else:
        raise ValueError(
            f"normalisation {normalisation!r}: use 'symmetric', 'row' or 'none'"
        )
    layout = make_layout(
        senders,
        receivers,
        num_senders=num_nodes,
        num_receivers=num_nodes,
        symmetric=normalisation != "row",
    )
    # jraph's annotations know device arrays only; these are still on the host.
    fields: dict[str, Any] = {
        "nodes": None,
        "edges": {"weight": weight.astype(np.float32)},
        "senders": senders.astype(np.int32),
        "receivers": receivers.astype(np.int32),
        "globals": {"layout": layout},
        "n_node": np.array([num_nodes], np.int32),
        "n_edge": np.array([len(key)], np.int32),
    }
    return jraph.GraphsTuple(**fields)


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
      normalisation: of the graph's weights, see `make_graph`.
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
    _check_range("user", train.users, spec.num_users)
    _check_range("item", train.items, spec.num_items)
    seen = item_lists(train.users, train.items, spec.num_users)
    users = np.repeat(np.arange(spec.num_users, dtype=np.int32), np.diff(seen.pointer))
    counts = np.bincount(seen.items, minlength=spec.num_items).astype(np.float32)
    graph = make_graph(
        (users, seen.items), spec, attributes=attributes, normalisation=normalisation
    )
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


def _check_range(what: str, ids: np.ndarray, size: int) -> None:
    ids = np.asarray(ids)
    if ids.size and (ids.min() < 0 or ids.max() >= size):
        raise ValueError(
            f"{what} ids run from {ids.min()} to {ids.max()}, but the spec has {size}"
        )
