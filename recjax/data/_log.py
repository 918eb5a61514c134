"""The interaction log: what every reader returns and every cleaning step maps."""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from recjax.types import Feature, Interactions


class Step(NamedTuple):
    """One step of reading or cleaning, with its count.

    Attributes:
      name: what was done, such as ``"drop malformed rows"``.
      before: rows before the step.
      after: rows after it.
      detail: anything else worth showing; JSON values only.
    """

    name: str
    before: int
    after: int
    detail: dict[str, Any] = {}  # noqa: RUF012 - never mutated


class Log(NamedTuple):
    """Interactions of one source with everything known about its users and items.

    Attributes:
      interactions: n rows; users and items are positions in the two tables below.
      users: one row a user; column ``id`` (string) first, then metadata columns.
      items: one row an item; column ``id`` (string) first, then metadata columns
        (``title`` where there is one; a column of several values is a list column).
      parts: ``[n]`` int8 position in ``part_names`` where the source brings its own
        split, else None.
      part_names: names of the given parts, such as ``("train", "valid", "test")``.
      relation_names: names of the behaviours; empty for one unnamed behaviour.
      features: item feature tables, aligned with ``items``.
      report: the steps that led here.
      triples: facts (head, relation, tail), knowledge or social links, as text columns
        ``head_kind``, ``head``, ``relation``, ``tail_kind``, ``tail``; a kind is
        ``user``, ``item`` or ``entity``.  None where there are none.
    """

    interactions: Interactions
    users: pa.Table
    items: pa.Table
    parts: np.ndarray | None = None
    part_names: tuple[str, ...] = ()
    relation_names: tuple[str, ...] = ()
    features: dict[str, Feature] = {}  # noqa: RUF012 - never mutated
    report: tuple[Step, ...] = ()
    triples: pa.Table | None = None
