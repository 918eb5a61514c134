"""Ranking, evaluation and recommendation against brute force in NumPy."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest

from recjax.chunks import item_chunks
from recjax.evaluation import METRICS, evaluate, recommend
from recjax.lists import item_lists
from recjax.models._dot import dot_score
from recjax.ranking import rank
from recjax.top_k import top_k
from recjax.types import Context, Embeddings, ItemLists, NegativeTable

USERS, ITEMS, DIM = 37, 500, 6


@dataclasses.dataclass(frozen=True)
class Tables:
    """Scores by the embeddings that it is given as parameters."""

    def embed(self, params: Any, context: Context) -> Embeddings:
        return Embeddings(params["user"], params["item"])

    score = staticmethod(dot_score)

    def fold_in(self, params, context, state, histories):
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Matrix:
    """Scores by a matrix that it is given as parameters: any score is possible."""

    def embed(self, params: Any, context: Context) -> Any:
        return params["scores"]

    def score(self, params, state, users, items):
        return state[users][:, items]

    def fold_in(self, params, context, state, histories):
        # A newcomer gets the scores of the first users, by number.
        return state[: histories.pointer.shape[0] - 1] + 0.0


def make_params(rng, integers=False):
    if integers:  # exact in any order of summation, and full of ties
        return {
            "user": rng.integers(-1, 2, (USERS, DIM)).astype(np.float32),
            "item": rng.integers(-1, 2, (ITEMS, DIM)).astype(np.float32),
        }
    return {
        "user": rng.normal(size=(USERS, DIM)).astype(np.float32),
        "item": rng.normal(size=(ITEMS, DIM)).astype(np.float32),
    }


def make_seen(rng, num_users=USERS, num_items=ITEMS, empty=(0,), full=(1,)):
    """Random lists; some users have seen nothing, some everything."""
    users = rng.integers(0, num_users, 12 * num_users)
    users = users[~np.isin(users, empty)]
    items = rng.integers(0, num_items, len(users))
    for user in full:
        users = np.concatenate([users, np.full(num_items, user)])
        items = np.concatenate([items, np.arange(num_items)])
    return item_lists(users, items, num_users)


def make_targets(rng, seen, num_items=ITEMS, most=9, empty=(2, 3)):
    """Random lists disjoint of what is seen; some users have none."""
    users, items = [], []
    for user in range(len(seen.pointer) - 1):
        known = seen.items[seen.pointer[user] : seen.pointer[user + 1]]
        rest = np.setdiff1d(np.arange(num_items), known)
        if user not in empty and len(rest):
            chosen = rng.choice(rest, min(rng.integers(1, most + 1), len(rest)), False)
            users += [user] * len(chosen)
            items += chosen.tolist()
    return item_lists(np.array(users), np.array(items), len(seen.pointer) - 1)


def make_context(seen, num_items=ITEMS):
    """Only the fields that evaluation reads."""
    none = np.zeros(0, np.int32)
    num_users = len(seen.pointer) - 1
    graph = jraph.GraphsTuple(
        nodes=None,
        edges=None,
        globals=None,
        senders=none,
        receivers=none,
        n_node=np.array([num_users + num_items]),
        n_edge=np.array([0]),
    )
    counts = np.bincount(seen.items, minlength=num_items)
    context = Context(
        graph=graph,
        users=np.repeat(np.arange(num_users, dtype=np.int32), np.diff(seen.pointer)),
        items=seen.items,
        seen=seen,
        item_counts=counts.astype(np.float32),
        negatives=NegativeTable(none, seen, none),
        features={},
    )
    return jax.device_put(context)


def row_of(lists, user):
    return lists.items[lists.pointer[user] : lists.pointer[user + 1]]


def brute_force(scores, seen, users, k, candidates=None):
    """Rows of ids by falling score, lowest id first among equals, padded with -1."""
    rows = []
    for user in users:
        ids = (
            np.arange(scores.shape[1]) if candidates is None else np.unique(candidates)
        )
        ids = np.setdiff1d(ids, row_of(seen, user))
        best = ids[np.lexsort((ids, -scores[user, ids]))][:k].tolist()
        rows.append(best + [-1] * (k - len(best)))
    return np.array(rows, np.int32)


@pytest.fixture
def tied(rng):
    params, seen = make_params(rng, integers=True), make_seen(rng)
    return params, params["user"] @ params["item"].T, seen


class TestRank:
    @pytest.mark.parametrize("chunk_size", [7, 64, 200, ITEMS, None])
    @pytest.mark.parametrize("k", [1, 20, 150])
    def test_is_brute_force_with_ties(self, tied, chunk_size, k):
        params, scores, seen = tied
        users = np.array([5, 1, 0, 5, 36, 2])
        items, values = rank(
            Tables(),
            {},
            Embeddings(params["user"], params["item"]),
            seen,
            users,
            num_items=ITEMS,
            k=k,
            chunk_size=chunk_size,
        )
        expected = brute_force(scores, seen, users, k)
        np.testing.assert_array_equal(items, expected)
        taken = np.where(
            expected >= 0,
            np.take_along_axis(scores[users], np.maximum(expected, 0), axis=1),
            -np.inf,
        )
        np.testing.assert_array_equal(values, taken)
        assert items.dtype == jnp.int32
        assert values.dtype == jnp.float32

    def test_zero_and_minus_zero_are_a_tie(self):
        scores = jnp.array([[-0.0, 0.0, -0.0, 0.0]])
        seen = item_lists(np.array([]).astype(int), np.array([]).astype(int), 1)
        items, _ = rank(Matrix(), {}, scores, seen, np.array([0]), num_items=4, k=4)
        assert items.tolist() == [[0, 1, 2, 3]]

    @pytest.mark.parametrize("dim", [3, 64])
    def test_same_bits_for_every_chunk_size(self, rng, dim):
        state = Embeddings(
            rng.normal(size=(80, dim)).astype(np.float32),
            rng.normal(size=(1500, dim)).astype(np.float32),
        )
        seen = make_seen(rng, 80, 1500)
        results = [
            rank(
                Tables(),
                {},
                state,
                seen,
                np.arange(80),
                num_items=1500,
                k=30,
                chunk_size=chunk_size,
            )
            for chunk_size in (7, 64, 500, 1500)
        ]
        for items, values in results[1:]:
            np.testing.assert_array_equal(items, results[0][0])
            np.testing.assert_array_equal(values, results[0][1])

    @pytest.mark.parametrize("chunk_size", [1, ITEMS])
    def test_candidates(self, tied, chunk_size):
        params, scores, seen = tied
        state = Embeddings(params["user"], params["item"])
        candidates = np.array([400, 3, 17, 3, 499, 250, *range(100, 300)])
        users = np.arange(USERS)
        call = functools.partial(
            rank, Tables(), {}, state, seen, users, num_items=ITEMS, k=25
        )
        items, _ = call(candidates=candidates, chunk_size=chunk_size)
        expected = brute_force(scores, seen, users, 25, candidates)
        np.testing.assert_array_equal(items, expected)
        # Ids outside the catalogue are no candidates.
        padded = np.concatenate([candidates, [-1, ITEMS, ITEMS + 7]])
        np.testing.assert_array_equal(call(candidates=padded)[0], expected)
        nothing = call(candidates=np.zeros(0, np.int32))[0]
        assert (nothing == -1).all()

    def test_k_beyond_the_catalogue_is_padded(self, tied):
        params, scores, seen = tied
        state = Embeddings(params["user"], params["item"])
        for chunk_size in (128, ITEMS):
            items, values = rank(
                Tables(),
                {},
                state,
                seen,
                np.arange(3),
                num_items=ITEMS,
                k=ITEMS + 40,
                chunk_size=chunk_size,
            )
            expected = brute_force(scores, seen, range(3), ITEMS + 40)
            np.testing.assert_array_equal(items, expected)
            assert (np.asarray(values)[expected == -1] == -np.inf).all()

    def test_seen_items_never_appear_whatever_their_score(self, rng):
        # All scores negative, the seen ones highest: a mask of 0 or 1e-5 would fail.
        seen = make_seen(rng)
        scores = -1 - rng.random((USERS, ITEMS)).astype(np.float32)
        for user in range(USERS):
            scores[user, row_of(seen, user)] = 1e30
        items, values = rank(
            Matrix(), {}, scores, seen, np.arange(USERS), num_items=ITEMS, k=50
        )
        for user in range(USERS):
            assert not np.isin(items[user], row_of(seen, user)).any()
        assert (items[1] == -1).all()  # has seen everything
        assert (values[1] == -np.inf).all()
        assert (items[0] >= 0).all()  # has seen nothing

    def test_more_seen_items_than_one_step_of_the_mask(self, rng):
        num_items = 3000
        seen = make_seen(rng, 8, num_items, empty=(), full=(1, 3, 4, 6))
        scores = rng.normal(size=(8, num_items)).astype(np.float32)
        call = functools.partial(
            rank, Matrix(), {}, scores, seen, np.arange(8), num_items=num_items, k=9
        )
        expected = brute_force(scores, seen, range(8), 9)
        for chunk_size in (640, 3000):
            np.testing.assert_array_equal(call(chunk_size=chunk_size)[0], expected)

    def test_no_seen_items_at_all(self, tied):
        params, scores, _ = tied
        nothing = item_lists(np.array([], int), np.array([], int), USERS)
        state = Embeddings(params["user"], params["item"])
        items, _ = rank(
            Tables(), {}, state, nothing, np.arange(4), num_items=ITEMS, k=5
        )
        np.testing.assert_array_equal(items, brute_force(scores, nothing, range(4), 5))

    def test_vmap_over_parameters(self, rng):
        seen, users = make_seen(rng), np.arange(6)
        many = [make_params(rng, integers=True) for _ in range(3)]
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *many)

        def one(params):
            state = Embeddings(params["user"], params["item"])
            return rank(
                Tables(), {}, state, seen, users, num_items=ITEMS, k=8, chunk_size=128
            )

        for items, params in zip(jax.vmap(one)(stacked)[0], many, strict=True):
            np.testing.assert_array_equal(items, one(params)[0])

    def test_memory_is_of_the_chunk_and_not_of_the_catalogue(self):
        def temporary(num_users, num_items, chunk_size, seen_by_one=0):
            seen = item_lists(
                np.zeros(seen_by_one, int), np.arange(seen_by_one), num_users
            )
            state = Embeddings(
                np.zeros((num_users, 16), np.float32),
                np.zeros((num_items, 16), np.float32),
            )
            lowered = rank.lower(
                Tables(),
                {},
                state,
                seen,
                np.arange(num_users),
                num_items=num_items,
                k=20,
                chunk_size=chunk_size,
            )
            return lowered.compile().memory_analysis().temp_size_in_bytes

        # Users are ranked 32 at a time.
        block = 32 * 1024 * 4
        few = temporary(256, 10_240, 1024)
        assert few < 10 * block
        assert temporary(256, 204_800, 1024) < few + 0.1 * block
        assert temporary(256, 204_800, 1024, seen_by_one=150_000) < few + 3 * block
        assert temporary(256, 204_800, 4096) > 1.5 * few
        assert temporary(2560, 204_800, 1024) < 1.5 * few

    def test_refuses(self, tied):
        params, _, seen = tied
        state = Embeddings(params["user"], params["item"])
        call = functools.partial(
            rank, Tables(), {}, state, seen, np.arange(2), num_items=ITEMS
        )
        with pytest.raises(ValueError, match="k = 0"):
            call(k=0)
        with pytest.raises(ValueError, match="chunk_size = 0"):
            call(k=1, chunk_size=0)

    def test_chunks_are_multiples_of_128_and_cover_all(self):
        for chunk_size in (1, 128, 129, 5000):
            count, width, _, ids_of = item_chunks(1000, chunk_size)
            ids = np.concatenate([ids_of(chunk) for chunk in range(count)])
            assert width % 128 == 0
            assert ids[:1000].tolist() == list(range(1000))
            assert (ids[1000:] >= 1000).all()
            assert len(ids) - 1000 < width


def numpy_metrics(scores, seen, targets, k, counts):
    """All metrics of all users with a target, written out."""
    users = [u for u in range(len(seen.pointer) - 1) if len(row_of(targets, u))]
    lists = brute_force(scores, seen, users, k)
    rows = {name: [] for name in METRICS}
    exposure = np.zeros(scores.shape[1])
    for user, shown in zip(users, lists, strict=True):
        wanted = row_of(targets, user)
        hits = np.isin(shown, wanted) & (shown >= 0)
        ranks = np.arange(1, k + 1)
        ideal = (1 / np.log2(ranks[: len(wanted)] + 1)).sum()
        first = ranks[hits][0] if hits.any() else np.inf
        real = shown[shown >= 0]
        exposure[real] += 1
        rows["recall"].append(hits.sum() / len(wanted))
        rows["precision"].append(hits.sum() / k)
        rows["f1"].append(2 * hits.sum() / (k + len(wanted)))
        rows["hit_rate"].append(float(hits.any()))
        rows["ndcg"].append((hits / np.log2(ranks + 1)).sum() / ideal)
        rows["mrr"].append(1 / first)
        precision = np.cumsum(hits) / ranks
        rows["map"].append((precision * hits).sum() / min(len(wanted), k))
        rows["average_popularity"].append(counts[real].mean() if len(real) else 0.0)
        rest = np.setdiff1d(np.arange(scores.shape[1]), row_of(seen, user))
        rest = np.setdiff1d(rest, wanted)
        here, there = scores[user, wanted][:, None], scores[user, rest][None, :]
        rows["auc"].append(((here > there) + 0.5 * (here == there)).mean())
    result = {name: np.mean(values) for name, values in rows.items() if values}
    result["coverage"] = (exposure > 0).mean()
    gaps = np.abs(exposure[:, None] - exposure[None, :]).mean()
    result["gini"] = gaps / (2 * exposure.mean())
    rows["user"] = users
    return result, rows


class TestEvaluate:
    @pytest.mark.parametrize("chunk_size", [7, 200, None])
    def test_is_brute_force(self, tied, rng, chunk_size):
        params, scores, seen = tied
        targets, context = make_targets(rng, seen), make_context(seen)
        result, table = evaluate(
            Tables(),
            params,
            context,
            targets,
            ks=(30, 5),
            metrics=METRICS,
            batch_size=8,
            chunk_size=chunk_size,
            per_user=True,
        )
        counts = np.asarray(context.item_counts)
        for k in (5, 30):
            expected, rows = numpy_metrics(scores, seen, targets, k, counts)
            assert table["user"].tolist() == rows["user"]
            for name in METRICS:
                key = name if name == "auc" else f"{name}@{k}"
                np.testing.assert_allclose(
                    result[key], expected[name], rtol=1e-5, err_msg=key
                )
                if name not in ("coverage", "gini"):
                    np.testing.assert_allclose(table[key], rows[name], rtol=1e-5)
        assert len(result) == 2 * (len(METRICS) - 1) + 1
        assert all(type(value) is float for value in result.values())

    def test_batch_and_chunk_size_do_not_matter(self, tied, rng):
        params, _, seen = tied
        targets, context = make_targets(rng, seen), make_context(seen)
        call = functools.partial(
            evaluate, Tables(), params, context, targets, metrics=METRICS
        )
        reference = call(batch_size=4096, chunk_size=ITEMS)
        for batch_size, chunk_size in ((1, 128), (16, 256)):
            assert call(batch_size=batch_size, chunk_size=chunk_size) == reference

    def test_a_subset_of_users(self, tied, rng):
        params, scores, seen = tied
        targets, context = make_targets(rng, seen), make_context(seen)
        some = np.array([30, 2, 7, 7, 9])  # 2 has no target; 7 counts once
        result = evaluate(Tables(), params, context, targets, users=some, ks=(200,))
        _, rows = numpy_metrics(scores, seen, targets, 200, np.ones(ITEMS))
        index = [rows["user"].index(user) for user in (7, 9, 30)]
        expected = np.array(rows["recall"])[index].mean()
        assert expected > 0
        np.testing.assert_allclose(result["recall@200"], expected, rtol=1e-6)

    def test_other_seen_lists(self, tied, rng):
        params, scores, seen = tied
        targets, context = make_targets(rng, seen), make_context(seen)
        other = make_seen(rng)
        found = evaluate(Tables(), params, context, targets, seen=other)
        expected, _ = numpy_metrics(scores, other, targets, 20, np.ones(ITEMS))
        np.testing.assert_allclose(found["ndcg@20"], expected["ndcg"], rtol=1e-6)

    def test_a_seen_target_is_a_miss(self):
        scores = np.array([[3.0, 2.0, 1.0]], np.float32)
        seen = item_lists(np.array([0]), np.array([0]), 1)
        targets = item_lists(np.array([0, 0]), np.array([0, 1]), 1)
        result = evaluate(
            Matrix(),
            {"scores": scores},
            make_context(seen, 3),
            targets,
            ks=(1,),
            metrics=("recall", "auc"),
        )
        # Item 1 beats item 2, the only negative; item 0 can beat nothing.
        assert result == {"recall@1": 1 / 2, "auc": 1 / 2}

    def test_nobody_has_a_target(self, tied):
        params, _, seen = tied
        nothing = item_lists(np.array([], int), np.array([], int), USERS)
        result = evaluate(
            Tables(), params, make_context(seen), nothing, metrics=METRICS
        )
        assert set(result.values()) == {0.0}

    def test_auc_of_a_user_with_nothing_but_targets(self):
        seen = item_lists(np.array([0, 1]), np.array([0, 0]), 2)
        targets = item_lists(np.array([0, 0, 1]), np.array([1, 2, 1]), 2)
        scores = np.array([[1.0, 2.0, 3.0], [1.0, 5.0, 4.0]], np.float32)
        result, table = evaluate(
            Matrix(),
            {"scores": scores},
            make_context(seen, 3),
            targets,
            metrics=("auc",),
            per_user=True,
        )
        assert np.isnan(table["auc"][0])
        assert result == {"auc": 1.0}  # of user 1 alone

    def test_unknown_names_get_a_hint(self, tied):
        params, _, seen = tied
        call = functools.partial(evaluate, Tables(), params, make_context(seen), seen)
        with pytest.raises(ValueError, match=r"'recal', perhaps recall"):
            call(metrics=("recal",))
        with pytest.raises(ValueError, match=r"'ndcg@20', perhaps ndcg.*by ks"):
            call(metrics=("ndcg@20",))
        with pytest.raises(ValueError, match="positive"):
            call(ks=(0,))
        with pytest.raises(ValueError, match=f"from 3 to {USERS}, outside 0 to 36"):
            call(users=np.array([USERS, 3]))
        short = item_lists(np.array([0]), np.array([0]), 5)
        with pytest.raises(ValueError, match="lists of 5 users, the context has 37"):
            call(seen=short)

    def test_models_are_compiled_once(self, tied, rng):
        params, _, seen = tied
        targets, context = make_targets(rng, seen), make_context(seen)
        traces = []

        @dataclasses.dataclass(frozen=True)
        class Counted(Tables):
            def score(self, params, state, users, items):
                traces.append(1)
                return dot_score(params, state, users, items)

        for _ in range(3):
            evaluate(Counted(), params, context, targets, batch_size=8)
        assert len(traces) == 1


class TestRecommend:
    def test_known_users(self, tied):
        params, scores, seen = tied
        users = [30, 0, 1, 30]
        items, values = recommend(
            Tables(), params, make_context(seen), users=users, k=7, batch_size=3
        )
        assert isinstance(items, np.ndarray)
        assert isinstance(values, np.ndarray)
        assert (items.dtype, values.dtype) == (np.int32, np.float32)
        np.testing.assert_array_equal(items, brute_force(scores, seen, users, 7))

    def test_all_users_and_a_ready_state(self, tied):
        params, scores, seen = tied
        expected = brute_force(scores, seen, range(USERS), 7)
        context = make_context(seen)
        items, _ = recommend(Tables(), params, context, k=7, batch_size=10)
        np.testing.assert_array_equal(items, expected)
        state = Tables().embed(params, context)
        items, _ = recommend(Tables(), None, context, k=7, state=state)
        np.testing.assert_array_equal(items, expected)

    def test_seen_items_may_stay(self, tied):
        params, scores, seen = tied
        nothing = ItemLists(np.zeros(USERS + 1, np.int32), np.zeros(0, np.int32))
        items, _ = recommend(
            Tables(), params, make_context(seen), k=7, filter_seen=False
        )
        np.testing.assert_array_equal(
            items, brute_force(scores, nothing, range(USERS), 7)
        )

    def test_newcomers(self, rng, tied):
        _, _, seen = tied
        scores = rng.normal(size=(USERS, ITEMS)).astype(np.float32)
        # Histories without the items of any known user.
        histories = item_lists(np.array([0, 0, 2]), np.array([4, 9, 4]), 3)
        call = functools.partial(
            recommend,
            Matrix(),
            {"scores": scores},
            make_context(seen),
            histories=histories,
            k=6,
        )
        np.testing.assert_array_equal(
            call()[0], brute_force(scores, histories, range(3), 6)
        )
        empty = item_lists(np.array([], int), np.array([], int), 3)
        np.testing.assert_array_equal(
            call(filter_seen=False)[0], brute_force(scores, empty, range(3), 6)
        )

    def test_lists_are_no_longer_than_the_catalogue(self, tied):
        params, scores, seen = tied
        context = make_context(seen)
        items, values = recommend(Tables(), params, context, users=[4], k=ITEMS + 1)
        assert items.shape == values.shape == (1, ITEMS)
        np.testing.assert_array_equal(items, brute_force(scores, seen, [4], ITEMS))
        few = np.array([9, 4, 9, 30])
        items, _ = recommend(
            Tables(), params, context, users=[4, 5], k=10, candidates=few
        )
        assert items.shape == (2, 3)
        np.testing.assert_array_equal(items, brute_force(scores, seen, [4, 5], 3, few))
        items, _ = recommend(
            Tables(), params, context, users=[4], candidates=np.array([], int)
        )
        assert items.shape == (1, 0)

    def test_no_users(self, tied):
        params, _, seen = tied
        items, _ = recommend(Tables(), params, make_context(seen), users=[], k=3)
        assert items.shape == (0, 3)

    @pytest.mark.parametrize(
        ("kwargs", "message"),
        [
            ({"users": [0, USERS]}, "from 0 to 37, outside 0 to 36"),
            ({"users": [-1]}, "from -1 to -1"),
            ({"users": [0.5]}, "integer"),
            ({"candidates": [ITEMS]}, "candidates hold item ids from 500"),
            ({"k": 0}, "k = 0"),
            (
                {"histories": ItemLists(np.array([0, 1]), np.array([ITEMS]))},
                "histories hold item ids from 500 to 500, outside 0 to 499",
            ),
            (
                {"users": [0], "histories": ItemLists(np.array([0, 0]), np.array([]))},
                "both",
            ),
        ],
    )
    def test_refuses(self, tied, kwargs, message):
        params, _, seen = tied
        with pytest.raises(ValueError, match=message):
            recommend(Tables(), params, make_context(seen), **kwargs)


@pytest.mark.parametrize("width", [2560, 2567])
@pytest.mark.parametrize("k", [1, 5, 31])
def test_top_k_by_blocks_is_top_k(rng, k, width):
    """Ties, infinities and NaN included; few distinct values make many ties."""
    scores = rng.integers(0, 40, (6, width)).astype(np.float32)
    scores[1] = rng.normal(size=width)
    scores[2] = 1.0
    scores[3] = -np.inf
    scores[3, [7, 2000]] = 1.0
    scores[4, ::3] = np.inf
    scores[5, 100] = np.nan
    expected = jax.lax.top_k(scores, k)
    found = jax.jit(top_k, static_argnums=1)(scores.T, k)
    for left, right in zip(found, expected, strict=True):
        np.testing.assert_array_equal(left, right)
    assert "gather" in str(jax.make_jaxpr(lambda x: top_k(x, k))(scores.T))
