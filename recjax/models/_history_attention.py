"""Transformer blocks over the neighbours in the graph, and along users' histories."""

import dataclasses
import functools
from typing import Any, NamedTuple

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
from recjax.models._nodes import newcomer_graph, node_counts, split_nodes
from recjax.models._text_table import Sharing
from recjax.types import Context, Interactions, ItemLists, Params, prepared


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


@dataclasses.dataclass(frozen=True)
class Attended:
    """Transformer blocks after a propagation, or none.

    Every node attends to its neighbours in the graph, and every user along the history;
    what the second gives is gated and added to a user's vector.  Histories are by time
    where `with_histories` gave them to the context; a newcomer's is by item id.

    Examples:
      >>> params = Attended("shared").init(jax.random.key(0), dim=4)
      >>> sorted(params)  # one block for both
      ['block', 'history_gate']

    References:
      Those of `recjax.layers.transformer_block`.
    """

    sharing: Sharing = "none"
    """``"shared"`` has one block for both, ``"own"`` two, ``"none"`` none."""
    history: int = 20
    """Items of a user's history that is attended along, the last ones."""
    heads: int = 2
    """Of the attention."""

    def prepare(self, context: Context) -> dict[str, Any]:
        """What the context holds already, and histories by id, if it has none."""
        if self.sharing == "none" or "histories" in context.prepared:
            return context.prepared
        histories = last_items(context.seen, length=self.history)
        return context.prepared | {"histories": histories}

    def init(self, key: jax.Array, dim: int) -> Params:
        """Parameters of the blocks, whose hidden layer is twice as wide as D.

        The gate of what users get from their histories is 0: the last item alone
        would say little.
        """
        names = {"none": (), "shared": ("block",), "own": ("block", "history_block")}
        keys = jax.random.split(key)
        blocks = {
            name: init_transformer_block(one, dim, 2 * dim)
            for name, one in zip(names[self.sharing], keys, strict=False)
        }
        return blocks | ({"history_gate": jnp.zeros(())} if blocks else {})

    def nodes(
        self, params: Params, graph: jraph.GraphsTuple, nodes: jax.Array
    ) -> jax.Array:
        """A `transformer_block` of nodes ``[N, D]`` that attend to their neighbours."""
        if self.sharing == "none":
            return nodes
        attend = functools.partial(graph_attention, graph)
        return transformer_block(params["block"], nodes, attend, heads=self.heads)

    def users(
        self,
        params: Params,
        users: jax.Array,
        items: jax.Array,
        context: Context,
        rows: jax.Array | None = None,
    ) -> jax.Array:
        """Users of the graph with what they get along their histories.

        Args:
          params: from `init`.
          users: ``[B, D]``.
          items: ``[I, D]``, all.
          context: the training data.
          rows: ``[B]``, who they are; None for all.

        Returns:
          ``[B, D]``.
        """
        if self.sharing == "none":
            return users
        histories = prepared(context, "histories")
        if rows is not None:
            histories = jax.tree.map(lambda x: x[rows], histories)
        return users + self._along(params, items, histories)

    def newcomers(
        self,
        params: Params,
        users: jax.Array,
        nodes: jax.Array,
        context: Context,
        lists: ItemLists,
    ) -> jax.Array:
        """Newcomers who attend to the items of their lists, and along them.

        Args:
          params: from `init`.
          users: ``[B, D]``, theirs after the propagation.
          nodes: ``[N, D]``, of the graph that they join, after the propagation.
          context: the training data.
          lists: B of them.

        Returns:
          ``[B, D]``.
        """
        if self.sharing == "none":
            return users
        graph = newcomer_graph(lists, len(nodes), first=node_counts(context)[0])
        together = self.nodes(params, graph, jnp.concatenate([users, nodes]))
        items = split_nodes(self.nodes(params, context.graph, nodes), context).items
        histories = last_items(lists, length=self.history)
        return together[: len(users)] + self._along(params, items, histories)

    def _along(
        self, params: Params, items: jax.Array, histories: Histories
    ) -> jax.Array:
        """A `transformer_block` along histories: the last steps, gated.

        A step attends to itself and those before; nothing else says where it stands.
        A user without a history gets 0.
        """
        present = histories.present

        def attend(queries, keys, values):
            return sequence_attention(queries, keys, values, where=present, causal=True)

        steps = jnp.where(present[..., None], items[histories.items], 0)
        block = params.get("history_block", params["block"])
        steps = transformer_block(block, steps, attend, heads=self.heads)
        last = jnp.where(present[:, -1:], steps[:, -1], 0)
        return params["history_gate"] * last
