"""A small dataset with two modalities, and its matrices in NumPy."""

import numpy as np

from recjax.data import make_context
from recjax.types import Feature, Interactions, Spec

USERS, ITEMS = 9, 12
SPEC = Spec(USERS, ITEMS, features=(("image", 5), ("text", 4)))


def interactions():
    """R ``[U, I]``; user 3 has no item, item 5 no user, user 8 an item of its own."""
    matrix = (np.random.default_rng(1).random((USERS, ITEMS)) < 0.3).astype(float)
    matrix[3], matrix[8], matrix[:, 5], matrix[:, 7] = 0, 0, 0, 0
    matrix[8, 7] = 1
    return matrix


def features(held=0.0):
    """Item 2 has no image, items 4 and 7 have no text; their rows hold a number."""
    rng, found = np.random.default_rng(2), {}
    for (name, width), gone in zip(SPEC.features, ([2], [4, 7]), strict=True):
        values = rng.normal(size=(ITEMS, width)).astype(np.float32)
        values[gone] = held
        found[name] = Feature(values, ~np.isin(np.arange(ITEMS), gone))
    return found


def context(tables=None):
    """The data on the device."""
    tables = features() if tables is None else tables
    return make_context(
        Interactions(*np.nonzero(interactions())), SPEC, features=tables
    )


def adjacency(self_loops=False):
    """The symmetrically normalised matrix over users and items."""
    matrix = interactions()
    whole = np.eye(USERS + ITEMS) * self_loops
    whole[:USERS, USERS:], whole[USERS:, :USERS] = matrix, matrix.T
    return normalise(whole)


def normalise(matrix):
    """``D_r^-1/2 A D_c^-1/2``, with the sums of rows and columns."""
    left, right = (np.maximum(matrix.sum(axis), 1e-30) ** -0.5 for axis in (1, 0))
    return matrix * left[:, None] * right * (matrix != 0)


def unit(x):
    """Rows of length 1; zero rows stay."""
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    return x / np.where(length == 0, 1, length)


def nce(left, right, candidates, temperature):
    """InfoNCE of each row."""
    left, right, candidates = map(unit, (left, right, candidates))
    logits = left @ candidates.T / temperature
    return np.logaddexp.reduce(logits, axis=1) - (left * right).sum(1) / temperature
