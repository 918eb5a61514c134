"""ModalGCN: LightGCN with frozen graphs of alike items, made ready for what is next."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recjax.graphs import add_graphs
from recjax.layers import newcomer_sum, propagate, propagate_rows, unit_length
from recjax.models._dot import dot_bound, dot_score
from recjax.models._item_graph import item_graphs
from recjax.models._lateness import item_lateness
from recjax.models._nodes import (
    add_to_items,
    batch_nodes,
    comparable,
    init_nodes,
    newcomer_nodes,
    node_counts,
    objective_with_l2,
    split_batch,
    split_nodes,
)
from recjax.objectives import Objective, Softmax
from recjax.sparse import graph_sum, take_rows
from recjax.types import Batch, Context, Embeddings, ItemLists, Params, Spec, prepared


@dataclasses.dataclass(frozen=True)
class ModalGCN:
    r"""Collaborative vectors, lent between items that look or sound alike.

    With E the learned table of users and items, A the normalised interactions and S
    the mean over the modalities of their k-nearest-neighbour graphs (cosine of
    standardised features, made symmetric, normalised), frozen,

    .. math::
      H &= \frac{1}{L + 1} \sum_{l=0}^{L} A^l E, \qquad
      H_I \leftarrow H_I + w\, S E_I,

      X &= H / |H|, \qquad Z = X + v\, \frac{A^2 X}{|A^2 X|}, \qquad
      s_{ui} = \cos(z_u, z_i) + p \ln d_i + g\, t_i.

    X is trained, by the in-batch softmax on its cosines.  The number of users d of an
    item is left to p in training and in scoring, where the objective corrects a share
    of logQ only (`recjax.objectives.Softmax.popularity`): ``ln P(i | u)``, which is
    learned, differs between items by more than cosines can.

    What else is there is for scoring only.  Z blends each user with like users and each
    item with like items, after lengths, which grow with popularity, are gone.  The
    lateness t of an item (`recjax.models._lateness.item_lateness`) says whether it is
    met first or later, from the lengths of the lists that it is in: people are shown
    what comes next.

    Without features S is left out.  The ablation of all parts is in
    ``experiments/tiktok_multimodal.py``.  Rows of users and items have a last entry
    more, 1 and ``p ln d + g t``, so that scores are dot products.

    Examples:
      >>> import jax
      >>> from recjax.types import Spec
      >>> spec = Spec(num_users=3, num_items=5, features=(("image", 7),))
      >>> ModalGCN(dim=8).init(jax.random.key(0), spec)["nodes"].shape
      (8, 8)

    References:
      He et al., LightGCN, SIGIR 2020 (H); Zhou and Shen, FREEDOM, ACM MM 2023 (frozen
      item graphs); Yi et al., RecSys 2019 (logQ).  Their combination, Z and t are ours.
    """

    dim: int = 64
    """Width of the vectors."""
    layers: int = 3
    """Propagations L on the interaction graph."""
    neighbours: int = 10
    """Nearest items k of an item, in each modality."""
    modal_weight: float = 0.5
    """w, of what items receive from those that are alike; 0 for none."""
    smoothing: float = 0.8
    """v, of the last smoothing; 0 for none."""
    lateness: float = 0.0
    """g, of an item's lateness; to be chosen on valid.  It can help where each user's
    last item is held out, as on TikTok (0.8), and not where rows are held out at
    random; on Retail Rocket it does not."""
    objective: Objective = Softmax()  # noqa: RUF009 - frozen
    """What the vectors are trained for; p is that of a `Softmax`, and 0 for others."""
    l2: float = 1e-4
    """Weight of `batch_l2_loss` on the batch's rows of E."""
    init_scale: float = 0.01
    """Standard deviation of E at the start."""

    score = staticmethod(dot_score)
    score_bound = staticmethod(dot_bound)
    splits_batch = True

    @property
    def num_negatives(self) -> int:
        """Negatives of one training pair."""
        return self.objective.num_negatives

    def prepare(self, context: Context) -> dict[str, Any]:
        """The lateness t, and S where there are features to make it of."""
        pairs = np.asarray(context.users), np.asarray(context.items)
        lateness = item_lateness(*pairs, node_counts(context)[1])
        found: dict[str, Any] = {"lateness": lateness}
        if context.features and self.modal_weight:
            graphs = item_graphs(
                context,
                k=self.neighbours,
                include_self=False,
                standardise=True,
                symmetrise=True,
            )
            share = [1 / len(graphs)] * len(graphs)
            found["item_graph"] = add_graphs(list(graphs.values()), share)
        return found

    def init(self, key: jax.Array, spec: Spec) -> Params:
        """E from N(0, init_scale^2)."""
        return init_nodes(key, spec, self.dim, scale=self.init_scale)

    def _lent(self, context: Context, items: jax.Array) -> jax.Array:
        """What items receive from those that are alike, ``w S E_I``."""
        if not (context.features and self.modal_weight):
            return jnp.zeros_like(items)
        return self.modal_weight * graph_sum(prepared(context, "item_graph"), items)

    def _vectors(self, params: Params, context: Context) -> jax.Array:
        """X of all nodes."""
        nodes = propagate(context.graph, params["nodes"], depth=self.layers)
        users, items = split_nodes(params["nodes"], context)
        first, last = users.shape[0], users.shape[0] + items.shape[0]
        return unit_length(nodes.at[first:last].add(self._lent(context, items)))

    def _blend(self, vectors: jax.Array, received: jax.Array) -> jax.Array:
        """Z of X and ``A^2 X``, of unit length where the objective compares cosines."""
        return comparable(
            self.objective, vectors + self.smoothing * unit_length(received)
        )

    def embed(self, params: Params, context: Context) -> Embeddings:
        """The rows of Z, with what makes p and g part of the dot product."""
        vectors = self._vectors(params, context)
        received = graph_sum(context.graph, graph_sum(context.graph, vectors))
        users, items = split_nodes(self._blend(vectors, received), context)
        more = self.lateness * prepared(context, "lateness")
        if isinstance(self.objective, Softmax):
            popular = jnp.log(jnp.maximum(context.item_counts, 1.0))
            more += self.objective.popularity * popular
        return Embeddings(_with_last(users, 1.0), _with_last(items, more))

    def fold_in(
        self, params: Params, context: Context, state: Embeddings, histories: ItemLists
    ) -> Embeddings:
        """Newcomers receive from the items of their list, in every step."""
        users = newcomer_nodes(params["nodes"], context, histories, depth=self.layers)
        once = graph_sum(context.graph, self._vectors(params, context))
        received = newcomer_sum(
            split_nodes(once, context).items, context.item_counts, histories
        )
        users = self._blend(unit_length(users), received)
        return state._replace(users=_with_last(users, 1.0))

    def loss(
        self, params: Params, context: Context, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The objective on H, plus L2 on the batch's rows of E."""
        del key
        rows = batch_nodes(context, batch)
        nodes, learned = take_rows(params["nodes"], rows)
        vectors = propagate_rows(context.graph, nodes, rows, depth=self.layers)
        lent = self._lent(context, split_nodes(nodes, context).items)
        return objective_with_l2(
            self.objective,
            add_to_items(split_batch(vectors, batch), lent, batch),
            split_batch(learned, batch),
            context,
            batch,
            l2=self.l2,
        )


def _with_last(rows: jax.Array, last: jax.Array | float) -> jax.Array:
    """Rows ``[B, D]`` with an entry more, a number each or one for all."""
    column = jnp.broadcast_to(jnp.asarray(last, rows.dtype), len(rows))
    return jnp.concatenate([rows, column[:, None]], axis=1)
