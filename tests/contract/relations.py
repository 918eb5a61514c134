"""Rows of layers over several relations, and over hyperedges."""

import functools

import numpy as np

from contract import graphs
from contract.convolution import dense, relu
from contract.graphs import graph
from contract.table import Case, Mask
from recjax import layers

F, D, R = 4, 2, 3


def make(rng, N, E, init, **more):
    """Nodes and weighted edges, two of them of no relation; and parameters."""
    relation = rng.integers(0, R, E)
    relation[2:4] = [-1, R][: max(E - 2, 0)]
    return {
        "params": graphs.parameters(rng, init),
        "nodes": rng.normal(size=(N, F)),
        "relation": relation,
        **graphs.edges(rng, N, E),
        **more,
    }


row = functools.partial(
    Case,
    sizes=graphs.SIZES,
    axes={**graphs.AXES, "params": "", "relation": "E"},
    points=graphs.POINTS,
    layout=("senders", "receivers"),
    mask=Mask("weight", "E"),
    padding=graphs.PADDING,
    order=("N", "E"),
    large=("nodes",),
    empty=graphs.EMPTY,
)


def rgcn(x):
    params, counts = x["params"], x["weight"] != 0  # and the relation is one of R
    if "basis" in params:
        matrices = np.einsum("rb,bfd->rfd", params["coefficient"], params["basis"])
    else:
        # Two blocks on the diagonal.
        matrices = np.zeros((R, F, D))
        for b in range(2):
            matrices[:, 2 * b : 2 * b + 2, b : b + 1] = params["block"][:, b]
    out = dense(x["nodes"], params["self"])
    for i in range(len(out)):
        for r in range(R):
            mine = counts & (x["receivers"] == i) & (x["relation"] == r)
            sent = x["nodes"][x["senders"][mine]]
            out[i] += sent.mean(0) @ matrices[r] if len(sent) else 0
    return relu(out)


def call_rgcn(x):
    return layers.rgcn(x["params"], graph(x, relation=x["relation"]), x["nodes"])


def composed(x, compose):
    params = x["params"]
    relations = x["relations"]
    index = x.get("relation", np.arange(len(x["senders"])))
    if "relation" not in x:
        relations = relations * (x["weight"] != 0)[:, None]
    received = np.zeros_like(x["nodes"])
    for e in np.flatnonzero((index >= 0) & (index < len(relations))):
        message = compose(x["nodes"][x["senders"][e]], relations[index[e]])
        received[x["receivers"][e]] += x["weight"][e] * message
    out = dense(x["nodes"], params["self"]) + received @ params["neighbour"]["kernel"]
    return relu(out), relations @ params["relation"]["kernel"]


def init_composed(key):
    return layers.init_relation_message_passing(key, F, D)


def of_edges(rng, N, E):
    x = make(rng, N, E, init_composed, relations=rng.normal(size=(E, F)))
    del x["relation"]
    return x


def edge_messages(x):
    params, relation = x["params"], x["relation"]
    counts = (x["weight"] != 0) & (relation >= 0) & (relation < R)
    kernel = {name: params[name]["kernel"] for name in ("sender", "receiver")}
    of_edges = np.zeros((len(relation), D))
    for e in np.flatnonzero(counts):
        total = dense(x["features"][e], params["edge"])
        total = total + x["nodes"][x["senders"][e]] @ kernel["sender"]
        total = total + x["nodes"][x["receivers"][e]] @ kernel["receiver"]
        total = total + x["relations"][relation[e]] @ params["relation"]["kernel"]
        of_edges[e] = relu(total)
    out = dense(x["nodes"], params["self"])
    for e in np.flatnonzero(counts):
        out[x["receivers"][e]] += x["weight"][e] * of_edges[e]
    return relu(out), x["relations"] @ params["next_relation"]["kernel"], of_edges


def edge_attention(x):
    params, relation, nodes = x["params"], x["relation"], x["nodes"]
    counts = (x["weight"] != 0) & (relation >= 0) & (relation < R)
    heads, width = params["query"].shape[1:]
    query, key, value = (
        np.einsum("nd,dhe->nhe", nodes, params[n]) for n in ("query", "key", "value")
    )
    of_relations = np.einsum("rd,dhe->rhe", x["relations"], params["key"])
    out, scores = np.zeros((len(nodes), heads, width)), np.zeros((len(relation), heads))
    for e in np.flatnonzero(counts):
        both = key[x["senders"][e]] + of_relations[relation[e]]
        scores[e] = (query[x["receivers"][e]] * both).sum(1) / np.sqrt(width)
        scores[e] += x["features"][e] @ params["read"]
    for i in range(len(nodes)):
        mine = np.flatnonzero(counts & (x["receivers"] == i))
        if len(mine):
            share = np.exp(scores[mine] - scores[mine].max(0))
            share = share / share.sum(0)
            out[i] = np.einsum("eh,ehd->hd", share, value[x["senders"][mine]])
    features = np.where(counts[:, None], x["features"], 0) + scores @ params["write"].T
    return out.reshape(len(nodes), heads * width), features


def of_typed_edges(init):
    """Inputs with relation vectors and two numbers on each edge."""

    def inputs(rng, N, E):
        return make(
            rng,
            N,
            E,
            init,
            relations=rng.normal(size=(R, F)),
            features=rng.normal(size=(E, 2)),
        )

    return inputs


typed = functools.partial(
    row,
    axes={
        **graphs.AXES,
        "params": "",
        "relation": "E",
        "relations": "",
        "features": "E",
    },
    mask=Mask("weight", "E", covers=("features",)),
)


