"""The model that the words of a command name, and the parts inside it."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from recjax.alignments import ALIGNMENTS
from recjax.data._names import unknown
from recjax.models import MODELS
from recjax.models.aligned import ENCODERS
from recjax.objectives import OBJECTIVES

PARTS = {
    "--model.objective": OBJECTIVES,
    "--model.alignment": ALIGNMENTS,
    "--model.encoder": ENCODERS,
    "--model.encoder.objective": OBJECTIVES,
}
"""Options that name a part of the model, the outer ones first."""


def take(
    words: Sequence[str], options: Sequence[str]
) -> tuple[dict[str, str], list[str]]:
    """The values of some options, as ``--x value`` or ``--x=value``; the rest."""
    rest: list[str] = []
    chosen: dict[str, str] = {}
    words = list(words)
    while words:
        word = words.pop(0)
        option, equals, value = word.partition("=")
        if option not in options:
            rest.append(word)
            continue
        if not equals:
            if not words or words[0].startswith("-"):
                raise ValueError(f"{option} needs a name")
            value = words.pop(0)
        chosen[option] = value
    return chosen, rest


def named_model(chosen: dict[str, str]) -> Any:
    """The model of that name, with the parts of those names."""
    name = chosen.get("--model", "lightgcn").replace("-", "_")
    if name not in MODELS:
        raise unknown("model", name, MODELS)
    model = MODELS[name]()
    for option, kinds in PARTS.items():
        if option not in chosen:
            continue
        what, part = option.removeprefix("--model."), chosen[option].replace("-", "_")
        if part_of(model, option) is None:
            raise ValueError(f"the model {name} has no {what} to choose")
        if part not in kinds:
            raise unknown(what.rpartition(".")[2], part, kinds)
        model = _replace(model, what.split("."), kinds[part]())
    return model


def part_of(model: Any, option: str) -> Any:
    """What a model has for an option such as ``--model.objective``; None without."""
    for field in option.removeprefix("--model.").split("."):
        model = getattr(model, field, None)
    return model


def _replace(model: Any, path: Sequence[str], part: Any) -> Any:
    """The model with another part, however deep that is."""
    if len(path) > 1:
        part = _replace(getattr(model, path[0]), path[1:], part)
    return dataclasses.replace(model, **{path[0]: part})
