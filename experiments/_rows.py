"""What a table of an experiment is to hold: rows, data and protocol."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from recjax.data import Split
from recjax.models import MODELS
from recjax.training import Training


class Row(NamedTuple):
    """One line of a table.

    Attributes:
      model: a model; closed forms are solved once, whatever the number of seeds.
      training: its settings; None for closed forms.  The seed is that of the run.
      note: what the reader should know, such as where published figures come from.
      grid: settings that are compared on valid, with one seed, before the best of them
        is trained: changes of the model's fields (``"objective.temperature"`` is one
        of a field of a field) and of ``"learning_rate"``, all of one structure.  A
        model that is trained has them all in one program, see
        `recjax.training.study`: they must then be scalars that it computes with.
      tried: settings that were tried on valid before, by hand.
      published: metrics by name that a paper reports, None where there are none.
      curve: the first shown metric on test by epoch that a paper reports; ours is
        looked at after the same epochs, and chooses nothing.  Where a table retrains,
        a row with a curve is trained for the epochs of its recipe, once.
      behaviours: those whose rows are edges and training pairs, the target last; none
        for rows of the target alone.
      features: item features that the model is given; all that there are, if none is
        named.
    """

    model: Any
    training: Training | None = None
    note: str = ""
    grid: Sequence[Mapping[str, float]] = ()
    tried: int = 0
    published: Mapping[str, float] | None = None
    curve: Mapping[int, float] | None = None
    behaviours: tuple[str, ...] = ()
    features: tuple[str, ...] = ()


class Table(NamedTuple):
    """What an experiment runs.

    Attributes:
      dataset: its name below ``--data-dir``.
      rows: by name.
      split: how rows are held out, where the source does not say.
      attributes: item columns whose values become nodes of the graph.
      ks: cutoffs.
      metrics: that are reported; `recjax.evaluation.METRICS`.
      shown: columns of the rendered table.
      retrain: train once more on the training and the validation part together, for
        as many epochs as the seeds chose on average, before the test.
      claimed: the row that is compared with all others, see `experiments._compare`.
    """

    dataset: str
    rows: Mapping[str, Row]
    split: Split = Split()
    attributes: tuple[str, ...] = ()
    ks: tuple[int, ...] = (10, 20)
    metrics: tuple[str, ...] = ("recall", "ndcg", "precision")
    shown: tuple[str, ...] = ("recall@20", "ndcg@20")
    retrain: bool = False
    claimed: str | None = None


def row_of(
    name: str,
    training: Training | None = None,
    published: Sequence[float] = (),
    *,
    note: str = "",
    grid: Sequence[Mapping[str, float]] = (),
    tried: int = 0,
    curve: Mapping[int, float] | None = None,
    behaviours: Sequence[str] = (),
    features: Sequence[str] = (),
    **settings: Any,
) -> Row:
    """A row by the name of its model.

    Args:
      name: in `recjax.models.MODELS`.
      training: see `Row`, as are note, grid, tried and curve.
      published: Recall@20, and NDCG@20.
      note: see `Row`.
      grid: see `Row`.
      tried: see `Row`.
      curve: see `Row`.
      behaviours: see `Row`.
      features: see `Row`.
      **settings: of the model.

    Returns:
      The row.
    """
    figures = dict(zip(("recall@20", "ndcg@20"), published, strict=False)) or None
    model, names = MODELS[name](**settings), (tuple(behaviours), tuple(features))
    return Row(model, training, note, grid, tried, figures, curve, *names)


def product(**values: Sequence[Any]) -> list[dict[str, Any]]:
    """All combinations of some values, as a `Row.grid`.

    Args:
      values: of each setting; ``__`` in a name stands for a dot.

    Returns:
      The settings.

    Examples:
      >>> product(l2=(0.1, 0.2), objective__temperature=(0.5,))
      [{'l2': 0.1, 'objective.temperature': 0.5}, {'l2': 0.2, ...}]
    """
    names = [name.replace("__", ".") for name in values]
    return [
        dict(zip(names, chosen, strict=True))
        for chosen in itertools.product(*values.values())
    ]


def configured(model: Any, setting: Mapping[str, float]) -> Any:
    """A model with some of its numbers changed.

    Args:
      model: a frozen dataclass.
      setting: see `Row.grid`; the learning rate is not the model's.

    Returns:
      The model.

    Examples:
      >>> from recjax.models import LightGCN
      >>> from recjax.objectives import Softmax
      >>> model = LightGCN(objective=Softmax())
      >>> model = configured(model, {"l2": 0.5, "objective.temperature": 0.25})
      >>> model.l2, model.objective.temperature
      (0.5, 0.25)
    """
    for name, value in setting.items():
        if name == "learning_rate":
            continue
        field, _, rest = name.partition(".")
        if rest:
            value = configured(getattr(model, field), {rest: value})
        model = dataclasses.replace(model, **{field: value})
    return model


def settings_of(row: Row, seed: int, **changes: Any) -> Training:
    """The settings of one training of a row."""
    return dataclasses.replace(row.training or Training(), seed=seed, **changes)
