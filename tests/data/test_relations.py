"""Typed edges from data: behaviours, attributes, knowledge and social links."""

import numpy as np
import pyarrow as pa
import pytest

from recjax.data import (
    Dataset,
    Split,
    dataset_relations,
    graph_triples,
    load,
    make_relation_context,
    prepare,
    read,
    relation_names,
)
from recjax.types import Interactions, Spec

NAMES = ("view", "cart", "buy")
SPEC = Spec(3, 4)
TRAIN = Interactions(
    users=np.array([0, 0, 0, 1, 1, 2, 0], np.int32),
    items=np.array([0, 1, 1, 1, 2, 3, 0], np.int32),
    times=np.array([10, 20, 30, 5, 40, 50, 60]),
    relations=np.array([0, 0, 2, 0, 2, 1, 0], np.int32),
)


def made(train=TRAIN, **settings):
    settings = {"names": NAMES, "target": "buy"} | settings
    return make_relation_context(train, SPEC, **settings)


def test_pairs_are_of_all_behaviours_and_the_mask_of_the_target():
    spec, context = made()
    assert spec.relations == NAMES and spec.num_behaviours == 3
    found = zip(
        *(np.asarray(x) for x in (context.users, context.items, context.relations)),
        strict=True,
    )
    # (0, 0, view) was there twice.
    assert list(found) == [
        (0, 0, 0), (0, 1, 0), (0, 1, 2), (1, 1, 0), (1, 2, 2), (2, 3, 1)
    ]  # fmt: skip
    assert context.seen.pointer.tolist() == [0, 1, 2, 2]
    assert context.seen.items.tolist() == [1, 2]
    assert context.item_counts.tolist() == [1, 3, 1, 1]
    # No behaviour of a user gives a negative of that user.
    assert context.negatives.seen.items.tolist() == [0, 1, 1, 2, 3]


def test_edges_hold_relation_count_and_the_age_of_the_latest():
    _, context = made()
    edges, graph = context.graph.edges, context.graph
    of_first = (graph.senders == 0) & (graph.receivers == 3)
    assert np.asarray(edges["relation"])[of_first].tolist() == [0]
    assert np.asarray(edges["count"])[of_first].tolist() == [2]
    assert np.asarray(edges["age"])[of_first].tolist() == [0]
    assert int(np.max(edges["age"])) == 60 - 5


def test_the_target_comes_last_and_others_are_left_out():
    spec, context = made(behaviours=("buy", "view"))
    assert spec.relations == ("view", "buy")
    assert context.users.shape == (5,)
    assert context.graph.n_edge.tolist() == [10]
    spec, _ = made(behaviours=("cart",))
    assert spec.relations == ("cart", "buy")


def test_weights_are_those_of_the_relations():
    _, context = made(weights={"buy": 3.0}, normalisation="none")
    weight = np.asarray(context.graph.edges["weight"])
    buys = np.asarray(context.graph.edges["relation"]) // 2 == 2
    assert set(weight[buys]) == {3.0} and set(weight[~buys]) == {1.0}


