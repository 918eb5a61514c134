"""Models that read vectors of texts, against their equations in NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.alignments import Contrast, Reconstruct
from recjax.config import from_dict, to_dict
from recjax.data import make_context
from recjax.evaluation import recommend
from recjax.lists import item_lists
from recjax.models import KAR, MF, Aligned, AlphaRec, LightGCN, TextAutoencoder
from recjax.models.text_autoencoder import _gram
from recjax.objectives import BPR, SampledSoftmax
from recjax.run_config import CONFIG_TYPES
from recjax.sampling import make_batch
from recjax.train_command import train_defaults
from recjax.types import Feature, Interactions, Spec, prepare

USERS, ITEMS = 9, 12
SPEC = Spec(USERS, ITEMS, features=(("genre", 3), ("title", 4)))
COLD, SILENT = 10, 4  # an item without interactions, and one without a text


@pytest.fixture(scope="module")
def matrix():
    """User 8 has taken the item without a text, and nothing else."""
    matrix = np.random.default_rng(1).random((USERS, ITEMS)) < 0.35
    matrix[:, COLD], matrix[8] = False, False
    matrix[8, SILENT] = True
    return matrix


@pytest.fixture(scope="module")
def tables():
    rng = np.random.default_rng(2)
    out = {}
    for name, width in SPEC.features:
        present = np.arange(ITEMS) != SILENT
        present[6] = name == "genre"
        values = rng.normal(size=(ITEMS, width)).astype(np.float32)
        # What an absent row holds must not matter.
        out[name] = Feature(np.where(present[:, None], values, np.nan), present)
    return out


@pytest.fixture(scope="module")
def plain(matrix, tables):
    return make_context(Interactions(*np.nonzero(matrix)), SPEC, features=tables)


def ready(model, plain, key=0):
    """Parameters without a 0 among them, and the context."""
    params = model.init(jax.random.key(key), SPEC)
    leaves, tree = jax.tree.flatten(params)
    rng = np.random.default_rng(key)
    leaves = [jnp.asarray(rng.normal(size=x.shape) / 2, jnp.float32) for x in leaves]
    return jax.tree.unflatten(tree, leaves), prepare(model, plain)


def batch_of(model, context, size=8):
    last = context.users.shape[0] - 1
    rows = last - jnp.arange(size) * 3 % last
    weight = jnp.where(jnp.arange(size) == 5, 0.0, 1.0)
    users, items = context.users[rows], context.items[rows]
    key = jax.random.key(4)
    return make_batch(key, context, users, items, weight, model.num_negatives)


def texts_of(matrix, tables):
    """Texts of the items and means of the users', with their masks, in float64."""
    items = np.concatenate([np.nan_to_num(tables[n].values) for n in sorted(tables)], 1)
    present = tables["genre"].present | tables["title"].present
    users = np.zeros((USERS, items.shape[1]))
    has = np.zeros(USERS, bool)
    for u in range(USERS):
        known = np.flatnonzero(matrix[u] & present)
        if len(known):
            users[u], has[u] = items[known].mean(0), True
    return (users, has), (items.astype(np.float64), present)


def perceptron(params, x):
    first, *rest = (
        {k: np.asarray(v, np.float64) for k, v in params[f"layer{i}"].items()}
        for i in range(len(params))
    )
    x = x @ first["kernel"] + first.get("bias", 0)
    for layer in rest:
        x = np.where(x > 0, x, 0.01 * x) @ layer["kernel"] + layer["bias"]
    return x


def adjacency(matrix):
    joined = np.zeros((USERS + ITEMS, USERS + ITEMS))
    joined[:USERS, USERS:], joined[USERS:, :USERS] = matrix, matrix.T
    degree = np.maximum(joined.sum(1), 1)
    return joined / np.sqrt(degree[:, None] * degree)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def info_nce(x, y, candidates, t):
    logits = unit(x) @ unit(candidates).T / t
    positive = (unit(x) * unit(y)).sum(1) / t
    return (np.log(np.exp(logits).sum(1)) - positive).mean()


