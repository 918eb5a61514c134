"""The graph of triples: edges of several relations between the nodes of one graph."""

from collections.abc import Mapping
from typing import Any

import jraph
import numpy as np

from recjax.graphs._assemble import Normalisation, assemble, check_ids
from recjax.lists import distinct


def relation_graph(
    triples: tuple[np.ndarray, np.ndarray, np.ndarray],
    *,
    num_nodes: int,
    num_relations: int,
    weight: np.ndarray | None = None,
    features: Mapping[str, np.ndarray] | None = None,
    normalisation: Normalisation = "symmetric",
) -> jraph.GraphsTuple:
    """The graph of triples (head, relation, tail): two directed edges for each.

    The edge from head to tail has the relation 2 r, with r that of its triple, and the
    one back 2 r + 1: for layers there are 2 R relations.
    Two nodes may be joined by several relations, each an edge of its own.  A triple
    that is given several times is one edge, and ``edges["count"]`` says how many times
    it was; its weight and features are those of the last time.

    Args:
      triples: heads ``[m]``, relations ``[m]`` below R and tails ``[m]``, int.
      num_nodes: N.
      num_relations: R.
      weight: ``[m]``, none negative, before normalisation; None for 1.
      features: arrays ``[m, ...]`` by name, of each triple; both edges get them.
      normalisation: see `make_graph`, by the sum of weights that each node receives.

    Returns:
      The graph, as NumPy arrays; edges sorted by receiver, sender and relation, with
      ``weight``, ``relation`` ``[E]`` int32, ``count`` ``[E]`` float32 and the
      features.

    Raises:
      ValueError: an id is out of range, lengths differ, a weight is negative or not
        finite, a feature has the name of something else, or the normalisation is
        unknown.

    Examples:
      >>> import numpy as np
      >>> user, item = np.array([0, 0, 0]), np.array([1, 1, 1])
      >>> graph = relation_graph(
      ...     (user, np.array([0, 1, 0]), item), num_nodes=2, num_relations=2
      ... )
      >>> graph.edges["relation"].tolist(), graph.edges["count"].tolist()
      ([1, 3, 0, 2], [2.0, 1.0, 2.0, 1.0])
      >>> graph.senders.tolist(), graph.edges["weight"].tolist()
      ([1, 1, 0, 0], [0.5, 0.5, 0.5, 0.5])

    References:
      Schlichtkrull et al., Modeling relational data with graph convolutional networks,
      ESWC 2018 (edges back are relations of their own).
    """
    if len({np.shape(part) for part in triples}) > 1:
        shapes = ", ".join(str(np.shape(part)) for part in triples)
        raise ValueError(
            f"heads, relations and tails must be vectors of one length, got {shapes}"
        )
    heads, kinds, tails = (
        check_ids(what, part, size)
        for what, part, size in zip(
            ("head", "relation", "tail"),
            triples,
            (num_nodes, num_relations, num_nodes),
            strict=True,
        )
    )
    size = len(heads)
    weight = np.ones(size) if weight is None else np.asarray(weight, np.float64)
    if weight.shape != (size,) or not (np.isfinite(weight) & (weight >= 0)).all():
        raise ValueError(
            f"weight {weight.shape} must be one finite number of at least 0 for each "
            f"of the {size} triples"
        )
    given = {name: np.asarray(x) for name, x in (features or {}).items()}
    for name, values in given.items():
        if name in ("weight", "relation", "count"):
            raise ValueError(f"feature {name!r}: the edges have a {name} already")
        if values.shape[:1] != (size,):
            raise ValueError(
                f"feature {name!r} {values.shape} must have one row for each of the "
                f"{size} triples"
            )
    both = np.concatenate([heads, tails]), np.concatenate([tails, heads])
    relation = np.concatenate([2 * kinds, 2 * kinds + 1])
    key = (both[1] * num_nodes + both[0]) * (2 * num_relations) + relation
    known = distinct(key)
    edge = np.searchsorted(known, key)
    last = np.zeros(len(known), np.int64)
    last[edge] = np.arange(2 * size)  # The last one written stays.
    of_triple = last % max(size, 1)
    senders, receivers, weight = both[0][last], both[1][last], weight[of_triple]
    graph = assemble(
        senders,
        receivers,
        weight,
        num_nodes=num_nodes,
        symmetric=_is_symmetric(senders, receivers, weight),
        normalisation=normalisation,
    )
    edges: Any = graph.edges
    edges |= {name: values[of_triple] for name, values in given.items()}
    edges["relation"] = relation[last].astype(np.int32)
    edges["count"] = np.bincount(edge, minlength=len(known)).astype(np.float32)
    return graph


def _is_symmetric(
    senders: np.ndarray, receivers: np.ndarray, weight: np.ndarray
) -> bool:
    """Whether edges by sender, in order, weigh what edges by receiver weigh.

    Not so where two users follow one another with different weights, for instance.
    """
    order = np.lexsort((receivers, senders))
    return bool(np.array_equal(weight[order], weight))
