"""AlphaRec: vectors of texts through a perceptron, and the graph; no learned table."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from recjax.layers import (
    init_mlp,
    mlp,
    newcomer_sum,
    propagate,
    propagate_layers,
)
from recjax.models._dot import dot_bound, dot_score
from recjax.models._features import list_features
from recjax.models._nodes import batch_nodes, comparable, split_batch, split_nodes
from recjax.models._texts import all_texts, masked, text_width
from recjax.objectives import Objective, SampledSoftmax
from recjax.types import (
    Batch,
    Context,
    Embeddings,
    Feature,
    ItemLists,
    Params,
    Spec,
    prepared,
)


@dataclasses.dataclass(frozen=True)
class AlphaRec:
    r"""AlphaRec: a language model's vectors of titles, mapped and smoothed.

    With ``x_i`` the vector of item i's text and ``x_u`` the mean of those of user u's
    training items,

    .. math:: Z^0 = f(x), \qquad E = (Z^0 + A Z^0 + \dots + A^L Z^0) / (L + 1),

    f a perceptron ``W_2 leaky_relu(W_1 x + b_1) + b_2``, or one matrix.  Nothing is
    learned of a single user or item, so that an item without any interaction has a
    vector like all others.  An item without a text starts from 0 and has what its
    users send it; it does not enter their means.

    The paper's loss gives the sampled negatives no logQ.  `SampledSoftmax` has it, and
    with uniform negatives it is a constant: ``log(|unknown items| / M)`` is added to
    every negative's logit and not to the positive's.  Gradients differ by little while
    the negatives outweigh the positive in the sum.  Other differences from the
    released code: kernels start by Glorot's rule and biases from 0, and vectors are
    not divided by anything but their length.

    Examples:
      >>> import jax
      >>> from recjax.types import Spec
      >>> spec = Spec(num_users=3, num_items=5, features=(("text", 6),))
      >>> params = AlphaRec(dim=2, hidden=4).init(jax.random.key(0), spec)
      >>> jax.tree.map(lambda x: x.shape, params["map"]["layer0"])
      {'bias': (4,), 'kernel': (6, 4)}

    References:
      Sheng et al., Language representations can be what recommenders need: findings
      and potentials, ICLR 2025.
    """

    dim: int = 64
    """Width D of the vectors."""
    hidden: int = 0
    """Width of the perceptron's hidden layer; 0 for half that of the text's vector."""
    linear: bool = False
    """One matrix without bias instead of the perceptron."""
    layers: int = 2
    """Propagations L."""
    objective: Objective = SampledSoftmax(temperature=0.15)  # noqa: RUF009 - frozen
    """What the vectors are trained for."""
    feature: str = ""
    """The feature table to read; empty for all of them, side by side."""

    score = staticmethod(dot_score)
    score_bound = staticmethod(dot_bound)
    splits_batch = True

    @property
    def num_negatives(self) -> int:
        """Negatives of one training pair."""
        return self.objective.num_negatives

    def prepare(self, context: Context) -> dict[str, Feature]:
        """Vectors x ``[N, F]`` of all nodes; attribute nodes have none."""
        users, items = all_texts(context, self.feature)
        values = np.concatenate([users.values, items.values])
        present = np.concatenate([users.present, items.present])
        rest = int(np.sum(context.graph.n_node)) - len(values)
        return {
            "node_texts": Feature(
                np.pad(values, ((0, rest), (0, 0))), np.pad(present, (0, rest))
            )
        }

    def init(self, key: jax.Array, spec: Spec) -> Params:
        """The map f from widths F to D."""
        width = text_width(spec, self.feature)
        between = () if self.linear else (self.hidden or max(width // 2, 1),)
        widths = (width, *between, self.dim)
        return {"map": init_mlp(key, *widths, bias=not self.linear)}

    def _start(self, params: Params, texts: Feature) -> jax.Array:
        """The map f; 0 where there is no text."""
        return masked(mlp(params["map"], texts.values), texts.present)

    def embed(self, params: Params, context: Context) -> Embeddings:
        """The rows of E, of unit length under a cosine objective."""
        nodes = self._start(params, prepared(context, "node_texts"))
        nodes = propagate(context.graph, nodes, depth=self.layers)
        return comparable(self.objective, split_nodes(nodes, context))

    def fold_in(
        self, params: Params, context: Context, state: Embeddings, histories: ItemLists
    ) -> Embeddings:
        """Newcomers start from the mean of their texts, and receive from their items.

        Layer k + 1 comes from layer k of the items, held still.
        """
        nodes = self._start(params, prepared(context, "node_texts"))
        layers = propagate_layers(context.graph, nodes, depth=self.layers)
        total = sum(layers[:-1], jnp.zeros_like(nodes))
        total = split_nodes(total, context).items
        texts = prepared(context, "node_texts")
        items = Feature(*(split_nodes(x, context).items for x in texts))
        users = self._start(params, list_features(items, histories))
        users += newcomer_sum(total, context.item_counts, histories)
        users = comparable(self.objective, users / len(layers))
        return state._replace(users=users)

    def loss(
        self, params: Params, context: Context, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The objective on E."""
        del key
        nodes = self._start(params, prepared(context, "node_texts"))
        # The start is computed for all nodes at once, so that rows are taken last.
        nodes = propagate(context.graph, nodes, depth=self.layers)
        vectors = split_batch(nodes[batch_nodes(context, batch)], batch)
        loss = self.objective(vectors, context, batch)
        return loss, {"objective": loss}
