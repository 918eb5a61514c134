"""Rows of attention: along edges, over all nodes, and along sequences."""

import functools

import jax
import jax.numpy as jnp
import jraph
import numpy as np

from contract import graphs
from contract.graphs import graph
from contract.table import Case, Mask
from recjax import layers

F, H, D = 4, 2, 2


def softmax(scores):
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()


def leaky(x):
    return np.where(x > 0, x, 0.2 * x)


def attend(x, scores, values):
    """Values ``[N, H, D]`` of senders, by the softmax of scores ``[E, H]``."""
    out = np.zeros_like(values)
    for i, h in np.ndindex(values.shape[:2]):
        mine = np.flatnonzero((x["receivers"] == i) & x["where"])
        if len(mine):
            out[i, h] = softmax(scores[mine, h]) @ values[x["senders"][mine], h]
    return out


def edges(rng, N, E, init=None):
    """Edges with features and a mask; nodes, or else queries, keys and values."""
    x = {**graphs.ends(rng, N, E), "where": graphs.some(rng, E)}
    if init is not None:
        features = {
            "nodes": rng.normal(size=(N, F)),
            "features": rng.normal(size=(E, F)),
        }
        return x | features | {"params": graphs.parameters(rng, init)}
    widths = {"queries": D, "keys": D, "values": 3}
    nodes = {n: rng.normal(size=(N, H, width)) for n, width in widths.items()}
    return x | nodes | {"bias": rng.normal(size=(E, H))}


def call_graph(x):
    triple = [x[n] for n in ("queries", "keys", "values")]
    along = graph(x | {"nodes": x["keys"]})
    heads = layers.graph_attention(
        along, *triple, bias=x["bias"], where=x["where"], scale=0.7
    )
    one_head = layers.graph_attention(
        along, *(y[:, 0] for y in triple), bias=x["bias"][:, 0], where=x["where"]
    )
    return heads, one_head


def scores_of(x, scale):
    ends = x["queries"][x["receivers"]] * x["keys"][x["senders"]]
    return scale * ends.sum(-1) + x["bias"]


def reference_graph(x):
    heads, one = (attend(x, scores_of(x, s), x["values"]) for s in (0.7, D**-0.5))
    return heads, one[:, 0]


def gat_scores(x):
    params = x["params"]
    projected = np.einsum("nf,fhd->nhd", x["nodes"], params["kernel"])
    to, by = ((projected * params[end]).sum(-1) for end in ("receiver", "sender"))
    scores = to[x["receivers"]] + by[x["senders"]] + x["features"] @ params["edge"]
    return leaky(scores), projected


def gatv2_scores(x):
    params = x["params"]
    to, by = (
        np.einsum("nf,fhd->nhd", x["nodes"], params[end])
        for end in ("receiver", "sender")
    )
    hidden = np.einsum("ef,fhd->ehd", x["features"], params["edge"])
    hidden = leaky(to[x["receivers"]] + by[x["senders"]] + hidden)
    return (hidden * params["query"]).sum(-1), by


def call_gat(layer, x):
    return tuple(
        layer(
            x["params"],
            graph(x),
            x["nodes"],
            edge_features=x["features"],
            where=x["where"],
            concat=concat,
        )
        for concat in (True, False)
    )


def beside_and_mean(out):
    return out.reshape(len(out), out.shape[1] * out.shape[2]), out.mean(1)


def reference_gat(scores, x):
    return beside_and_mean(attend(x, *scores(x)))


def jraph_attention(x, queries, logits, edges, width):
    """jraph's layer; the values are the last entries of the queries ``[N, H, D]``."""
    attend = jraph.GAT(lambda nodes: nodes, logits, lambda nodes: nodes[..., -width:])
    return attend(
        graph(x | {"nodes": queries})._replace(nodes=queries, edges=edges)
    ).nodes


def jraph_graph(x):
    def run(scale):
        def logits(sent, received, bias):
            scores = jnp.sum(received[..., :D] * sent[..., D : 2 * D], -1)
            return (scale * scores + bias)[..., None]

        queries = jnp.concatenate([x[n] for n in ("queries", "keys", "values")], -1)
        return jraph_attention(x, queries, logits, x["bias"], 3)

    return run(0.7), run(D**-0.5)[:, 0]


