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
