r"""MMHCL: vectors of interactions, of shared items and of shared looks, contrasted."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from recjax.layers import (
    propagate,
    unit_length,
)
from recjax.losses import grace_loss
from recjax.models._dot import dot_bound, dot_score
from recjax.models._features import check_features
from recjax.models._hyperedges import (
    make_hyperedges,
    mix_newcomers,
    mix_others,
    mix_symmetric,
    neighbour_hyperedges,
)
from recjax.models._nodes import (
    comparable,
    init_glorot_nodes,
    newcomer_nodes,
    node_counts,
    objective_with_l2,
    split_nodes,
)
from recjax.objectives import BPR, Objective
from recjax.types import (
    Batch,
    BatchVectors,
    Context,
    Embeddings,
    ItemLists,
    Params,
    Spec,
    prepared,
)


@dataclasses.dataclass(frozen=True)
class MMHCL:
    r"""MMHCL: LightGCN beside two hypergraphs with tables of their own.

    With R the interactions, H_m the k nearest items of each item by the cosine of
    modality m (itself among them), and D the sums of rows,

    .. math::
        Z_u = (D^{-1} (R R^T - diag))^3 E_u', \quad
        Z_i = (D^{-1/2} \textstyle\sum_m H_m H_m^T D^{-1/2})^2 E_i', \\
        u = LightGCN(E)_u + Z_u / |Z_u|, \quad i = LightGCN(E)_i + Z_i / |Z_i|,

    scored by u . i.  The loss is the objective on u and i, L2 on the same vectors of
    the batch, and ``recjax.losses.grace_loss`` of u against Z_u and of i against Z_i.

    Any number of modalities; an item is in no hyperedge of a modality that it lacks.

    The released code contrasts all users and items in every step.  Here
    ``contrast_rows`` of each, drawn uniformly, are contrasted with all others: an
    unbiased estimate, for a part of the work.  There, a batch holds distinct users;
    ``pairs="by_user"`` of `recjax.training.Training` draws them uniformly, with
    repeats.  Its learning rate is 1e-4, and falls by 4% in 50 epochs.

    Examples:
      >>> import jax
      >>> from recjax.types import Spec
      >>> params = MMHCL(dim=8).init(jax.random.key(0), Spec(3, 5))
      >>> jax.tree.map(lambda x: x.shape, params)
      {'items': (5, 8), 'nodes': (8, 8), 'users': (3, 8)}

    References:
      Guo et al., MMHCL: multi-modal hypergraph contrastive learning for
      recommendation, ACM TOMM 2025 (and its released code).
    """

    dim: int = 64
    """Width of the vectors."""
    layers: int = 2
    """Propagations over interactions."""
    user_layers: int = 3
    """Steps between users who share items."""
    item_layers: int = 2
    """Steps between items that share neighbours."""
    neighbours: int = 5
    """Nearest items k of an item, itself among them."""
    objective: Objective = BPR()  # noqa: RUF009 - frozen
    """What the vectors are trained for."""
    l2: float = 1e-3
    """Weight of `batch_l2_loss` on the batch's rows of u and i."""
    user_contrast: float = 0.03
    """Weight of the contrast of users."""
    item_contrast: float = 0.07
    """Weight of the contrast of items."""
    temperature: float = 0.6
    """Of both contrasts."""
    contrast_rows: int = 256
    """Users, and items, of a step that are contrasted with all others."""

    score = staticmethod(dot_score)
    score_bound = staticmethod(dot_bound)

    @property
    def num_negatives(self) -> int:
        """Negatives of one training pair."""
        return self.objective.num_negatives

    def init(self, key: jax.Array, spec: Spec) -> Params:
        """Tables by Glorot: of interactions, of users, of items."""
        keys = jax.random.split(key, 3)
        glorot = nn.initializers.glorot_uniform()
        return {
            **init_glorot_nodes(keys[0], spec, self.dim),
            "users": glorot(keys[1], (spec.num_users, self.dim)),
            "items": glorot(keys[2], (spec.num_items, self.dim)),
        }

    def prepare(self, context: Context) -> dict[str, Any]:
        """Hyperedges of users, one an item, and of items, one an item and modality."""
        check_features("MMHCL", context)
        num_users, num_items = node_counts(context)
        return {
            "users": make_hyperedges(
                np.asarray(context.users),
                np.asarray(context.items),
                num_nodes=num_users,
                num_hyperedges=num_items,
            ),
            "items": neighbour_hyperedges(context.features, self.neighbours),
        }

    def _vectors(
        self, params: Params, context: Context
    ) -> tuple[Embeddings, Embeddings]:
        """The vectors u and i, and Z."""
        nodes = propagate(context.graph, params["nodes"], depth=self.layers)
        own = split_nodes(nodes, context)
        users, items = params["users"], params["items"]
        for _ in range(self.user_layers):
            users = mix_others(prepared(context, "users"), users)
        for _ in range(self.item_layers):
            items = mix_symmetric(prepared(context, "items"), items)
        both = Embeddings(
            own.users + unit_length(users), own.items + unit_length(items)
        )
        return both, Embeddings(users, items)

    def embed(self, params: Params, context: Context) -> Embeddings:
        """The vectors u and i, of unit length under a cosine objective."""
        vectors, _ = self._vectors(params, context)
        return comparable(self.objective, vectors)

    def fold_in(
        self, params: Params, context: Context, state: Embeddings, histories: ItemLists
    ) -> Embeddings:
        """Newcomers receive from their items, and from the users of these items."""
        users = newcomer_nodes(params["nodes"], context, histories, depth=self.layers)
        if self.user_layers:
            known = params["users"]
            for _ in range(self.user_layers - 1):
                known = mix_others(prepared(context, "users"), known)
            mixed = mix_newcomers(prepared(context, "users"), known, histories)
            users += unit_length(mixed)
        return state._replace(users=comparable(self.objective, users))

    def loss(
        self, params: Params, context: Context, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The objective and L2 on the vectors, and the two contrasts."""
        vectors, shared = self._vectors(params, context)
        of_batch = BatchVectors(
            vectors.users[batch.users],
            vectors.items[batch.items],
            vectors.items[batch.negatives],
        )
        loss, aux = objective_with_l2(
            self.objective, of_batch, of_batch, context, batch, l2=self.l2
        )
        user_key, item_key = jax.random.split(key)

        def contrast(key, left, right):
            rows = jnp.arange(len(left))
            if self.contrast_rows < len(left):
                rows = jax.random.permutation(key, rows)[: self.contrast_rows]
            return grace_loss(left, right, temperature=self.temperature, rows=rows)

        of_users = contrast(user_key, vectors.users, shared.users)
        of_items = contrast(item_key, vectors.items, shared.items)
        loss += self.user_contrast * of_users + self.item_contrast * of_items
        return loss, aux | {"user_contrast": of_users, "item_contrast": of_items}
