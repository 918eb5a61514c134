"""Rows of fusions: four modalities, of which some nodes lack some and all lack one."""

import dataclasses
import functools

import numpy as np

from contract import graphs
from contract.attention import softmax
from contract.convolution import dense, relu
from contract.table import Case, Mask
from recjax import layers

D = 3
NAMES = ("audio", "image", "text")
ABSENT = "video"
WIDTHS = {"audio": 2, "image": 4, "text": 3, ABSENT: 2}
SAME = dict.fromkeys(WIDTHS, D)


@dataclasses.dataclass(frozen=True)
class Lacking(Mask):
    """The masks of modalities; what is removed is a modality that no node has."""

    def fill(self, case, x, held):
        filled = {
            m: np.where(x[self.name][m][:, None], values, held)
            for m, values in x["modalities"].items()
        }
        return x | {"modalities": filled}

    def hidden(self, case, x, grads):
        return {m: g[~x[self.name][m]] for m, g in grads["modalities"].items()}

    def remove(self, case, x):
        return x | {
            name: {m: part for m, part in x[name].items() if m != ABSENT}
            for name in ("modalities", self.name)
        }

    def restrict(self, case, x, results):
        grads = results["grads"]
        kept = {m: grad for m, grad in grads["modalities"].items() if m != ABSENT}
        return results | {"grads": grads | {"modalities": kept}}


def make(rng, N, widths, init):
    """Row r lacks the modalities whose bit of r is 0: all patterns, 0 the empty one."""
    present = {m: (np.arange(N) >> bit) % 2 == 1 for bit, m in enumerate(NAMES)}
    return {
        "params": graphs.parameters(rng, init) if init else {},
        "modalities": {m: rng.normal(size=(N, width)) for m, width in widths.items()},
        "present": present | {ABSENT: np.zeros(N, bool)},
    }


def by_node(fuse):
    """A reference from what one node has, a dictionary that is not empty."""

    def reference(x):
        out = np.zeros((len(x["present"]["text"]), D))
        for r in range(len(out)):
            rows = {m: v[r] for m, v in x["modalities"].items() if x["present"][m][r]}
            if rows:
                out[r] = fuse(x["params"], rows)
        return out

    return reference


def row(name, function, fuse, init, widths=WIDTHS, **rest):
    """A row of a fusion by parameters, of which `fuse` is the reference at a node."""
    return Case(
        **{
            "name": name,
            "function": function,
            "call": lambda x: function(x["params"], x["modalities"], x["present"]),
            "make": functools.partial(make, widths=widths, init=init),
            "sizes": {"N": 8},
            "axes": {"params": "", "modalities": "N", "present": "N"},
            "out": "N",
            "reference": by_node(fuse) if fuse else None,
            "mask": Lacking("present", "N", covers=("modalities",)),
            "padding": {"N": 2},
            "order": ("N",),
            "large": ("modalities", "params"),
            "empty": ({"N": 0}, {"N": 1}),
            **rest,
        }
    )


def sigmoid(x):
    return np.exp(-np.logaddexp(0, -x))


def dense_row(x, params):
    return x @ params["kernel"] + params["bias"]


def concat(params, rows):
    return sum(rows[m] @ params["kernels"][m] for m in rows) + params["bias"]


def gated(params, rows):
    return sum(
        sigmoid(dense_row(x, params[m]["gate"])) * (x @ params[m]["value"]["kernel"])
        for m, x in rows.items()
    )


def bilinear(params, rows):
    factors = [x @ params["factors"][m] for m, x in rows.items()]
    return np.prod(factors, axis=0) @ params["kernel"]


def attention(params, rows):
    logits = [np.tanh(dense_row(x, params)) @ params["query"] for x in rows.values()]
    return softmax(np.array(logits)) @ np.array(list(rows.values()))


def common(x):
    """MGCN's fusion, whose gates are opened by the content of the node."""
    params = x["params"]

    def fuse(x_, r):
        shared = attention(params["attention"], x_)
        out = shared.copy()
        for m, values in x_.items():
            gate = dense_row(x["content"][r], params["gates"][m])
            out += (values - shared) * sigmoid(gate)
        return out / (len(x_) + 1)

    out = np.zeros_like(x["content"])
    for r in range(len(out)):
        rows = {m: v[r] for m, v in x["modalities"].items() if x["present"][m][r]}
        out[r] = fuse(rows, r) if rows else 0
    return out


def experts(params, rows):
    out = np.zeros(D)
    for m, x in rows.items():
        groups = [params.get("shared"), params.get("specific", {}).get(m)]
        found = []
        for group in filter(None, groups):
            for e in range(len(group["first"]["bias"])):
                first, second = (
                    {n: part[e] for n, part in group[k].items()}
                    for k in ("first", "second")
                )
                found.append(dense_row(relu(dense_row(x, first)), second))
        out += softmax(dense_row(x, params["gates"][m])) @ np.array(found)
    return out


