"""The worked case: user A browsed B, C and D; what should A see next?

    python -m experiments.worked_case

B is in electronics, C in clothing, D in home.  Six other shoppers browsed these and
other products.  Users, products and categories are nodes of one graph; browsing and
belonging to a category are its edges.  `GraphAlignment` passes messages over it once,
with weights shared by all nodes, and gives each pair of a user and a product a
probability.  Products that A has not seen are listed by it.

The data is made up and eight rows deep: it shows the parts at work, not their quality.
"""

import jax
import numpy as np
import optax
import pyarrow as pa

from recjax.data import attribute_pairs, make_context
from recjax.evaluation import recommend
from recjax.models import GraphAlignment
from recjax.training import init_state, make_epoch
from recjax.types import Interactions, Spec

USERS = ("A", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gil")
PRODUCTS = {
    "B phone": "electronics",
    "C jacket": "clothing",
    "D lamp": "home",
    "headphones": "electronics",
    "charger": "electronics",
    "scarf": "clothing",
    "boots": "clothing",
    "rug": "home",
    "drill": "garden",
    "hose": "garden",
}
BROWSED = {
    "A": ("B phone", "C jacket", "D lamp"),
    "Ben": ("B phone", "headphones", "charger"),
    "Cleo": ("C jacket", "scarf", "B phone", "headphones"),
    "Dan": ("D lamp", "rug", "headphones"),
    "Eva": ("C jacket", "scarf", "boots", "D lamp"),
    "Finn": ("drill", "hose"),
    "Gil": ("hose", "drill", "rug"),
}


def main() -> list[tuple[str, str, float]]:
    """Trains on the browsing above.

    Returns:
      Product, category and probability of A's list, best first.
    """
    names = list(PRODUCTS)
    pairs = [
        (USERS.index(user), names.index(product))
        for user, products in BROWSED.items()
        for product in products
    ]
    users, items = np.array(pairs).T
    table = pa.table({"id": names, "category": list(PRODUCTS.values())})
    attributes, categories = attribute_pairs(table, ("category",))
    spec = Spec(len(USERS), len(names), num_attributes=len(categories))
    context = make_context(Interactions(users, items), spec, attributes=attributes)

    model, adam = GraphAlignment(dim=16, hidden=16), optax.adam(0.01)
    run_epoch = make_epoch(model, adam, batch_size=len(pairs))
    state = init_state(model, adam, spec, jax.random.key(0))
    for _ in range(40):
        state, logs = run_epoch(state, context)
    print(f"loss {logs['loss'][0]:.3f}, accuracy {logs['accuracy'][0]:.2f}")

    found, scores = recommend(model, state.params, context, users=np.array([0]), k=5)
    listed = [
        (names[item], PRODUCTS[names[item]], float(jax.nn.sigmoid(score)))
        for item, score in zip(found[0], scores[0], strict=True)
    ]
    print("A browsed", ", ".join(BROWSED["A"]))
    for product, category, probability in listed:
        print(f"  {probability:.2f}  {product} ({category})")
    return listed


if __name__ == "__main__":
    main()
