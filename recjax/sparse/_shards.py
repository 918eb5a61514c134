"""The neighbour sum with rows and edges spread over the devices of a mesh.

Device m holds rows ``m S : (m + 1) S`` of the features and edges ``m C : (m + 1) C`` of
those sorted by receiver, so that all have as many edges.  It sums at the receivers of
its edges, and the sums then go to the devices that hold those rows.  Most are there
already: an order of nodes with like degrees needs little of that second exchange.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

Exchange: TypeAlias = Literal["gather", "ring"]
_AXIS = "model"


class Turn(NamedTuple):
    """Each device's edges from the part of the table that it has at one turn of a ring.

    Attributes:
      take: ``[M, K]`` int32, place of an edge among those of its device; -1 where there
        is none.
      senders: ``[M, K]`` int32, row of the sender in that part.
      receivers: ``[M, K]`` int32, row of the receiver among those of its device.
      row_pointer: ``[M, R + 1]`` int32.
    """

    take: Any
    senders: Any
    receivers: Any
    row_pointer: Any


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("first", "row_pointer", "moves", "order", "shared", "ring"),
    meta_fields=("mesh",),
)
@dataclasses.dataclass(frozen=True)
class Shards:
    """How edges and rows lie on the devices; all arrays have M rows, one a device.

    Attributes:
      mesh: with an axis ``model`` of M devices.
      first: ``[M]`` int32, the first receiver of each device's edges.
      row_pointer: ``[M, R + 1]`` int32, where the edges of its receivers begin.
      moves: by the distance from a device to the one that holds the rows, ``[M, K]``
        int32: the sums that go there.
      order: ``[M, S]`` int32, where a device finds each of its rows among its own
        sums, those that arrived, and a row of zeros.
      shared: ``[M, M]`` int32, the row, among its own, to which a device adds the first
        sum of another one, whose edges begin in the middle of a receiver's; S for
        none.
      ring: the edges by sender, turn s those from the part of s devices further on, for
        an exchange that never holds the whole table; empty gathers it.
    """

    mesh: Mesh
    first: Any
    row_pointer: Any
    moves: dict[int, Any]
    order: Any
    shared: Any
    ring: tuple[Turn, ...] = ()


def make_shards(
    senders: np.ndarray,
    receivers: np.ndarray,
    num_nodes: int,
    mesh: Mesh,
    *,
    exchange: Exchange = "gather",
) -> Shards:
    """Where the edges of a graph and the sums of its nodes lie; on the host.

    Args:
      senders: ``[E]`` int; E is a multiple of M.
      receivers: ``[E]`` int, ascending.
      num_nodes: N, a multiple of M.
      mesh: with an axis ``model`` of size M.
      exchange: ``"gather"`` brings the whole table to every device for the time of a
        sum; ``"ring"`` passes its M parts round, each while the one before is used.

    Returns:
      The shards, as NumPy arrays.

    Raises:
      ValueError: sizes are no multiples, or edges are not sorted.

    Examples:
      >>> import jax, numpy as np
      >>> mesh = Mesh(np.array(jax.devices()[:1]), ("model",))
      >>> ends = np.array([0, 0, 1]), np.array([0, 1, 1])
      >>> make_shards(*ends, 2, mesh).row_pointer.tolist()
      [[0, 1, 3]]
    """
    parts = mesh.shape[_AXIS]
    num_edges = len(receivers)
    if num_nodes % parts or num_edges % parts or not num_edges:
        raise ValueError(
            f"{num_nodes} nodes and {num_edges} edges must be multiples of model="
            f"{parts}: see recjax.sharding.shard_graph"
        )
    if np.any(np.diff(receivers) < 0):
        raise ValueError("edges must be sorted by receiver; sort them first")
    size, held = num_edges // parts, num_nodes // parts
    ends, ends_of = (x.reshape(parts, size) for x in (receivers, senders))
    low, high = ends[:, 0].astype(np.int64), ends[:, -1].astype(np.int64)
    rows = int((high - low).max()) + 1
    local = ends - low[:, None]
    pointer = _pointers(local, rows)

    # A receiver whose edges began on an earlier device: its sum goes a way of its own.
    begun = np.concatenate([[False], low[1:] == high[:-1]])
    shared = np.full((parts, parts), held, np.int32)
    shared[low[begun] // held, np.flatnonzero(begun)] = low[begun] % held

    order = np.full((parts, held), -1, np.int64)
    moves, place = {}, rows
    for shift in range(parts):
        takes = []
        for m in range(parts):
            owner = (m + shift) % parts
            start = max(low[m] + begun[m], owner * held)
            takes.append(np.arange(start, min(high[m] + 1, (owner + 1) * held)))
        longest = max(map(len, takes))
        if shift == 0:
            for m, ids in enumerate(takes):
                order[m, ids - m * held] = ids - low[m]
            continue
        if not longest:
            continue
        move = np.zeros((parts, longest), np.int32)
        for m, ids in enumerate(takes):
            owner = (m + shift) % parts
            move[m, : len(ids)] = ids - low[m]
            order[owner, ids - owner * held] = place + np.arange(len(ids))
        moves[shift] = move
        place += longest
    order[order < 0] = place
    return Shards(
        mesh,
        low.astype(np.int32),
        pointer,
        moves,
        order.astype(np.int32),
        shared,
        _ring(ends_of, local, held, rows) if exchange == "ring" else (),
    )


def _pointers(ids: np.ndarray, rows: int) -> np.ndarray:
    """Where each row begins, ``[..., rows + 1]``, in ascending ids ``[..., E]``."""
    flat = ids.reshape(-1, ids.shape[-1])
    found = [np.searchsorted(one, np.arange(rows + 1)) for one in flat]
    return np.array(found, np.int32).reshape(*ids.shape[:-1], rows + 1)


def _ring(
    senders: np.ndarray, local: np.ndarray, held: int, rows: int
) -> tuple[Turn, ...]:
    parts, turns = len(senders), []
    for step in range(parts):
        here = (np.arange(parts) + step) % parts
        found = [np.flatnonzero(senders[m] // held == here[m]) for m in range(parts)]
        shape = (parts, max(1, *map(len, found)))
        take = np.full(shape, -1, np.int32)
        sender, receiver = np.zeros(shape, np.int32), np.full(shape, rows - 1, np.int32)
        for m, edges in enumerate(found):
            take[m, : len(edges)] = edges
            sender[m, : len(edges)] = senders[m, edges] % held
            receiver[m, : len(edges)] = local[m, edges]
        turns.append(Turn(take, sender, receiver, _pointers(receiver, rows)))
    return tuple(turns)


def sharded_sum(
    product: Callable[[int], Callable],
    x: jax.Array,
    weight: jax.Array,
    senders: jax.Array,
    receivers: jax.Array,
    shards: Shards,
) -> jax.Array:
    """The neighbour sum ``[N, D]`` of features ``[N, D]`` over weights ``[E]``.

    Args:
      product: from a number of receivers to the product on one device.
      x: ``[N, D]``.
      weight: ``[E]``.
      senders: ``[E]`` int32.
      receivers: ``[E]`` int32, ascending.
      shards: of these edges.

    Returns:
      ``[N, D]``, rows spread over ``model``.
    """
    rows = PartitionSpec(_AXIS)

    def local(x, weight, senders, receivers, shards):
        shards = jax.tree.map(lambda a: a[0], shards)
        run = product(shards.row_pointer.shape[0] - 1)
        if shards.ring:
            out = _round(run, x, weight, shards.ring)
        else:
            whole = jax.lax.all_gather(x, _AXIS, tiled=True)
            near = receivers - shards.first
            out = run(whole, weight, senders, near, shards.row_pointer)
        return _bring_home(out, shards)

    return jax.shard_map(
        local,
        mesh=shards.mesh,
        in_specs=(rows,) * 5,
        out_specs=rows,
        check_vma=False,
    )(x, weight, senders, receivers, shards)


def _round(
    run: Callable, x: jax.Array, weight: jax.Array, ring: tuple[Turn, ...]
) -> jax.Array:
    """The sums over all parts of the table, which pass by one after the other."""
    parts, rows = len(ring), ring[0].row_pointer.shape[0] - 1
    back = [(m, (m - 1) % parts) for m in range(parts)]

    def sums(turn, part):
        take, *edges = turn
        return run(part, jnp.where(take < 0, 0, weight[take]), *edges)

    turns = [functools.partial(sums, turn) for turn in ring]
    if parts == 1:
        return turns[0](x)

    # A loop: where a compiler sees all turns at once, it may pass every part round
    # before it uses any, and hold them all.
    def pass_on(step, carry):
        part, out = carry
        # Sent on before it is used, so that the next is under way meanwhile.
        after = jax.lax.ppermute(part, _AXIS, back)
        return after, out + jax.lax.switch(step, turns[:-1], part)

    start = x, jnp.zeros((rows, *x.shape[1:]), x.dtype)
    last, out = jax.lax.fori_loop(0, parts - 1, pass_on, start)
    return out + turns[-1](last)


def _bring_home(out: jax.Array, shards: Shards) -> jax.Array:
    """Each sum ``[R, D]`` on the device that holds its row ``[S, D]``."""
    parts = shards.shared.shape[0]
    found = [out]
    for shift, take in shards.moves.items():
        to = [(m, (m + shift) % parts) for m in range(parts)]
        found.append(jax.lax.ppermute(out[take], _AXIS, to))
    found.append(jnp.zeros_like(out[:1]))
    own = jnp.concatenate(found)[shards.order]
    begun = jax.lax.all_gather(out[0], _AXIS)
    return own.at[shards.shared].add(begun, mode="drop")
