"""torch_geometric: a neighbour sum, a LightGCN step, and attention.

Graphs are handed over as ``edge_index`` tensors, the way its documentation and examples
do; messages are gathered, and summed by scatter.
"""

from collections.abc import Callable
from typing import Any

import jraph
import numpy as np
import torch
from torch_geometric.nn import LGConv
from torch_geometric.nn.models import LightGCN

from benchmarks.peers.pyg_layers import edge_index, layer
from benchmarks.peers.torch_common import (
    DEVICE,
    finish,
    forward_and_backward,
    tensor,
)

attention = layer


def propagate(
    graph: jraph.GraphsTuple, nodes: np.ndarray, cotangent: np.ndarray, dtype: str
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """One neighbour sum forward, and forward and backward, by `LGConv`."""
    edges: Any = graph.edges
    index, weight = edge_index(graph), tensor(edges["weight"], dtype)
    layer = LGConv(normalize=False)
    x = tensor(nodes, dtype).requires_grad_()

    @torch.no_grad()
    def forward():
        return finish(layer(x, index, weight))

    both = forward_and_backward(
        lambda: layer(x, index, weight), [x], tensor(cotangent, dtype)
    )
    return forward, both


def light_gcn(table: np.ndarray, layers: int, dtype: str) -> LightGCN:
    """Its LightGCN with the table of ours."""
    model = LightGCN(*table.shape, num_layers=layers).to(DEVICE, getattr(torch, dtype))
    with torch.no_grad():
        model.embedding.weight.copy_(tensor(table))
    return model


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
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The loss and derivative of the first batch; and a step on each of them all.

    Called as the LightGCN example of torch_geometric does, which lets every layer
    normalise the edges.
    """
    model, index = light_gcn(table, layers, dtype), edge_index(graph)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    ready = []
    for users, items, negatives in batches:
        u, i, j = (
            tensor(x.astype(np.int64))
            for x in (users, num_users + items, num_users + negatives)
        )
        ready.append(
            (torch.stack([u.repeat(2), torch.cat([i, j])]), torch.cat([u, i, j]))
        )

    def loss(batch):
        pairs, nodes = batch
        positive, negative = model(index, pairs).chunk(2)
        # Its penalty has no factor of a half.
        return model.recommendation_loss(positive, negative, nodes, lambda_reg=l2 / 2)

    def differentiate():
        optimizer.zero_grad()
        value = loss(ready[0])
        value.backward()
        return finish((value.detach(), model.embedding.weight.grad))

    def steps():
        for batch in ready:
            optimizer.zero_grad()
            loss(batch).backward()
            optimizer.step()
        return finish(model.embedding.weight)

    return differentiate, steps


def light_gcn_nodes(
    graph: jraph.GraphsTuple, table: np.ndarray, cotangent: np.ndarray, *, layers: int
) -> Callable[[], Any]:
    """The nodes' vectors of its LightGCN, and their derivative by the table."""
    model, index = light_gcn(table, layers, "float32"), edge_index(graph)
    return forward_and_backward(
        lambda: model.get_embedding(index), [model.embedding.weight], tensor(cotangent)
    )
