"""The graph of nearest neighbours by cosine, exact and block by block."""

import functools

import jax
import jax.numpy as jnp
import jraph
import numpy as np
from jax import lax

from recjax.graphs._assemble import Normalisation, assemble, check_ids, merge_edges
from recjax.layers import unit_length

# Blocks are whole multiples of this: the matrix product of a CPU rounds otherwise at
# odd widths, and equal rows would no longer have equal similarities.
_LANES = 128


@functools.partial(jax.jit, static_argnames=("k", "include_self", "chunk_size"))
def cosine_neighbours(
    features: jax.Array,
    k: int,
    *,
    present: jax.Array | None = None,
    include_self: bool = False,
    chunk_size: int = 1024,
) -> tuple[jax.Array, jax.Array]:
    """The k nearest rows of each row, ``argtop_k over j of x_i . x_j / |x_i| |x_j|``.

    Exact, nearest first, of equal similarities the lowest id first.  Similarities are
    computed ``chunk_size`` rows by as many columns at a time under a running top k; no
    ``[I, I]`` array is made.  The result is a constant under differentiation.

    Args:
      features: ``[I, F]`` floating; cosines are taken in float32 or wider.
      k: static.
      present: ``[I]`` mask of the rows with features; None for all.  A row that is
        absent, or all 0, has no neighbours and is none.
      include_self: whether a row is among its own neighbours, as it is in LATTICE,
        FREEDOM, MGCN and MMHCL; static.
      chunk_size: static; rounded up to a multiple of 128.

    Returns:
      Neighbours ``[I, k]`` int32 and similarities ``[I, k]``; -1 and 0 where a row has
      fewer than k neighbours.

    Raises:
      ValueError: shapes do not fit, there are fewer than k other rows, or the chunk
        size is not positive.

    Examples:
      >>> import jax.numpy as jnp
      >>> features = jnp.array([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0], [0.0, 0.0]])
      >>> neighbours, similarity = cosine_neighbours(features, 1)
      >>> neighbours.ravel().tolist()
      [2, 2, 0, -1]
      >>> similarity.round(3).ravel().tolist()
      [0.707, 0.707, 0.707, 0.0]

    References:
      Zhang et al., LATTICE, ACM MM 2021, equations 1 and 2.
    """
    features = jnp.asarray(features)
    if features.ndim != 2 or not jnp.issubdtype(features.dtype, jnp.floating):
        raise ValueError(
            f"features must be floating [I, F], got {features.dtype} {features.shape}"
        )
    num = features.shape[0]
    if present is not None and present.shape != (num,):
        raise ValueError(
            f"present {present.shape} must have one entry for each row of features "
            f"{features.shape}"
        )
    most = num if include_self else num - 1
    if not 1 <= k <= most:
        raise ValueError(f"k = {k} must be from 1 to {most}, the rows to choose from")
    if chunk_size < 1:
        raise ValueError(f"chunk_size = {chunk_size} must be positive")
    wide = jnp.promote_types(features.dtype, jnp.float32)
    features = lax.stop_gradient(features).astype(wide)
    if present is not None:
        features = jnp.where(present.astype(bool)[:, None], features, 0.0)
    unit, known = unit_length(features), jnp.any(features != 0, axis=1)
    chunk = -(-min(chunk_size, num) // _LANES) * _LANES
    num_chunks = -(-num // chunk)
    pad = num_chunks * chunk - num
    unit, known = jnp.pad(unit, ((0, pad), (0, 0))), jnp.pad(known, (0, pad))
    offsets = jnp.arange(chunk, dtype=jnp.int32)

    def rows_from(first):
        rows = lax.dynamic_slice_in_dim(unit, first, chunk)
        valid = lax.dynamic_slice_in_dim(known, first, chunk)

        def merge(number, best):
            start = number.astype(jnp.int32) * chunk
            columns = lax.dynamic_slice_in_dim(unit, start, chunk)
            there = lax.dynamic_slice_in_dim(known, start, chunk)
            allowed = valid[:, None] & there[None]
            if not include_self:
                allowed &= (first + offsets)[:, None] != (start + offsets)[None]
            block = jnp.matmul(rows, columns.T, precision=lax.Precision.HIGHEST)
            # The list so far stands first: its ids are lower, and top_k is stable.
            both = jnp.concatenate([best[1], jnp.where(allowed, block, -jnp.inf)], 1)
            similarity, place = lax.top_k(both, k)
            earlier = jnp.take_along_axis(best[0], jnp.minimum(place, k - 1), 1)
            return jnp.where(place < k, earlier, start + place - k), similarity

        nobody = jnp.full((chunk, k), -1, jnp.int32)
        nothing = jnp.full((chunk, k), -jnp.inf, unit.dtype)
        return lax.fori_loop(0, num_chunks, merge, (nobody, nothing))

    firsts = jnp.arange(num_chunks, dtype=jnp.int32) * chunk
    neighbours, similarity = (
        x.reshape(-1, k)[:num] for x in lax.map(rows_from, firsts)
    )
    found = similarity != -jnp.inf
    return jnp.where(found, neighbours, -1), jnp.where(found, similarity, 0.0)


def neighbour_graph(
    neighbours: np.ndarray,
    weight: np.ndarray | None = None,
    *,
    symmetrise: bool = False,
    normalisation: Normalisation = "symmetric",
) -> jraph.GraphsTuple:
    """The graph in which every node receives from its nearest neighbours.

    ``neighbour_graph(neighbours)`` gives every neighbour the same weight,
    ``neighbour_graph(neighbours, similarity)`` its cosine; the degree of a node is the
    sum of the weights that it receives.

    Args:
      neighbours: ``[N, k]`` int, those of node i in row i; -1 for none.
      weight: ``[N, k]``; None for 1.  A weight of 0 or less makes no edge.
      symmetrise: add the reverse of each edge with the same weight, where there is
        none or one of less weight.
      normalisation: of the weights; see `recjax.graphs.make_graph`.

    Returns:
      The graph, as NumPy arrays; ``n_node`` and ``n_edge`` have one entry.

    Raises:
      ValueError: shapes do not fit, an id is outside the graph, a weight is not
        finite, or the normalisation is unknown.

    Examples:
      >>> import numpy as np
      >>> graph = neighbour_graph(np.array([[1, 2], [0, 2], [1, -1]]))
      >>> graph.senders.tolist(), graph.receivers.tolist()
      ([1, 2, 0, 2, 1], [0, 0, 1, 1, 2])
      >>> graph.edges["weight"].round(3).tolist()
      [0.5, 0.707, 0.5, 0.707, 0.707]

    References:
      Zhang et al., LATTICE, ACM MM 2021, equations 2 and 3, and Yu et al., MGCN, ACM
      MM 2023 (weighted by cosine); Zhou and Shen, FREEDOM, ACM MM 2023 (every
      neighbour alike).
    """
    neighbours = np.asarray(neighbours)
    if neighbours.ndim != 2:
        raise ValueError(f"neighbours {neighbours.shape} must be [N, k]")
    weight = np.asarray(np.ones(neighbours.shape) if weight is None else weight)
    if weight.shape != neighbours.shape:
        raise ValueError(
            f"weight {weight.shape} must have the shape of neighbours "
            f"{neighbours.shape}"
        )
    if not np.isfinite(weight).all():
        raise ValueError("weights must be finite: the features hold NaN or infinity")
    num_nodes = len(neighbours)
    there = (neighbours != -1) & (weight > 0)
    receivers, column = np.nonzero(there)
    senders = check_ids("neighbour", neighbours[receivers, column], num_nodes)
    weight = weight[receivers, column]
    if symmetrise:
        senders, receivers = (
            np.concatenate([senders, receivers]),
            np.concatenate([receivers, senders]),
        )
        weight = np.concatenate([weight, weight])
    edges = merge_edges(
        senders, receivers, weight, num_nodes=num_nodes, merge=np.maximum
    )
    return assemble(
        *edges, num_nodes=num_nodes, symmetric=symmetrise, normalisation=normalisation
    )
