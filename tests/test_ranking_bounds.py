"""Ranking that passes over items by their bounds equals ranking of them all."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.lists import item_lists
from recjax.models._dot import dot_bound, dot_score
from recjax.ranking import rank
from recjax.types import Embeddings

USERS, ITEMS, DIM = 70, 9000, 8


@dataclasses.dataclass(frozen=True)
class Plain:
    """Every item is scored."""

    score = staticmethod(dot_score)

    def embed(self, params: Any, context: Any) -> Any:
        raise NotImplementedError

    def fold_in(self, params, context, state, histories):
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Bounded(Plain):
    """Items out of reach are not."""

    score_bound = staticmethod(dot_bound)


@dataclasses.dataclass(frozen=True)
class Wrong(Plain):
    """By its bound, nothing comes near the first items, which are in no order."""

    def score_bound(self, params, state):
        return jnp.ones(USERS), jnp.full(ITEMS, 1e-30)


def skewed(rng):
    """Long vectors for few items, as training by dot products makes them."""
    items = rng.normal(size=(ITEMS, DIM)) * rng.pareto(1.5, (ITEMS, 1))
    users = rng.normal(size=(USERS, DIM)) * rng.pareto(1.5, (USERS, 1))
    return users.astype(np.float32), items.astype(np.float32)


def alike(rng):
    """Nothing can be passed over."""
    users, items = rng.normal(size=(USERS, DIM)), rng.normal(size=(ITEMS, DIM))
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    return users.astype(np.float32), items.astype(np.float32)


def tied(rng):
    """Few distinct scores, exact in any order of summation; zero vectors."""
    users, items = (rng.integers(-1, 2, (n, DIM)) for n in (USERS, ITEMS))
    items[rng.random(ITEMS) < 0.5] = 0
    items[:20] *= 3
    return users.astype(np.float32), items.astype(np.float32)


def negative(rng):
    """All scores below zero: the shortest items are best."""
    users, items = skewed(rng)
    return np.abs(users), -np.abs(items)


def edge(rng):
    """The first item is the first that is left out, and as good as the last one in."""
    items = np.zeros((ITEMS, DIM))
    items[:, 0] = rng.uniform(1, 4, ITEMS)
    longest = rng.permutation(np.arange(1, ITEMS))[: ITEMS // 4]
    items[longest, 0] = 10
    items[longest, 1] = np.append(np.full(20, 5), rng.uniform(1, 4, len(longest) - 20))
    items[0, :2] = 0, 5
    return np.tile(np.eye(DIM)[1], (USERS, 1)).astype(np.float32), items.astype("f4")


def strange(rng):
    users, items = skewed(rng)
    users[3], users[4] = 0, np.nan
    items[[7, 8000], 0] = np.inf, np.nan
    return users, items


def lists(rng):
    """Some users have seen nothing, some all, some the longest items, or the rest."""
    users = rng.integers(5, USERS, 40 * USERS)
    items = rng.integers(0, ITEMS, len(users))
    full = np.repeat([1, 2], [ITEMS, ITEMS - 5])
    rest = np.concatenate([np.arange(ITEMS), np.arange(ITEMS - 5)])
    return item_lists(np.append(users, full), np.append(items, rest), USERS)


@pytest.mark.parametrize("make", [skewed, alike, tied, negative, edge, strange])
@pytest.mark.parametrize(("k", "chunk_size"), [(20, None), (1, 1000), (3000, None)])
def test_is_the_ranking_of_all_items(rng, make, k, chunk_size):
    state, seen = Embeddings(*make(rng)), lists(rng)
    some = np.append(rng.permutation(USERS), [5, 5])
    kwargs = {"num_items": ITEMS, "k": k, "chunk_size": chunk_size}
    expected = rank(Plain(), {}, state, seen, some, **kwargs)
    found = rank(Bounded(), {}, state, seen, some, **kwargs)
    for left, right in zip(found, expected, strict=True):
        np.testing.assert_array_equal(left, right)


def test_items_out_of_reach_are_not_scored(rng):
    state, seen = Embeddings(*skewed(rng)), lists(rng)
    users = np.arange(5, USERS)
    kwargs = {"num_items": ITEMS, "k": 20}
    assert rank(Plain(), {}, state, seen, users, **kwargs)[0].max() > ITEMS / 2
    assert rank(Wrong(), {}, state, seen, users, **kwargs)[0].max() < ITEMS / 2


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_no_score_exceeds_its_bound(rng, dtype):
    """Not by a rounding either: vectors along each other reach the bound."""
    items = rng.normal(size=(500, 257)) * 10.0 ** rng.integers(-6, 6, (500, 1))
    state = Embeddings(*(jnp.asarray(x, dtype) for x in (2 * items, items)))
    everything = np.arange(500)
    scores = jax.jit(dot_score)({}, state, everything, everything)
    users, bounds = dot_bound({}, state)
    assert (scores <= users[:, None] * bounds[None]).all()
    np.testing.assert_allclose(np.diag(scores), users * bounds, rtol=1e-4)
    # The squares of these are too small for a float.
    tiny = Embeddings(jnp.full((1, 4), 1e30, dtype), jnp.full((1, 4), 1e-30, dtype))
    assert (dot_score({}, tiny, jnp.array([0]), jnp.array([0])) > 3).all()
    users, bounds = dot_bound({}, tiny)
    assert users[0] * bounds[0] > 3


def test_the_sizes_for_accelerators_rank_alike(rng, monkeypatch):
    users, items = skewed(rng)
    state = Embeddings(jnp.asarray(users), jnp.asarray(items))
    seen = item_lists(rng.integers(0, USERS, 900), rng.integers(0, ITEMS, 900), USERS)
    ids = jnp.arange(USERS)
    want = rank(Bounded(), {}, state, seen, ids, num_items=ITEMS, k=7)
    monkeypatch.setattr("recjax.chunks.jax.default_backend", lambda: "gpu")
    # Several steps of the mask.
    monkeypatch.setattr("recjax.chunks._POSITIONS_APART", 64)
    # Named otherwise, so that nothing is taken from the cache of compiled functions.
    other = dataclasses.make_dataclass("Other", [], bases=(Bounded,), frozen=True)()
    got = rank(other, {}, state, seen, ids, num_items=ITEMS, k=7)
    np.testing.assert_array_equal(got[0], want[0])
    np.testing.assert_allclose(got[1], want[1], rtol=1e-6)
