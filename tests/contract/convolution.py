"""Rows of propagation and of graph convolutions."""

import functools
import itertools

import jax
import jraph
import numpy as np

from contract import graphs
from contract.graphs import graph, jraph_sum, matrix
from contract.table import Case, Mask
from recjax import layers
from recjax.types import ItemLists

F, D = 4, 2


def make(rng, N, E, init=None, **more):
    """Nodes and weighted edges, and parameters where there are any."""
    x = {"nodes": rng.normal(size=(N, F))} | graphs.edges(rng, N, E) | more
    return x if init is None else x | {"params": graphs.parameters(rng, init)}


row = functools.partial(
    Case,
    sizes=graphs.SIZES,
    axes={**graphs.AXES, "params": ""},
    out="N",
    points=graphs.POINTS,
    layout=("senders", "receivers"),
    mask=Mask("weight", "E"),
    padding=graphs.PADDING,
    order=("N", "E"),
    large=("nodes",),
    empty=graphs.EMPTY,
)


def relu(x):
    return x * (x > 0)


def dense(x, params):
    return x @ params["kernel"] + params["bias"][None]


# These take the sum over neighbours, by a dense matrix or by jraph, and keep to what
# NumPy and JAX write alike.


def matrix_sum(x, nodes):
    return matrix(x) @ nodes


def powers(x, total=matrix_sum):
    first = total(x, x["nodes"])
    return [x["nodes"], first, total(x, first)]


def combined(x, total=matrix_sum):
    found = powers(x, total)
    weighted = sum(c * h for c, h in zip(x["combine"], found, strict=True))
    return sum(found) / 3, weighted


def some_rows(x, total=matrix_sum):
    return (sum(powers(x, total)) / 3)[x["rows"]]