def test_rows_without_relations_are_one_behaviour():
    train = TRAIN._replace(relations=None)
    spec, context = make_relation_context(train, SPEC, names=("click",))
    assert spec.relations == ("click",)
    assert set(np.asarray(context.relations).tolist()) == {0}


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"behaviours": ("veiw",)}, "no behaviour 'veiw'; did you mean 'view'"),
        ({"target": "bye"}, "no behaviour 'bye'; did you mean 'buy'"),
        ({"weights": {"carts": 2.0}}, "no relation 'carts'; did you mean 'cart'"),
        ({"weights": {"cart": -2.0}}, "of at least 0"),
        ({"now": 45}, r"2 of 7 rows are later than now \(45\), the last at 60"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        made(**changes)


@pytest.mark.parametrize("value", [-1.0, np.nan])
def test_counts_are_not_negative(value):
    values = np.array([1, 1, value, 1, 1, 1, 1], np.float32)
    with pytest.raises(ValueError, match=r"1 of 7 values .* \(user 0, item 1\)"):
        made(TRAIN._replace(values=values))


def test_a_behaviour_without_rows_is_named():
    empty = TRAIN.take(TRAIN.relations != 1)
    with pytest.raises(ValueError, match="no training row of the behaviour 'cart'"):
        made(empty)
    spec, _ = made(empty, behaviours=("view",))
    assert spec.relations == ("view", "buy")


def test_times_in_milliseconds_are_refused():
    times = TRAIN.times + np.arange(7) * 10**12
    with pytest.raises(ValueError, match="not milliseconds"):
        made(TRAIN._replace(times=times))


def test_ids_must_be_of_the_dataset():
    with pytest.raises(ValueError, match="item ids run to 9"):
        made(TRAIN._replace(items=TRAIN.items + 6))


@pytest.fixture
def folder(tmp_path):
    """RecBole's files, with knowledge and friends."""
    files = {
        "inter": ["user_id:token\titem_id:token\ttimestamp:float"]
        + [f"u{u}\ti{i}\t{10 * u + i}" for u in range(4) for i in range(u, u + 3)],
        "item": ["item_id:token\tgenre:token_seq", "i0\tdrama", "i1\tdrama comedy"],
        "user": ["user_id:token\tage:token", "u0\t20s", "u1\t30s"],
        "kg": [
            "head_id:token\trelation_id:token\ttail_id:token",
            "e0\tdirected_by\tann",
            "e1\tdirected_by\tann",
            "ann\tmarried_to\tbob",
            "e7\tdirected_by\tbob",
            "\tdirected_by\tbob",
        ],
        "link": ["item_id:token\tentity_id:token", "i0\te0", "i1\te1", "i9\te9"],
        "net": ["source_id:token\ttarget_id:token", "u0\tu1", "u1\tu3", "u0\tu8"],
    }
    for suffix, lines in files.items():
        (tmp_path / f"toy.{suffix}").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_atomic_knowledge_and_links_are_prepared_with_nothing_lost(folder, tmp_path):
    path = prepare(folder, tmp_path / "out", split_by=Split("leave_one_out"))
    data = load(path)
    assert relation_names(data) == {
        "behaviours": ("interaction",),
        "triples": ("directed_by", "married_to", "social"),
        "items": ("genre",),
        "users": ("user.age",),
    }
    triples = graph_triples(data, ("directed_by", "social", "married_to"))
    names = [*data.users["id"].to_pylist(), *data.items["id"].to_pylist()]
    names += triples.nodes
    found = {
        (names[h], triples.names[r], names[t])
        for h, r, t in zip(triples.heads, triples.relations, triples.tails, strict=True)
    }
    assert found == {
        ("i0", "directed_by", "entity:ann"),
        ("i1", "directed_by", "entity:ann"),
        ("entity:ann", "married_to", "entity:bob"),
        ("entity:e7", "directed_by", "entity:bob"),
        ("u0", "social", "u1"),
        ("u1", "social", "u3"),
        ("u0", "social", "user:u8"),
    }
    steps = {step.name: step for step in read(folder).report}
    assert steps["read triples"].detail["heads that are no item"] == 2
    assert steps["read triples"].detail["wrong or empty"] == 1
    assert steps["read links to items"].detail["unknown"] == 1
    assert steps["read links of users"].detail["ends without rows"] == 1


def test_all_relations_and_columns_come_into_one_graph(folder, tmp_path):
    data = load(prepare(folder, tmp_path / "out", split_by=Split("leave_one_out")))
    spec, context = dataset_relations(data, ("all", "genre", "user.age"))
    assert spec.relations == (
        "interaction", "directed_by", "married_to", "social", "genre", "user.age"
    )  # fmt: skip
    # ann, bob, e7, u8; drama and comedy; two ages.
    assert spec.num_attributes == 8
    counts = np.bincount(np.asarray(context.graph.edges["relation"]) // 2)
    assert counts.tolist() == [2 * 4, 2 * 3, 2, 2 * 3, 2 * 3, 2 * 2]
    columns = graph_triples(data, ("genre", "user.age"))
    users, items = data.users["id"].to_pylist(), data.items["id"].to_pylist()
    names = [*users, *items, *columns.nodes]
    found = {(names[h], names[t]) for h, t in zip(*columns[::2][:2], strict=True)}
    assert found == {
        ("i0", "genre=drama"),
        ("i1", "genre=drama"),
        ("i1", "genre=comedy"),
        ("u0", "user.age=20s"),
        ("u1", "user.age=30s"),
    }
    with pytest.raises(ValueError, match="no relation 'genres'; did you mean 'genre'"):
        dataset_relations(data, ("genres",))


def test_tables_of_facts_and_friends_join_any_source(tmp_path):
    (tmp_path / "rows.csv").write_text("user,item\na,x\nb,y\n")
    (tmp_path / "facts.csv").write_text("head,relation,tail\nx,by,ann\nann,knows,y\n")
    (tmp_path / "friends.csv").write_text("a,b,how\na,b,follows\n")
    log = read(
        tmp_path / "rows.csv",
        triples_file=tmp_path / "facts.csv",
        links_file=tmp_path / "friends.csv",
    )
    assert log.triples.to_pydict() == {
        "head_kind": ["item", "entity", "user"],
        "head": ["x", "ann", "a"],
        "relation": ["by", "knows", "follows"],
        "tail_kind": ["entity", "item", "user"],
        "tail": ["ann", "y", "b"],
    }
    with pytest.raises(ValueError, match="expected 3 columns"):
        read(tmp_path / "rows.csv", triples_file=tmp_path / "rows.csv")
    with pytest.raises(ValueError, match="no such file"):
        read(tmp_path / "rows.csv", links_file=tmp_path / "gone.csv")


def test_an_entity_of_two_items_is_refused(folder):
    (folder / "toy.link").write_text("item_id:token\tentity_id:token\ni0\te\ni1\te\n")
    with pytest.raises(ValueError, match="'e' is linked to more than one item"):
        read(folder)


def test_a_column_of_many_values_loses_none():
    size = 100_000
    items = pa.table(
        {
            "id": [f"i{n}" for n in range(size)],
            "seller": [f"s{n}" for n in range(size)],
        }
    )
    dataset = Dataset(Spec(1, size), "big", {}, pa.table({"id": ["u"]}), items)
    triples = graph_triples(dataset, ("seller",))
    assert len(triples.nodes) == size == len(set(triples.nodes))
    np.testing.assert_array_equal(triples.heads, 1 + np.arange(size))
    assert triples.nodes[triples.tails[77] - 1 - size] == "seller=s77"


def test_a_name_for_two_things_is_refused(folder):
    path = folder / "toy.kg"
    path.write_text(path.read_text() + "e0\tgenre\tdrama\n")
    data = load(prepare(folder, folder / "out", split_by=Split("leave_one_out")))
    with pytest.raises(ValueError, match="'genre' is a column and a relation"):
        graph_triples(data, ("genre",))


def test_hidden_pairs_tell_nothing_and_are_not_lost(tmp_path):
    lines = ["user,item,time,behavior"]
    for user in "abc":
        for time, item in enumerate("wxyz"):
            lines += [f"{user},{item},{time},view", f"{user},{item},{time},buy"]
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    for hide, views in ((False, 12), (True, 6)):
        by = Split("leave_one_out", hide_pairs=hide)
        path = prepare(tmp_path / "rows.csv", tmp_path / f"{hide}", split_by=by)
        data = load(path, ("train", "valid", "test"))
        train = data.part("train")
        view = data.relation_names.index("view")
        assert np.sum(train.relations == view) == views
        for part in ("valid", "test"):
            assert data.part(part).num_rows == 3  # The target's rows alone.
            if hide:
                pairs = set(zip(train.users, train.items, strict=True))
                held = zip(data.part(part).users, data.part(part).items, strict=True)
                assert not pairs & set(held)
