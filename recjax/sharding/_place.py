"""Where tables, optimizer states and training data lie on a mesh."""

from typing import Any

import jax
import jraph
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from recjax.sharding._graph import put, shard_graph
from recjax.sharding._mesh import Parallel
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
      >>> tuple(found["nodes"].spec), tuple(found["bias"].spec)
      (('model',), ())
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


def spec_of(context: Context) -> Spec:
    """The numbers of users, items and attributes of training data.

    Args:
      context: the training data.

    Returns:
      A spec without features.

    Examples:
      >>> import numpy as np
      >>> from recjax.data.graph import make_context
      >>> from recjax.types import Interactions
      >>> train = Interactions(np.array([0]), np.array([0]))
      >>> spec_of(make_context(train, Spec(1, 2, 3)))[:3]
      (1, 2, 3)
    """
    users, items = context.seen.pointer.shape[0] - 1, context.item_counts.shape[0]
    extra: Any = context.graph.globals
    nodes = extra["layout"].row_pointer.shape[0] - 1
    return Spec(users, items, nodes - users - items)


def shard_context(context: Context, parallel: Parallel | None) -> Context:
    """The training data on all devices: graphs by edges, the rest whole on each.

    Args:
      context: prepared where the model asks for it, of a spec from `pad_spec`.
      parallel: how the run is spread; a graph that `shard_graph` refuses, such as one
        with weights that are not symmetric, is whole on each device too.

    Returns:
      The context.

    Examples:
      >>> import numpy as np
      >>> from recjax.data.graph import make_context
      >>> from recjax.sharding import make_mesh
      >>> from recjax.types import Interactions
      >>> train = Interactions(np.array([0]), np.array([0]))
      >>> context = make_context(train, Spec(num_users=1, num_items=1))
      >>> context = shard_context(context, Parallel(make_mesh(1, 1)))
      >>> context.users.sharding.is_fully_replicated
      True
    """
    if parallel is None:
        return context
    mesh = parallel.mesh
    whole = NamedSharding(mesh, PartitionSpec())

    def place(x):
        # Of one part nothing is to be exchanged.
        if isinstance(x, jraph.GraphsTuple) and mesh.shape["model"] > 1:
            try:
                return shard_graph(x, mesh, exchange=parallel.exchange)
            except ValueError:
                pass
        return jax.tree.map(lambda array: put(array, whole), x)

    return jax.tree.map(
        place, context, is_leaf=lambda x: isinstance(x, jraph.GraphsTuple)
    )