def jraph_gat(x):
    params = x["params"]

    def logits(sent, received, features):
        scores = received * params["receiver"][None] + sent * params["sender"][None]
        scores = jnp.sum(scores, -1) + features @ params["edge"]
        return jax.nn.leaky_relu(scores, 0.2)[..., None]

    projected = jnp.einsum("nf,fhd->nhd", x["nodes"], params["kernel"])
    return beside_and_mean(jraph_attention(x, projected, logits, x["features"], D))


def jraph_gatv2(x):
    params = x["params"]

    def logits(sent, received, features):
        hidden = jnp.einsum("ef,fhd->ehd", features, params["edge"])
        hidden = jax.nn.leaky_relu(received[..., :D] + sent[..., D:] + hidden, 0.2)
        return jnp.sum(hidden * params["query"][None], -1, keepdims=True)

    ends = [params[end] for end in ("receiver", "sender")]
    both = [jnp.einsum("nf,fhd->nhd", x["nodes"], kernel) for kernel in ends]
    queries = jnp.concatenate(both, -1)
    return beside_and_mean(jraph_attention(x, queries, logits, x["features"], D))


def nodes(rng, *sizes):
    """Queries, keys and values of nodes ``[N]`` or of steps ``[B, S]``, and a mask."""
    widths = {"queries": D, "keys": D, "values": 3 if len(sizes) == 1 else D}
    x = {name: rng.normal(size=(*sizes, H, width)) for name, width in widths.items()}
    return x | {"where": np.broadcast_to(graphs.some(rng, sizes[-1]), sizes)}


def over_all(x, shares):
    """Shares ``[N, H, N]`` of keys, given by queries and keys, times the values."""
    out = np.zeros_like(x["values"])
    kept = np.flatnonzero(x["where"])
    for i, h in np.ndindex(x["queries"].shape[:2]):
        if x["where"][i]:
            share = shares(x["queries"][i, h], x["keys"][kept, h])
            out[i, h] = share @ x["values"][kept, h]
    return out, out[:, 0]


def by_softmax(query, keys):
    return softmax(keys @ query / np.sqrt(len(query)))


def by_kernel(query, keys):
    query, keys = (
        np.where(y > 0, y + 1, np.exp(np.minimum(y, 0))) for y in (query, keys)
    )
    return keys @ query / max((keys @ query).sum(), 1e-300)


def along_steps(x, causal):
    out = np.zeros_like(x["values"])
    for b, t, h in np.ndindex(x["queries"].shape[:3]):
        if x["where"][b, t]:
            seen = x["where"][b] & (not causal or np.arange(x["where"].shape[1]) <= t)
            share = by_softmax(x["queries"][b, t, h], x["keys"][b, seen, h])
            out[b, t, h] = share @ x["values"][b, seen, h]
    return out


def heads_and_one(layer, x):
    triple = [x[n] for n in ("queries", "keys", "values")]
    one = layer(*(y[:, 0] for y in triple), where=x["where"])
    return layer(*triple, where=x["where"]), one


def gelu(x):
    """By the tangent, as `jax.nn.gelu` does."""
    return x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))) / 2