MODELS = {
    "alpharec": AlphaRec(dim=5, hidden=6, objective=SampledSoftmax(num_negatives=3)),
    "alpharec linear": AlphaRec(dim=5, linear=True, objective=BPR()),
    "contrast": Aligned(LightGCN(dim=5, layers=2, objective=BPR(2)), Contrast()),
    "reconstruct": Aligned(
        LightGCN(dim=5, layers=2, objective=BPR()), Reconstruct(share=0.4)
    ),
    "kar": KAR(LightGCN(dim=5, layers=2, objective=BPR()), hidden=6),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=list(MODELS))
def test_derivatives_reach_every_parameter(model, plain):
    params, context = ready(model, plain)
    batch = batch_of(model, context)
    grads = jax.grad(
        lambda p: model.loss(p, context, batch, jax.random.key(0))[0], allow_int=True
    )(params)
    for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
        assert np.isfinite(leaf).all(), path
        assert np.abs(leaf).max() > 0, path


@pytest.mark.parametrize(
    "model", [*MODELS.values(), TextAutoencoder()], ids=[*MODELS, "text autoencoder"]
)
def test_what_a_missing_text_holds_does_not_matter(model, plain):
    other = plain._replace(
        features={
            name: Feature(jnp.where(x.present[:, None], x.values, 7.0), x.present)
            for name, x in plain.features.items()
        }
    )
    found = []
    for context in (plain, other):
        context = prepare(model, context)
        if hasattr(model, "solve"):
            params = model.solve(context)
        else:
            params, context = ready(model, context)
        state = model.embed(params, context)
        found.append(model.score(params, state, jnp.arange(USERS), jnp.arange(ITEMS)))
    assert np.isfinite(found[0]).all()
    np.testing.assert_array_equal(*found)


def test_a_model_without_texts_says_so(matrix):
    context = make_context(Interactions(*np.nonzero(matrix)), Spec(USERS, ITEMS))
    with pytest.raises(ValueError, match="there are none"):
        prepare(AlphaRec(), context)
    with pytest.raises(ValueError, match=r"'cover'.*there are: genre, title"):
        AlphaRec(feature="cover").init(jax.random.key(0), SPEC)


class TestAlphaRec:
    @pytest.mark.parametrize("name", ["alpharec", "alpharec linear"])
    def test_is_its_equations(self, name, plain, matrix, tables):
        model = dataclasses.replace(MODELS[name], objective=BPR())
        params, context = ready(model, plain)
        (users, has), (items, present) = texts_of(matrix, tables)
        start = perceptron(params["map"], np.concatenate([users, items]))
        start *= np.concatenate([has, present])[:, None]
        a = adjacency(matrix)
        expected = (start + a @ start + a @ a @ start) / 3
        found = model.embed(params, context)
        np.testing.assert_allclose(found.users, expected[:USERS], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.items, expected[USERS:], rtol=1e-4, atol=1e-5)
        # An item that nobody took keeps what its text gives.
        np.testing.assert_allclose(
            found.items[COLD], start[USERS + COLD] / 3, rtol=1e-4
        )

    @pytest.mark.parametrize("name", ["alpharec", "alpharec linear"])
    def test_newcomers_are_what_known_users_with_their_lists_are(
        self, name, plain, matrix
    ):
        model = MODELS[name]
        params, context = ready(model, plain)
        state = model.embed(params, context)
        histories = item_lists(*np.nonzero(matrix), USERS)
        folded = model.fold_in(params, context, state, histories)
        np.testing.assert_allclose(folded.users, state.users, rtol=1e-4, atol=1e-5)

    def test_nothing_is_learned_of_single_users_or_items(self):
        model = AlphaRec(dim=2, hidden=3)
        few = model.init(jax.random.key(0), SPEC)
        many = model.init(jax.random.key(0), SPEC._replace(num_items=99))
        jax.tree.map(np.testing.assert_array_equal, few, many)

    def test_uniform_log_q_is_a_constant(self, plain, matrix):
        """As the docstring says: log(|unknown| / M) on every negative."""
        model = MODELS["alpharec"]
        params, context = ready(model, plain)
        batch = batch_of(model, context)
        state, t = model.embed(params, context), model.objective.temperature
        users, items = np.asarray(state.users), np.asarray(state.items)
        users = users[batch.users] / t
        positive = (users * items[batch.items]).sum(1)
        negatives = np.einsum("bd,bmd->bm", users, items[batch.negatives])
        shift = np.log((ITEMS - matrix.sum(1)[batch.users]) / 3)
        total = np.exp(positive) + np.exp(negatives + shift[:, None]).sum(1)
        expected = (np.log(total) - positive)[np.asarray(batch.weight) > 0].mean()
        loss, _ = model.loss(params, context, batch, jax.random.key(0))
        np.testing.assert_allclose(loss, expected, rtol=1e-4)


