"""Vectors of texts, as alignments read them."""

from collections.abc import Iterator
from typing import NamedTuple

import jax

from recjax.losses._rows import distinct_rows
from recjax.types import Batch, Embeddings, Feature


class Texts(NamedTuple):
    """Vectors of texts about users and about items, width F.

    Attributes:
      users: values ``[U, F]``, with their mask.
      items: values ``[I, F]``, with their mask.
    """

    users: Feature
    items: Feature


def of_batch(
    vectors: Embeddings, texts: Texts, batch: Batch
) -> Iterator[tuple[jax.Array, jax.Array, jax.Array]]:
    """For users and for items: their vectors, their texts, and a mask of both.

    An id that is there twice counts once.
    """
    sides = ((vectors.users, texts.users), (vectors.items, texts.items))
    for ids, (nodes, text) in zip((batch.users, batch.items), sides, strict=True):
        where = distinct_rows(ids, batch.weight) & text.present[ids]
        yield nodes[ids], text.values[ids], where
