"""From columns and stored facts to triples between the nodes of a graph."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from recjax.data._arrow import pc
from recjax.data._dataset import Dataset
from recjax.data._names import unknown
from recjax.data.graph import attribute_pairs
from recjax.data.relations import Triples, make_relation_context
from recjax.types import Context, Spec

UNNAMED = "interaction"
"""What the behaviour of a dataset is called that has one without a name."""
ALL = "all"
_OF_USERS = "user."


def relation_names(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    """What can become edges of a dataset's graph, by where it is.

    Args:
      dataset: any.

    Returns:
      Names of ``behaviours``, of relations of stored ``triples``, of ``items``' columns
      and, as ``"user.COLUMN"``, of ``users``' columns.
    """
    stored = () if dataset.triples is None else dataset.triples["relation"].unique()
    return {
        "behaviours": dataset.relation_names or (UNNAMED,),
        "triples": tuple(sorted(str(name) for name in stored)),
        "items": tuple(dataset.items.column_names[1:]),
        "users": tuple(_OF_USERS + name for name in dataset.users.column_names[1:]),
    }


def split_relations(
    dataset: Dataset, relations: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names that people give, as behaviours and other relations.

    Args:
      dataset: where they are.
      relations: names; ``"all"`` is all behaviours and all stored triples.

    Returns:
      The behaviours, and the others.

    Raises:
      ValueError: a name is unknown; names the nearest ones.
    """
    found = relation_names(dataset)
    behaviours, stored = found["behaviours"], found["triples"]
    given = [
        name
        for one in relations
        for name in ((*behaviours, *stored) if one == ALL else (one,))
    ]
    known = [name for names in found.values() for name in names]
    for name in given:
        if name not in known:
            raise unknown("relation", name, known, (ALL,))
    given = list(dict.fromkeys(given))
    return (
        tuple(name for name in given if name in behaviours),
        tuple(name for name in given if name not in behaviours),
    )


def graph_triples(dataset: Dataset, relations: Sequence[str]) -> Triples:
    """The triples of some relations, between nodes of the graph.

    Users are nodes 0 to U - 1 and items U to U + I - 1.  Every distinct value of a
    column, and everything in stored triples that is neither a user nor an item of the
    dataset, is a node of its own after these: no triple is lost.

    Args:
      dataset: with its tables, and stored triples perhaps.
      relations: names of item columns, of user columns (``"user.COLUMN"``) and of
        relations of stored triples.

    Returns:
      The triples.

    Raises:
      ValueError: a relation is unknown, or is both a column and a stored relation.

    Examples:
      >>> import pyarrow as pa
      >>> from recjax.types import Spec
      >>> dataset = Dataset(
      ...     spec=Spec(1, 2), name="tiny", parts={}, users=pa.table({"id": ["ann"]}),
      ...     items=pa.table({"id": ["m1", "m2"], "genre": ["drama", "drama"]}),
      ... )
      >>> triples = graph_triples(dataset, ("genre",))
      >>> triples.heads.tolist(), triples.tails.tolist(), triples.nodes
      ([1, 2], [3, 3], ('genre=drama',))
    """
    known = relation_names(dataset)
    base = dataset.spec.num_users + dataset.spec.num_items
    nodes: list[str] = []
    pieces = []
    for place, name in enumerate(relations):
        places = [
            where for where in ("triples", "items", "users") if name in known[where]
        ]
        if len(places) > 1:
            raise ValueError(
                f"relation {name!r} is a column and a relation of stored triples: "
                "rename one of them"
            )
        if not places:
            rest = [x for where in ("triples", "items", "users") for x in known[where]]
            raise unknown("relation", name, rest)
        if places == ["triples"]:
            continue
        is_item = places == ["items"]
        column = name if is_item else name.removeprefix(_OF_USERS)
        table = dataset.items if is_item else dataset.users
        (rows, values), names = attribute_pairs(table, (column,))
        heads = rows.astype(np.int64) + (dataset.spec.num_users if is_item else 0)
        tails = values.astype(np.int64) + base + len(nodes)
        pieces.append((heads, np.full(len(heads), place), tails))
        nodes += names if is_item else [_OF_USERS + text for text in names]
    stored = [name for name in relations if name in known["triples"]]
    if stored:
        assert dataset.triples is not None
        table = dataset.triples.filter(
            pc.is_in(dataset.triples["relation"], pa.array(stored))
        )
        ends = pa.concat_tables(
            [
                table.select([f"{end}_kind", end]).rename_columns(["kind", "id"])
                for end in ("head", "tail")
            ]
        )
        found, entities = _nodes_of(dataset, ends, base + len(nodes))
        heads, tails = np.split(found, 2)
        codes = pc.index_in(table["relation"], pa.array(list(relations)))
        pieces.append((heads, codes.to_numpy().astype(np.int64), tails))
        nodes += entities
    none = np.zeros(0, np.int64)
    columns = zip(*pieces, strict=True) if pieces else ((none,), (none,), (none,))
    heads, codes, tails = (np.concatenate(parts) for parts in columns)
    return Triples(heads, codes, tails, tuple(relations), tuple(nodes))


def dataset_relations(
    dataset: Dataset, relations: Sequence[str], *, negative_power: float = 0.0
) -> tuple[Spec, Context]:
    """The context of a dataset's training part with typed edges.

    Args:
      dataset: with its train part loaded.
      relations: names of behaviours and other relations, see `split_relations`; without
        a behaviour the target's rows are taken.
      negative_power: see `recjax.data.make_context`.

    Returns:
      The spec and the context of `recjax.data.make_relation_context`.

    Raises:
      ValueError: a relation is unknown, or a behaviour has no row.
    """
    behaviours, rest = split_relations(dataset, relations)
    names = relation_names(dataset)["behaviours"]
    return make_relation_context(
        dataset.part("train"),
        dataset.spec,
        names=names,
        behaviours=behaviours or (dataset.target or names[0],),
        target=dataset.target,
        triples=graph_triples(dataset, rest),
        features=dataset.features,
        negative_power=negative_power,
    )


def _nodes_of(
    dataset: Dataset, ends: pa.Table, base: int
) -> tuple[np.ndarray, list[str]]:
    """Nodes ``[m]`` of ends (kind, id), and names of those that are new, from base."""
    found = np.full(ends.num_rows, -1, np.int64)
    for kind, table, first in (
        ("user", dataset.users, 0),
        ("item", dataset.items, dataset.spec.num_users),
    ):
        places = pc.index_in(ends["id"], value_set=table["id"].combine_chunks())
        ours = pc.and_(pc.equal(ends["kind"], kind), places.is_valid()).to_numpy()
        found[ours] = places.fill_null(0).to_numpy()[ours] + first
    rest = found < 0
    left = ends.filter(pa.array(rest))
    texts = pc.binary_join_element_wise(left["kind"], left["id"], ":")
    codes = texts.combine_chunks().dictionary_encode()
    found[rest] = codes.indices.to_numpy(zero_copy_only=False) + base
    return found, codes.dictionary.to_pylist()