class TestAligned:
    def test_contrast_is_its_equation(self, plain, matrix, tables):
        model = MODELS["contrast"]
        params, context = ready(model, plain)
        batch = jax.tree.map(np.asarray, batch_of(model, context))
        real = batch.weight > 0
        _, logs = model.loss(params, context, batch, jax.random.key(0))
        e = jax.tree.map(np.float64, model.embed(params, context))
        (users, has), (items, present) = texts_of(matrix, tables)
        of_users = perceptron(params["alignment"]["mlp"], users)
        of_items = perceptron(params["alignment"]["mlp"], items)
        u = batch.users[real & has[batch.users]]
        expected = info_nce(e.users[u], of_users[u], of_users[has], 0.2)
        for column in (batch.items, batch.negatives[:, 0]):
            i = column[real & present[column]]
            expected += info_nce(e.items[i], of_items[i], of_items[i], 0.2)
        np.testing.assert_allclose(logs["alignment"], expected, rtol=1e-4)
        # The cases that masks are for have occurred.
        assert 8 in batch.users and SILENT in batch.items

    def test_reconstruct_is_its_equation(self, plain, matrix, tables):
        model = MODELS["reconstruct"]
        params, context = ready(model, plain)
        batch = batch_of(model, context)
        key = jax.random.key(6)
        encoder, hidden = model._hide(params, context, jax.random.split(key)[0])
        hidden = np.asarray(hidden)
        assert len(set(hidden.tolist())) == round(0.4 * (USERS + ITEMS)) == 8
        nodes = np.array(params["encoder"]["nodes"], np.float64)
        nodes[hidden] = params["alignment"]["token"]
        np.testing.assert_allclose(encoder["nodes"], nodes, rtol=1e-6)
        a = adjacency(matrix)
        e = (nodes + a @ nodes + a @ a @ nodes) / 3
        (users, has), (items, present) = texts_of(matrix, tables)
        known = hidden[np.concatenate([has, present])[hidden]]
        texts = np.concatenate([users, items])[known]
        guess = perceptron(params["alignment"]["mlp"], e[known])
        loss, logs = model.loss(params, context, batch, key)
        expected = info_nce(guess, texts, texts, 0.5)
        np.testing.assert_allclose(logs["alignment"], expected, rtol=1e-4)
        # The loss of the encoder is that of the masked pass.
        own, _ = model.encoder.loss(encoder, context, batch, key)
        np.testing.assert_allclose(loss, own + 0.1 * logs["alignment"], rtol=1e-5)
        plain_loss, _ = model.encoder.loss(params["encoder"], context, batch, key)
        assert abs(own - plain_loss) > 1e-3

    @pytest.mark.parametrize("name", ["contrast", "reconstruct"])
    def test_ranks_as_its_encoder(self, name, plain, matrix):
        model = MODELS[name]
        params, context = ready(model, plain)
        histories = item_lists(np.array([0, 0, 1]), np.array([2, 3, 7]), 2)
        for options in ({"users": [0, 4, 8]}, {"histories": histories}):
            found = recommend(model, params, context, k=5, **options)
            own = recommend(model.encoder, params["encoder"], context, k=5, **options)
            jax.tree.map(np.testing.assert_array_equal, found, own)
        state = model.embed(params, context)
        bound = model.score_bound(params, state)
        own = model.encoder.score_bound(params["encoder"], state)
        jax.tree.map(np.testing.assert_array_equal, bound, own)

    def test_weight_zero_trains_the_encoder_alone(self, plain):
        model = Aligned(MF(dim=5, objective=BPR()), Contrast(weight=0.0))
        params, context = ready(model, plain)
        batch, key = batch_of(model, context), jax.random.key(0)
        grads = jax.grad(lambda p: model.loss(p, context, batch, key)[0])(params)
        own = jax.grad(lambda p: model.encoder.loss(p, context, batch, key)[0])
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6),
            grads["encoder"],
            own(params["encoder"]),
        )

    def test_starts_as_its_encoder(self):
        model = MODELS["contrast"]
        params = model.init(jax.random.key(3), SPEC)
        own = model.encoder.init(jax.random.key(3), SPEC)
        jax.tree.map(np.testing.assert_array_equal, params["encoder"], own)

    def test_any_encoder_but_one_without_nodes_to_hide(self, plain):
        inside = AlphaRec(dim=5, hidden=6, objective=BPR())
        for alignment in (Contrast(), Reconstruct()):
            model = Aligned(inside, alignment)  # type: ignore[arg-type]
            params, context = ready(model, plain)
            batch, key = batch_of(model, context), jax.random.key(0)
            if alignment == Contrast():
                assert np.isfinite(model.loss(params, context, batch, key)[0])
            else:
                with pytest.raises(ValueError, match="AlphaRec has none"):
                    model.loss(params, context, batch, key)


