"""Plain torch: attention over all nodes, and fusions as one would write them down.

The fusions take no masks, and make what the equations name: a concatenation, a stack of
modalities, one result an expert.
"""

from collections.abc import Callable
from typing import Any

import jraph
import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.peers.torch_common import finish, forward_and_backward, tensor


def attention(
    kind: str,
    graph: jraph.GraphsTuple,
    params: dict[str, np.ndarray],
    nodes: np.ndarray,
    cotangent: np.ndarray,
    dtype: str,
) -> Callable[[], Any] | None:
    """``"full_attention"`` forward and backward; None for attention along edges.

    Args:
      kind: which attention.
      graph: not used.
      params: queries, keys and values ``[N, H, D]`` by the names ``query``, ``key``
        and ``value``.
      nodes: not used.
      cotangent: ``[N, H, D]``.
      dtype: to compute in.

    Returns:
      A function to the result and the derivatives by key, query and value.
    """
    del graph, nodes
    if kind != "full_attention":
        return None
    key, query, value = (
        tensor(params[name].swapaxes(0, 1), dtype)[None].requires_grad_()
        for name in ("key", "query", "value")
    )

    def forward():
        out = F.scaled_dot_product_attention(query, key, value)
        return out[0].transpose(0, 1)

    both = forward_and_backward(forward, [key, query, value], tensor(cotangent, dtype))

    def run():
        out, *grads = both()
        return out, *(grad[0].transpose(0, 1) for grad in grads)

    return run


def fusion(
    kind: str,
    params: Any,
    modalities: dict[str, np.ndarray],
    content: np.ndarray,
    dtype: str,
) -> Callable[[], Any]:
    """A fusion of modalities ``[N, D]``.

    Args:
      kind: name of ours.
      params: of ours, as NumPy arrays.
      modalities: by name.
      content: ``[N, D]``, for those that take one.
      dtype: to compute in.

    Returns:
      A function to the result ``[N, D]``.
    """
    p, x, way = _tensors(params, dtype), tensor(content, dtype), _FUSIONS[kind]
    parts = _tensors(modalities, dtype)

    @torch.no_grad()
    def run():
        return finish(way(p, parts, x))

    return run


def _tensors(tree, dtype):
    if isinstance(tree, dict):
        return {name: _tensors(tree[name], dtype) for name in sorted(tree)}
    return tensor(tree, dtype)


def _dense(x, p):
    return x @ p["kernel"] + p["bias"]


def _stack(parts):
    return torch.stack(list(parts.values()))


def _concat(p, parts, x):
    kernel = torch.cat([p["kernels"][name] for name in parts])
    return torch.cat(list(parts.values()), dim=1) @ kernel + p["bias"]


def _gated(p, parts, x):
    terms = [
        torch.sigmoid(_dense(h, p[name]["gate"])) * (h @ p[name]["value"]["kernel"])
        for name, h in parts.items()
    ]
    return torch.stack(terms).sum(0)


def _attention(p, parts, x):
    stack = _stack(parts)
    weight = torch.softmax(torch.tanh(_dense(stack, p)) @ p["query"], dim=0)
    return (weight[..., None] * stack).sum(0)


def _common(p, parts, x):
    common = _attention(p["attention"], parts, x)
    specific = [
        (h - common) * torch.sigmoid(_dense(x, p["gates"][name]))
        for name, h in parts.items()
    ]
    return (torch.stack(specific).sum(0) + common) / (len(parts) + 1)


def _experts(p, parts, x):
    fused = []
    for name, h in parts.items():
        gate = torch.softmax(_dense(h, p["gates"][name]), dim=-1)
        results = []
        for experts in (p["shared"], p["specific"][name]):
            first, second = experts["first"], experts["second"]
            for e in range(len(first["kernel"])):
                hidden = torch.relu(h @ first["kernel"][e] + first["bias"][e])
                results.append(hidden @ second["kernel"][e] + second["bias"][e])
        fused.append((gate[..., None] * torch.stack(results, dim=1)).sum(1))
    return torch.stack(fused).sum(0)


def _bilinear(p, parts, x):
    factors = [h @ p["factors"][name] for name, h in parts.items()]
    return torch.stack(factors).prod(0) @ p["kernel"]


def _film(p, parts, x):
    return _dense(x, p["gamma"]) * next(iter(parts.values())) + _dense(x, p["beta"])


_FUSIONS = {
    "fuse_sum": lambda p, parts, x: _stack(parts).sum(0),
    "fuse_mean": lambda p, parts, x: _stack(parts).mean(0),
    "fuse_concat": _concat,
    "fuse_gated": _gated,
    "fuse_attention": _attention,
    "fuse_common": _common,
    "fuse_experts": _experts,
    "fuse_bilinear": _bilinear,
    "film": _film,
}
