"""Item features smoothed over the graph, without parameters."""

import jax
import jax.numpy as jnp

from recjax.layers import newcomer_sum, propagate_layers
from recjax.models._features import feature_values, list_features
from recjax.models._nodes import split_nodes
from recjax.types import Context, ItemLists


def smooth_features(
    context: Context, *, depth: int, num_nodes: int
) -> dict[str, jax.Array]:
    """Features smoothed over the graph, ``A^depth [M; X; 0]``.

    Args:
      context: the training data, with features X.
      depth: neighbour sums.
      num_nodes: of the graph; users start from the mean M of their items, attributes
        from 0.

    Returns:
      ``[U + I, F]`` for each feature.
    """
    smoothed = {}
    for name, feature in context.features.items():
        items = feature_values(feature)
        users = list_features(feature, context.seen).values
        rest = num_nodes - len(users) - len(items)
        nodes = jnp.concatenate([users, items, jnp.zeros((rest, items.shape[1]))])
        layer = propagate_layers(context.graph, nodes, depth=depth)[-1]
        smoothed[name] = layer[: len(layer) - rest]
    return smoothed


def smooth_newcomers(
    context: Context, histories: ItemLists, *, depth: int, num_nodes: int
) -> dict[str, jax.Array]:
    """Rows ``[B, F]`` of `smooth_features` for newcomers, items held still."""
    if not depth:
        return {
            name: list_features(feature, histories).values
            for name, feature in context.features.items()
        }
    below = smooth_features(context, depth=depth - 1, num_nodes=num_nodes)
    return {
        name: newcomer_sum(
            split_nodes(nodes, context).items, context.item_counts, histories
        )
        for name, nodes in below.items()
    }
