"""A training step that reads the rows of a batch and of its drawn neighbours only."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from recjax.graphs import SampleBy, sample_subgraph
from recjax.optimizers import Rows, take
from recjax.sampling import unseen_mass
from recjax.sharding import lookup_rows, return_rows, split_ids
from recjax.types import Batch, Context, ItemLists, NegativeTable, Params


@dataclasses.dataclass(frozen=True)
class Sampled:
    """How the neighbours of a batch are drawn, see `recjax.graphs.sample_subgraph`."""

    fanouts: tuple[int, ...]
    """Neighbours of a node in each hop; as many hops as the model reads."""
    by: SampleBy = "uniform"
    """Every neighbour alike, or in proportion to the weights of the edges."""
    replace: bool = False
    """Whether a neighbour may be drawn again."""
    capacity: int | None = None
    """Over a mesh, the rows that a device may ask of another one in a step, see
    `recjax.sharding.lookup_rows`; None always suffices."""

    def check(self, model: Any) -> None:
        """Refuses a model that these hops do not serve."""
        hops = getattr(model, "hops", None)
        if hops is None:
            raise ValueError(
                f"{type(model).__name__} reads more than the neighbours of a batch: "
                "train it on the whole graph, without fanouts"
            )
        if hops != len(self.fanouts):
            raise ValueError(
                f"fanouts {self.fanouts} must be one a hop: {type(model).__name__} "
                f"reads {hops}"
            )
        if any(fanout < 1 for fanout in self.fanouts):
            raise ValueError(f"fanouts {self.fanouts} must be at least 1 each")
        if self.capacity is not None and self.capacity < 1:
            raise ValueError(f"capacity {self.capacity} rows must be at least 1")


class Share(NamedTuple):
    """What a step needs of the training data, with nodes numbered anew.

    Its users and items are those of the batch, an entry for each place in it.

    Attributes:
      nodes: ``[R]`` int32, the node of the whole graph that each node here is; N for
        padding.
      context: the training data of these nodes; without ``users`` and ``items``.
      batch: B rows, of the same users and items by their new numbers.
    """

    nodes: jax.Array
    context: Context
    batch: Batch


def draw_share(
    key: jax.Array, context: Context, batch: Batch, sampled: Sampled
) -> Share:
    """Draws the neighbours of a batch, and cuts out what its loss reads.

    Args:
      key: a PRNG key; the same key draws the same neighbours.
      context: the training data; by weight its graph needs
        `recjax.graphs.add_edge_mass`.
      batch: B rows with M negatives.
      sampled: how neighbours are drawn.

    Returns:
      The share; its size does not depend on that of the training data, but where a hop
      has room for all nodes.

    Examples:
      >>> import numpy as np
      >>> from recjax.data.graph import make_context
      >>> from recjax.types import Interactions, Spec
      >>> train = Interactions(np.array([0, 1]), np.array([2, 2]))
      >>> context = make_context(train, Spec(num_users=2, num_items=9))
      >>> none = jnp.zeros((1, 0), jnp.int32)
      >>> batch = Batch(jnp.array([1]), jnp.array([2]), none, jnp.ones(1))
      >>> share = draw_share(jax.random.key(0), context, batch, Sampled((2,)))
      >>> share.nodes.tolist(), share.batch.items.tolist()
      ([1, 4, 4, 0, 1, 11, 11], [0])
    """
    size, num_negatives = batch.negatives.shape
    num_users = context.seen.pointer.shape[0] - 1
    items = jnp.concatenate([batch.items, batch.negatives.ravel()])
    seeds = jnp.concatenate([batch.users, num_users + items])
    real = batch.weight > 0
    where = jnp.concatenate([real, real, jnp.repeat(real, num_negatives)])
    graph = sample_subgraph(
        key,
        context.graph,
        seeds,
        sampled.fanouts,
        by=sampled.by,
        replace=sampled.replace,
        where=where,
    )
    nodes: Any = graph.nodes
    place = jnp.arange(len(items), dtype=jnp.int32)
    # Whoever asks for the chance of a negative finds the weight of its item and the
    # weight of what its user does not know; the rest of the table stands in one entry.
    mass = context.negatives.mass
    before = jnp.where(items > 0, mass[items - 1], 0)
    own = jnp.cumsum(mass[items] - before, dtype=jnp.uint32)
    seen = ItemLists(
        jnp.arange(size + 1, dtype=jnp.int32), jnp.full(size, len(items), jnp.int32)
    )
    table = NegativeTable(
        jnp.concatenate([own, mass[-1:]]),
        seen,
        unseen_mass(context.negatives, batch.users),
    )
    nothing: Any = None
    local = context._replace(
        graph=graph._replace(nodes=None),
        users=nothing,
        items=nothing,
        seen=seen,
        item_counts=context.item_counts[items],
        negatives=table,
        features={},
        prepared={},
    )
    return Share(
        nodes["id"],
        local,
        Batch(
            jnp.arange(size, dtype=jnp.int32),
            place[:size],
            place[size:].reshape(size, num_negatives),
            batch.weight,
        ),
    )


def share_gradient(
    loss: Callable[..., Any],
    params: Params,
    share: Share,
    key: jax.Array,
    num_rows: int,
    mesh: Mesh | None = None,
    capacity: int | None = None,
) -> tuple[tuple[jax.Array, dict[str, jax.Array]], Params]:
    """Loss and derivative from a share of the training data.

    Args:
      loss: of a `recjax.types.LocalRecommender`.
      params: of the model, with the table ``"nodes"`` ``[N, D]``.
      share: from `draw_share`.
      key: of the loss.
      num_rows: training pairs n.
      mesh: over which the table is split by rows, see `recjax.sharding.lookup_rows`.
      capacity: of that.

    Returns:
      The loss and what is logged, and the derivative, with `Rows` for the table.
    """
    # Of the training pairs a loss asks how many there are.
    count = jnp.zeros(num_rows, jnp.int32)
    context = share.context._replace(users=count, items=count)
    table, nodes = params["nodes"], share.nodes
    ids = nodes
    if mesh is None:
        rows = take(table, nodes)
    else:
        ids = split_ids(nodes, len(table), mesh)
        rows = lookup_rows(table, ids, mesh, capacity=capacity)[: len(nodes)]
    found, grads = jax.value_and_grad(loss, has_aux=True)(
        params | {"nodes": rows}, context, share.batch, key
    )
    rows = Rows(nodes, grads["nodes"])
    if mesh is not None:
        more = ((0, len(ids) - len(nodes)), (0, 0))
        rows = Rows(ids, jnp.pad(rows.values, more))
        rows = return_rows(rows, len(table), mesh, capacity=capacity)
    return found, grads | {"nodes": rows}
