"""Inputs that rows over a graph share: parameters, edges, and the graph itself."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jraph
import numpy as np

from contract.table import Inputs

SIZES = {"N": 8, "E": 24}
PADDING = {"N": 2, "E": 8}
AXES = {"nodes": "N", "weight": "E", "senders": "E", "receivers": "E"}
POINTS = {"senders": "N", "receivers": "N"}
EMPTY = ({"N": 1, "E": 0}, {"N": 0, "E": 0})


def parameters(rng: np.random.Generator, init: Callable[[jax.Array], Any]) -> Any:
    """Numbers in the shapes of an `init_*` function, none of them 0."""
    shapes = jax.eval_shape(init, jax.random.key(0))
    return jax.tree.map(lambda s: np.asarray(rng.normal(size=s.shape) / 2), shapes)


def some(rng: np.random.Generator, num: int) -> np.ndarray:
    """A mask ``[num]`` that leaves a third out, and never the first."""
    mask = np.ones(num, bool)
    mask[1 + rng.permutation(max(num - 1, 0))[: num // 3]] = False
    return mask


def ends(rng: np.random.Generator, N: int, E: int) -> Inputs:
    """Senders and receivers: the first edge twice, and no edge at node 2."""
    out = {}
    for name in POINTS:
        rows = rng.integers(0, max(N - (N > 3), 1), E)
        rows += (rows >= 2) & (N > 3)
        rows[1:2] = rows[:1]
        out[name] = rows
    return out


def edges(rng: np.random.Generator, N: int, E: int) -> Inputs:
    """Edges whose weight is 0 for a third of them."""
    return ends(rng, N, E) | {"weight": rng.normal(size=E) * some(rng, E)}


def graph(x: Inputs, **features: jax.Array) -> jraph.GraphsTuple:
    """The graph of these inputs."""
    if "weight" in x:
        features["weight"] = x["weight"]
    return jraph.GraphsTuple(
        nodes=None,
        edges=features,
        globals=None if x["layout"] is None else {"layout": x["layout"]},
        senders=x["senders"],
        receivers=x["receivers"],
        n_node=jnp.array([len(x["nodes"])]),
        n_edge=jnp.array([len(x["senders"])]),
    )


def matrix(x: Inputs) -> np.ndarray:
    """Weights as a dense matrix, receivers by senders."""
    out = np.zeros((len(x["nodes"]), len(x["nodes"])))
    np.add.at(out, (x["receivers"], x["senders"]), x["weight"])
    return out


def jraph_sum(x: Inputs, nodes: jax.Array) -> jax.Array:
    """The sum of weighted neighbours, as jraph takes it."""
    convolve = jraph.GraphConvolution(
        lambda nodes: nodes,
        lambda sent, receivers, num: jraph.segment_sum(
            sent * x["weight"][:, None], receivers, num
        ),
        symmetric_normalization=False,
    )
    return convolve(graph(x)._replace(nodes=nodes)).nodes
