"""A graph spread over the devices of a mesh."""

from typing import Any

import jax
import jraph
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

from recjax.sparse import Exchange, make_shards
from recjax.types import Spec


def pad_spec(spec: Spec, multiple: int) -> Spec:
    """A spec whose nodes can be split evenly, by attribute nodes without an edge.

    Args:
      spec: sizes of the dataset.
      multiple: what the number of nodes is to be divisible by.

    Returns:
      The spec.

    Examples:
      >>> pad_spec(Spec(num_users=3, num_items=4), 4).num_attributes
      1
    """
    nodes = spec.num_users + spec.num_items + spec.num_attributes
    return spec._replace(num_attributes=spec.num_attributes + -nodes % multiple)


def shard_graph(
    graph: jraph.GraphsTuple, mesh: Mesh, *, exchange: Exchange = "gather"
) -> jraph.GraphsTuple:
    """The same graph with its edges on the devices along ``model``, C on each.

    Edges keep their order, so that each device has those of a run of receivers, and
    what is drawn for an edge is the same on any mesh.  At the end stand up to M - 1
    more, of weight 0, from the last node to itself.

    Args:
      graph: N nodes, a multiple of the M devices along ``model``; symmetric weights,
        from `recjax.graphs`.
      mesh: from `make_mesh`.
      exchange: how features travel, see `recjax.sparse.make_shards`.

    Returns:
      The graph on the devices; neighbour sums over it are computed by all of them.

    Raises:
      ValueError: the graph has no symmetric layout, or N is no such multiple.

    Examples:
      >>> import numpy as np
      >>> from recjax.graphs import make_graph
      >>> from recjax.sharding import make_mesh
      >>> graph = make_graph((np.array([0]), np.array([0])), Spec(1, 1))
      >>> shard_graph(graph, make_mesh(1, 1)).senders.tolist()
      [1, 0]
    """
    extra, features = dict(graph.globals or {}), dict(graph.edges or {})  # type: ignore
    layout = extra.get("layout")
    if layout is None or layout.reverse is None:
        raise ValueError(
            "only a graph with a symmetric layout can be sharded: make it by "
            "recjax.graphs with equal exponents"
        )
    parts = mesh.shape["model"]
    pointer = np.asarray(layout.row_pointer)
    num_nodes, num_edges = len(pointer) - 1, len(layout.reverse)
    if num_nodes % parts:
        raise ValueError(
            f"{num_nodes} nodes cannot be split into model={parts}: make the graph "
            "with the spec that pad_spec gives"
        )
    more = -num_edges % parts
    last = np.full(more, num_nodes - 1, np.int32)
    senders = np.concatenate([np.asarray(graph.senders), last])
    receivers = np.concatenate([np.asarray(graph.receivers), last])
    reverse = np.concatenate(
        [np.asarray(layout.reverse), np.arange(num_edges, num_edges + more)]
    )
    pointer = np.concatenate([pointer[:-1], [num_edges + more]])
    shards = make_shards(senders, receivers, num_nodes, mesh, exchange=exchange)
    layout = layout._replace(
        row_pointer=pointer.astype(np.int32),
        reverse=reverse.astype(np.int32),
        shards=shards,
    )

    def pad(x):
        x = np.asarray(x)
        return np.concatenate([x, np.zeros((more, *x.shape[1:]), x.dtype)])

    along, whole = (
        NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("model",), ())
    )
    layout = layout._replace(
        row_pointer=put(layout.row_pointer, whole),
        reverse=put(layout.reverse, along),
        shards=jax.tree.map(lambda x: put(x, along), layout.shards),
    )
    fields: dict[str, Any] = {
        "edges": {name: put(pad(x), along) for name, x in features.items()},
        "senders": put(senders, along),
        "receivers": put(receivers, along),
        "globals": {**extra, "layout": layout},
        "n_node": put(graph.n_node, whole),
        "n_edge": put(graph.n_edge, whole),
    }
    return graph._replace(**fields)


def put(x: Any, sharding: Sharding) -> jax.Array:
    """An array that every process has, on devices of which each has some.

    Each process moves the parts of its own devices.

    Args:
      x: the array.
      sharding: where it is to lie.

    Returns:
      The array there.
    """
    x = np.asarray(x)
    return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])
