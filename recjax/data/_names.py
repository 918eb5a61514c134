"""Names that users type: the nearest valid ones, parts, and the target behaviour."""

import difflib
from collections.abc import Iterable

PARTS = ("train", "valid", "test")

_PART_WORDS = {
    "train": 0,
    "training": 0,
    "0": 0,
    "valid": 1,
    "validation": 1,
    "val": 1,
    "dev": 1,
    "1": 1,
    "test": 2,
    "testing": 2,
    "2": 2,
}


def unknown(
    what: str, name: str, valid: Iterable[str], unlisted: Iterable[str] = ()
) -> ValueError:
    """The error for a name that is not there, with the nearest ones that are.

    Names in `unlisted` are offered where they are near, but not listed.
    """
    valid = list(valid)
    if not valid:
        return ValueError(f"no {what} {shown(name)} (there are none)")
    folded = {v.casefold(): v for v in (*valid, *unlisted)}
    near = difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.5)
    hint = (
        f"; did you mean {' or '.join(repr(folded[v]) for v in near)}?" if near else ""
    )
    listed = ", ".join(valid)
    return ValueError(f"no {what} {shown(name)}{hint} (there are: {listed})")


def shown(text: str, width: int = 80) -> str:
    """The text in quotes, without its end where it is long."""
    return repr(shorten(text, width))


def shorten(text: str, width: int = 200) -> str:
    """The text without its end where it is long."""
    return text if len(text) <= width else text[: width - 3] + "..."


def part_code(word: str) -> int | None:
    """Position in `PARTS` of what a file calls a part; None for any other word."""
    return _PART_WORDS.get(word.strip().casefold().removesuffix(".0"))


def pick_target(relations: tuple[str, ...], target: str | None) -> int:
    """Position of the target behaviour: the named one, else ``buy``, else the last."""
    if target is None:
        return relations.index("buy") if "buy" in relations else len(relations) - 1
    if target not in relations:
        raise unknown("target behaviour", target, relations)
    return relations.index(target)
