"""Sums of graphs over the same nodes."""

from collections.abc import Sequence

import jraph
import numpy as np

from recjax.graphs._assemble import assemble, merge_edges
from recjax.graphs._fields import edges_of


def add_graphs(
    graphs: Sequence[jraph.GraphsTuple], weights: Sequence[float]
) -> jraph.GraphsTuple:
    """The graph of a weighted sum of matrices, ``A = sum over m of w_m A_m``.

    Edges that several graphs share become one.  FREEDOM's item graph is
    ``add_graphs([image, text], [0.1, 0.9])``.

    Args:
      graphs: M graphs over the same N nodes, with weights on their edges.
      weights: ``[M]`` w.

    Returns:
      The graph, as NumPy arrays; its layout is symmetric where all of theirs are.

    Raises:
      ValueError: there is no graph, not one weight for each, a weight is not finite, or
        the graphs differ in their number of nodes.

    Examples:
      >>> import numpy as np
      >>> from recjax.graphs import neighbour_graph
      >>> image = neighbour_graph(np.array([[1], [0], [0]]), normalisation="row")
      >>> text = neighbour_graph(np.array([[1], [2], [0]]), normalisation="row")
      >>> both = add_graphs([image, text], [0.25, 0.75])
      >>> both.senders.tolist(), both.receivers.tolist()
      ([1, 0, 2, 0], [0, 1, 1, 2])
      >>> both.edges["weight"].tolist()
      [1.0, 0.25, 0.75, 1.0]

    References:
      Zhou and Shen, FREEDOM, ACM MM 2023 (the frozen item graph).
    """
    if not graphs or len(graphs) != len(weights) or not np.isfinite(weights).all():
        raise ValueError(
            f"{len(graphs)} graphs and the weights {list(weights)}: give one finite "
            "weight for each graph, and at least one graph"
        )
    sizes = {int(np.sum(graph.n_node)) for graph in graphs}
    if len(sizes) > 1:
        raise ValueError(
            f"graphs of {sorted(sizes)} nodes have no sum: make all over the same nodes"
        )
    num_nodes = sizes.pop()
    senders, receivers, shares, layouts = zip(*map(edges_of, graphs), strict=True)
    shares = [
        weight * np.asarray(share, np.float64)
        for share, weight in zip(shares, weights, strict=True)
    ]
    edges = merge_edges(
        np.concatenate(senders),
        np.concatenate(receivers),
        np.concatenate(shares),
        num_nodes=num_nodes,
        merge=np.add,
    )
    symmetric = all(
        layout is not None and layout.reverse is not None for layout in layouts
    )
    return assemble(*edges, num_nodes=num_nodes, symmetric=symmetric)
