"""Rows of a table that is spread over devices: each asks the owners for those it needs.

Device m along ``model`` holds rows ``m S : (m + 1) S``.  The ids of a batch are split
over all devices; each asks for its distinct ones by an all-to-all and gets the rows by
another.  On the way back the owners get the gradients of their rows in the same way.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from recjax.optimizers import Rows, apply_updates, take

_SPLIT = PartitionSpec(("data", "model"))
_ROWS = PartitionSpec("model")


class _Route(NamedTuple):
    """What a device asks for, and of whom.

    Attributes:
      order: ``[b]`` its ids in ascending order.
      place: ``[b]`` of each id in that order, its place among the distinct ones.
      owner: ``[b]`` of each distinct id, the device that has its row.
      slot: ``[b]`` where among the questions to the owner it stands; C for none.
      late: ``[b]`` bool, distinct ids for which there was no room.
      asked: ``[M C]`` rows that others ask of this device; S for none.
    """

    order: jax.Array
    place: jax.Array
    owner: jax.Array
    slot: jax.Array
    late: jax.Array
    asked: jax.Array


def lookup_rows(
    table: jax.Array, ids: jax.Array, mesh: Mesh, *, capacity: int | None = None
) -> jax.Array:
    """Rows of a table whose rows are split over ``model``: ``table[ids]``.

    Every device holds its part of the table and the rows that it asks for or is asked
    for, and no more.  It is not to be differentiated: the gradient with respect to the
    result goes back by `return_rows`.

    Args:
      table: ``[N, D]``; N is a multiple of the M devices along ``model``.
      ids: ``[R]`` int; R is a multiple of all devices, of which each asks for b = R / P
        of them.  N and above give zeros.
      mesh: from `make_mesh`.
      capacity: distinct rows that a device may ask of another one, C; None for b, which
        always suffices, where an even share would be b / M.  Rows for which there is no
        room are NaN.

    Returns:
      ``[R, D]``, split over all devices as the ids are.

    Raises:
      ValueError: N or R is no such multiple.

    Examples:
      >>> from recjax.sharding import make_mesh
      >>> table = jnp.array([[1.0], [2.0], [3.0]])
      >>> lookup_rows(table, jnp.array([2, 0, 2, 3]), make_mesh(1, 1)).ravel().tolist()
      [3.0, 1.0, 3.0, 0.0]

    References:
      Naumov et al., Deep learning recommendation model (DLRM), 2019, section 4 (tables
      over devices, all-to-all for the rows of a batch).
    """
    size, own = _sizes(table.shape[0], ids.shape[0], mesh)
    room = own if capacity is None else min(capacity, own)

    def look(block, ids):
        route = _ask(ids, size, mesh.shape["model"], room)
        found = take(block, route.asked).reshape(-1, room, block.shape[1])
        found = jax.lax.all_to_all(found, "model", 0, 0, tiled=True)
        rows = found.at[route.owner, route.slot].get(mode="fill", fill_value=0)
        rows = jnp.where(route.late[:, None], jnp.nan, rows).astype(block.dtype)
        return jnp.zeros_like(rows).at[route.order].set(rows[route.place])

    return _over(mesh, look, (_ROWS, _SPLIT), _SPLIT)(table, ids)


def return_rows(
    rows: Rows, num_rows: int, mesh: Mesh, *, capacity: int | None = None
) -> Rows:
    """Brings the gradients of looked up rows to the devices that own them.

    Args:
      rows: R ids and gradients ``[R, D]``, split over all devices, as `lookup_rows` had
        and gave them.
      num_rows: N of the table.
      mesh: the same.
      capacity: the same.

    Returns:
      For each device along ``model`` as many rows, whose ids count from the first row
      that it owns: what `update_rows` takes.

    Examples:
      >>> from recjax.sharding import make_mesh
      >>> rows = Rows(jnp.array([2, 0, 2]), jnp.array([[1.0], [5.0], [1.0]]))
      >>> found = return_rows(rows, 3, make_mesh(1, 1))
      >>> found.ids.tolist(), found.values.ravel().tolist()
      ([0, 2, 3], [5.0, 2.0, 0.0])
    """
    size, own = _sizes(num_rows, rows.ids.shape[0], mesh)
    room = own if capacity is None else min(capacity, own)
    parts = mesh.shape["model"]

    def give(ids, values):
        route = _ask(ids, size, parts, room)
        total = jax.ops.segment_sum(
            values[route.order], route.place, len(ids), indices_are_sorted=True
        )
        sent = jnp.zeros((parts, room, values.shape[1]), values.dtype)
        sent = sent.at[route.owner, route.slot].set(total, mode="drop")
        got = jax.lax.all_to_all(sent, "model", 0, 0, tiled=True)
        found = Rows(route.asked, got.reshape(-1, values.shape[1]))
        return jax.lax.all_gather(found, "data", tiled=True)

    return _over(mesh, give, (_SPLIT, _SPLIT), _ROWS)(rows.ids, rows.values)


def update_rows(
    optimizer: Any, params: Any, opt_state: Any, grads: Any, mesh: Mesh, num_rows: int
) -> tuple[Any, Any]:
    """A step of an optimizer of `recjax.optimizers`, each device at its own rows.

    Args:
      optimizer: the transformation.
      params: a tree of tables ``[N, D]``, split by rows, and other arrays.
      opt_state: its state, split likewise.
      grads: like the parameters, with `Rows` from `return_rows` for the tables.
      mesh: where they lie.
      num_rows: N.

    Returns:
      The parameters and the state.
    """

    def specs(tree):
        return jax.tree.map(
            lambda x: _ROWS if x.ndim > 1 and x.shape[0] == num_rows else _WHOLE, tree
        )

    def step(params, opt_state, grads):
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return apply_updates(params, updates), opt_state

    of_grads = jax.tree.map(
        lambda x: Rows._make((_ROWS, _ROWS)) if isinstance(x, Rows) else _WHOLE,
        grads,
        is_leaf=lambda x: isinstance(x, Rows),
    )
    where = specs(params), specs(opt_state)
    return _over(mesh, step, (*where, of_grads), where)(params, opt_state, grads)


def split_ids(ids: jax.Array, num_rows: int, mesh: Mesh) -> jax.Array:
    """Ids padded to a multiple of all devices, and split over them.

    Args:
      ids: ``[R]`` int.
      num_rows: N, the first id that is not there.
      mesh: from `make_mesh`.

    Returns:
      The ids.
    """
    more = -ids.shape[0] % mesh.size
    ids = jnp.pad(ids, (0, more), constant_values=num_rows)
    return jax.lax.with_sharding_constraint(ids, NamedSharding(mesh, _SPLIT))


_WHOLE = PartitionSpec()


def _over(mesh: Mesh, run: Any, ins: Any, outs: Any) -> Any:
    # What is gathered over `data` is the same there; the check cannot know.
    return functools.partial(
        jax.shard_map, mesh=mesh, in_specs=ins, out_specs=outs, check_vma=False
    )(run)


def _sizes(num_rows: int, num_ids: int, mesh: Mesh) -> tuple[int, int]:
    """Rows S of a device, and ids b of one."""
    parts = mesh.shape["model"]
    if num_rows % parts or num_ids % mesh.size:
        raise ValueError(
            f"a table of {num_rows} rows must be a multiple of model={parts}, and "
            f"{num_ids} ids one of all {mesh.size} devices: see pad_spec and split_ids"
        )
    return num_rows // parts, num_ids // mesh.size


def _ask(ids: jax.Array, size: int, parts: int, room: int) -> _Route:
    """Sends each owner the distinct ids that are wanted of it."""
    count = ids.shape[0]
    order = jnp.argsort(ids)
    sorted_ids = ids[order]
    is_first = jnp.concatenate(
        [jnp.ones(min(count, 1), bool), sorted_ids[1:] != sorted_ids[:-1]]
    )
    place = jnp.cumsum(is_first, dtype=jnp.int32) - 1
    none = parts * size
    distinct = jnp.full(count, none, ids.dtype).at[place].set(sorted_ids)
    # Distinct ids ascend, and so do their owners.
    owner = jnp.minimum(distinct // size, parts)
    first = jnp.searchsorted(owner, jnp.arange(parts + 1, dtype=owner.dtype))
    slot = jnp.arange(count) - first[owner]
    there = owner < parts
    late = there & (slot >= room)
    slot = jnp.where(there & ~late, slot, room)
    questions = jnp.full((parts, room), size, jnp.int32)
    questions = questions.at[owner, slot].set(distinct - owner * size, mode="drop")
    asked = jax.lax.all_to_all(questions, "model", 0, 0, tiled=True)
    return _Route(order, place, owner, slot, late, asked.ravel())