class TestKAR:
    def test_is_its_encoder_on_a_sum(self, plain, matrix, tables):
        model = MODELS["kar"]
        params, context = ready(model, plain)
        adaptor = jax.tree.map(np.float64, params["adaptor"])
        z = []
        for kind, (x, has) in zip(
            ("users", "items"), texts_of(matrix, tables), strict=True
        ):
            gate = adaptor["gates"][kind]
            logits = x @ gate["kernel"] + gate["bias"]
            share = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            mixed = np.zeros((len(x), 5))
            for place, experts in enumerate(
                (adaptor["shared"], adaptor["specific"][kind])
            ):
                for e in range(2):
                    first, second = (
                        {k: v[e] for k, v in experts[n].items()}
                        for n in ("first", "second")
                    )
                    hidden = np.maximum(x @ first["kernel"] + first["bias"], 0)
                    out = hidden @ second["kernel"] + second["bias"]
                    mixed += share[:, 2 * place + e, None] * out
            z.append(mixed * has[:, None])
        nodes = np.asarray(params["encoder"]["nodes"]) + np.concatenate(z)
        a = adjacency(matrix)
        expected = (nodes + a @ nodes + a @ a @ nodes) / 3
        found = model.embed(params, context)
        np.testing.assert_allclose(found.users, expected[:USERS], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.items, expected[USERS:], rtol=1e-4, atol=1e-5)

    def test_experts_that_say_nothing_leave_the_encoder(self, plain):
        model = MODELS["kar"]
        params, context = ready(model, plain)
        nothing = jax.tree.map(jnp.zeros_like, params["adaptor"])
        found = model.embed(params | {"adaptor": nothing}, context)
        own = model.encoder.embed(params["encoder"], context)
        jax.tree.map(np.testing.assert_array_equal, found, own)

    def test_needs_a_table(self):
        with pytest.raises(ValueError, match="AlphaRec has none"):
            KAR(AlphaRec()).init(jax.random.key(0), SPEC)  # type: ignore[arg-type]


