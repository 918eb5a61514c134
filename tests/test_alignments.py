"""Alignments of vectors and texts, against NumPy, and what they leave alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.alignments import AlignUniform, Contrast, Distil, Reconstruct, Texts
from recjax.types import Batch, Embeddings, Feature

USERS, ITEMS, D, F = 6, 7, 3, 4
SILENT = 2  # an item without a text
BATCH = Batch(
    users=jnp.array([0, 1, 1, 5, 3]),
    items=jnp.array([4, SILENT, 6, 0, 4]),
    negatives=jnp.zeros((5, 0), jnp.int32),
    weight=jnp.array([1.0, 1.0, 1.0, 1.0, 0.0]),
)
# Of each id once, with a text, in a row that counts.
COUNTED = {"users": [0, 1, 5], "items": [4, 6, 0]}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)

    def some(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    present = jnp.arange(ITEMS) != SILENT
    texts = Texts(
        Feature(some(USERS, F), jnp.ones(USERS, bool)),
        Feature(jnp.where(present[:, None], some(ITEMS, F), 0), present),
    )
    return Embeddings(some(USERS, D), some(ITEMS, D)), texts


def started(alignment):
    """Parameters none of which is 0."""
    params = alignment.init(jax.random.key(1), dim=D, width=F)
    rng = np.random.default_rng(1)
    return jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), params
    )


def perceptron(params, x):
    first, second = (
        {name: np.asarray(value, np.float64) for name, value in params[layer].items()}
        for layer in ("layer0", "layer1")
    )
    x = np.asarray(x, np.float64) @ first["kernel"] + first["bias"]
    return np.where(x > 0, x, 0.01 * x) @ second["kernel"] + second["bias"]


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def counted(vectors, texts):
    """Vectors and texts that count, of users and of items."""
    for side in ("users", "items"):
        rows = np.array(COUNTED[side])
        nodes = np.asarray(getattr(vectors, side), np.float64)[rows]
        yield nodes, np.asarray(getattr(texts, side).values, np.float64)[rows]


@pytest.mark.parametrize("distance", ["cosine", "mse"])
@pytest.mark.parametrize("teacher", ["text", "graph", "both"])
def test_distillation_is_the_distance_of_what_is_mapped(data, teacher, distance):
    model = Distil(teacher=teacher, distance=distance)
    params = started(model)
    expected = 0.0
    for nodes, said in counted(*data):
        pairs = []
        if teacher != "graph":
            pairs.append((perceptron(params["to_text"], nodes), said))
        if teacher != "text":
            pairs.append((perceptron(params["to_graph"], said), nodes))
        for x, y in pairs:
            if distance == "mse":
                expected += ((x - y) ** 2).mean()
            else:
                expected += (1 - (unit(x) * unit(y)).sum(1)).mean()
    found = model(params, *data, BATCH)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_teacher_is_left_alone(data):
    """The graph has a derivative where the text teaches, and the text none."""
    vectors, texts = data

    def grads(teacher):
        model = Distil(teacher=teacher)
        params = started(model)

        def loss(vectors, items):
            told = texts._replace(items=texts.items._replace(values=items))
            return model(params, vectors, told, BATCH)

        of_graph, of_text = jax.grad(loss, (0, 1))(vectors, texts.items.values)
        return np.abs(of_graph.items).max(), np.abs(of_text).max()

    graph, text = grads("text")
    assert graph > 0.01 and text == 0
    graph, text = grads("graph")
    assert graph == 0 and text > 0.01
    assert min(grads("both")) > 0.01


def test_alignment_and_uniformity_across_modalities(data):
    model = AlignUniform(gamma=0.7)
    params = started(model)
    expected = 0.0
    for nodes, said in counted(*data):
        x, y = unit(nodes), unit(perceptron(params["mlp"], said))
        expected += ((x - y) ** 2).sum(1).mean()
        for side in (x, y):
            distance = ((side[:, None] - side[None]) ** 2).sum(-1)
            pairs = distance[np.triu_indices(len(side), 1)]
            expected += 0.7 / 2 * np.log(np.exp(-2 * pairs).mean())
    found = model(params, *data, BATCH)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


ALL = [
    Contrast(learned=True),
    Reconstruct(learned=True),
    Distil(teacher="both"),
    AlignUniform(),
]


@pytest.mark.parametrize("model", ALL, ids=lambda model: type(model).__name__)
def test_padding_and_missing_texts_say_nothing(data, model):
    vectors, texts = data
    params, hidden = started(model), jnp.array([0, 1, 5, 10, 6 + SILENT])
    found = model(params, vectors, texts, BATCH, hidden)
    values = texts.items.values.at[SILENT].set(9.0)
    other = texts._replace(items=texts.items._replace(values=values))
    batch = BATCH._replace(
        users=BATCH.users.at[4].set(2), items=BATCH.items.at[4].set(5)
    )
    np.testing.assert_allclose(
        model(params, vectors, other, batch, hidden), found, rtol=1e-5
    )


@pytest.mark.parametrize("kind", [Contrast, Reconstruct])
def test_a_temperature_is_learned_or_fixed(data, kind):
    hidden = jnp.array([0, 1, 5, 10])
    fixed, learned = kind(temperature=0.3), kind(temperature=0.3, learned=True)
    key = jax.random.key(0)
    plain = fixed.init(key, dim=D, width=F)
    params = learned.init(key, dim=D, width=F)
    assert params.keys() - plain.keys() == {"log_temperature"}
    # At first it is the one that was given, and it has a derivative.
    expected = fixed(plain, *data, BATCH, hidden)
    value, grads = jax.value_and_grad(learned)(params, *data, BATCH, hidden)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert abs(grads["log_temperature"]) > 1e-3
    warmer = kind(temperature=0.6)(plain, *data, BATCH, hidden)
    moved = params | {"log_temperature": params["log_temperature"] + np.log(2)}
    np.testing.assert_allclose(learned(moved, *data, BATCH, hidden), warmer, rtol=1e-5)
    # No sharper than 0.01, however far a step went.
    far = params | {"log_temperature": jnp.float32(-100)}
    sharpest = kind(temperature=0.01)(plain, *data, BATCH, hidden)
    np.testing.assert_allclose(learned(far, *data, BATCH, hidden), sharpest, rtol=1e-4)
