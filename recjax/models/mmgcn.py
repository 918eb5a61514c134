"""MMGCN: one graph network a modality, tied together by the vectors of the ids."""

import dataclasses
from collections.abc import Iterator

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.graphs import normalise_edges
from recjax.layers import unit_length
from recjax.models._dot import dot_bound, dot_score
from recjax.models._features import init_projections, project_features
from recjax.models._nodes import (
    batch_nodes,
    comparable,
    init_nodes,
    objective_with_l2,
    split_batch,
    split_nodes,
)
from recjax.objectives import BPR, Objective
from recjax.sparse import graph_sum, list_sum
from recjax.types import Batch, Context, Embeddings, ItemLists, Params, Spec, prepared


@dataclasses.dataclass(frozen=True)
class MMGCN:
    r"""MMGCN: what a user likes is learned in each modality by itself.

    In modality m an item starts from its projected feature and a user from a learned
    preference, both of unit length, and then, layer by layer,

    .. math::
      h_v &= \sigma(\mathrm{mean}_{w \in N(v)} W_1 x_w) \\
      x_v' &= \sigma(W_3 h_v + b_3 + \sigma(W_2 x_v + b_2) + e_v)

    with e_v one vector a node that all modalities share and :math:`\sigma` a leaky
    relu.  A node's representation is the mean of its last layers over the modalities.

    The tables e and those of the preferences are parameters, as the paper has them; in
    the released code, and in copies of it, they are constants that training never
    changes.  An item that lacks a feature starts from 0 in that modality.  Attribute
    nodes start from a learned vector, as users do.  L2 is on the batch's rows of e and
    of the preferences.

    Examples:
      >>> import jax
      >>> spec = Spec(num_users=3, num_items=5, features=(("image", 7),))
      >>> params = MMGCN(dim=8, content_dim=6).init(jax.random.key(0), spec)
      >>> params["nodes"].shape, params["preferences"]["image"].shape
      ((8, 8), (3, 6))

    References:
      Wei et al., MMGCN: Multi-modal graph convolution network for personalized
      recommendation of micro-video, ACM MM 2019, equations 1 to 7 (the mean, and the
      element-wise combination).
    """

    dim: int = 64
    """Width of the vectors."""
    content_dim: int = 256
    """Width of preferences and projected features."""
    layers: int = 3
    """Layers of each modality, at least 1."""
    objective: Objective = BPR()  # noqa: RUF009 - frozen
    """What the vectors are trained for."""
    l2: float = 1e-4
    """Weight of `batch_l2_loss` on the batch's rows of the tables."""
    init_scale: float = 0.01
    """Standard deviation of the tables at the start, near that of Glorot's rule for a
    table of this kind, as in the released code."""

    score = staticmethod(dot_score)
    score_bound = staticmethod(dot_bound)
    splits_batch = True

    @property
    def num_negatives(self) -> int:
        """Negatives of one training pair."""
        return self.objective.num_negatives

    def prepare(self, context: Context) -> dict:
        """The graph whose neighbour sums are means."""
        return {"mean_graph": normalise_edges(context.graph, normalisation="row")}

    def init(self, key: jax.Array, spec: Spec) -> Params:
        """Tables from N(0, init_scale^2), matrices by Glorot, biases 0."""
        id_key, feature_key, *keys = jax.random.split(key, 2 + len(spec.features))
        features = init_projections(feature_key, spec, self.content_dim)
        preferences, layers = {}, {}
        rows = spec.num_users + spec.num_attributes
        for name, of_name in zip(features, keys, strict=True):
            table_key, *layer_keys = jax.random.split(of_name, 1 + self.layers)
            table = jax.random.normal(table_key, (rows, self.content_dim))
            preferences[name] = self.init_scale * table
            widths = [self.content_dim] + [self.dim] * (self.layers - 1)
            layers[name] = {
                f"layer_{number}": self._init_layer(key, width)
                for number, (key, width) in enumerate(
                    zip(layer_keys, widths, strict=True)
                )
            }
        return {
            **init_nodes(id_key, spec, self.dim, scale=self.init_scale),
            "preferences": preferences,
            "features": features,
            "layers": layers,
        }

    def _init_layer(self, key: jax.Array, width: int) -> Params:
        init, keys = nn.initializers.glorot_uniform(), jax.random.split(key, 3)
        params: Params = {"neighbour": {"kernel": init(keys[0], (width, width))}}
        for name, key in (("self", keys[1]), ("output", keys[2])):
            kernel = init(key, (width, self.dim))
            params[name] = {"kernel": kernel, "bias": jnp.zeros(self.dim)}
        return params

    def _walk(
        self, params: Params, context: Context, name: str, features: jax.Array
    ) -> Iterator[tuple[jax.Array, Params]]:
        """Nodes x ``[N, D]`` before each layer of a modality, and the layer; the end.

        Messages are sent before anything is added up: W_1 and the mean change places.
        """
        table, num_users = params["preferences"][name], context.seen.pointer.size - 1
        nodes = jnp.concatenate([table[:num_users], features, table[num_users:]])
        nodes = unit_length(nodes)
        for number in range(self.layers):
            layer = params["layers"][name][f"layer_{number}"]
            sent = nodes @ layer["neighbour"]["kernel"]
            yield sent, layer
            received = graph_sum(prepared(context, "mean_graph"), sent)
            nodes = _step(layer, received, nodes, params["nodes"])
        yield nodes, {}

    def _nodes(self, params: Params, context: Context) -> jax.Array:
        """The mean of the last layers ``[N, D]``."""
        features = project_features(params["features"], context)
        last = [
            list(self._walk(params, context, name, of_name))[-1][0]
            for name, of_name in features.items()
        ]
        return sum(last[1:], last[0]) / len(last)

    def embed(self, params: Params, context: Context) -> Embeddings:
        """The representations of users and items."""
        nodes = split_nodes(self._nodes(params, context), context)
        return comparable(self.objective, nodes)

    def fold_in(
        self, params: Params, context: Context, state: Embeddings, histories: ItemLists
    ) -> Embeddings:
        """All layers of a user whose own vectors are 0, with the items held still."""
        features = project_features(params["features"], context)
        length = jnp.maximum(jnp.diff(histories.pointer), 1)[:, None]
        total = 0.0
        for name, of_name in features.items():
            users = jnp.zeros((len(length), self.content_dim))
            for sent, layer in self._walk(params, context, name, of_name):
                if layer:
                    received = list_sum(split_nodes(sent, context).items, histories)
                    users = _step(layer, received / length, users, jnp.zeros(()))
            total += users
        users = total / len(features)
        return state._replace(users=comparable(self.objective, users))

    def loss(
        self, params: Params, context: Context, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The objective, plus L2 on the batch's rows of the tables."""
        del key
        rows = batch_nodes(context, batch)
        vectors = split_batch(self._nodes(params, context)[rows], batch)
        learned = split_batch(params["nodes"][rows], batch)
        preferences = [table[batch.users] for table in params["preferences"].values()]
        users = jnp.concatenate([learned.users, *preferences], axis=1)
        return objective_with_l2(
            self.objective,
            vectors,
            learned._replace(users=users),
            context,
            batch,
            l2=self.l2,
        )


def _step(
    layer: Params, received: jax.Array, nodes: jax.Array, ids: jax.Array
) -> jax.Array:
    """Next x of nodes, from x, what they received, and their id vectors e."""
    own, output = layer["self"], layer["output"]
    own = jax.nn.leaky_relu(nodes @ own["kernel"] + own["bias"][None])
    message = jax.nn.leaky_relu(received) @ output["kernel"] + output["bias"][None]
    return jax.nn.leaky_relu(message + own + ids)
