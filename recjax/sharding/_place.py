"""Where tables, optimizer states and training data lie on a mesh."""

from typing import Any

import jax
import jraph
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from recjax.sharding._graph import shard_graph
from recjax.sparse import Exchange
from recjax.types import Context, Spec


def table_shardings(tree: Any, spec: Spec, mesh: Mesh) -> Any:
    """Where parameters and optimizer states lie: tables by rows, the rest everywhere.

    A table is an array with a row for each node, user, item or attribute.  One whose
    rows do not divide evenly is split by columns, where these do.

    Args:
      tree: of arrays, or of their shapes (`jax.eval_shape`).
      spec: sizes of the dataset.
      mesh: from `make_mesh`.

    Returns:
      A tree of shardings.

    Examples:
      >>> import jax.numpy as jnp
      >>> from recjax.sharding import make_mesh
      >>> tree = {"nodes": jnp.zeros((5, 2)), "bias": jnp.zeros(2)}
      >>> found = table_shardings(tree, Spec(2, 3), make_mesh(1, 1))
      >>> found["nodes"].spec, found["bias"].spec
      (PartitionSpec('model',), PartitionSpec())
    """
    parts = mesh.shape["model"]
    users, items, attributes = spec[:3]
    counts = {users, items, attributes, users + items, users + items + attributes}

    def place(x):
        axes: tuple[str | None, ...] = ()
        if x.ndim > 1 and x.shape[0] in counts:
            if x.shape[0] % parts == 0:
                axes = ("model",)
            elif x.shape[1] % parts == 0:
                axes = (None, "model")
        return NamedSharding(mesh, PartitionSpec(*axes))

    return jax.tree.map(place, tree)


def shard_context(
    context: Context, mesh: Mesh, *, exchange: Exchange = "gather"
) -> Context:
    """The training data on all devices: graphs by edges, the rest whole on each.

    Args:
      context: prepared where the model asks for it, of a spec from `pad_spec`.
      mesh: from `make_mesh`.
      exchange: see `shard_graph`; a graph that this refuses, such as one with weights
        that are not symmetric, is whole on each device too.

    Returns:
      The context.

    Examples:
      >>> import numpy as np
      >>> from recjax.data.graph import make_context
      >>> from recjax.sharding import make_mesh
      >>> from recjax.types import Interactions
      >>> train = Interactions(np.array([0]), np.array([0]))
      >>> context = make_context(train, Spec(num_users=1, num_items=1))
      >>> context = shard_context(context, make_mesh(1, 1))
      >>> context.graph.senders.sharding.spec
      PartitionSpec('model',)
    """
    whole = NamedSharding(mesh, PartitionSpec())

    def place(x):
        if isinstance(x, jraph.GraphsTuple):
            try:
                return shard_graph(x, mesh, exchange=exchange)
            except ValueError:
                return jax.device_put(x, whole)
        return jax.device_put(x, whole)

    return jax.tree.map(
        place, context, is_leaf=lambda x: isinstance(x, jraph.GraphsTuple)
    )
