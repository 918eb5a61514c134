"""Rows of losses: the mean over the rows that count, and the loss of each."""

import functools

import jax.numpy as jnp
import numpy as np

from contract import graphs
from contract.table import Case, Mask
from recjax import losses

M, D = 3, 2


def make(rng, B, **shapes):
    """Normal inputs ``[B, ...]``, and a mask of rows."""
    x = {n: rng.normal(size=(B, *shape)) for n, shape in shapes.items()}
    return x | {"where": graphs.some(rng, B)}


def both(function, *names):
    """The loss of these inputs, reduced and not."""

    def call(x):
        args = [x[name] for name in names]
        return tuple(
            function(*args, where=x["where"], reduce_fn=reduce_fn)
            for reduce_fn in (jnp.mean, None)
        )

    return call


def by_row(loss):
    """A reference from the loss of one row."""

    def reference(x):
        rows = np.zeros(len(x["where"]))
        for b in np.flatnonzero(x["where"]):
            rows[b] = loss(x, b)
        return rows.sum() / max(x["where"].sum(), 1), rows

    return reference


def softplus(x):
    return np.logaddexp(0, x)


def in_batch(x, b):
    scores = (x["scores"][b] - x["log_q"])[x["where"]]
    return np.logaddexp.reduce(scores) - np.log(len(scores)) - x["scores"][b, b]


def in_batch_dots(x, b):
    return in_batch(x | {"scores": x["users"] @ x["items"].T}, b)


def sampled(x, b):
    corrected = x["negatives"][b] - x["log_q"][b] - np.log(M)
    return np.logaddexp.reduce([x["positive"][b], *corrected]) - x["positive"][b]


def batch_l2(x):
    squares = (x["users"] ** 2).sum(1) + (x["negatives"] ** 2).sum((1, 2))
    return squares[x["where"]].sum() / (2 * max(x["where"].sum(), 1))


def cosine(x, y):
    lengths = np.linalg.norm(x, axis=-1) * np.linalg.norm(y, axis=-1)
    return (x * y).sum(-1) / np.where(lengths == 0, 1, lengths)


def distil(x, b):
    return 1 - cosine(x["left"][b], x["right"][b])


def distil_squares(x, b):
    return ((x["left"][b] - x["right"][b]) ** 2).mean()


def info_nce(x, b):
    logits = cosine(x["left"][b][None], x["right"][x["where"]]) / 0.5
    return np.logaddexp.reduce(logits) - cosine(x["left"][b], x["right"][b]) / 0.5


def info_nce_candidates(x, b):
    logits = cosine(x["left"][b][None], x["others"]) / 0.5
    return np.logaddexp.reduce(logits) - cosine(x["left"][b], x["right"][b]) / 0.5


def info_nce_counted(x):
    right = x["left"] + x["shift"]
    if not x["counted"].any():
        return np.zeros(len(right))
    logits = cosine(x["left"][:, None], x["others"][x["counted"]][None]) / 0.5
    return np.logaddexp.reduce(logits, 1) - cosine(x["left"], right) / 0.5


def grace(x, b):
    rest = x["where"] & (np.arange(len(x["where"])) != b)
    same = cosine(x["left"][b][None], x["left"][rest]) / 0.5
    other = cosine(x["left"][b][None], x["right"][x["where"]]) / 0.5
    positive = cosine(x["left"][b], x["right"][b]) / 0.5
    return np.logaddexp.reduce([*same, *other]) - positive


def grace_rows(x):
    rows = [grace(x | {"where": np.ones(8, bool)}, b) for b in x["rows"]]
    return np.mean(rows), np.array(rows)


def uniformity(x):
    rows = x["left"][x["where"]]
    terms = [
        4 * cosine(rows[i], rows[j]) - 4
        for i in range(len(rows))
        for j in range(i + 1, len(rows))
    ]
    return np.log(np.mean(np.exp(terms))) if terms else 0.0


row = functools.partial(
    Case,
    sizes={"B": 8},
    out=("", "B"),
    mask=Mask("where", "B"),
    padding={"B": 2},
    order=("B",),
    empty=({"B": 0}, {"B": 1}),
)

