"""The context holds the training pairs once; metadata columns become pairs."""

import jax
import numpy as np
import pyarrow as pa
import pytest

from recjax.data.graph import attribute_pairs, make_context
from recjax.graphs import make_graph
from recjax.types import Interactions, Spec

USERS = np.array([0, 0, 1, 2, 2, 2, 0])
ITEMS = np.array([0, 1, 1, 0, 1, 3, 0])  # the last row repeats the first
SPEC = Spec(num_users=3, num_items=4)


def test_attributes_are_the_distinct_values_of_a_column():
    table = pa.table(
        {"id": ["a", "b", "c", "d"], "genre": [["x", "y"], None, ["y"], []]}
    )
    (of_items, attributes), names = attribute_pairs(table, ("genre",))
    assert names == ["genre=x", "genre=y"]
    assert of_items.tolist() == [0, 0, 2]
    assert attributes.tolist() == [0, 1, 1]


def test_an_attribute_column_that_is_not_there():
    with pytest.raises(ValueError, match="'colour'"):
        attribute_pairs(pa.table({"id": ["a"]}), ("colour",))


def test_context_holds_distinct_pairs_counts_and_lists():
    context = make_context(Interactions(USERS, ITEMS), SPEC)
    pairs = list(zip(context.users.tolist(), context.items.tolist(), strict=True))
    assert pairs == [(0, 0), (0, 1), (1, 1), (2, 0), (2, 1), (2, 3)]
    assert context.seen.pointer.tolist() == [0, 2, 3, 6]
    assert context.item_counts.tolist() == [2, 3, 0, 1]


@pytest.mark.parametrize("normalisation", ["row", (0.6, -0.1)])
def test_context_holds_the_graph_that_is_asked_for(normalisation):
    spec, attributes = SPEC._replace(num_attributes=2), (ITEMS[:2], USERS[:2])
    settings = {"attributes": attributes, "normalisation": normalisation}
    context = make_context(Interactions(USERS, ITEMS), spec, **settings)
    expected = make_graph((USERS, ITEMS), spec, **settings)
    assert jax.tree.structure(context.graph) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, context.graph, expected)


def test_ids_outside_the_spec_are_refused():
    with pytest.raises(ValueError, match=r"item ids run from 0 to 3, .* 2"):
        make_context(Interactions(USERS, ITEMS), Spec(3, 2))
    with pytest.raises(ValueError, match="user ids"):
        make_context(Interactions(USERS, ITEMS), Spec(2, 4))
    with pytest.raises(ValueError, match="no training interactions"):
        make_context(Interactions(USERS[:0], ITEMS[:0]), SPEC)
