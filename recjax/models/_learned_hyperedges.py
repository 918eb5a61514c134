"""Hyperedges that are learned: each node depends a little on every one of a few."""

import jax
import jax.numpy as jnp

from recjax.models._features import feature_values
from recjax.sparse import list_sum
from recjax.types import Embeddings, Feature, ItemLists


def pass_hyperedges(
    key: jax.Array | None,
    kernel: jax.Array,
    feature: Feature,
    items: jax.Array,
    lists: ItemLists,
    *,
    layers: int,
    temperature: float,
    dropout: float,
) -> Embeddings:
    """What users and items receive from items by way of the hyperedges of a modality.

    With V the kernel and X the features of the items,

        H = softmax(([R X V; X V] + g) / t),    G = H collect(H_items, E)

    Args:
      key: see `depend_on_hyperedges`.
      kernel: V ``[F, Q]``.
      feature: X of I items.
      items: E ``[I, D]``, what items send.
      lists: the items R of each of B users.
      layers: see `collect_by_hyperedges`.
      temperature: t.
      dropout: see `depend_on_hyperedges`.

    Returns:
      G of the users ``[B, D]`` and of the items ``[I, D]``; 0 for an item without the
      feature, and for a user none of whose items has it.
    """
    logits = feature_values(feature) @ kernel
    present = feature.present[:, None].astype(logits.dtype)
    users = list_sum(present, lists)[:, 0] > 0
    rows = depend_on_hyperedges(
        key,
        jnp.concatenate([list_sum(logits, lists), logits]),
        jnp.concatenate([users, feature.present]),
        temperature=temperature,
        dropout=dropout,
    )
    of_users, of_items = jnp.split(rows, [len(users)])
    hyperedges = collect_by_hyperedges(of_items, items, layers)
    return Embeddings(of_users @ hyperedges, of_items @ hyperedges)


def depend_on_hyperedges(
    key: jax.Array | None,
    logits: jax.Array,
    has: jax.Array,
    *,
    temperature: float,
    dropout: float,
) -> jax.Array:
    """How each node depends on each hyperedge, ``softmax((logits + g) / t)``.

    Args:
      key: draws Gumbel noise g and what is dropped, in training; None for neither.
      logits: ``[N, Q]``.
      has: ``[N]`` nodes that depend on any.
      temperature: t.
      dropout: share of the entries that is dropped; the rest is divided by 1 - share.

    Returns:
      ``[N, Q]``.

    Examples:
      >>> logits, has = jnp.zeros((2, 4)), jnp.array([True, False])
      >>> depend_on_hyperedges(None, logits, has, temperature=1, dropout=0.5).tolist()
      [[0.25, 0.25, 0.25, 0.25], [0.0, 0.0, 0.0, 0.0]]
    """
    if key is None:
        rows = jax.nn.softmax(logits / temperature, axis=1)
    else:
        noise_key, drop_key = jax.random.split(key)
        noise = jax.random.gumbel(noise_key, logits.shape)
        rows = jax.nn.softmax((logits + noise) / temperature, axis=1)
        kept = jax.random.bernoulli(drop_key, 1 - dropout, logits.shape)
        rows = jnp.where(kept, rows / (1 - dropout), 0)
    return jnp.where(has[:, None], rows, 0)


def collect_by_hyperedges(rows: jax.Array, items: jax.Array, layers: int) -> jax.Array:
    """What learned hyperedges hold, ``H^T (H H^T)^{layers - 1} X``.

    Args:
      rows: H ``[I, Q]``, from `depend_on_hyperedges`.
      items: X ``[I, D]``.
      layers: steps from items to hyperedges.

    Returns:
      ``[Q, D]``.

    Examples:
      >>> rows, items = jnp.array([[1.0], [0.5]]), jnp.array([[2.0], [4.0]])
      >>> collect_by_hyperedges(rows, items, 2).tolist()
      [[5.0]]
    """
    hyperedges = rows.T @ items
    for _ in range(layers - 1):
        hyperedges = rows.T @ (rows @ hyperedges)
    return hyperedges