CASES = (
    row(
        name="bpr_loss",
        function=losses.bpr_loss,
        call=both(losses.bpr_loss, "positive", "negatives"),
        make=functools.partial(make, positive=(), negatives=(M,)),
        axes={"positive": "B", "negatives": "B", "where": "B"},
        reference=by_row(
            lambda x, b: softplus(x["negatives"][b] - x["positive"][b]).mean()
        ),
        large=("positive", "negatives"),
    ),
    row(
        name="bce_loss",
        function=losses.bce_loss,
        call=both(losses.bce_loss, "logits", "labels"),
        make=lambda rng, B: make(rng, B, logits=()) | {"labels": rng.integers(0, 2, B)},
        axes={"logits": "B", "labels": "B", "where": "B"},
        reference=by_row(
            lambda x, b: softplus(-x["logits"][b] if x["labels"][b] else x["logits"][b])
        ),
        large=("logits",),
    ),
    row(
        name="full_softmax_loss",
        function=losses.full_softmax_loss,
        call=both(losses.full_softmax_loss, "scores", "items"),
        make=lambda rng, B, num: (
            make(rng, B, scores=(num,)) | {"items": rng.integers(0, num, B)}
        ),
        sizes={"B": 8, "I": 5},
        axes={"scores": "BI", "items": "B", "where": "B"},
        points={"items": "I"},
        reference=by_row(
            lambda x, b: (
                np.logaddexp.reduce(x["scores"][b]) - x["scores"][b, x["items"][b]]
            )
        ),
        order=("B", "I"),
        large=("scores",),
    ),
    row(
        name="in_batch_softmax_loss",
        function=losses.in_batch_softmax_loss,
        call=both(losses.in_batch_softmax_loss, "scores", "log_q"),
        make=lambda rng, B: make(rng, B, scores=(B,), log_q=()),
        axes={"scores": "BB", "log_q": "B", "where": "B"},
        reference=by_row(in_batch),
        large=("scores",),
    ),
    row(
        name="in_batch_dot_softmax_loss",
        function=losses.in_batch_dot_softmax_loss,
        call=both(losses.in_batch_dot_softmax_loss, "users", "items", "log_q"),
        make=functools.partial(make, users=(D,), items=(D,), log_q=()),
        axes={"users": "B", "items": "B", "log_q": "B", "where": "B"},
        reference=by_row(in_batch_dots),
        large=("users",),
        wide=True,
    ),
    row(
        name="sampled_softmax_loss",
        function=losses.sampled_softmax_loss,
        call=both(losses.sampled_softmax_loss, "positive", "negatives", "log_q"),
        make=functools.partial(make, positive=(), negatives=(M,), log_q=(M,)),
        axes={"positive": "B", "negatives": "B", "log_q": "B", "where": "B"},
        reference=by_row(sampled),
        large=("positive", "negatives"),
    ),
    row(
        name="info_nce_loss",
        function=losses.info_nce_loss,
        call=both(
            functools.partial(losses.info_nce_loss, temperature=0.5), "left", "right"
        ),
        make=functools.partial(make, left=(D,), right=(D,)),
        axes={"left": "B", "right": "B", "where": "B"},
        reference=by_row(info_nce),
        large=("left", "right"),
    ),
    row(
        name="info_nce_loss, candidates",
        function=losses.info_nce_loss,
        call=lambda x: both(
            functools.partial(
                losses.info_nce_loss, temperature=0.5, candidates=x["others"]
            ),
            "left",
            "right",
        )(x),
        make=lambda rng, B, num: (
            make(rng, B, left=(D,), right=(D,)) | {"others": rng.normal(size=(num, D))}
        ),
        sizes={"B": 8, "C": 5},
        axes={"left": "B", "right": "B", "others": "C", "where": "B"},
        reference=by_row(info_nce_candidates),
        order=("B", "C"),
        large=("left", "right"),
    ),
    row(
        name="info_nce_loss, candidates that count",
        function=losses.info_nce_loss,
        call=lambda x: losses.info_nce_loss(
            x["left"],
            x["left"] + x["shift"],
            temperature=0.5,
            candidates=x["others"],
            counted=x["counted"],
            reduce_fn=None,
        ),
        make=lambda rng, B, num: {
            "left": rng.normal(size=(B, D)),
            "shift": rng.normal(size=(B, D)),
            "others": rng.normal(size=(num, D)),
            "counted": graphs.some(rng, num),
        },
        sizes={"B": 8, "C": 6},
        axes={"left": "B", "shift": "B", "others": "C", "counted": "C"},
        out="B",
        reference=info_nce_counted,
        mask=Mask("counted", "C"),
        padding={"C": 2},
        order=("B", "C"),
        large=("left", "shift"),
        empty=({"B": 0}, {"C": 1}),
    ),
    row(
        name="grace_loss",
        function=losses.grace_loss,
        call=both(
            functools.partial(losses.grace_loss, temperature=0.5), "left", "right"
        ),
        make=functools.partial(make, left=(D,), right=(D,)),
        axes={"left": "B", "right": "B", "where": "B"},
        reference=by_row(grace),
        large=("left", "right"),
    ),
    Case(
        name="grace_loss, rows",
        function=losses.grace_loss,
        call=lambda x: tuple(
            losses.grace_loss(
                x["left"],
                x["right"],
                temperature=0.5,
                rows=x["rows"],
                reduce_fn=reduce_fn,
            )
            for reduce_fn in (jnp.mean, None)
        ),
        make=lambda rng, N, R: {
            "left": rng.normal(size=(N, D)),
            "right": rng.normal(size=(N, D)),
            "rows": rng.integers(0, N, R),
        },
        sizes={"N": 8, "R": 5},
        axes={"left": "N", "right": "N", "rows": "R"},
        points={"rows": "N"},
        out=("", "R"),
        reference=grace_rows,
        order=("N", "R"),
        large=("left", "right"),
        empty="a mean over no rows is none",
    ),
    row(
        name="alignment_loss",
        function=losses.alignment_loss,
        call=both(losses.alignment_loss, "left", "right"),
        make=functools.partial(make, left=(D,), right=(D,)),
        axes={"left": "B", "right": "B", "where": "B"},
        reference=by_row(lambda x, b: 2 - 2 * cosine(x["left"][b], x["right"][b])),
        large=("left", "right"),
    ),
    *(
        row(
            name=f"distillation_loss, {distance}",
            function=losses.distillation_loss,
            call=both(
                functools.partial(losses.distillation_loss, distance=distance),
                "left",
                "right",
            ),
            # Of whole numbers: the teacher has no derivative.
            make=lambda rng, B: (
                make(rng, B, left=(D,)) | {"right": rng.integers(-3, 4, (B, D))}
            ),
            axes={"left": "B", "right": "B", "where": "B"},
            reference=by_row(reference),
            large=("left",),
        )
        for distance, reference in (("cosine", distil), ("mse", distil_squares))
    ),
    row(
        name="uniformity_loss",
        function=losses.uniformity_loss,
        call=lambda x: losses.uniformity_loss(x["left"], where=x["where"]),
        make=functools.partial(make, left=(D,)),
        axes={"left": "B", "where": "B"},
        out="",
        reference=uniformity,
        large="directions count, not lengths: values agree but for a rounding of 0",
    ),
    row(
        name="batch_l2_loss",
        function=losses.batch_l2_loss,
        call=lambda x: losses.batch_l2_loss(
            x["users"], x["negatives"], where=x["where"]
        ),
        make=functools.partial(make, users=(D,), negatives=(M, D)),
        axes={"users": "B", "negatives": "B", "where": "B"},
        out="",
        reference=batch_l2,
        large=("users", "negatives"),
    ),
    Case(
        name="table_l2_loss",
        function=losses.table_l2_loss,
        call=lambda x: losses.table_l2_loss(x["users"], x["items"]),
        make=lambda rng, *sizes: {
            n: rng.normal(size=(num, D))
            for n, num in zip(("users", "items"), sizes, strict=True)
        },
        sizes={"U": 8, "I": 4},
        axes={"users": "U", "items": "I"},
        out="",
        reference=lambda x: (x["users"] ** 2).sum() + (x["items"] ** 2).sum(),
        padding="every row of a table counts",
        order=("U", "I"),
        large=("users", "items"),
        empty=({"U": 0, "I": 0},),
        wide=True,
    ),
)
