"""What models of typed edges share: relations of edges, behaviours, newcomers."""

from typing import Any

import jax
import jax.numpy as jnp
import jraph

from recjax.graphs import Normalisation, normalise_edges
from recjax.layers import newcomer_sum, unit_length
from recjax.models._nodes import (
    batch_nodes,
    comparable,
    objective_with_l2,
    split_batch,
    split_nodes,
)
from recjax.objectives import Objective
from recjax.types import Batch, Context, Embeddings, ItemLists, Spec


def check_relations(model: Any, spec: Spec) -> None:
    """Refuses a spec without relations; the message says how to make one with."""
    if not spec.relations:
        raise ValueError(
            f"{type(model).__name__} needs typed edges, and the spec has no relations: "
            "make it with recjax.data.make_relation_context, or train with --relations "
            "and the names of behaviours (or all)"
        )


def edge_relations(context: Context) -> jax.Array:
    """The relation ``[E]`` of each edge, the same for both directions."""
    edges: Any = context.graph.edges
    if not isinstance(edges, dict) or "relation" not in edges:
        raise ValueError(
            "the graph's edges have no relations: make the context with "
            "recjax.data.make_relation_context (--relations)"
        )
    return edges["relation"] // 2


def behaviour_graph(
    context: Context, behaviour: int, normalisation: Normalisation = "symmetric"
) -> jraph.GraphsTuple:
    """The graph with the weights of one behaviour's edges alone, in both directions."""
    weight = (edge_relations(context) == behaviour).astype(jnp.float32)
    return normalise_edges(context.graph, weight, normalisation=normalisation)


def pair_behaviours(batch: Batch) -> jax.Array:
    """The behaviour ``[B]`` of each pair of a batch."""
    if batch.relations is None:
        raise ValueError(
            "the training pairs have no behaviours: make the context with "
            "recjax.data.make_relation_context (--relations)"
        )
    return batch.relations


def edge_features(context: Context) -> jax.Array:
    """What stands on the edges as numbers ``[E, 3]`` of ordinary size.

    They are ``log(1 + count)``, ``log(1 + age in days)`` and ``log(1 + value)``; what
    an edge does not have is 0.
    """
    edges: Any = context.graph.edges
    none = jnp.zeros(edges["relation"].shape, jnp.float32)
    columns = (
        edges.get("count", none),
        edges.get("age", none) / 86_400.0,
        edges.get("value", none),
    )
    return jnp.stack([jnp.log1p(x.astype(jnp.float32)) for x in columns], axis=1)


def fold_in_by_items(
    context: Context, state: Embeddings, histories: ItemLists, *, cosine: bool
) -> Embeddings:
    """Newcomers as the sum of their items' final vectors, rare items counting more.

    Args:
      context: the training data.
      state: of the model.
      histories: the newcomers' lists.
      cosine: whether vectors are of unit length.

    Returns:
      The state whose users are the newcomers.
    """
    users = newcomer_sum(state.items, context.item_counts, histories)
    return state._replace(users=unit_length(users) if cosine else users)


def behaviour_vectors(
    objective: Objective, nodes: jax.Array, behaviours: jax.Array, context: Context
) -> Embeddings:
    """Users times the target's vector, and items.

    Args:
      objective: of the model.
      nodes: ``[N, D]``.
      behaviours: ``[R, D]``, a vector each, the target's last.
      context: the training data.

    Returns:
      Vectors, of unit length under a cosine objective.
    """
    users, items = split_nodes(nodes, context)
    return comparable(objective, Embeddings(users * behaviours[-1][None], items))


def behaviour_newcomers(
    objective: Objective,
    behaviours: jax.Array,
    context: Context,
    state: Embeddings,
    histories: ItemLists,
) -> Embeddings:
    """Newcomers as the sum of their items, times the target's vector.

    Args:
      objective: of the model.
      behaviours: as in `behaviour_vectors`.
      context: the training data.
      state: from `behaviour_vectors`.
      histories: the newcomers' lists.

    Returns:
      The state whose users are the newcomers.
    """
    state = fold_in_by_items(context, state, histories, cosine=False)
    users = state.users * behaviours[-1][None]
    return state._replace(users=comparable(objective, users))


def behaviour_loss(
    objective: Objective,
    nodes: jax.Array,
    behaviours: jax.Array,
    table: jax.Array,
    context: Context,
    batch: Batch,
    *,
    l2: float,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The objective on pairs, users times their behaviour's vector, and L2.

    Args:
      objective: of the model.
      nodes: ``[N, D]``.
      behaviours: as in `behaviour_vectors`.
      table: ``[N, D]``, learned.
      context: the training data.
      batch: B pairs with their behaviours.
      l2: weight of `batch_l2_loss` on the batch's rows of the table.

    Returns:
      As `objective_with_l2`.
    """
    rows = batch_nodes(context, batch)
    vectors = split_batch(nodes[rows], batch)
    of_pairs = behaviours[pair_behaviours(batch)]
    return objective_with_l2(
        objective,
        vectors._replace(users=vectors.users * of_pairs),
        split_batch(table[rows], batch),
        context,
        batch,
        l2=l2,
    )
