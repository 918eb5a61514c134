"""Typed edges: behaviours, attributes, knowledge and social links in one graph."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from recjax.data._names import unknown
from recjax.graphs import Normalisation, relation_graph
from recjax.lists import distinct, item_lists
from recjax.sampling import make_negative_table
from recjax.types import Context, Feature, Interactions, Spec

# Edges keep ages as int32: 68 years in seconds.
_OLDEST = 2**31


class Triples(NamedTuple):
    """Facts (head, relation, tail) between the nodes of a graph.

    Attributes:
      heads: ``[m]`` int64 nodes: users, then items, then nodes of their own.
      relations: ``[m]`` int64 position in ``names``.
      tails: ``[m]`` int64 nodes.
      names: of the relations.
      nodes: names of the A nodes of their own, such as ``"genres=Comedy"``.
    """

    heads: np.ndarray
    relations: np.ndarray
    tails: np.ndarray
    names: tuple[str, ...]
    nodes: tuple[str, ...] = ()


def make_relation_context(
    train: Interactions,
    spec: Spec,
    *,
    names: Sequence[str],
    behaviours: Sequence[str] = (),
    target: str | None = None,
    weights: Mapping[str, float] | None = None,
    triples: Triples | None = None,
    features: dict[str, Feature] | None = None,
    normalisation: Normalisation = "symmetric",
    negative_power: float = 0.0,
    now: int | None = None,
) -> tuple[Spec, Context]:
    """Moves training data of several behaviours to the device, once.

    The edges of the graph hold ``weight``, ``relation``, ``count`` (how many rows), and
    for rows with times or values ``age`` (int32 seconds before ``now``, 0 for triples)
    and ``value``, of the last of them.  Training pairs are the distinct ones of each
    behaviour.

    Args:
      train: training interactions; its relations are positions in ``names``, and where
        it has none all are of ``names[0]``.
      spec: sizes of the dataset.
      names: of all behaviours of the dataset.
      behaviours: those whose rows count, in the order of their relations; the target
        joins them, and is moved to the end.  None given: all.
      target: the behaviour that lists are made for; None for the last.
      weights: of an edge, before normalisation, by name of its relation; 1 for others.
      triples: edges of other relations, from `recjax.data.graph_triples`.
      features: item feature tables by name.
      normalisation: of the graph's weights, see `recjax.graphs.make_graph`.
      negative_power: see `recjax.data.make_context`.
      now: the moment at which lists are made, in the times' unit; None for that of the
        latest row.

    Returns:
      The spec, with the names of the relations and the number of nodes, and the
      context.

    Raises:
      ValueError: a name is unknown, a behaviour has no row, a row is later than
        ``now``, a value is negative or no number, or an id is outside the spec.

    Examples:
      >>> import numpy as np
      >>> train = Interactions(
      ...     np.array([0, 0, 1]), np.array([0, 1, 1]), relations=np.array([1, 0, 0])
      ... )
      >>> spec, context = make_relation_context(
      ...     train, Spec(2, 2), names=("buy", "view"), target="buy"
      ... )
      >>> spec.relations, context.relations.tolist(), context.seen.items.tolist()
      (('view', 'buy'), [0, 1, 1], [1, 1])
    """
    chosen = _order(names, behaviours, target)
    rows, codes = _rows_of(train, names, chosen)
    _check_values(rows)
    num_users, num_items = spec.num_users, spec.num_items
    item_lists(rows.users, rows.items, num_users)  # Checks the ids.
    if rows.items.max() >= num_items:
        raise ValueError(
            f"item ids run to {rows.items.max()}, outside 0 to {num_items - 1}"
        )
    if triples is None:
        none = np.zeros(0, np.int64)
        triples = Triples(none, none, none, ())
    relations = (*chosen, *triples.names)
    if len(set(relations)) < len(relations):
        twice = next(name for name in relations if relations.count(name) > 1)
        raise ValueError(f"two relations are called {twice!r}; rename one of them")
    for name in weights or {}:
        if name not in relations:
            raise unknown("relation", name, relations)
    spec = spec._replace(
        num_attributes=len(triples.nodes),
        relations=relations,
        num_behaviours=len(chosen),
    )
    graph = _graph(rows, codes, spec, triples, weights or {}, normalisation, now)
    key = (rows.users.astype(np.int64) * num_items + rows.items) * len(chosen) + codes
    pairs, kinds = np.divmod(distinct(key), len(chosen))
    users, items = (x.astype(np.int32) for x in np.divmod(pairs, num_items))
    of_target = kinds == len(chosen) - 1
    counts = np.bincount(items, minlength=num_items).astype(np.float32)
    fields: dict[str, Any] = dict(
        graph=graph,
        users=users,
        items=items,
        seen=item_lists(users[of_target], items[of_target], num_users),
        item_counts=counts,
        negatives=make_negative_table(
            item_lists(users, items, num_users), counts, power=negative_power
        ),
        features={name: Feature(*table) for name, table in (features or {}).items()},
        relations=kinds.astype(np.int32),
    )
    return spec, jax.device_put(Context(**fields))


def _order(
    names: Sequence[str], behaviours: Sequence[str], target: str | None
) -> tuple[str, ...]:
    """The behaviours that count, the target last."""
    for name in (*behaviours, *(() if target is None else (target,))):
        if name not in names:
            raise unknown("behaviour", name, names)
    chosen = tuple(dict.fromkeys(behaviours or names))
    last = target or chosen[-1]
    return (*(name for name in chosen if name != last), last)


def _rows_of(
    train: Interactions, names: Sequence[str], chosen: Sequence[str]
) -> tuple[Interactions, np.ndarray]:
    """The rows of the chosen behaviours, and the place of each among these."""
    of_name = np.full(len(names), -1)
    for place, name in enumerate(chosen):
        of_name[list(names).index(name)] = place
    if train.relations is None:
        codes = np.full(train.num_rows, of_name[0])
    else:
        codes = of_name[train.relations]
    rows, codes = train.take(codes >= 0), codes[codes >= 0]
    counts = np.bincount(codes, minlength=len(chosen))
    if not counts.all():
        empty = ", ".join(
            repr(name) for name, n in zip(chosen, counts, strict=True) if not n
        )
        raise ValueError(
            f"no training row of the behaviour {empty}: leave it out, or look at what "
            f"the others have ({dict(zip(chosen, counts.tolist(), strict=True))})"
        )
    return rows, codes


def _check_values(rows: Interactions) -> None:
    if rows.values is None:
        return
    wrong = ~(np.isfinite(rows.values) & (rows.values >= 0))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"{wrong.sum()} of {len(wrong)} values of behaviours are negative or no "
            f"number, the first is {rows.values[row]} (user {rows.users[row]}, item "
            f"{rows.items[row]}): leave such rows out, by min_value=0 in cleaning"
        )


def _ages(times: np.ndarray, now: int | None) -> np.ndarray:
    """Seconds before now, int32."""
    latest = int(times.max())
    now = latest if now is None else now
    if latest > now:
        raise ValueError(
            f"{np.sum(times > now)} of {len(times)} rows are later than now ({now}), "
            f"the last at {latest}: leave them out, by before={now + 1} in cleaning"
        )
    ages = now - times.astype(np.int64)
    if ages.max() >= _OLDEST:
        raise ValueError(
            f"times run from {times.min()} to {now}, more than 68 years of seconds: "
            "give unix seconds, not milliseconds"
        )
    return ages.astype(np.int32)


def _graph(
    rows: Interactions,
    codes: np.ndarray,
    spec: Spec,
    triples: Triples,
    weights: Mapping[str, float],
    normalisation: Normalisation,
    now: int | None,
) -> Any:
    """The graph of the rows and the triples."""
    more = len(triples.heads)
    relation = np.concatenate([codes, triples.relations + spec.num_behaviours])
    columns: dict[str, np.ndarray] = {}
    # The latest of several rows is the last of them, and the one that stays.
    order = np.arange(rows.num_rows)
    if rows.times is not None:
        order = np.argsort(rows.times, kind="stable")
        columns["age"] = _ages(rows.times, now)
    if rows.values is not None:
        columns["value"] = rows.values.astype(np.float32)
    relation[: rows.num_rows] = codes[order]
    of_relation = np.array([weights.get(name, 1.0) for name in spec.relations])
    return relation_graph(
        (
            np.concatenate([rows.users[order].astype(np.int64), triples.heads]),
            relation,
            np.concatenate(
                [rows.items[order].astype(np.int64) + spec.num_users, triples.tails]
            ),
        ),
        num_nodes=spec.num_users + spec.num_items + spec.num_attributes,
        num_relations=len(spec.relations),
        weight=of_relation[relation],
        features={
            name: np.concatenate([column[order], np.zeros(more, column.dtype)])
            for name, column in columns.items()
        },
        normalisation=normalisation,
    )
