"""Texts of items: which columns, which items, and no way into the program."""

import numpy as np
import pyarrow as pa
import pytest

from recjax.data import item_texts

ITEMS = pa.table(
    {
        "id": ["1", "2", "3"],
        "title": ["  Alien \n 3", None, ""],
        "year": [1992.0, np.nan, None],
        "genres": [["Horror", None, ""], ["Drama"], None],
    }
)


def test_cells_of_all_kinds():
    texts, present = item_texts(ITEMS, ("title", "year", "genres"))
    assert texts == ["Alien 3. 1992. Horror", "Drama", ""]
    assert present.tolist() == [True, True, False]
    texts, present = item_texts(ITEMS, ("title",))
    assert texts == ["Alien 3", "", ""] and present.tolist() == [True, False, False]


def test_a_template_says_the_same_of_every_item_that_has_anything():
    texts, _ = item_texts(ITEMS, ("title", "genres"), "{{{genres}}}: {title}!")
    assert texts == ["{Horror}: Alien 3!", "{Drama}: !", ""]


@pytest.mark.parametrize(
    "template",
    [
        "{title.__class__}",
        "{title[0]}",
        "{0}",
        "{}",
        "{id}",
        "{title!r}",
        "{title:>9}",
        "{title",
    ],
)
def test_a_template_reaches_nothing_but_its_fields(template):
    with pytest.raises(ValueError, match="template"):
        item_texts(ITEMS, ("title",), template)


def test_columns_that_are_not_there():
    with pytest.raises(ValueError, match="did you mean 'title'"):
        item_texts(ITEMS, ("titel",))
    with pytest.raises(ValueError, match="needs a field"):
        item_texts(ITEMS, ())
