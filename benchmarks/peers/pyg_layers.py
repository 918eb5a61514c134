"""Layers of torch_geometric with the weights of ours, and derivatives in our shapes."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jraph
import numpy as np
import torch
from torch_geometric.nn import (
    GATConv,
    GATv2Conv,
    GCNConv,
    GINConv,
    RGCNConv,
    SAGEConv,
    TransformerConv,
)

from benchmarks.peers.torch_common import DEVICE, forward_and_backward, tensor


class Weight(NamedTuple):
    """A parameter, and whether it is our kernel ``[F, ...]`` as ``[..., F]``."""

    parameter: torch.Tensor
    transposed: bool = False

    def fill(self, values: np.ndarray) -> None:
        """Takes the values of ours."""
        if self.transposed:
            values = values.reshape(len(values), -1).T
        with torch.no_grad():
            self.parameter.copy_(tensor(values.reshape(tuple(self.parameter.shape))))

    def grad(self, shape: tuple[int, ...]) -> torch.Tensor:
        """The derivative in our shape."""
        grad = self.parameter.grad
        return (grad.T if self.transposed else grad).reshape(shape)


Weights: TypeAlias = dict[tuple[str, ...], Weight]


def edge_index(graph: jraph.GraphsTuple) -> torch.Tensor:
    """``[2, E]``: senders, and receivers."""
    both = [np.asarray(graph.senders), np.asarray(graph.receivers)]
    return tensor(np.stack(both).astype(np.int64))


def layer(
    kind: str,
    graph: jraph.GraphsTuple,
    params: Any,
    nodes: np.ndarray,
    cotangent: np.ndarray,
    dtype: str,
) -> Callable[[], Any] | None:
    """A layer forward and backward.

    Args:
      kind: name of ours.
      graph: E edges.
      params: of ours; for ``"graph_attention"`` kernels ``[F, H, D]`` by the names
        ``query``, ``key`` and ``value``.
      nodes: ``[N, F]``.
      cotangent: of the shape of the result.
      dtype: to compute in.

    Returns:
      A function to the result, its derivative by the nodes, and those by the
      parameters, in the order of the tree of ours; None for a layer that there is not.
    """
    if kind not in _MAKERS:
        return None
    module, weights = _MAKERS[kind](params)
    module.to(DEVICE, getattr(torch, dtype))
    values = _flat(params)
    paths = sorted(values)
    for path in paths:
        weights[path].fill(values[path])
    args = [edge_index(graph)]
    if kind == "rgcn":
        edges: Any = graph.edges
        args.append(tensor(edges["relation"].astype(np.int64)))
    x = tensor(nodes, dtype).requires_grad_()
    both = forward_and_backward(
        lambda: module(x, *args),
        [x, *(weights[path].parameter for path in paths)],
        tensor(cotangent, dtype),
    )

    def run():
        out, by_nodes, *_ = both()
        return (
            out,
            by_nodes,
            *(weights[path].grad(values[path].shape) for path in paths),
        )

    return run


def _flat(params: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], np.ndarray]:
    if not isinstance(params, dict):
        return {path: np.asarray(params)}
    found = {}
    for name, value in params.items():
        found |= _flat(value, (*path, name))
    return found


def _linear(module: Any, *path: str) -> Weights:
    """Kernel and bias of a linear map."""
    return {
        (*path, "kernel"): Weight(module.weight, transposed=True),
        (*path, "bias"): Weight(module.bias),
    }


def _graph_attention(params) -> tuple[Any, Weights]:
    width, heads, dim = params["query"].shape
    module = TransformerConv(width, dim, heads, root_weight=False, bias=False)
    return module, {
        ("query",): Weight(module.lin_query.weight, transposed=True),
        ("key",): Weight(module.lin_key.weight, transposed=True),
        ("value",): Weight(module.lin_value.weight, transposed=True),
    }


def _gat(params) -> tuple[Any, Weights]:
    width, heads, dim = params["kernel"].shape
    module = GATConv(width, dim, heads, add_self_loops=False, bias=False)
    return module, {
        ("kernel",): Weight(module.lin.weight, transposed=True),
        ("receiver",): Weight(module.att_dst),
        ("sender",): Weight(module.att_src),
    }


def _gatv2(params) -> tuple[Any, Weights]:
    width, heads, dim = params["sender"].shape
    module = GATv2Conv(width, dim, heads, add_self_loops=False, bias=False)
    return module, {
        ("query",): Weight(module.att),
        ("receiver",): Weight(module.lin_r.weight, transposed=True),
        ("sender",): Weight(module.lin_l.weight, transposed=True),
    }


def _gcn(params) -> tuple[Any, Weights]:
    module = GCNConv(*params["kernel"].shape)
    return module, {
        ("kernel",): Weight(module.lin.weight, transposed=True),
        ("bias",): Weight(module.bias),
    }


def _graph_sage(params) -> tuple[Any, Weights]:
    pools = "pool" in params
    aggregate = "max" if pools else "mean"
    module = SAGEConv(*params["self"]["kernel"].shape, aggregate, project=pools)
    weights: Weights = {
        ("self", "kernel"): Weight(module.lin_r.weight, transposed=True),
        ("self", "bias"): Weight(module.lin_l.bias),
        ("neighbour", "kernel"): Weight(module.lin_l.weight, transposed=True),
    }
    return module, weights | (_linear(module.lin, "pool") if pools else {})


def _gin(params) -> tuple[Any, Weights]:
    first, second = (
        torch.nn.Linear(*params[name]["kernel"].shape) for name in ("first", "second")
    )
    inner = torch.nn.Sequential(first, torch.nn.ReLU(), second)
    module = GINConv(inner, train_eps=True)
    weights: Weights = {("epsilon",): Weight(module.eps)}
    return module, weights | _linear(first, "first") | _linear(second, "second")


def _rgcn(params) -> tuple[Any, Weights]:
    if "basis" in params:
        relations, name = len(params["coefficient"]), "basis"
        size = {"num_bases": len(params["basis"])}
    else:
        relations, name = len(params["block"]), "block"
        size = {"num_blocks": params["block"].shape[1]}
    module = RGCNConv(*params["self"]["kernel"].shape, relations, **size)
    weights: Weights = {
        ("self", "kernel"): Weight(module.root),
        ("self", "bias"): Weight(module.bias),
        (name,): Weight(module.weight),
    }
    if "basis" in params:
        weights[("coefficient",)] = Weight(module.comp)
    return module, weights


_MAKERS = {
    "graph_attention": _graph_attention,
    "gat": _gat,
    "gatv2": _gatv2,
    "gcn": _gcn,
    "graph_sage": _graph_sage,
    "gin": _gin,
    "rgcn": _rgcn,
}
