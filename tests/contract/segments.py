"""Rows of reductions over the edges of each receiver."""

import functools

import jraph
import numpy as np

from contract import graphs
from contract.attention import softmax
from contract.table import Case, Mask
from recjax import layers


def make(rng, N, E):
    """Values and receivers; as many of them as there are rows."""
    return {
        "values": rng.normal(size=(E, 2)),
        "receivers": graphs.ends(rng, N, E)["receivers"],
        "where": graphs.some(rng, E),
        "rows": np.arange(N),
    }


def call(reduce, x):
    return reduce(
        x["values"], x["receivers"], num_receivers=len(x["rows"]), where=x["where"]
    )


def by_receiver(reduce, x):
    out = np.zeros((len(x["rows"]), 2))
    for i in range(len(out)):
        mine = x["values"][(x["receivers"] == i) & x["where"]]
        out[i] = reduce(mine, axis=0) if len(mine) else 0
    return out


def shares(x):
    out = np.zeros_like(x["values"])
    for i, column in np.ndindex(len(x["rows"]), 2):
        mine = (x["receivers"] == i) & x["where"]
        if mine.any():
            out[mine, column] = softmax(x["values"][mine, column])
    return out


def row(name, function, reference, in_jraph, out="N"):
    return Case(
        name=name,
        function=function,
        call=functools.partial(call, function),
        make=make,
        sizes=graphs.SIZES,
        axes={"values": "E", "receivers": "E", "where": "E", "rows": "N"},
        out=out,
        reference=reference,
        points={"receivers": "N"},
        jraph=lambda x: in_jraph(x["values"], x["receivers"], len(x["rows"])),
        mask=Mask("where", "E"),
        padding=graphs.PADDING,
        order=("N", "E"),
        large=("values",),
        empty=graphs.EMPTY,
    )


CASES = (
    row(
        "segment_max",
        layers.segment_max,
        functools.partial(by_receiver, np.max),
        lambda *args: jraph.segment_max_or_constant(*args, constant=0.0),
    ),
    row(
        "segment_min",
        layers.segment_min,
        functools.partial(by_receiver, np.min),
        lambda *args: jraph.segment_min_or_constant(*args, constant=0.0),
    ),
    row(
        "segment_mean",
        layers.segment_mean,
        functools.partial(by_receiver, np.mean),
        jraph.segment_mean,
    ),
    row(
        "segment_softmax",
        layers.segment_softmax,
        shares,
        jraph.segment_softmax,
        out="E",
    ),
)
