"""One learned vector a node, and the loss of models that have them.

All nodes share one table, users first, then items, then attributes: propagation takes
it as it is, and the optimizer passes over it once.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import jraph

from recjax.layers import newcomer_sum, propagate_layers, unit_length
from recjax.losses import batch_l2_loss
from recjax.objectives import Objective
from recjax.types import (
    Batch,
    BatchVectors,
    Context,
    Embeddings,
    ItemLists,
    Params,
    Spec,
)


def init_nodes(key: jax.Array, spec: Spec, dim: int, *, scale: float = 0.1) -> Params:
    """A normal table ``{"nodes": [U + I + A, D]}``.

    Args:
      key: a PRNG key.
      spec: sizes.
      dim: D.
      scale: standard deviation.

    Returns:
      The table.

    Examples:
      >>> import jax
      >>> from recjax.types import Spec
      >>> init_nodes(jax.random.key(0), Spec(2, 3), 4)["nodes"].shape
      (5, 4)
    """
    size = spec.num_users + spec.num_items + spec.num_attributes
    return {"nodes": scale * jax.random.normal(key, (size, dim))}


def init_glorot_nodes(key: jax.Array, spec: Spec, dim: int) -> Params:
    """A table ``{"nodes": [U + I + A, D]}``, each kind of node by Glorot.

    Args:
      key: a PRNG key.
      spec: sizes.
      dim: D.

    Returns:
      The table; entries are uniform up to ``sqrt(6 / (number of the kind + D))``.

    Examples:
      >>> import jax
      >>> from recjax.types import Spec
      >>> init_glorot_nodes(jax.random.key(0), Spec(2, 3), 4)["nodes"].shape
      (5, 4)
    """
    sizes = [spec.num_users, spec.num_items]
    if spec.num_attributes:
        sizes.append(spec.num_attributes)
    keys = jax.random.split(key, len(sizes))
    glorot = nn.initializers.glorot_uniform()
    tables = [glorot(key, (n, dim)) for key, n in zip(keys, sizes, strict=True)]
    return {"nodes": jnp.concatenate(tables)}


def split_nodes(nodes: jax.Array, context: Context) -> Embeddings:
    """The users' and the items' rows of an array ``[N, D]`` over all nodes."""
    num_users, num_items = node_counts(context)
    return Embeddings(nodes[:num_users], nodes[num_users : num_users + num_items])


def batch_nodes(context: Context, batch: Batch) -> jax.Array:
    """Nodes ``[B (2 + M)]`` of a batch: its users, its positives, its negatives."""
    num_users, _ = node_counts(context)
    items = jnp.concatenate([batch.items, batch.negatives.ravel()])
    return jnp.concatenate([batch.users, num_users + items])


def split_batch(rows: jax.Array, batch: Batch) -> BatchVectors:
    """Rows ``[B (2 + M), D]`` of `batch_nodes`, apart."""
    size = len(batch.users)
    negatives = rows[2 * size :].reshape(*batch.negatives.shape, rows.shape[1])
    return BatchVectors(rows[:size], rows[size : 2 * size], negatives)


def add_to_items(vectors: BatchVectors, items: jax.Array, batch: Batch) -> BatchVectors:
    """Vectors of a batch, to whose items rows of a table ``[I, D]`` are added."""
    return vectors._replace(
        items=vectors.items + items[batch.items],
        negatives=vectors.negatives + items[batch.negatives],
    )


def newcomer_nodes(
    nodes: jax.Array,
    context: Context,
    histories: ItemLists,
    *,
    depth: int,
    with_table: bool = True,
) -> jax.Array:
    """What LightGCN gives newcomers, who receive from their items layer by layer.

    Args:
      nodes: ``[N, D]``, layer 0.
      context: the training data.
      histories: B lists.
      depth: L.
      with_table: whether layer 0 is part of the mean.

    Returns:
      ``[B, D]``.
    """
    layers = propagate_layers(context.graph, nodes, depth=depth)
    # A newcomer has no vector of its own: layer 0 is zero, and layer k + 1 comes
    # from layer k of the items.
    items = [split_nodes(layer, context).items for layer in layers[:-1]]
    start = jnp.zeros_like(split_nodes(nodes, context).items)
    mean = sum(items, start) / (depth + with_table)
    return newcomer_sum(mean, context.item_counts, histories)


def newcomer_graph(
    histories: ItemLists, num_nodes: int, *, first: int
) -> jraph.GraphsTuple:
    """Edges from the items of each list to newcomers, who stand before all nodes.

    Args:
      histories: B lists.
      num_nodes: N, of the graph that they join.
      first: the node of item 0 in it.

    Returns:
      A graph of ``B + N`` nodes.

    Examples:
      >>> lists = ItemLists(jnp.array([0, 1, 3]), jnp.array([4, 2, 4]))
      >>> graph = newcomer_graph(lists, 9, first=3)
      >>> graph.senders.tolist(), graph.receivers.tolist()
      ([9, 7, 9], [0, 1, 1])
    """
    num, entries = len(histories.pointer) - 1, len(histories.items)
    return jraph.GraphsTuple(
        nodes=None,
        edges=None,
        globals=None,
        senders=num + first + jnp.asarray(histories.items),
        receivers=jnp.repeat(
            jnp.arange(num), jnp.diff(histories.pointer), total_repeat_length=entries
        ),
        n_node=jnp.array([num + num_nodes]),
        n_edge=jnp.array([entries]),
    )


def comparable(objective: Objective, vectors: Any) -> Any:
    """Vectors ``[..., D]``, or a tree of them, of unit length for a cosine objective.

    Their dot products are then what the objective compares.
    """
    return jax.tree.map(unit_length, vectors) if objective.cosine else vectors


def objective_with_l2(
    objective: Objective,
    vectors: BatchVectors,
    learned: BatchVectors,
    context: Context,
    batch: Batch,
    *,
    l2: float,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The loss of models that learn vectors: an objective, and L2 on the batch's rows.

    Args:
      objective: what the vectors are trained for.
      vectors: those that are compared.
      learned: those of the table, before any propagation.
      context: the training data.
      batch: B rows.
      l2: weight of `recjax.losses.batch_l2_loss`.

    Returns:
      The loss, and the objective alone to be logged.
    """
    loss = objective(vectors, context, batch)
    penalty = batch_l2_loss(*learned, where=batch.weight)
    return loss + l2 * penalty, {"objective": loss}


def node_counts(context: Context) -> tuple[int, int]:
    """Users U and items I of the training data."""
    return context.seen.pointer.shape[0] - 1, context.item_counts.shape[0]
