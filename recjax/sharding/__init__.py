"""Many devices: one mesh, and where the arrays of a run lie on it."""

from recjax.sharding._mesh import make_mesh, read_parallel

__all__ = ["make_mesh", "read_parallel"]
