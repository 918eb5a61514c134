"""Knowledge triples and social links: facts that stand beside the interactions."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from recjax.data._arrow import pc
from recjax.data._columns import short
from recjax.data._csv import csv_table
from recjax.data._log import Log, Step

_WHAT = {3: "head, relation, tail", 2: "two ids"}

SOCIAL = "social"
"""The relation of links between users that have no other name."""


def read_atomic_triples(log: Log, inter: Path) -> Log:
    """RecBole's ``X.kg`` with ``X.link``, and ``X.net``, where they are beside ``X``.

    An entity that the link file gives an item is that item; without a link file, one
    with the id of an item is.

    Args:
      log: of the interaction file.
      inter: the interaction file.

    Returns:
      The log with its triples.

    Raises:
      ValueError: a file cannot be read or lacks a column; the message names it.
    """
    knowledge, link, net = (inter.with_suffix(f".{x}") for x in ("kg", "link", "net"))
    if link.is_file() and not knowledge.is_file():
        raise ValueError(
            f"{link}: there is no {knowledge.name} whose entities it links"
        )
    if knowledge.is_file():
        log = read_triples(log, knowledge, link if link.is_file() else None)
    return read_social(log, net) if net.is_file() else log


def read_triples(log: Log, path: Path, link: Path | None = None) -> Log:
    """Adds triples (head, relation, tail) of a table with these three columns.

    Heads and tails that are no item of the log are things of their own, and no triple
    is lost: what is said about them may lead from one item to another.

    Args:
      log: whose items the triples are about.
      path: the table, tab-separated where it ends in ``.kg`` or ``.tsv``.
      link: a table of items and their entities; None where entities have items' ids.

    Returns:
      The log with the triples added, and a step in its report.

    Raises:
      ValueError: a table cannot be read, has other columns, or an entity is linked to
        two items.
    """
    columns, bad = _columns(path, 3)
    items = log.items["id"].combine_chunks()
    report = list(log.report)
    if link is None:
        entities = ids = items
    else:
        (ids, entities), bad_links = _columns(link, 2)
        known = pc.is_in(ids, items)
        unknown = len(ids) - int(pc.sum(known).as_py() or 0)
        detail = {"source": link.name, "wrong or empty": bad_links, "unknown": unknown}
        step = Step("read links to items", len(ids), len(ids) - unknown, detail)
        report.append(step)
        ids, entities = ids.filter(known), entities.filter(known)
        twice = pc.filter(*_counts(entities))
        if len(twice):
            raise ValueError(
                f"{link}: entity {twice[0].as_py()!r} is linked to more than one item"
            )

    def end(column: pa.Array) -> tuple[pa.Array, pa.Array]:
        place = pc.index_in(column, value_set=entities)
        kind = pc.if_else(place.is_valid(), "item", "entity")
        return kind, pc.coalesce(ids.take(place), column)

    head, relation, tail = columns
    (head_kind, head), (tail_kind, tail) = end(head), end(tail)
    detail = {
        "source": path.name,
        "wrong or empty": bad,
        "heads that are no item": int(pc.sum(pc.equal(head_kind, "entity")).as_py()),
    }
    report.append(Step("read triples", len(head) + bad, len(head), detail))
    table = _table(head_kind, head, relation, tail_kind, tail)
    return _with(log._replace(report=tuple(report)), table)


def read_social(log: Log, path: Path) -> Log:
    """Adds links from one user to another, of a table with these two columns.

    A third column, where there is one, names the relation of each.  Users without
    interactions are nodes of the graph all the same: friends meet through them.

    Args:
      log: whose users are linked.
      path: the table.

    Returns:
      The log with the triples added, and a step in its report.

    Raises:
      ValueError: the table cannot be read, or has other columns.
    """
    columns, bad = _columns(path, 2, 3)
    head, tail, *rest = columns
    relation = rest[0] if rest else pa.array([SOCIAL] * len(head), pa.string())
    users = log.users["id"].combine_chunks()
    ends = pa.concat_arrays([head, tail])
    strange = int(pc.sum(pc.invert(pc.is_in(ends, users))).as_py() or 0)
    detail = {"source": path.name, "wrong or empty": bad, "ends without rows": strange}
    step = Step("read links of users", len(head) + bad, len(head), detail)
    kind = pa.array(["user"] * len(head), pa.string())
    table = _table(kind, head, relation, kind, tail)
    return _with(log._replace(report=(*log.report, step)), table)


def _columns(path: Path, *numbers: int) -> tuple[list[pa.Array], int]:
    """The columns of a table as text, and how many rows were wrong or had a gap."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    delimiter = "\t" if path.suffix in (".kg", ".link", ".net", ".tsv") else None
    table, malformed = csv_table(path, delimiter=delimiter, quoted=delimiter is None)
    names = [short(name) for name in table.column_names]
    if len(names) not in numbers:
        wanted = " or ".join(map(str, numbers))
        raise ValueError(
            f"{path}: expected {wanted} columns ({_WHAT[numbers[0]]}), got "
            f"{', '.join(names)}"
        )
    before = table.num_rows
    table = table.drop_null()
    columns = [column.combine_chunks() for column in table.columns]
    if not table.num_rows:
        raise ValueError(f"{path}: no row of it has all of {', '.join(names)}")
    return columns, malformed + before - table.num_rows


def _counts(column: pa.Array) -> tuple[pa.Array, pa.Array]:
    """The distinct values, and whether there are several of each."""
    counted = pc.value_counts(column)
    return counted.field("values"), pc.greater(counted.field("counts"), 1)


def _table(*columns: pa.Array) -> pa.Table:
    names: Sequence[str] = ("head_kind", "head", "relation", "tail_kind", "tail")
    return pa.table(dict(zip(names, columns, strict=True)))


def _with(log: Log, table: pa.Table) -> Log:
    """The log with more triples."""
    old = [] if log.triples is None else [log.triples]
    return log._replace(triples=pa.concat_tables([*old, table]).combine_chunks())
