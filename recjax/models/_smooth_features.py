"""Item features as vectors of users and items, without parameters."""

import jax
import jax.numpy as jnp

from recjax.layers import newcomer_sum, propagate_layers
from recjax.models._nodes import split_nodes
from recjax.sparse import list_sum
from recjax.types import Context, Feature, ItemLists


def check_features(model: str, context: Context) -> None:
    """`ValueError` where there is no feature for the model to read."""
    if not context.features:
        raise ValueError(
            f"{model} reads item features, and the dataset has none: give it at least "
            "one table, or train lightgcn"
        )


def feature_values(feature: Feature) -> jax.Array:
    """The features ``[I, F]``, 0 for items without them."""
    return jnp.where(feature.present[:, None], feature.values, 0)


def count_present(feature: Feature, lists: ItemLists) -> jax.Array:
    """Number ``[B, 1]`` of the items of each list that have the feature."""
    return list_sum(feature.present[:, None].astype(feature.values.dtype), lists)


def mean_feature(feature: Feature, lists: ItemLists) -> jax.Array:
    """Mean of the features over the items of each list that have them.

    Args:
      feature: an item feature table.
      lists: B lists of items.

    Returns:
      ``[B, F]``; 0 where none has it.

    Examples:
      >>> feature = Feature(jnp.array([[2.0], [4.0], [9.0]]), jnp.array([1, 1, 0]) > 0)
      >>> lists = ItemLists(jnp.array([0, 3, 3]), jnp.array([0, 1, 2]))
      >>> mean_feature(feature, lists).tolist()
      [[3.0], [0.0]]
    """
    total = list_sum(feature_values(feature), lists)
    return total / jnp.maximum(count_present(feature, lists), 1)


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
        users, items = mean_feature(feature, context.seen), feature_values(feature)
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
        features = context.features.items()
        return {name: mean_feature(feature, histories) for name, feature in features}
    below = smooth_features(context, depth=depth - 1, num_nodes=num_nodes)
    return {
        name: newcomer_sum(
            split_nodes(nodes, context).items, context.item_counts, histories
        )
        for name, nodes in below.items()
    }
