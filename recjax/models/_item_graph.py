"""Graphs between items whose features are alike."""

from typing import Any

import jax
import jax.numpy as jnp
import jraph
import numpy as np

from recjax.graphs import cosine_neighbours, neighbour_graph
from recjax.sparse import Layout, Transpose
from recjax.types import Context, Feature


def item_graphs(
    context: Context,
    *,
    k: int,
    weighted: bool = False,
    include_self: bool = True,
    standardise: bool = False,
    symmetrise: bool = False,
) -> dict[str, jraph.GraphsTuple]:
    """For each feature, the graph in which an item receives from the k most similar.

    Weights are those of the symmetric normalisation; see
    `recjax.graphs.neighbour_graph`.

    Args:
      context: the training data, with features.
      k: neighbours of an item; of fewer items all are.
      weighted: by cosine, instead of alike.
      include_self: whether an item is among its own neighbours.
      standardise: bring each column to mean 0 and deviation 1 first, over the items
        that have the feature.
      symmetrise: add the reverse edges.

    Returns:
      Graphs over the I items by name of the feature, as NumPy arrays; an item without
      the feature has no edge.

    Raises:
      ValueError: there is no feature.

    Examples:
      >>> import numpy as np
      >>> from recjax.data.graph import make_context
      >>> from recjax.types import Interactions, Spec
      >>> values = np.array([[1.0, 0.0], [2.0, 0.1], [0.0, 1.0]], np.float32)
      >>> context = make_context(
      ...     Interactions(np.array([0]), np.array([0])),
      ...     Spec(1, 3),
      ...     features={"image": Feature(values, np.array([True, True, False]))},
      ... )
      >>> graph = item_graphs(context, k=2)["image"]
      >>> graph.senders.tolist(), graph.receivers.tolist()
      ([0, 1, 0, 1], [0, 0, 1, 1])
      >>> graph.edges["weight"].round(2).tolist()
      [0.5, 0.5, 0.5, 0.5]

    References:
      Zhang et al., LATTICE, ACM MM 2021, equations 1 to 3; Zhou and Shen, FREEDOM, ACM
      MM 2023, equation 2.
    """
    if not context.features:
        raise ValueError(
            "there are no item features to make a graph of: the dataset has none"
        )
    most = context.item_counts.shape[0] - (not include_self)
    graphs = {}
    for name, feature in sorted(context.features.items()):
        neighbours, similarity = cosine_neighbours(
            _standardise(feature) if standardise else jnp.asarray(feature.values),
            min(k, most),
            present=feature.present,
            include_self=include_self,
        )
        graphs[name] = neighbour_graph(
            np.asarray(neighbours),
            np.asarray(similarity) if weighted else None,
            symmetrise=symmetrise,
        )
    return graphs


def fixed_graph(neighbours: jax.Array) -> jraph.GraphsTuple:
    """The graph of neighbours that change while a model trains, on device.

    Args:
      neighbours: ``[I, k]`` int32, -1 for none, in any order.

    Returns:
      A graph with ``I k`` edges, sorted by receiver; weight 1, and 0 for a place that
      no neighbour takes.

    Examples:
      >>> import jax.numpy as jnp
      >>> graph = fixed_graph(jnp.array([[1, 0], [1, -1]]))
      >>> graph.senders.tolist(), graph.edges["weight"].tolist()
      ([1, 0, 1, 1], [1.0, 1.0, 1.0, 0.0])
    """
    num, k = neighbours.shape
    own = jnp.arange(num, dtype=jnp.int32)
    there = neighbours >= 0
    senders = jnp.where(there, neighbours, own[:, None]).ravel()
    receivers = jnp.repeat(own, k)
    order = jnp.argsort(senders, stable=True).astype(jnp.int32)
    ends = jnp.arange(num + 1, dtype=jnp.int32)
    starts = jnp.searchsorted(senders[order], ends).astype(jnp.int32)
    fields: dict[str, Any] = {
        "nodes": None,
        "edges": {"weight": there.ravel().astype(jnp.float32)},
        "senders": senders,
        "receivers": receivers,
        "globals": {
            "layout": Layout(ends * k, Transpose(order, starts, receivers[order]))
        },
        "n_node": jnp.array([num], jnp.int32),
        "n_edge": jnp.array([num * k], jnp.int32),
    }
    return jraph.GraphsTuple(**fields)


def _standardise(feature: Feature) -> jax.Array:
    """Columns of mean 0 and deviation 1 over the rows that are there."""
    there = np.asarray(feature.present)[:, None]
    values = np.asarray(feature.values, np.float64)
    if not there.any():
        return jnp.zeros(values.shape, jnp.float32)
    mean = np.mean(values, axis=0, where=there)
    deviation = np.std(values, axis=0, where=there)
    # A constant column tells nothing apart.
    scaled = (values - mean) / np.where(deviation > 0, deviation, np.inf)
    return jnp.asarray(np.where(there, scaled, 0), jnp.float32)
