"""Configuration as JSON: frozen dataclasses there and back, by their class names."""

import dataclasses
from collections.abc import Iterable
from typing import Any


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as a dict of JSON values, with its class name under ``"type"``.

    Args:
      config: a dataclass whose fields are JSON values or dataclasses.

    Returns:
      The dict.

    Examples:
      >>> from recjax.models import MF
      >>> from recjax.objectives import BPR
      >>> to_dict(MF(dim=8, objective=BPR()))["objective"]
      {'type': 'BPR', 'num_negatives': 1}
    """
    out: dict[str, Any] = {"type": type(config).__name__}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        out[field.name] = to_dict(value) if dataclasses.is_dataclass(value) else value
    return out


def from_dict(data: dict[str, Any], types: Iterable[type]) -> Any:
    """The dataclass that `to_dict` made.

    Args:
      data: the dict; left as it is.
      types: classes that may occur in it; no other is made.

    Returns:
      The dataclass.

    Raises:
      ValueError: a class or a field is not known (a run of another version).

    Examples:
      >>> from recjax.models import MF
      >>> from recjax.objectives import BCE, BPR
      >>> from_dict(to_dict(MF(objective=BCE())), (MF, BCE, BPR)).objective
      BCE(num_negatives=1)
    """
    known = {one.__name__: one for one in types}
    name = data.get("type")
    if name not in known:
        raise ValueError(f"no class {name!r}; known are {sorted(known)}")
    fields = {field.name for field in dataclasses.fields(known[name])}
    unknown = data.keys() - fields - {"type"}
    if unknown:
        raise ValueError(f"{name} has no field {sorted(unknown)}; it has {fields}")
    values = {
        key: from_dict(value, known.values())
        if isinstance(value, dict) and "type" in value
        else tuple(value)
        if isinstance(value, list)
        else value
        for key, value in data.items()
        if key != "type"
    }
    return known[name](**values)


def wrong_kind(config: Any) -> str | None:
    """What is wrong with the first field that is no value of its default's kind.

    Args:
      config: a dataclass.

    Returns:
      A phrase; None where nothing is.

    Examples:
      >>> from recjax.models import MF
      >>> wrong_kind(MF(dim="8"))
      "dim is '8', a int before"
    """
    for field in dataclasses.fields(config):
        value, default = getattr(config, field.name), field.default
        if dataclasses.is_dataclass(value):
            if (wrong := wrong_kind(value)) is not None:
                return wrong
        elif isinstance(default, bool | int | float | str):
            kinds = (float, int) if isinstance(default, float) else (type(default),)
            if type(value) not in kinds:
                return f"{field.name} is {value!r}, a {type(default).__name__} before"
        elif dataclasses.is_dataclass(default):
            return f"{field.name} is {value!r}"
    return None


def differences(run: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    """What a run has and what is asked of it, where that is not the same.

    Args:
      run: from `to_dict`.
      asked: likewise.

    Returns:
      A phrase for each difference.

    Examples:
      >>> differences({"type": "MF", "dim": 8}, {"type": "MF", "dim": 4})
      ['dim 8 where 4 is asked']
    """
    if run.get("type") != asked.get("type"):
        return [f"{run['type']!r} where {asked['type']!r} is asked"]
    lines = []
    for name in sorted(run.keys() | asked.keys()):
        old, new = run.get(name), asked.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            lines += differences(old, new)
        elif old != new:
            lines.append(f"{name} {old!r} where {new!r} is asked")
    return lines
