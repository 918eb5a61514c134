"""Social media: who follows whom tells what a newcomer will like.

    python -m experiments.social_media

The data is generated, and says so: users live in planted communities, follow mostly
their own, write posts, and like mostly what those write whom they follow.  A fifth of
them are newcomers: they follow others and have liked nothing yet.  Likes, follows and
authorship are typed edges of one graph, and `BehaviourGCN` learns what each of these
relations is worth.  Without follows and authors, a newcomer is a node without an edge.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import pyarrow as pa

from recjax.data import Dataset, dataset_relations
from recjax.evaluation import evaluate, recommend
from recjax.lists import item_lists
from recjax.models import BehaviourGCN
from recjax.objectives import Softmax
from recjax.training import init_state, make_epoch
from recjax.types import Interactions, Spec


@dataclasses.dataclass(frozen=True)
class World:
    """What is generated."""

    users: int = 400
    """Users; the first fifth of each community are newcomers."""
    posts: int = 600
    """Posts, each by a random user."""
    communities: int = 8
    """Planted communities of users."""
    follows: int = 10
    """Users that each one follows."""
    likes: int = 12
    """Posts that each one likes, two of them held out; of newcomers, all are."""
    stray: float = 0.15
    """Share of follows and likes that go anywhere."""
    seed: int = 0
    """Of everything."""


class Made(NamedTuple):
    """A generated network.

    Attributes:
      data: with the parts ``train`` and ``test``, and follows and authors as triples.
      communities: ``[U]`` of the users.
      of_posts: ``[I]`` of the posts, those of their authors.
      newcomers: ``[U]`` bool.
    """

    data: Dataset
    communities: np.ndarray
    of_posts: np.ndarray
    newcomers: np.ndarray


def make(world: World = World()) -> Made:
    """Generates a network.

    Args:
      world: its numbers.

    Returns:
      The network and the truth that was planted.
    """
    rng = np.random.default_rng(world.seed)
    communities = np.arange(world.users) % world.communities
    newcomers = np.arange(world.users) < world.users // 5
    authors = rng.integers(0, world.users, world.posts)
    of_posts = communities[authors]

    def draw(own: np.ndarray, number: int, size: int) -> np.ndarray:
        """Distinct things: the own ones, but for those that go astray."""
        astray = rng.random(number) < world.stray
        pool = own if len(own) else np.arange(size)
        drawn = np.where(
            astray, rng.integers(0, size, number), rng.choice(pool, number)
        )
        return np.unique(drawn)

    follows, likes = [], []
    for user in range(world.users):
        near = np.flatnonzero(communities == communities[user])
        others = draw(near, world.follows, world.users)
        others = others[others != user]
        follows += [(user, other) for other in others]
        posts = draw(np.flatnonzero(np.isin(authors, others)), world.likes, world.posts)
        likes += [(user, post) for post in rng.permutation(posts)]
    users, posts = np.array(likes, np.int32).T
    first = np.searchsorted(users, users)
    held_out = (np.arange(len(users)) - first < 2) | newcomers[users]
    follower, followed = np.array(follows).T
    ids = pa.array([f"user {n}" for n in range(world.users)])
    names = pa.array([f"post {n}" for n in range(world.posts)])
    kinds = ["follows"] * len(follower) + ["wrote"] * world.posts
    table = {
        "head_kind": ["user"] * len(kinds),
        "head": pa.concat_arrays([ids.take(follower), ids.take(authors)]),
        "relation": kinds,
        "tail_kind": ["user"] * len(follower) + ["item"] * world.posts,
        "tail": pa.concat_arrays([ids.take(followed), names]),
    }
    data = Dataset(
        spec=Spec(world.users, world.posts),
        name="generated network",
        parts={
            "train": Interactions(users[~held_out], posts[~held_out]),
            "test": Interactions(users[held_out], posts[held_out]),
        },
        users=pa.table({"id": ids}),
        items=pa.table({"id": names}),
        relation_names=(),
        triples=pa.table(table),
    )
    return Made(data, communities, of_posts, newcomers)


def study(made: Made, relations: tuple[str, ...], *, epochs: int = 30) -> dict:
    """Trains on some relations.

    Args:
      made: the network.
      relations: names of those that become edges.
      epochs: passes over the likes.

    Returns:
      Recall@20 of all users and of newcomers, the share of lists that is of the user's
      community, learned weights of the relations, and what is needed to list.
    """
    spec, context = dataset_relations(made.data, relations)
    model, adam = BehaviourGCN(dim=32, objective=Softmax(0.2)), optax.adam(0.01)
    run_epoch = make_epoch(model, adam, batch_size=1024)
    state = init_state(model, adam, spec, jax.random.key(0))
    for _ in range(epochs):
        state, _ = run_epoch(state, context)
    test = made.data.part("test")
    found: dict[str, Any] = {}
    for name, chosen in (("all", test.users >= 0), ("new", made.newcomers[test.users])):
        rows = test.take(chosen)
        targets = item_lists(rows.users, rows.items, spec.num_users)
        scores = evaluate(
            model, state.params, context, targets, ks=(20,), metrics=("recall",)
        )
        found[name] = scores["recall@20"]
    everyone = np.arange(spec.num_users)
    listed, _ = recommend(model, state.params, context, users=everyone, k=20)
    same = made.of_posts[listed] == made.communities[:, None]
    weights = np.exp(np.asarray(state.params["relation"]))
    return found | {
        "community": float(same.mean()),
        "community of new": float(same[made.newcomers].mean()),
        "weights": dict(zip(spec.relations, weights.tolist(), strict=True)),
        "listed": listed,
    }


def main(world: World = World(), *, epochs: int = 30) -> dict:
    """Compares likes alone with the whole graph, and lists for a newcomer.

    Args:
      world: what to generate.
      epochs: passes over the likes.

    Returns:
      What `study` found, by what the graph holds.
    """
    made = make(world)
    chance = 1 / world.communities
    print(f"generated: {world.communities} communities, {world.users} users")
    results = {
        "likes": study(made, ("interaction",), epochs=epochs),
        "likes, follows, authors": study(made, ("all",), epochs=epochs),
    }
    for name, found in results.items():
        print(
            f"{name}: Recall@20 {found['all']:.3f}, of newcomers {found['new']:.3f}; "
            f"{found['community']:.0%} of a list is of the user's community, "
            f"{found['community of new']:.0%} of a newcomer's ({chance:.0%} by chance)"
        )
    best = results["likes, follows, authors"]
    print("learned:", ", ".join(f"{n} {w:.2f}" for n, w in best["weights"].items()))
    user = 0
    print(f"user {user}, new, of community {made.communities[user]}:")
    for post in best["listed"][user][:5]:
        print(f"  post {post} of community {made.of_posts[post]}")
    return results


if __name__ == "__main__":
    main()
