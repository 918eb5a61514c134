"""Transformer blocks over the neighbours in the graph, and along users' histories."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jraph
import numpy as np

from recjax.layers import (
    graph_attention,
    init_transformer_block,
    sequence_attention,
    transformer_block,
)
from recjax.models._nodes import newcomer_graph, node_counts
from recjax.models._text_table import Sharing
from recjax.types import Context, Interactions, ItemLists, Params


class Histories(NamedTuple):
    """The last S items of each of B users, the latest at the end.

    Attributes:
      items: ``[B, S]`` int32.
      present: ``[B, S]`` bool; the steps of a short history are the last ones.
    """

    items: jax.Array
    present: jax.Array


def with_histories(context: Context, train: Interactions, *, length: int) -> Context:
    """A context that holds the users' last items, by the times of training rows.

    Args:
      context: the training data.
      train: the same rows; without times they count in the order in which they are.
      length: S.

    Returns:
      The context.
    """
    num_users = context.seen.pointer.shape[0] - 1
    times = np.arange(train.num_rows) if train.times is None else train.times
    order = np.lexsort((times, train.users))
    counts = np.bincount(train.users, minlength=num_users)
    pointer = np.concatenate([[0], np.cumsum(counts)])
    lists = ItemLists(jnp.asarray(pointer), jnp.asarray(train.items[order]))
    found = jax.device_put(last_items(lists, length=length))
    return context._replace(prepared=context.prepared | {"histories": found})


def last_items(lists: ItemLists, *, length: int) -> Histories:
    """The last S entries of each list.

    Args:
      lists: B lists.
      length: S.

    Returns:
      The histories.

    Examples:
      >>> lists = ItemLists(jnp.array([0, 3, 4]), jnp.array([5, 6, 7, 8]))
      >>> found = last_items(lists, length=2)
      >>> found.items.tolist(), found.present.tolist()
      ([[6, 7], [0, 8]], [[True, True], [False, True]])
    """
    pointer, items = map(jnp.asarray, lists)
    places = pointer[1:, None] - length + jnp.arange(length)[None]
    present = places >= pointer[:-1, None]
    if not items.shape[0]:
        return Histories(jnp.zeros(places.shape, jnp.int32), present)
    taken = items[jnp.maximum(places, 0)]
    return Histories(jnp.where(present, taken, 0).astype(jnp.int32), present)


def init_blocks(key: jax.Array, sharing: Sharing, dim: int) -> Params:
    """Parameters of the block over neighbours, and of the one along histories.

    Args:
      key: a PRNG key.
      sharing: ``"shared"`` makes one for both, ``"own"`` two, ``"none"`` none.
      dim: D; the hidden layer of a block is twice as wide.

    Returns:
      ``{"block", "history_block", "history_gate"}`` or a part of it; the gate of what
      users get from their histories is 0.
    """
    names = {"none": (), "shared": ("block",), "own": ("block", "history_block")}
    keys = jax.random.split(key)
    blocks = {
        name: init_transformer_block(one, dim, 2 * dim)
        for name, one in zip(names[sharing], keys, strict=False)
    }
    return blocks | ({"history_gate": jnp.zeros(())} if blocks else {})


def neighbour_block(
    params: Params, graph: jraph.GraphsTuple, nodes: jax.Array, *, heads: int
) -> jax.Array:
    """A `transformer_block` of nodes ``[N, D]`` that attend to their neighbours."""
    attend = functools.partial(graph_attention, graph)
    return transformer_block(params["block"], nodes, attend, heads=heads)


def newcomer_block(
    params: Params,
    users: jax.Array,
    nodes: jax.Array,
    context: Context,
    histories: ItemLists,
    *,
    heads: int,
) -> jax.Array:
    """`neighbour_block` of newcomers who attend to the items of their lists.

    Args:
      params: from `init_blocks`.
      users: ``[B, D]``, theirs.
      nodes: ``[N, D]``, of the graph that they join.
      context: the training data.
      histories: B lists.
      heads: of the attention.

    Returns:
      ``[B, D]``.
    """
    graph = newcomer_graph(histories, len(nodes), first=node_counts(context)[0])
    everyone = jnp.concatenate([users, nodes])
    return neighbour_block(params, graph, everyone, heads=heads)[: len(users)]


def history_block(
    params: Params, items: jax.Array, histories: Histories, *, heads: int
) -> jax.Array:
    """A `transformer_block` along histories: the vectors of the last steps, gated.

    A step attends to itself and those before; nothing else says where it stands.
    The gate is one number that begins at 0: the last item alone would say little.

    Args:
      params: from `init_blocks`.
      items: ``[I, D]``.
      histories: of B users; one without any gets 0.
      heads: of the attention.

    Returns:
      ``[B, D]``.
    """
    present = histories.present

    def attend(queries, keys, values):
        return sequence_attention(queries, keys, values, where=present, causal=True)

    steps = jnp.where(present[..., None], items[histories.items], 0)
    block = params.get("history_block", params["block"])
    steps = transformer_block(block, steps, attend, heads=heads)
    last = jnp.where(present[:, -1:], steps[:, -1], 0)
    return params["history_gate"] * last