def reference_block(x):
    p, nodes = x["params"], x["nodes"]

    def scaled(y):
        length = np.linalg.norm(y, axis=-1, keepdims=True)
        return y / np.where(length == 0, 1, length) * F**0.5

    def apart(kernel):
        return (scaled(nodes) @ kernel).reshape(-1, H, F // H)

    queries, keys, values = (apart(p[n]) for n in ("query", "key", "value"))
    found = np.zeros_like(values)
    for i, h in np.ndindex(values.shape[:2]):
        found[i, h] = by_softmax(queries[i, h], keys[:, h]) @ values[:, h]
    nodes = nodes + found.reshape(-1, F) @ p["out"]
    return nodes + gelu(scaled(nodes) @ p["wide"]) @ p["narrow"]


along_edges = functools.partial(
    Case,
    sizes=graphs.SIZES,
    axes={
        **graphs.POINTS,
        **dict.fromkeys(("senders", "receivers", "where", "features"), "E"),
        "nodes": "N",
        "params": "",
    },
    out=("N", "N"),
    points=graphs.POINTS,
    layout=("senders", "receivers"),
    mask=Mask("where", "E"),
    padding=graphs.PADDING,
    dead=("nodes",),
    order=("N", "E"),
    large=("nodes", "features"),
    empty=graphs.EMPTY,
)
TRIPLE = ("queries", "keys", "values")
among_nodes = functools.partial(
    Case,
    make=nodes,
    sizes={"N": 8},
    axes=dict.fromkeys((*TRIPLE, "where"), "N"),
    out=("N", "N"),
    mask=Mask("where", "N"),
    padding={"N": 2},
    order=("N",),
    large=("queries", "keys"),
    empty=({"N": 0}, {"N": 1}),
)
among_steps = functools.partial(
    among_nodes,
    function=layers.sequence_attention,
    sizes={"B": 8, "S": 6},
    axes=dict.fromkeys((*TRIPLE, "where"), "BS"),
    out="BS",
    mask=Mask("where", "S"),
    padding={"S": 2},
    empty=({"S": 0}, {"B": 1, "S": 1}),
    derivatives=(1e-2, 1e-3),  # JAX takes this softmax in float32 whatever the input
)

CASES = (
    along_edges(
        name="graph_attention",
        function=layers.graph_attention,
        call=call_graph,
        make=edges,
        axes={
            **dict.fromkeys(("senders", "receivers", "where", "bias"), "E"),
            **dict.fromkeys(TRIPLE, "N"),
        },
        dead=TRIPLE,
        large=("queries", "keys", "bias"),
        reference=reference_graph,
        jraph=jraph_graph,
    ),
    along_edges(
        name="gat",
        function=layers.gat,
        call=functools.partial(call_gat, layers.gat),
        make=functools.partial(
            edges, init=lambda key: layers.init_gat(key, F, D, H, width_edge=F)
        ),
        reference=functools.partial(reference_gat, gat_scores),
        jraph=jraph_gat,
    ),
    along_edges(
        name="gatv2",
        function=layers.gatv2,
        call=functools.partial(call_gat, layers.gatv2),
        make=functools.partial(
            edges, init=lambda key: layers.init_gatv2(key, F, D, H, width_edge=F)
        ),
        reference=functools.partial(reference_gat, gatv2_scores),
        jraph=jraph_gatv2,
    ),
    among_nodes(
        name="full_attention",
        function=layers.full_attention,
        call=functools.partial(
            heads_and_one, functools.partial(layers.full_attention, block_size=3)
        ),
        reference=lambda x: over_all(x, by_softmax),
    ),
    among_nodes(
        name="linear_attention",
        function=layers.linear_attention,
        call=functools.partial(heads_and_one, layers.linear_attention),
        reference=lambda x: over_all(x, by_kernel),
    ),
    Case(
        name="transformer_block",
        function=layers.transformer_block,
        call=lambda x: layers.transformer_block(
            x["params"], x["nodes"], layers.full_attention, heads=H
        ),
        make=lambda rng, N: {
            "nodes": rng.normal(size=(N, F)),
            "params": graphs.parameters(
                rng, lambda key: layers.init_transformer_block(key, F, 3)
            ),
        },
        sizes={"N": 8},
        axes={"nodes": "N", "params": ""},
        out="N",
        reference=reference_block,
        mask="the attention that it is given takes one",
        padding="likewise",
        order=("N",),
        large="what is attended over has one length, whatever the nodes'",
        empty=({"N": 0}, {"N": 1}),
    ),
    among_steps(
        name="sequence_attention",
        call=lambda x: layers.sequence_attention(
            *(x[n] for n in TRIPLE), where=x["where"]
        ),
        reference=lambda x: along_steps(x, causal=False),
        order=("B", "S"),
    ),
    among_steps(
        name="sequence_attention, causal",
        call=lambda x: layers.sequence_attention(
            *(x[n] for n in TRIPLE), where=x["where"], causal=True
        ),
        reference=lambda x: along_steps(x, causal=True),
        order=("B",),
    ),
)
