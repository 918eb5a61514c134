"""What every constructor ends with: normalised weights, a layout, one `GraphsTuple`."""

from typing import Any, Literal, TypeAlias

import jraph
import numpy as np

from recjax.sparse import make_layout

Normalisation: TypeAlias = Literal["symmetric", "row", "none"] | tuple[float, float]

_EXPONENTS = {"symmetric": (0.5, 0.5), "row": (1.0, 0.0), "none": (0.0, 0.0)}


def exponents(normalisation: Normalisation) -> tuple[float, float]:
    """The exponents (a, b) of ``d_r^-a d_j^-b``."""
    if isinstance(normalisation, str):
        if normalisation in _EXPONENTS:
            return _EXPONENTS[normalisation]
    elif np.shape(normalisation) == (2,) and np.isfinite(normalisation).all():
        return (float(normalisation[0]), float(normalisation[1]))
    raise ValueError(
        f"normalisation {normalisation!r}: use 'symmetric', 'row', 'none' or two "
        "exponents such as (0.6, -0.1)"
    )


def merge_edges(
    senders: np.ndarray,
    receivers: np.ndarray,
    weight: np.ndarray,
    *,
    num_nodes: int,
    merge: np.ufunc,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct edges by receiver, then sender; ``merge`` joins repeated weights."""
    key, edge = np.unique(
        np.asarray(receivers, np.int64) * num_nodes + senders, return_inverse=True
    )
    merged = np.zeros(len(key))
    merge.at(merged, edge, np.asarray(weight, np.float64))
    receivers, senders = np.divmod(key, max(num_nodes, 1))
    return senders, receivers, merged


def assemble(
    senders: np.ndarray,
    receivers: np.ndarray,
    weight: np.ndarray,
    *,
    num_nodes: int,
    symmetric: bool,
    normalisation: Normalisation = "none",
) -> jraph.GraphsTuple:
    """The graph of distinct edges, sorted by receiver and then by sender.

    Args:
      senders: ``[E]`` int.
      receivers: ``[E]`` int.
      weight: ``[E]``, before normalisation.
      num_nodes: N.
      symmetric: whether every weight equals that of its reverse edge.
      normalisation: by the sum of the weights that each node receives.

    Returns:
      The graph, as NumPy arrays.
    """
    to, of = exponents(normalisation)
    weight = np.asarray(weight, np.float64)
    # Of no edge at all the sums would be integers.
    degree = np.bincount(receivers, weight, minlength=num_nodes).astype(np.float64)
    # In float64 and the factors of the nodes first, so that an edge and its reverse
    # round to the same weight.
    weight = weight * (_power(degree, to)[receivers] * _power(degree, of)[senders])
    layout = make_layout(
        senders,
        receivers,
        num_senders=num_nodes,
        num_receivers=num_nodes,
        symmetric=symmetric and to == of,
    )
    # jraph's annotations know device arrays only; these are still on the host.
    fields: dict[str, Any] = {
        "nodes": None,
        "edges": {"weight": weight.astype(np.float32)},
        "senders": senders.astype(np.int32),
        "receivers": receivers.astype(np.int32),
        "globals": {"layout": layout},
        "n_node": np.array([num_nodes], np.int32),
        "n_edge": np.array([len(senders)], np.int32),
    }
    return jraph.GraphsTuple(**fields)


def _power(degree: np.ndarray, exponent: float) -> np.ndarray:
    """``d^-exponent``, 0 for a node that receives nothing."""
    if exponent == 0:
        return np.ones_like(degree)
    return np.power(degree, -exponent, out=np.zeros_like(degree), where=degree > 0)


def check_ids(what: str, ids: np.ndarray, size: int) -> np.ndarray:
    """The ids as an int64 vector; `ValueError` where one is not below ``size``."""
    ids = np.asarray(ids)
    if ids.ndim != 1 or not (np.issubdtype(ids.dtype, np.integer) or ids.size == 0):
        raise ValueError(
            f"{what} ids must be a vector of integers, got {ids.dtype} {ids.shape}"
        )
    if ids.size and (ids.min() < 0 or ids.max() >= size):
        raise ValueError(
            f"{what} ids run from {ids.min()} to {ids.max()}, but must be at least 0 "
            f"and below the number of them, {size}"
        )
    return ids.astype(np.int64)
