"""The sums of `DiffMM`: over interactions with loops, and over its modalities."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from recjax.layers import fuse_sum, newcomer_sum, unit_length
from recjax.models._features import project_features
from recjax.models._generated_graph import (
    GeneratedGraph,
    generated_newcomer_sum,
    generated_sum,
)
from recjax.models._nodes import split_nodes
from recjax.sparse import graph_sum
from recjax.types import Context, Embeddings, ItemLists, Params, prepared


def looks(params: Params, context: Context) -> dict[str, jax.Array]:
    """The vectors n: projected features of unit length, ``[I, D]`` by modality."""
    return jax.tree.map(unit_length, project_features(params["projections"], context))


def mix_modalities(
    logits: jax.Array,
    values: Mapping[str, jax.Array],
    present: Mapping[str, jax.Array] | None = None,
) -> jax.Array:
    """The sum of ``w_m x_m`` with w the softmax of the logits.

    Args:
      logits: ``[M]``, in the order of the modalities' names.
      values: x ``[N, D]`` by modality.
      present: ``[N]`` bool by modality: w is over those that are there; None for all.

    Returns:
      ``[N, D]``.

    Examples:
      >>> values = {"audio": jnp.ones((1, 2)), "image": 3 * jnp.ones((1, 2))}
      >>> mix_modalities(jnp.zeros(2), values).tolist()
      [[2.0, 2.0]]
    """
    weights = dict(zip(sorted(values), jax.nn.softmax(logits), strict=True))
    return fuse_sum(values, weights, present, normalise=True)


def main_nodes(
    params: Params,
    context: Context,
    graphs: Mapping[str, GeneratedGraph],
    *,
    weight: float,
) -> jax.Array:
    """The vectors M of all users and items.

    Products with A are linear, so that modalities are mixed before them.

    Args:
      params: of `DiffMM`.
      context: the training data, prepared for it.
      graphs: G by modality.
      weight: lambda.

    Returns:
      ``[U + I, D]``.
    """
    graph, nodes = prepared(context, "graph"), params["nodes"]
    users, items = split_nodes(nodes, context)
    first = graph_sum(graph, jnp.concatenate([users, _mixed_looks(params, context)]))
    second = graph_sum(graph, jnp.concatenate([first[: len(users)], items]))
    received = {m: generated_sum(graphs[m], nodes) for m in graphs}
    return first + second + weight * mix_modalities(params["weights"], received)


def main_newcomers(
    params: Params,
    context: Context,
    graphs: Mapping[str, GeneratedGraph],
    best: Mapping[str, jax.Array],
    histories: ItemLists,
    *,
    weight: float,
) -> jax.Array:
    """Rows of M for users who joined later, and have no vector of their own.

    Args:
      params: as in `main_nodes`, like all that is not named here.
      context: likewise.
      graphs: likewise.
      best: items generated for the newcomers, ``[B, k]`` by modality.
      histories: B lists.
      weight: likewise.

    Returns:
      ``[B, D]``.
    """
    items, counts = split_nodes(params["nodes"], context).items, context.item_counts
    mixed = _mixed_looks(params, context)
    nothing = jnp.zeros((len(histories.pointer) - 1, items.shape[1]))
    first = looped_newcomer_sum(nothing, mixed, counts, histories)
    second = looped_newcomer_sum(first, items, counts, histories)
    received = {m: generated_newcomer_sum(graphs[m], items, best[m]) for m in best}
    return first + second + weight * mix_modalities(params["weights"], received)


def looped_newcomer_sum(
    own: jax.Array, items: jax.Array, counts: jax.Array, histories: ItemLists
) -> jax.Array:
    """What newcomers receive in a graph with loops, items held still.

    Args:
      own: ``[B, D]`` of the newcomers.
      items: ``[I, D]``.
      counts: ``[I]`` training users of each item, without its loop.
      histories: B lists.

    Returns:
      ``[B, D]``.
    """
    size = jnp.diff(histories.pointer).astype(items.dtype)[:, None]
    total = newcomer_sum(items, counts + 1, histories)
    return total * jnp.sqrt(size / (size + 1)) + own / (size + 1)


def modality_views(
    params: Params, context: Context, graphs: Mapping[str, GeneratedGraph]
) -> list[Embeddings]:
    """For each modality m, ``C_m = c + A c`` with ``c = G_m [U; n_m]``.

    Args:
      params: as in `main_nodes`.
      context: likewise.
      graphs: likewise.

    Returns:
      A view a modality, in the order of their names.
    """
    users = split_nodes(params["nodes"], context).users
    views = []
    for name, vectors in sorted(looks(params, context).items()):
        own = generated_sum(graphs[name], jnp.concatenate([users, vectors]))
        received = graph_sum(prepared(context, "graph"), own)
        views.append(split_nodes(own + received, context))
    return views


def _mixed_looks(params: Params, context: Context) -> jax.Array:
    """The sum of ``w n``, w over the modalities that an item has."""
    values = looks(params, context)
    present = {name: context.features[name].present for name in values}
    return mix_modalities(params["weights"], values, present)
