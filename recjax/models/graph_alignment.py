"""GraphAlignment: one shared graph layer, concatenation, a sigmoid output."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.layers import init_message_passing, message_passing, newcomer_sum
from recjax.losses import batch_l2_loss, bce_loss
from recjax.metrics import accuracy_metric
from recjax.models._nodes import batch_nodes, init_nodes, split_batch, split_nodes
from recjax.sparse import take_rows
from recjax.types import Batch, Context, Embeddings, ItemLists, Params, Spec


@dataclasses.dataclass(frozen=True)
class GraphAlignment:
    """Users and items through one graph layer, their pair through a sigmoid output.

    With weights shared between users, items and attributes,

        h_i' = relu(W_self h_i + sum over j in N(i) of w_ij W_nbr h_j + b),
        P(user u takes item i) = sigmoid(dense([h_u', h_i'])),

    trained by binary cross-entropy with sampled negatives.  ``w_ij`` are the graph's
    weights; a context made with ``normalisation="none"`` has 1 for all of them.

    One dense output over the concatenation is a sum of a user's and an item's part, so
    that it orders the items alike for every user.  ``hidden`` units with a relu between
    the two let a list be personal; ``hidden=0`` is the bare equation.

    Examples:
      >>> import jax
      >>> from recjax.types import Spec
      >>> model = GraphAlignment(dim=8, hidden=4)
      >>> params = model.init(jax.random.key(0), Spec(num_users=3, num_items=5))
      >>> params["layer"]["neighbour"]["kernel"].shape, params["hidden"]["kernel"].shape
      ((8, 8), (16, 4))

    References:
      Gilmer et al., Neural message passing, ICML 2017 (the layer); He et al., Neural
      collaborative filtering, WWW 2017 (the output and its loss).
    """

    dim: int = 64
    """Width of the vectors."""
    hidden: int = 64
    """Units between the concatenation and the output; 0 for none."""
    num_negatives: int = 4
    """Sampled negatives a training pair."""
    l2: float = 1e-4
    """Weight of `batch_l2_loss` on the batch's rows of the tables."""

    splits_batch = True

    def init(self, key: jax.Array, spec: Spec) -> Params:
        """Tables from N(0, 0.1^2), matrices by the rules of Glorot and LeCun."""
        keys = jax.random.split(key, 4)
        width = 2 * self.dim
        params: Params = {
            **init_nodes(keys[0], spec, self.dim),
            "layer": init_message_passing(keys[1], self.dim, self.dim),
        }
        if self.hidden:
            hidden = nn.Dense(self.hidden).init(keys[2], jnp.zeros((1, width)))
            params["hidden"] = hidden["params"]
            width = self.hidden
        output = nn.Dense(1).init(keys[3], jnp.zeros((1, width)))
        return params | {"output": output["params"]}

    def embed(self, params: Params, context: Context) -> Embeddings:
        """The vectors h' of users and items."""
        nodes = message_passing(params["layer"], context.graph, params["nodes"])
        return split_nodes(nodes, context)

    def _logits(self, params: Params, users: jax.Array, items: jax.Array) -> jax.Array:
        """Logits ``[..., B, C]`` of users ``[..., B, D]`` and items ``[..., C, D]``.

        The first matrix over a concatenation is the sum of two products; that of the
        users is taken once, whatever the number of items.
        """
        first = params["hidden" if self.hidden else "output"]
        of_users = users @ first["kernel"][: self.dim]
        of_users += jnp.broadcast_to(first["bias"], of_users.shape)
        of_items = items @ first["kernel"][self.dim :]
        both = of_users[..., :, None, :] + of_items[..., None, :, :]
        if self.hidden:
            both = nn.Dense(1).apply({"params": params["output"]}, nn.relu(both))
        return both[..., 0]

    def score(
        self, params: Params, state: Embeddings, users: jax.Array, items: jax.Array
    ) -> jax.Array:
        """Logits of all pairs; their order is that of the probabilities."""
        of_items = state.items[items]

        def one(user):
            return self._logits(params, state.users[user][None], of_items)[0]

        # A few users at a time: the hidden units of all pairs would fill memory.
        return jax.lax.map(one, users, batch_size=8)

    def fold_in(
        self, params: Params, context: Context, state: Embeddings, histories: ItemLists
    ) -> Embeddings:
        """The layer with h = 0 for the newcomer and weights 1 / sqrt(|H| d_i)."""
        layer = params["layer"]
        received = newcomer_sum(
            split_nodes(params["nodes"], context).items @ layer["neighbour"]["kernel"],
            context.item_counts,
            histories,
        )
        return state._replace(users=jax.nn.relu(received + layer["self"]["bias"][None]))

    def loss(
        self, params: Params, context: Context, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Binary cross-entropy over positives and negatives; accuracy beside it."""
        del key
        rows = batch_nodes(context, batch)
        nodes, learned = take_rows(params["nodes"], rows)
        nodes = message_passing(params["layer"], context.graph, nodes)
        users, positives, negatives = split_batch(nodes[rows], batch)
        items = jnp.concatenate([positives[:, None], negatives], axis=1)
        logits = self._logits(params, users[:, None], items)[:, 0]
        labels = jnp.zeros_like(logits).at[:, 0].set(1.0)
        where = jnp.broadcast_to(batch.weight[:, None], logits.shape)
        loss = bce_loss(logits, labels, where=where)
        penalty = batch_l2_loss(*split_batch(learned, batch), where=batch.weight)
        accuracy = accuracy_metric(logits, labels, where=where)
        return loss + self.l2 * penalty, {"objective": loss, "accuracy": accuracy}
