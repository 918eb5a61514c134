"""Sparse matrices of torch: the product, and a LightGCN step by it.

The step is that of LightGCN's released PyTorch code: the whole graph is propagated for
every batch, the loss is the mean softplus of score differences plus L2 on the batch's
rows of the tables, and Adam updates everything.
"""

import warnings
from collections.abc import Callable
from typing import Any

import jraph
import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.peers.torch_common import (
    finish,
    forward_and_backward,
    tensor,
)


def matrix(graph: jraph.GraphsTuple, dtype: str, layout: str) -> torch.Tensor:
    """The weights of a graph as a sparse tensor, ``"csr"`` or ``"coo"``."""
    edges: Any = graph.edges
    extra: Any = graph.globals
    num = int(graph.n_node[0])
    weight = tensor(edges["weight"], dtype)
    senders, receivers = np.asarray(graph.senders), np.asarray(graph.receivers)
    if layout == "csr":
        # 32 bits: the kernels of MKL take no others, and would convert at every call.
        pointer = tensor(extra["layout"].row_pointer)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
            return torch.sparse_csr_tensor(
                pointer, tensor(senders), weight, (num, num), check_invariants=False
            )
    index = tensor(np.stack([receivers, senders]).astype(np.int64))
    coo = torch.sparse_coo_tensor(index, weight, (num, num), check_invariants=False)
    return coo.coalesce()


def propagate(
    graph: jraph.GraphsTuple,
    nodes: np.ndarray,
    cotangent: np.ndarray,
    dtype: str,
    *,
    layout: str,
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """One neighbour sum forward, and forward and backward."""
    a = matrix(graph, dtype, layout)
    x = tensor(nodes, dtype).requires_grad_()

    @torch.no_grad()
    def forward():
        return finish(torch.sparse.mm(a, x))

    both = forward_and_backward(
        lambda: torch.sparse.mm(a, x), [x], tensor(cotangent, dtype)
    )
    return forward, both


def train_step(
    graph: jraph.GraphsTuple,
    table: np.ndarray,
    num_users: int,
    batches: list[tuple[np.ndarray, np.ndarray, np.ndarray]],
    *,
    layers: int,
    l2: float,
    learning_rate: float,
    dtype: str,
    layout: str,
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The loss and derivative of the first batch; and a step on each of them all."""
    a = matrix(graph, dtype, layout)
    user, item = (
        tensor(part, dtype).requires_grad_() for part in np.split(table, [num_users])
    )
    optimizer = torch.optim.Adam([user, item], lr=learning_rate)
    ready = [tuple(tensor(x.astype(np.int64)) for x in batch) for batch in batches]

    def loss(batch):
        users, items, negatives = batch
        layer = torch.cat([user, item])
        stack = [layer]
        for _ in range(layers):
            layer = torch.sparse.mm(a, layer)
            stack.append(layer)
        out = torch.stack(stack, dim=1).mean(dim=1)
        out_user, out_item = out.split([len(user), len(item)])
        chosen = out_user[users]
        positive = (chosen * out_item[items]).sum(1)
        negative = (chosen * out_item[negatives]).sum(1)
        rows = (user[users], item[items], item[negatives])
        penalty = sum(x.square().sum() for x in rows) / (2 * len(users))
        return F.softplus(negative - positive).mean() + l2 * penalty

    def differentiate():
        optimizer.zero_grad()
        value = loss(ready[0])
        value.backward()
        return finish((value.detach(), torch.cat([user.grad, item.grad])))

    def steps():
        for batch in ready:
            optimizer.zero_grad()
            loss(batch).backward()
            optimizer.step()
        return finish(user)

    return differentiate, steps