def noise(key, rows, width):
    """Uniform numbers of these rows, divided by their length: in NumPy, by the row."""
    out = np.zeros((len(rows), width))
    words = jax.random.bits(key, (2,), np.uint32)
    own = jax.random.wrap_key_data(words, impl="threefry2x32")
    for b, row in enumerate(rows):
        start, step = map(int, jax.random.key_data(jax.random.fold_in(own, row)))
        words = []
        for count in range(1, (width + 1) // 2 + 1):
            word = (start + count * (step | 1)) % 2**32
            word = (word ^ word >> 16) * 0x85EBCA6B % 2**32
            word = (word ^ word >> 13) * 0xC2B2AE35 % 2**32
            words.append(word ^ word >> 16)
        halves = [w % 2**16 for w in words] + [w >> 16 for w in words]
        out[b] = np.array(halves[:width]) + 0.5
    return out / np.sqrt((out**2).sum(1, keepdims=True))


def moved(x):
    key = jax.random.key(5)
    found = noise(key, x["rows"], F), noise(key, range(len(x["nodes"])), F)
    return tuple(x["nodes"] + 0.7 * np.sign(x["nodes"]) * n for n in found)


def noisy_rows(x):
    layer, found = x["nodes"], []
    for key in jax.random.split(jax.random.key(5), 3):
        shift = noise(key, range(len(layer)), F)
        layer = layer + 0.7 * np.sign(layer) * shift
        found.append(layer[x["rows"]])
        layer = matrix_sum(x, layer)
    return found


def pagerank(x, total=matrix_sum):
    out, a = x["nodes"], x["restart"]
    for _ in range(2):
        out = (1 - a) * total(x, out) + a * x["nodes"]
    return out


def normalised(x, total=matrix_sum):
    layer, found, c = x["nodes"], 0, x["share"]
    for _ in range(2):
        length = (layer**2).sum(1, keepdims=True) ** 0.5
        layer = total(x, layer / (length + (length == 0)))
        found = found + layer / 2
    return c * x["nodes"] + (1 - c) * found


def message_passing(x, total=matrix_sum):
    params = x["params"]
    received = total(x, x["nodes"]) @ params["neighbour"]["kernel"]
    return relu(dense(x["nodes"], params["self"]) + received)


def gcn(x, total=matrix_sum):
    return relu(dense(total(x, x["nodes"]), x["params"]))


def gin(x, total=matrix_sum):
    params = x["params"]
    received = (1 + params["epsilon"]) * x["nodes"] + total(x, x["nodes"])
    return dense(relu(dense(received, params["first"])), params["second"])


def ngcf(x, total=matrix_sum):
    params, received = x["params"], total(x, x["nodes"])
    out = dense(x["nodes"] + received, params["sum"])
    out = out + (x["nodes"] * received) @ params["product"]["kernel"]
    return out * (0.2 + 0.8 * (out > 0))


def along_edges(x, nodes, reduce):
    """The mean or the maximum over the edges whose weight is not 0."""
    out = np.zeros_like(nodes)
    for i in range(len(nodes)):
        sent = nodes[x["senders"][(x["receivers"] == i) & (x["weight"] != 0)]]
        out[i] = reduce(sent, axis=0) if len(sent) else 0
    return out


def along_edges_by_jraph(x, nodes, reduce):
    convolve = jraph.GraphConvolution(
        lambda nodes: nodes,
        {np.mean: jraph.segment_mean, np.max: jraph.segment_max_or_constant}[reduce],
        symmetric_normalization=False,
    )
    return convolve(graph(x)._replace(nodes=nodes)).nodes


def sage(x, aggregate=along_edges):
    params = x["params"]
    if "pool" in params:
        received = aggregate(x, relu(dense(x["nodes"], params["pool"])), np.max)
    else:
        received = aggregate(x, x["nodes"], np.mean)
    own = dense(x["nodes"], params["self"])
    return relu(own + received @ params["neighbour"]["kernel"])


def newcomer(x):
    out = np.zeros((len(x["pointer"]) - 1, x["items"].shape[1]))
    for b, (start, stop) in enumerate(itertools.pairwise(x["pointer"])):
        for i in x["entries"][start:stop]:
            out[b] += x["items"][i] / np.sqrt((stop - start) * max(x["degrees"][i], 1))
    return out


def summed(reference):
    """The reference, and the same by jraph."""
    by_jraph = functools.partial(reference, total=jraph_sum)
    return {"reference": reference, "jraph": by_jraph}


def init(function, *widths, **more):
    """What makes inputs with the parameters of an `init_*` function."""
    return functools.partial(make, init=lambda key: function(key, *widths, **more))


CASES = (
    row(
        name="propagate",
        function=layers.propagate,
        call=lambda x: tuple(
            layers.propagate(graph(x), x["nodes"], depth=2, combine=combine)
            for combine in ("mean", x["combine"])
        ),
        make=lambda rng, *sizes: make(rng, *sizes, combine=rng.normal(size=3)),
        axes={**graphs.AXES, "combine": ""},
        out=("N", "N"),
        **summed(combined),
        bfloat16=2**-5,  # two sums, the first of them rounded
    ),
    row(
        name="propagate_layers",
        function=layers.propagate_layers,
        call=lambda x: layers.propagate_layers(graph(x), x["nodes"], depth=2),
        make=make,
        axes=graphs.AXES,
        out=["N", "N", "N"],
        **summed(powers),
    ),
    row(
        name="propagate_rows",
        function=layers.propagate_rows,
        call=lambda x: layers.propagate_rows(graph(x), x["nodes"], x["rows"], depth=2),
        make=lambda rng, N, E, B: make(rng, N, E, rows=rng.integers(0, max(N, 1), B)),
        sizes={**graphs.SIZES, "B": 6},
        axes={**graphs.AXES, "rows": "B"},
        out="B",
        points={**graphs.POINTS, "rows": "N"},
        **summed(some_rows),
        order=("N", "E", "B"),
        empty=({"N": 1, "E": 0, "B": 1}, {"N": 0, "E": 0, "B": 0}),
    ),
    Case(
        name="perturb",
        function=layers.perturb,
        call=lambda x: tuple(
            layers.perturb(jax.random.key(5), x["nodes"], size=0.7, rows=rows)
            for rows in (x["rows"], None)
        ),
        make=lambda rng, B: {
            "nodes": rng.normal(size=(B, F)),
            "rows": rng.integers(0, 99, B),
        },
        sizes={"B": 8},
        axes={"nodes": "B", "rows": "B"},
        out=("B", "B"),
        reference=moved,
        order="without ids, the noise of a row goes by its place",
        large=("nodes",),
        empty=({"B": 0}, {"B": 1}),
    ),
    row(
        name="propagate_noisy_rows",
        function=layers.propagate_noisy_rows,
        call=lambda x: layers.propagate_noisy_rows(
            jax.random.key(5), graph(x), x["nodes"], x["rows"], depth=2, size=0.7
        ),
        make=lambda rng, N, E, B: make(rng, N, E, rows=rng.integers(0, max(N, 1), B)),
        sizes={**graphs.SIZES, "B": 6},
        axes={**graphs.AXES, "rows": "B"},
        out=["B", "B", "B"],
        points={**graphs.POINTS, "rows": "N"},
        reference=noisy_rows,
        order=("E", "B"),
        bfloat16="what is near 0 may change its sign, and with it that of its noise",
        empty=({"N": 1, "E": 0, "B": 1}, {"N": 0, "E": 0, "B": 0}),
    ),
    row(
        name="personalised_pagerank",
        function=layers.personalised_pagerank,
        call=lambda x: layers.personalised_pagerank(
            graph(x), x["nodes"], depth=2, restart=x["restart"]
        ),
        make=lambda rng, *sizes: make(rng, *sizes, restart=np.asarray(rng.random())),
        axes={**graphs.AXES, "restart": ""},
        **summed(pagerank),
    ),
    row(
        name="propagate_normalised",
        function=layers.propagate_normalised,
        call=lambda x: layers.propagate_normalised(
            graph(x), x["nodes"], depth=2, self_weight=x["share"]
        ),
        make=lambda rng, *sizes: make(rng, *sizes, share=np.asarray(rng.random())),
        axes={**graphs.AXES, "share": ""},
        **summed(normalised),
    ),
    row(
        name="message_passing",
        function=layers.message_passing,
        call=lambda x: layers.message_passing(x["params"], graph(x), x["nodes"]),
        make=init(layers.init_message_passing, F, D),
        **summed(message_passing),
    ),
    row(
        name="gcn",
        function=layers.gcn,
        call=lambda x: layers.gcn(x["params"], graph(x), x["nodes"]),
        make=init(layers.init_gcn, F, D),
        **summed(gcn),
    ),
    row(
        name="gin",
        function=layers.gin,
        call=lambda x: layers.gin(x["params"], graph(x), x["nodes"]),
        make=init(layers.init_gin, F, D, hidden=4),
        **summed(gin),
        bfloat16=2**-5,  # two products with a matrix
    ),
    row(
        name="ngcf",
        function=layers.ngcf,
        call=lambda x: layers.ngcf(x["params"], graph(x), x["nodes"]),
        make=init(layers.init_ngcf, F, D),
        **summed(ngcf),
    ),
    row(
        name="graph_sage, mean",
        function=layers.graph_sage,
        call=lambda x: layers.graph_sage(x["params"], graph(x), x["nodes"]),
        make=init(layers.init_graph_sage, F, D),
        reference=sage,
        jraph=functools.partial(sage, aggregate=along_edges_by_jraph),
    ),
    row(
        name="graph_sage, max",
        function=layers.graph_sage,
        call=lambda x: layers.graph_sage(
            x["params"], graph(x), x["nodes"], aggregate="max"
        ),
        make=init(layers.init_graph_sage, F, D, width_pool=4),
        reference=sage,
        jraph=functools.partial(sage, aggregate=along_edges_by_jraph),
    ),
    Case(
        name="newcomer_sum",
        function=layers.newcomer_sum,
        call=lambda x: layers.newcomer_sum(
            x["items"], x["degrees"], ItemLists(x["pointer"], x["entries"])
        ),
        make=lambda rng, num, n: {
            "items": rng.normal(size=(num, F)),
            "degrees": rng.integers(0, 5, num) * 1.0,
            "pointer": np.array([0, 0, n // 3, n, n]),  # the first and last are empty
            "entries": rng.integers(0, num, n),
        },
        sizes={"I": 8, "n": 24},
        axes={"items": "I", "degrees": "I", "pointer": "", "entries": "n"},
        out="",
        reference=newcomer,
        points={"entries": "I"},
        mask="lists hold what counts and nothing else",
        padding={"I": 2},
        order=("I",),
        large=("items",),
        empty=({"n": 0},),
    ),
    Case(
        name="unit_length",
        function=layers.unit_length,
        call=lambda x: layers.unit_length(x["nodes"]),
        make=lambda rng, N: {"nodes": rng.normal(size=(N, F))},
        sizes={"N": 8},
        axes={"nodes": "N"},
        out="N",
        reference=lambda x: (
            x["nodes"] / np.linalg.norm(x["nodes"], axis=1, keepdims=True)
        ),
        padding="its rows are apart: order says so",
        order=("N",),
        large=("nodes",),
        empty=({"N": 0}, {"N": 1}),
    ),
)
