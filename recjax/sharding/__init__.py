"""Many devices: one mesh, and where the arrays of a run lie on it."""

from recjax.sharding._graph import pad_spec, put, shard_graph
from recjax.sharding._lookup import lookup_rows, return_rows, split_ids, update_rows
from recjax.sharding._mesh import Parallel, make_mesh, mesh_sizes, read_parallel
from recjax.sharding._place import shard_context, spec_of, table_shardings
from recjax.sharding._processes import (
    any_process,
    gather_rows,
    join,
    leave_if_alone,
    wait_for_all,
)

__all__ = [
    "Parallel",
    "any_process",
    "gather_rows",
    "join",
    "leave_if_alone",
    "lookup_rows",
    "make_mesh",
    "mesh_sizes",
    "pad_spec",
    "put",
    "read_parallel",
    "return_rows",
    "shard_context",
    "shard_graph",
    "spec_of",
    "split_ids",
    "table_shardings",
    "update_rows",
    "wait_for_all",
]