def weighted(params, rows):
    return sum(params[m] * x for m, x in rows.items())


def weighted_mean(params, rows):
    return weighted(params, rows) / sum(params[m] for m in rows)


def init_experts(num_shared, num_specific, widths):
    return lambda key: layers.init_fuse_experts(
        key, widths, D, hidden=4, num_shared=num_shared, num_specific=num_specific
    )


def make_weights(rng, N):
    weights = {m: np.asarray(0.5 + rng.random()) for m in WIDTHS}
    return make(rng, N, SAME, None) | {"params": weights}


def make_common(rng, N):
    x = make(rng, N, SAME, lambda key: layers.init_fuse_common(key, WIDTHS, D, 4))
    return x | {"content": rng.normal(size=(N, D))}


def film(x):
    gamma, beta = (dense(x["condition"], x["params"][n]) for n in ("gamma", "beta"))
    return np.where(x["present"][:, None], gamma * x["nodes"] + beta, x["nodes"])


def mlp(x):
    h = dense(x["nodes"], x["params"]["layer0"])
    for name in ("layer1", "layer2"):
        h = dense(np.where(h > 0, h, 0.01 * h), x["params"][name])
    return h


CASES = (
    row(
        "fuse_sum",
        layers.fuse_sum,
        None,
        None,
        call=lambda x: (
            layers.fuse_sum(x["modalities"], x["params"], x["present"]),
            layers.fuse_sum(x["modalities"], x["params"], x["present"], normalise=True),
        ),
        make=make_weights,
        out=("N", "N"),
        reference=lambda x: (by_node(weighted)(x), by_node(weighted_mean)(x)),
    ),
    row(
        "fuse_mean",
        layers.fuse_mean,
        lambda params, rows: sum(rows.values()) / len(rows),
        None,
        widths=SAME,
        call=lambda x: layers.fuse_mean(x["modalities"], x["present"]),
        large=("modalities",),
    ),
    row(
        "fuse_concat",
        layers.fuse_concat,
        concat,
        lambda key: layers.init_fuse_concat(key, WIDTHS, D),
    ),
    row(
        "fuse_gated",
        layers.fuse_gated,
        gated,
        lambda key: layers.init_fuse_gated(key, WIDTHS, D),
    ),
    row(
        "fuse_bilinear",
        layers.fuse_bilinear,
        bilinear,
        lambda key: layers.init_fuse_bilinear(key, WIDTHS, D, rank=4),
        large=("modalities",),
    ),
    row(
        "fuse_attention",
        layers.fuse_attention,
        attention,
        lambda key: layers.init_fuse_attention(key, D, 4),
        widths=SAME,
    ),
    row(
        "fuse_common",
        layers.fuse_common,
        None,
        None,
        call=lambda x: layers.fuse_common(
            x["params"], x["modalities"], x["content"], x["present"]
        ),
        make=make_common,
        axes={"params": "", "modalities": "N", "present": "N", "content": "N"},
        reference=common,
    ),
    row(
        "fuse_experts, shared and specific",
        layers.fuse_experts,
        experts,
        init_experts(2, 1, SAME),
        widths=SAME,
    ),
    row(
        "fuse_experts, specific",
        layers.fuse_experts,
        experts,
        init_experts(0, 2, WIDTHS),
    ),
    Case(
        name="film",
        function=layers.film,
        call=lambda x: layers.film(
            x["params"], x["nodes"], x["condition"], x["present"]
        ),
        make=lambda rng, N: {
            "params": graphs.parameters(rng, lambda key: layers.init_film(key, 2, D)),
            "nodes": rng.normal(size=(N, D)),
            "condition": rng.normal(size=(N, 2)),
            "present": graphs.some(rng, N),
        },
        sizes={"N": 8},
        axes={"params": "", "nodes": "N", "condition": "N", "present": "N"},
        out="N",
        reference=film,
        mask="without a condition a node stays as it is; see layers/test_fusion.py",
        padding={"N": 2},
        order=("N",),
        large=("nodes", "condition"),
        empty=({"N": 0}, {"N": 1}),
    ),
    Case(
        name="mlp",
        function=layers.mlp,
        call=lambda x: layers.mlp(x["params"], x["nodes"]),
        make=lambda rng, N: {
            "params": graphs.parameters(
                rng, lambda key: layers.init_mlp(key, 4, 3, 2, D)
            ),
            "nodes": rng.normal(size=(N, 4)),
        },
        sizes={"N": 8},
        axes={"params": "", "nodes": "N"},
        out="N",
        reference=mlp,
        order=("N",),
        large="its result grows with its input",
        empty=({"N": 0}, {"N": 1}),
        bfloat16=2**-5,  # three products with a matrix
    ),
)
