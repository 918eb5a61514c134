"""KAR: a mixture of experts brings knowledge in texts into a model's own vectors."""

import dataclasses
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from recjax.layers import fuse_experts, init_fuse_experts
from recjax.models._texts import all_texts, text_width
from recjax.models.graph_alignment import GraphAlignment
from recjax.models.lightgcn import LightGCN
from recjax.models.mf import MF
from recjax.types import Batch, Context, ItemLists, Params, Spec, prepare, prepared

Encoder: TypeAlias = LightGCN | MF | GraphAlignment


@dataclasses.dataclass(frozen=True)
class KAR:
    r"""KAR's hybrid-expert adaptor, in front of a model with a vector a node.

    There are two kinds of knowledge k, about users and about items.  With ``x_v`` the
    text of node v and ``k(v)`` its kind,

    .. math::
      z_v = \sum_e g_e(x_v)\, f_e(x_v), \qquad
      g = \mathrm{softmax}(G_{k(v)} x_v + b_{k(v)}), \qquad
      E^0_v = e_v + z_v,

    over experts ``f_e`` that both kinds share and experts of the kind alone, each a
    perceptron with one hidden layer.  The encoder takes E^0 for its table.  A node
    without a text has ``z = 0``.  An item without interactions has its z, which is what
    ranks it.

    KAR is a paper on click prediction: its two vectors are features beside all others,
    and any network reads them.  Here they are added to the table, and the encoder's
    L2 is on that sum.  Texts that a language model reasons out about a user are not in
    the data: a user's is the mean of the vectors of the training items.  Newcomers are
    folded in by the encoder, from their items, and have no z of their own.

    Examples:
      >>> import jax
      >>> from recjax.types import Spec
      >>> spec = Spec(num_users=3, num_items=5, features=(("text", 6),))
      >>> params = KAR(MF(dim=4), hidden=7).init(jax.random.key(0), spec)
      >>> sorted(params["adaptor"]["specific"])
      ['items', 'users']
      >>> params["adaptor"]["shared"]["first"]["kernel"].shape
      (2, 6, 7)

    References:
      Xi et al., Towards open-world recommendation with knowledge augmentation from
      large language models, RecSys 2024, the hybrid-expert adaptor; `fuse_experts`.
    """

    encoder: Encoder = LightGCN()  # noqa: RUF009 - frozen
    """The model whose table the knowledge is added to; any with ``params["nodes"]``,
    D = ``dim`` wide."""
    shared: int = 2
    """Experts of both kinds of knowledge."""
    specific: int = 2
    """Experts of each kind alone."""
    hidden: int = 128
    """Width of the experts' hidden layer."""
    feature: str = ""
    """The feature table to read; empty for all of them, side by side."""

    @property
    def num_negatives(self) -> int:
        """Negatives of one training pair."""
        return self.encoder.num_negatives

    @property
    def score_bound(self) -> Any:
        """The encoder's, where it has one; it reads the state alone."""
        encoder: Any = self.encoder
        bound = encoder.score_bound
        return lambda params, state: bound(params["encoder"], state)

    def prepare(self, context: Context) -> dict[str, Any]:
        """The texts of users and items, and what the encoder needs."""
        own = {"texts": all_texts(context, self.feature)}
        return prepare(self.encoder, context).prepared | own

    def refresh(self, params: Params, context: Context, key: jax.Array) -> Context:
        """The encoder's context of an epoch."""
        if not hasattr(self.encoder, "refresh"):
            return context
        return self.encoder.refresh(self._inner(params, context), context, key)

    def init(self, key: jax.Array, spec: Spec) -> Params:
        """Parameters of the encoder, as it would have them alone, and the experts."""
        encoder = self.encoder.init(key, spec)
        if "nodes" not in encoder:
            raise ValueError(
                "knowledge is added to a table of nodes, and "
                f"{type(self.encoder).__name__} has none"
            )
        width = text_width(spec, self.feature)
        adaptor = init_fuse_experts(
            jax.random.fold_in(key, 1),
            {"users": width, "items": width},
            self.encoder.dim,
            hidden=self.hidden,
            num_shared=self.shared,
            num_specific=self.specific,
        )
        return {"encoder": encoder, "adaptor": adaptor}

    def _inner(self, params: Params, context: Context) -> Params:
        """The encoder's parameters with E^0 for its table."""
        texts = prepared(context, "texts")
        added = [
            fuse_experts(params["adaptor"], {kind: x.values}, {kind: x.present})
            for kind, x in texts._asdict().items()
        ]
        nodes = params["encoder"]["nodes"]
        z = jnp.concatenate(added)
        z = jnp.pad(z, ((0, len(nodes) - len(z)), (0, 0)))
        return params["encoder"] | {"nodes": nodes + z}

    def embed(self, params: Params, context: Context) -> Any:
        """The encoder's state."""
        return self.encoder.embed(self._inner(params, context), context)

    def score(
        self, params: Params, state: Any, users: jax.Array, items: jax.Array
    ) -> jax.Array:
        """The encoder's scores."""
        return self.encoder.score(params["encoder"], state, users, items)

    def fold_in(
        self, params: Params, context: Context, state: Any, histories: ItemLists
    ) -> Any:
        """The encoder's newcomers."""
        inner = self._inner(params, context)
        return self.encoder.fold_in(inner, context, state, histories)

    def loss(
        self, params: Params, context: Context, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The encoder's loss on E^0."""
        return self.encoder.loss(self._inner(params, context), context, batch, key)
