"""Typed edges: two for each triple, one of each kind, features beside them."""

import numpy as np
import pytest

from recjax.graphs import relation_graph

RNG = np.random.default_rng(0)
HEADS, TAILS = RNG.integers(0, 5, 40), RNG.integers(5, 12, 40)
KINDS = RNG.integers(0, 3, 40)
AGES = np.arange(40)


def made(**settings):
    return relation_graph(
        (HEADS, KINDS, TAILS), num_nodes=12, num_relations=3, **settings
    )


def test_edges_are_the_distinct_triples_and_their_reverses():
    graph = made()
    triples = set(zip(HEADS, KINDS, TAILS, strict=True))
    expected = {(h, t, 2 * r) for h, r, t in triples}
    expected |= {(t, h, 2 * r + 1) for h, r, t in triples}
    relation = graph.edges["relation"]
    found = list(zip(graph.senders, graph.receivers, relation, strict=True))
    assert len(found) == len(expected) and set(found) == expected
    by_receiver = np.lexsort((relation, graph.senders, graph.receivers))
    np.testing.assert_array_equal(by_receiver, np.arange(len(found)))


def test_counts_and_features_are_those_of_the_triple():
    graph = made(features={"age": AGES})
    for sender, receiver, relation, count, age in zip(
        graph.senders,
        graph.receivers,
        graph.edges["relation"],
        graph.edges["count"],
        graph.edges["age"],
        strict=True,
    ):
        ends = (sender, receiver) if relation % 2 == 0 else (receiver, sender)
        same = (ends[0] == HEADS) & (ends[1] == TAILS) & (relation // 2 == KINDS)
        assert count == same.sum()
        assert age == AGES[same].max()  # The last of them.


def test_weights_are_normalised_by_what_a_node_receives():
    of_kind = np.array([1.0, 2.0, 5.0])
    graph = made(weight=of_kind[KINDS])
    raw = of_kind[graph.edges["relation"] // 2]
    degree = np.bincount(graph.receivers, raw, minlength=12)
    expected = raw / np.sqrt(degree[graph.receivers] * degree[graph.senders])
    np.testing.assert_allclose(graph.edges["weight"], expected, rtol=1e-6)


def test_the_reverse_of_an_edge_is_of_the_same_triple():
    graph = made(weight=np.array([1.0, 2.0, 5.0])[KINDS])
    reverse = graph.globals["layout"].reverse
    np.testing.assert_array_equal(graph.senders[reverse], graph.receivers)
    relation = graph.edges["relation"]
    np.testing.assert_array_equal(relation[reverse], relation ^ 1)


def test_two_who_follow_one_another_unlike_make_no_symmetric_graph():
    triples = np.array([0, 1]), np.array([0, 0]), np.array([1, 0])
    weight = np.array([1.0, 3.0])
    settings = {"num_nodes": 2, "num_relations": 1, "normalisation": "none"}
    graph = relation_graph(triples, weight=weight, **settings)
    assert graph.edges["relation"].tolist() == [0, 1, 0, 1]
    assert graph.edges["weight"].tolist() == [3.0, 1.0, 1.0, 3.0]
    assert graph.globals["layout"].reverse is None
    alike = relation_graph(triples, **settings)
    assert alike.globals["layout"].reverse is not None


def test_no_triple_makes_no_edge():
    none = np.zeros(0, np.int64)
    graph = relation_graph((none, none, none), num_nodes=3, num_relations=2)
    assert graph.n_node.tolist() == [3] and graph.n_edge.tolist() == [0]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"weight": -np.ones(40)}, r"weight \(40,\) must be .* of at least 0"),
        ({"weight": np.ones(3)}, r"weight \(3,\)"),
        ({"features": {"count": AGES}}, "'count': the edges have a count already"),
        ({"features": {"age": AGES[1:]}}, r"'age' \(39,\) must have one row"),
    ],
)
def test_bad_input_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        made(**changes)


def test_ids_must_be_in_range():
    triple = np.array([0]), np.array([3]), np.array([1])
    with pytest.raises(ValueError, match="relation ids run from 3 to 3"):
        relation_graph(triple, num_nodes=2, num_relations=3)
    with pytest.raises(ValueError, match="one length"):
        relation_graph((*triple[:2], np.arange(2)), num_nodes=2, num_relations=4)