def least_squares(design, target, *penalties):
    """Columns that minimise the sum, each with its own entry held at 0."""
    size = design.shape[1]
    out = np.zeros((size, size))
    for j in range(size):
        rest = np.delete(np.arange(size), j)
        rows, wanted = [design[:, rest]], [target[:, j]]
        for weight, goal in penalties:
            rows.append(np.sqrt(weight) * np.eye(size)[:, rest])
            wanted.append(np.sqrt(weight) * goal[:, j])
        answer = np.linalg.lstsq(np.concatenate(rows), np.concatenate(wanted))[0]
        out[rest, j] = answer
    return out


class TestTextAutoencoder:
    @pytest.mark.parametrize("kappa", [0.0, 3.0])
    def test_minimises_its_objective(self, kappa, plain, matrix, tables):
        model = TextAutoencoder(ridge=2.0, text_ridge=0.7, kappa=kappa)
        items = texts_of(matrix, tables)[1][0]
        text = items / np.maximum(np.linalg.norm(items, axis=1), 1e-9)[:, None]
        zero = np.zeros((ITEMS, ITEMS))
        similar = least_squares(text.T, text.T, (0.7, zero))
        x = matrix.astype(np.float64)
        expected = least_squares(x, x, (2.0, zero), (kappa, similar))
        params = model.solve(plain)
        np.testing.assert_allclose(params["weights"], expected, rtol=1e-3, atol=1e-5)
        # Texts alone reach an item that nobody took.
        assert (np.abs(expected[:, COLD]).max() > 0) == (kappa > 0)

    def test_scores_are_sums_of_rows(self, plain, matrix, monkeypatch):
        model = TextAutoencoder(ridge=2.0)
        params = model.solve(plain)
        weights = np.asarray(params["weights"])
        users, items = jnp.array([8, 0, 3, 3]), jnp.array([COLD, 2, 2, 0])
        for size in (2, 256):
            monkeypatch.setattr("recjax.models.text_autoencoder._USERS", size)
            found = model.score(params, plain.seen, users, items)
            expected = (matrix @ weights)[np.asarray(users)][:, np.asarray(items)]
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
            np.testing.assert_array_equal(_gram(plain), matrix.T @ (1.0 * matrix))

    def test_newcomers_are_scored_like_known_users(self, plain, matrix):
        model = TextAutoencoder()
        params = model.solve(plain)
        known, _ = recommend(model, params, plain, users=[4, 8], k=6)
        histories = item_lists(*np.nonzero(matrix[[4, 8]]), 2)
        new, _ = recommend(model, params, plain, histories=histories, k=6)
        np.testing.assert_array_equal(known, new)


class TestOptions:
    @pytest.mark.parametrize(
        "model", [Aligned(), Aligned(MF(), Reconstruct()), KAR(), AlphaRec()]
    )
    def test_configurations_come_back_from_json(self, model):
        assert from_dict(to_dict(model), CONFIG_TYPES) == model

    def test_parts_are_chosen_by_name(self):
        words = ["--model", "aligned", "--model.encoder.objective=bpr", "data"]
        words += ["--model.encoder", "mf", "--model.alignment", "reconstruct"]
        default, rest = train_defaults(words)
        assert default.model == Aligned(MF(objective=BPR()), Reconstruct())
        assert rest == ["data"]

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ("--model kar --model.alignment contrast", "kar has no alignment"),
            ("--model aligned --model.objective bpr", "aligned has no objective"),
            ("--model aligned --model.encoder popular", "no encoder 'popular'"),
            (
                "--model kar --model.encoder graph_alignment "
                "--model.encoder.objective bpr",
                "kar has no encoder.objective",
            ),
        ],
    )
    def test_parts_that_are_not_there(self, words, message):
        with pytest.raises(ValueError, match=message):
            train_defaults(words.split())
