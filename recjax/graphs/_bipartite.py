"""The graph of interactions.

Nodes are numbered users first, then items, then attributes: user u is node u, item i
is node U + i, attribute a is node U + I + a.  Every pair gives two directed edges.
"""

import jraph
import numpy as np

from recjax.graphs._assemble import Normalisation, assemble, check_ids
from recjax.lists import distinct
from recjax.types import Spec


def make_graph(
    pairs: tuple[np.ndarray, np.ndarray],
    spec: Spec,
    *,
    attributes: tuple[np.ndarray, np.ndarray] | None = None,
    normalisation: Normalisation = "symmetric",
    self_loops: bool = False,
) -> jraph.GraphsTuple:
    """The graph of user-item pairs, and of item-attribute pairs where given.

    With d the number of edges that a node receives, an edge from j to r weighs
    ``1 / sqrt(d_j d_r)`` ("symmetric"), ``1 / d_r`` ("row": a mean over neighbours),
    1 ("none"), or ``d_r^-a d_j^-b`` for exponents (a, b); equal exponents make the
    weights symmetric.  Repeated pairs count once.

    Args:
      pairs: users ``[n]`` and items ``[n]``, int.
      spec: sizes; the graph has U + I + A nodes.
      attributes: items ``[m]`` and attributes ``[m]``, int.
      normalisation: as above.
      self_loops: give every node an edge to itself, which counts in its degree.

    Returns:
      The graph, as NumPy arrays; ``n_node`` and ``n_edge`` have one entry.

    Raises:
      ValueError: an id is outside the spec, or the normalisation is unknown.

    Examples:
      >>> import numpy as np
      >>> graph = make_graph((np.array([0, 1]), np.array([0, 0])), Spec(2, 1))
      >>> graph.senders.tolist(), graph.receivers.tolist()
      ([2, 2, 0, 1], [0, 1, 2, 2])
      >>> graph.edges["weight"].round(3).tolist()
      [0.707, 0.707, 0.707, 0.707]

    References:
      He et al., LightGCN, SIGIR 2020, equation 3 (symmetric normalisation); Lee et
      al., LightGCN++, RecSys 2024 (two exponents); Kipf and Welling, GCN, ICLR 2017,
      equation 2 (self loops).
    """
    users, items = _check("user", spec.num_users, "item", spec.num_items, pairs)
    left, right = [users], [items + spec.num_users]
    if attributes is not None:
        of_items, values = _check(
            "item", spec.num_items, "attribute", spec.num_attributes, attributes
        )
        left.append(of_items + spec.num_users)
        right.append(values + spec.num_users + spec.num_items)
    num_nodes = spec.num_users + spec.num_items + spec.num_attributes
    if self_loops:
        left.append(np.arange(num_nodes))
        right.append(np.arange(num_nodes))
    senders, receivers = np.concatenate(left + right), np.concatenate(right + left)
    key = distinct(receivers * num_nodes + senders)
    receivers, senders = np.divmod(key, max(num_nodes, 1))
    return assemble(
        senders,
        receivers,
        np.ones(len(key)),
        num_nodes=num_nodes,
        symmetric=True,
        normalisation=normalisation,
    )


def _check(
    left: str,
    num_left: int,
    right: str,
    num_right: int,
    pairs: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Both columns of pairs as int64, within their sizes and of one length."""
    lefts, rights = pairs
    if np.shape(lefts) != np.shape(rights):
        raise ValueError(
            f"{left} ids {np.shape(lefts)} and {right} ids {np.shape(rights)} must be "
            "vectors of one length: one of each for every pair"
        )
    return check_ids(left, lefts, num_left), check_ids(right, rights, num_right)