def hypergraph(rng, N, Q, m, init=None):
    """Node 2 has no hyperedge; every other is in one whose weight is not 0.

    There are as many hyperedges as rows.
    """
    counts = graphs.some(rng, Q)
    members = np.sort(rng.permutation(m)) % max(N - 1, 1)
    hyperedges = rng.integers(0, max(Q, 1), m)
    if m >= N > 1:
        hyperedges[: N - 1] = np.resize(np.flatnonzero(counts), N - 1)
    x = {
        "nodes": rng.normal(size=(N, F)),
        "members": members + (members >= 2),
        "hyperedges": hyperedges,
        "weight": (0.5 + rng.random(Q)) * counts,
        "rows": np.arange(Q),
    }
    return x if init is None else x | {"params": graphs.parameters(rng, init)}


def smooth(x):
    incidence = np.zeros((len(x["nodes"]), len(x["weight"])))
    np.add.at(incidence, (x["members"], x["hyperedges"]), 1)
    degree, number = incidence @ x["weight"], incidence.sum(0)
    scale = np.where(degree > 0, np.maximum(degree, 1e-30) ** -0.5, 0)[:, None]
    mean = (incidence.T @ (scale * x["nodes"])) / np.maximum(number, 1)[:, None]
    return scale * (incidence @ (x["weight"][:, None] * mean))


def call_smooth(x):
    return layers.hypergraph_smooth(
        x["nodes"],
        x["members"],
        x["hyperedges"],
        num_hyperedges=len(x["rows"]),
        weight=x["weight"],
        layout=x["layout"],
    )


def call_hypergraph(x):
    return layers.hypergraph_convolution(
        x["params"],
        x["nodes"],
        x["members"],
        x["hyperedges"],
        num_hyperedges=len(x["rows"]),
        weight=x["weight"],
        layout=x["layout"],
    )


of_hyperedges = functools.partial(
    row,
    sizes={"N": 8, "Q": 8, "m": 24},
    out="N",
    points={"members": "N", "hyperedges": "Q"},
    layout=("members", "hyperedges"),
    mask=Mask("weight", "Q"),
    padding={"N": 2, "Q": 2, "m": 2},
    order=("N", "Q", "m"),
    empty=({"N": 1, "Q": 0, "m": 0}, {"N": 0, "Q": 0, "m": 0}),
)
HYPEREDGES = {
    "nodes": "N",
    "members": "m",
    "hyperedges": "m",
    "weight": "Q",
    "rows": "Q",
}

CASES = (
    row(
        name="rgcn, bases",
        function=layers.rgcn,
        call=call_rgcn,
        make=functools.partial(
            make,
            init=lambda key: layers.init_rgcn_basis(key, F, D, relations=R, bases=2),
        ),
        out="N",
        reference=rgcn,
    ),
    row(
        name="rgcn, blocks",
        function=layers.rgcn,
        call=call_rgcn,
        make=functools.partial(
            make,
            init=lambda key: layers.init_rgcn_block(key, F, D, relations=R, blocks=2),
        ),
        out="N",
        reference=rgcn,
    ),
    row(
        name="relation_message_passing, relations",
        function=layers.relation_message_passing,
        call=lambda x: layers.relation_message_passing(
            x["params"], graph(x, relation=x["relation"]), x["nodes"], x["relations"]
        ),
        make=lambda rng, N, E: make(
            rng, N, E, init_composed, relations=rng.normal(size=(R, F))
        ),
        axes={**graphs.AXES, "params": "", "relation": "E", "relations": ""},
        out=("N", ""),
        reference=lambda x: composed(x, np.multiply),
    ),
    row(
        name="relation_message_passing, features of edges",
        function=layers.relation_message_passing,
        call=lambda x: layers.relation_message_passing(
            x["params"], graph(x), x["nodes"], x["relations"], compose="subtract"
        ),
        make=of_edges,
        axes={**graphs.AXES, "params": "", "relations": "E"},
        out=("N", "E"),
        reference=lambda x: composed(x, np.subtract),
        mask=Mask("weight", "E", covers=("relations",)),
    ),
    typed(
        name="edge_message_passing",
        function=layers.edge_message_passing,
        call=lambda x: layers.edge_message_passing(
            x["params"],
            graph(x, relation=x["relation"]),
            x["nodes"],
            x["relations"],
            x["features"],
        ),
        make=of_typed_edges(
            lambda key: layers.init_edge_message_passing(key, F, D, width_edge=2)
        ),
        out=("N", "", "E"),
        reference=edge_messages,
    ),
    typed(
        name="edge_attention",
        function=layers.edge_attention,
        call=lambda x: layers.edge_attention(
            x["params"],
            graph(x, relation=x["relation"]),
            x["nodes"],
            x["relations"],
            x["features"],
        ),
        make=of_typed_edges(
            lambda key: layers.init_edge_attention(key, F, 2, width_edge=2)
        ),
        out=("N", "E"),
        reference=edge_attention,
    ),
    of_hyperedges(
        name="hypergraph_smooth",
        function=layers.hypergraph_smooth,
        call=call_smooth,
        make=hypergraph,
        axes=HYPEREDGES,
        reference=smooth,
    ),
    of_hyperedges(
        name="hypergraph_convolution",
        function=layers.hypergraph_convolution,
        call=call_hypergraph,
        make=functools.partial(
            hypergraph, init=lambda key: layers.init_hypergraph_convolution(key, F, D)
        ),
        axes={**HYPEREDGES, "params": ""},
        reference=lambda x: relu(dense(smooth(x), x["params"])),
    ),
)
