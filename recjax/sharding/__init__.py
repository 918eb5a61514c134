"""Many devices: one mesh, and where the arrays of a run lie on it."""

from recjax.sharding._graph import pad_spec, shard_graph
from recjax.sharding._mesh import make_mesh, read_parallel
from recjax.sharding._place import shard_context, table_shardings

__all__ = [
    "make_mesh",
    "pad_spec",
    "read_parallel",
    "shard_context",
    "shard_graph",
    "table_shardings",
]
