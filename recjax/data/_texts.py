"""What is known of items, as texts."""

import string
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from recjax.data._names import unknown


def item_texts(
    items: pa.Table, fields: Sequence[str] = ("title",), template: str = ""
) -> tuple[list[str], np.ndarray]:
    """A text of each item, from its metadata alone.

    Nothing of any interaction enters: neither of the training part nor of any other.

    Args:
      items: one row an item, as in `recjax.data.Dataset`.
      fields: columns to read, in this order.
      template: the text with ``{FIELD}`` for each of them, such as ``"{title}. Genres:
        {genres}"``; empty for all that are not empty, joined by ``". "``.

    Returns:
      I texts, and ``[I]`` bool, which items have one: those with a field that is not
      empty.  Several values of a field are joined by ``", "``, white space is single.

    Raises:
      ValueError: a field is no column, or the template names another or is malformed.

    Examples:
      >>> items = pa.table({"id": ["1", "2"], "title": ["Alien", None],
      ...                   "genres": [["Horror", "Sci-Fi"], []]})
      >>> item_texts(items, ("title", "genres"))
      (['Alien. Horror, Sci-Fi', ''], array([ True, False]))
      >>> item_texts(items, ("title", "genres"), "{title} ({genres})")[0]
      ['Alien (Horror, Sci-Fi)', '']
    """
    if not fields:
        raise ValueError("a text needs a field, such as title")
    for field in fields:
        if field not in items.column_names:
            raise unknown("item column", field, items.column_names)
    pieces = _pieces(template, fields)
    columns = {field: list(map(_cell, items[field].to_pylist())) for field in fields}
    present = np.zeros(items.num_rows, bool)
    for cells in columns.values():
        present |= np.array(list(map(bool, cells)), bool)
    texts = []
    for row in range(items.num_rows):
        found = {field: columns[field][row] for field in fields}
        if not present[row]:
            texts.append("")
        elif pieces:
            texts.append("".join(text + found.get(field, "") for text, field in pieces))
        else:
            texts.append(". ".join(filter(None, found.values())))
    return texts, present


def _pieces(template: str, fields: Sequence[str]) -> list[tuple[str, str]]:
    """The template as texts, each with the field after it; empty at the end."""
    # Not str.format: {title.__class__} would reach into the program.
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"template {template!r}: {error}") from None
    pieces = []
    for text, field, form, conversion in parsed:
        if field is not None and (field not in fields or form or conversion):
            raise ValueError(
                f"template {template!r} has {{{field}}}, which is none of the fields "
                f"{', '.join(fields)}: give it by --fields, as a plain {{name}}"
            )
        pieces.append((text, field or ""))
    return pieces


def _cell(value: Any) -> str:
    """A cell as text; empty where there is nothing."""
    if value is None or value != value:
        return ""
    if isinstance(value, list):
        return ", ".join(filter(None, map(_cell, value)))
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return " ".join(str(value).split())
