"""Scenarios tell a true story: what a generator plants is found again."""

import numpy as np

from experiments import ecommerce, news, social_media
from recjax.data import Split, find, load, prepare


def test_communities_are_planted_and_found(capsys):
    world = social_media.World(
        users=100, posts=150, communities=4, follows=6, likes=9, seed=1
    )
    made = social_media.make(world)
    triples = made.data.triples.to_pydict()
    ends = [
        made.communities[made.data.find_users(triples[name][:500])]
        for name in ("head", "tail")
        if triples["relation"][499] == "follows"
    ]
    # .85 of them, and a quarter of the rest by chance.
    assert len(ends) == 2 and np.mean(ends[0] == ends[1]) > 0.8
    train = made.data.part("train")
    assert not made.newcomers[train.users].any() and made.newcomers.sum() == 20
    results = social_media.main(world, epochs=12)
    alone, whole = results["likes"], results["likes, follows, authors"]
    assert whole["community of new"] > 0.5 > 0.35 > alone["community of new"]
    assert whole["new"] > 2 * alone["new"]
    assert set(whole["weights"]) == {"interaction", "follows", "wrote"}
    assert "generated" in capsys.readouterr().out


def bag_of_words(titles):
    """What a language model is not, but quick: a column a word."""
    words = sorted({word for title in titles for word in title.split()})
    return np.array([[word in title.split() for word in words] for title in titles])


def test_topics_are_found_in_cold_articles(capsys):
    world = news.World(users=60, articles=800, clicks=15)
    made = news.make(world)
    train, test = made.data.part("train"), made.data.part("test")
    on_topic = (made.topics[train.items][:, None] == made.favourites[train.users]).any(
        1
    )
    assert on_topic.mean() > 0.85
    # Nothing is clicked before it is written, and half of it within some hours.
    age = train.times - made.written[train.items]
    assert (age >= -1).all() and np.median(age) < 12 * 3600
    assert train.times.max() < test.times.min()
    found = news.main(world, encode=bag_of_words, epochs=15)
    assert found["cold"] > 0.5
    assert found["AlphaRec on titles"] > 1.3 * found["Popular"]
    assert found["own topics"] > 0.8
    assert "generated" in capsys.readouterr().out


def test_a_customer_is_listed_what_others_visited_together(tmp_path, capsys):
    """Items 3 k, 3 k + 1 and 3 k + 2 are visited in one go, by nine customers each."""
    rng, rows = (
        np.random.default_rng(0),
        {"view": [], "cart": [], "buy": [], "test": []},
    )
    for user in range(60):
        for visit in range(4):
            group = rng.integers(0, 12)
            start = 100_000 * visit
            items = 3 * group + rng.permutation(3)
            rows["view"] += [(user, items[0], start), (user, items[1], start + 30)]
            rows["cart"].append((user, items[1], start + 40))
            rows["test" if visit == 3 else "buy"].append((user, items[2], start + 60))
    arrays = {"num_users": 60, "num_items": 40}
    for part, found in rows.items():
        columns = np.array(sorted(set(found))).T
        # A pair is there once.
        once = np.unique(columns[0] * 40 + columns[1], return_index=True)[1]
        for name, column in zip(("user", "item", "time"), columns, strict=True):
            arrays[f"{part}_{name}"] = column[once]
    folder = tmp_path / "retail_rocket"
    folder.mkdir()
    np.savez(folder / "interactions.npz", **arrays)
    path = prepare(
        folder,
        tmp_path / "data" / "retail_rocket",
        split_by=Split(carve="latest", hide_pairs=True),
    )
    assert load(find(path)).target == "buy"
    found = ecommerce.main(["--data-dir", str(tmp_path / "data"), "--user", "3"])
    assert found["CoVisit"] > 0.9 > 0.8 > found["Popular"]
    assert found["listed"]
    for product, other in found["listed"][:1]:
        assert int(product) // 3 == int(other) // 3
    assert "customer 3 did" in capsys.readouterr().out
