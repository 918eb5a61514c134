"""NGCF: graph convolutions with an elementwise product, all layers side by side."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from recjax.layers import init_ngcf, newcomer_sum, ngcf, unit_length
from recjax.models._dot import dot_bound, dot_score
from recjax.models._nodes import (
    batch_nodes,
    comparable,
    init_nodes,
    objective_with_l2,
    split_batch,
    split_nodes,
)
from recjax.objectives import BPR, Objective
from recjax.sampling import uniform_rows
from recjax.sparse import take_rows
from recjax.types import Batch, Context, Embeddings, ItemLists, Params, Spec


@dataclasses.dataclass(frozen=True)
class NGCF:
    """Neural graph collaborative filtering.

        H_(k+1) = LeakyReLU((A + I) H_k W_k + (A H_k * H_k) V_k + b_k)
        Z = [H0, unit(H_1), ..., unit(H_L)]

    A holds ``1 / sqrt(d_u d_i)``.  Every layer but the table H0 has rows of unit
    length in Z, as the authors' program has it; a score is the dot product of rows of
    Z.

    Deviations: one bias a layer where the program has two, which only add up; dropout
    of entries of the layers, in training only, and none of nodes.  The L2 is on the
    batch's rows of H0, not on the matrices.

    Examples:
      >>> import jax
      >>> from recjax.types import Spec
      >>> model = NGCF(dim=8, layers=2)
      >>> params = model.init(jax.random.key(0), Spec(num_users=3, num_items=5))
      >>> params["nodes"].shape, params["layers"][1]["product"]["kernel"].shape
      ((8, 8), (8, 8))

    References:
      Wang et al., Neural graph collaborative filtering, SIGIR 2019, equations 7 to 10.
    """

    dim: int = 64
    """Width of every layer; Z is L + 1 times as wide."""
    layers: int = 3
    """Graph layers L."""
    dropout: float = 0.1
    """Share of the entries of every layer that are 0 in a training step."""
    objective: Objective = BPR()  # noqa: RUF009 - frozen
    """What the vectors are trained for."""
    l2: float = 1e-5
    """Weight of `batch_l2_loss` on the batch's rows of H0."""
    init_scale: float = 0.1
    """Standard deviation of H0 at the start."""

    score = staticmethod(dot_score)
    score_bound = staticmethod(dot_bound)
    splits_batch = True

    @property
    def num_negatives(self) -> int:
        """Negatives of one training pair."""
        return self.objective.num_negatives

    @property
    def hops(self) -> int:
        """Propagations that the loss reads."""
        return self.layers

    def init(self, key: jax.Array, spec: Spec) -> Params:
        """H0 from N(0, init_scale^2), matrices by Glorot."""
        key, *keys = jax.random.split(key, self.layers + 1)
        layers = [init_ngcf(key, self.dim, self.dim) for key in keys]
        nodes = init_nodes(key, spec, self.dim, scale=self.init_scale)
        return {**nodes, "layers": layers}

    def embed(self, params: Params, context: Context) -> Embeddings:
        """The rows of Z, without dropout."""
        layer = params["nodes"]
        beside = [layer]
        for matrices in params["layers"]:
            layer = ngcf(matrices, context.graph, layer)
            beside.append(unit_length(layer))
        nodes = jnp.concatenate(beside, axis=1)
        return comparable(self.objective, split_nodes(nodes, context))

    def fold_in(
        self, params: Params, context: Context, state: Embeddings, histories: ItemLists
    ) -> Embeddings:
        """The layers of newcomers, with h = 0 in the first, items held still."""
        nodes = params["nodes"]
        user = jnp.zeros((len(histories.pointer) - 1, self.dim), nodes.dtype)
        beside = [user]
        for matrices in params["layers"]:
            items = split_nodes(nodes, context).items
            received = newcomer_sum(items, context.item_counts, histories)
            out = (user + received) @ matrices["sum"]["kernel"]
            out += (user * received) @ matrices["product"]["kernel"]
            user = nn.leaky_relu(out + matrices["sum"]["bias"][None], 0.2)
            beside.append(unit_length(user))
            nodes = ngcf(matrices, context.graph, nodes)
        users = jnp.concatenate(beside, axis=1)
        return state._replace(users=comparable(self.objective, users))

    def loss(
        self, params: Params, context: Context, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The objective on Z, and L2."""
        rows = batch_nodes(context, batch)
        layer, learned = take_rows(params["nodes"], rows)
        beside = [learned]
        keys = jax.random.split(key, self.layers)
        for key, matrices in zip(keys, params["layers"], strict=True):
            layer = _drop(key, ngcf(matrices, context.graph, layer), self.dropout)
            layer, taken = take_rows(layer, rows)
            beside.append(unit_length(taken))
        return objective_with_l2(
            self.objective,
            split_batch(jnp.concatenate(beside, axis=1), batch),
            split_batch(learned, batch),
            context,
            batch,
            l2=self.l2,
        )


def _drop(key: jax.Array, x: jax.Array, rate: float) -> jax.Array:
    """Each entry 0 with this probability, or else divided by that of the others."""
    if rate == 0:
        return x
    keep = uniform_rows(key, jnp.arange(len(x)), x.shape[1]) >= rate
    return jnp.where(keep, x / (1 - rate), 0)
