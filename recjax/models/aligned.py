"""A trained model of any kind whose representations are aligned with texts."""

import dataclasses
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from recjax.alignments import Alignment, Contrast
from recjax.models._nodes import node_counts
from recjax.models._texts import all_texts, text_width
from recjax.models.graph_alignment import GraphAlignment
from recjax.models.lightgcn import LightGCN
from recjax.models.mf import MF
from recjax.types import Batch, Context, ItemLists, Params, Spec, prepare, prepared

Encoder: TypeAlias = LightGCN | MF | GraphAlignment

ENCODERS = {"lightgcn": LightGCN, "mf": MF, "graph_alignment": GraphAlignment}
"""Names that the command line takes; from Python, any model that fits will do."""


@dataclasses.dataclass(frozen=True)
class Aligned:
    """An encoder with its own loss, and an alignment with vectors of texts beside it.

    ``loss = encoder's loss + alignment.weight * alignment's loss``; encoder, objective
    and alignment are three values that are chosen apart.  Scores are the encoder's:
    texts teach it, and are not read once it is trained.  The encoder is any trained
    model whose ``embed`` gives `recjax.types.Embeddings` as wide as its ``dim``; an
    alignment that hides nodes needs their table, ``params["nodes"]``.

    Where RLMRec reads profiles of users and items that a language model wrote, an
    item's text here is its feature vector and a user's the mean of those of the
    training items.  RLMRec's encoder adds layers and penalises all parameters; here
    both are the encoder's own.  An encoder with a cosine objective gives vectors of
    unit length, and those are what is aligned.

    Examples:
      >>> import jax
      >>> from recjax.objectives import BPR
      >>> from recjax.types import Spec
      >>> model = Aligned(LightGCN(dim=4, objective=BPR()), Contrast(temperature=0.1))
      >>> spec = Spec(num_users=3, num_items=5, features=(("text", 6),))
      >>> params = model.init(jax.random.key(0), spec)
      >>> sorted(params), params["encoder"]["nodes"].shape
      (['alignment', 'encoder'], (8, 4))

    References:
      Ren et al., Representation learning with large language models for
      recommendation (RLMRec), WWW 2024.
    """

    encoder: Encoder = LightGCN()  # noqa: RUF009 - frozen
    """The model that is trained and ranks."""
    alignment: Alignment = Contrast()  # noqa: RUF009 - frozen
    """What brings its vectors and the texts together."""
    feature: str = ""
    """The feature table to read; empty for all of them, side by side."""

    @property
    def num_negatives(self) -> int:
        """Negatives of one training pair."""
        return self.encoder.num_negatives

    @property
    def score_bound(self) -> Any:
        """The encoder's, where it has one."""
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
        return self.encoder.refresh(params["encoder"], context, key)

    def init(self, key: jax.Array, spec: Spec) -> Params:
        """Parameters of the encoder, as it would have them alone, and the alignment."""
        width = text_width(spec, self.feature)
        key_of_alignment = jax.random.fold_in(key, 1)
        return {
            "encoder": self.encoder.init(key, spec),
            "alignment": self.alignment.init(
                key_of_alignment, dim=self.encoder.dim, width=width
            ),
        }

    def embed(self, params: Params, context: Context) -> Any:
        """The encoder's state, with nothing hidden."""
        return self.encoder.embed(params["encoder"], context)

    def score(
        self, params: Params, state: Any, users: jax.Array, items: jax.Array
    ) -> jax.Array:
        """The encoder's scores."""
        return self.encoder.score(params["encoder"], state, users, items)

    def fold_in(
        self, params: Params, context: Context, state: Any, histories: ItemLists
    ) -> Any:
        """The encoder's newcomers."""
        return self.encoder.fold_in(params["encoder"], context, state, histories)

    def loss(
        self, params: Params, context: Context, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The encoder's loss, plus the weighted loss of the alignment."""
        key_of_hiding, key = jax.random.split(key)
        encoder, hidden = self._hide(params, context, key_of_hiding)
        loss, logs = self.encoder.loss(encoder, context, batch, key)
        vectors = self.encoder.embed(encoder, context)
        aligned = self.alignment(
            params["alignment"], vectors, prepared(context, "texts"), batch, hidden
        )
        return loss + self.alignment.weight * aligned, logs | {"alignment": aligned}

    def _hide(
        self, params: Params, context: Context, key: jax.Array
    ) -> tuple[Params, jax.Array | None]:
        """The encoder's parameters without the vectors that the alignment hides."""
        encoder = params["encoder"]
        if not hasattr(self.alignment, "hide"):
            return encoder, None
        if "nodes" not in encoder:
            raise ValueError(
                f"{type(self.alignment).__name__} hides rows of a table of nodes, and "
                f"{type(self.encoder).__name__} has none: choose another alignment"
            )
        size = sum(node_counts(context))
        nodes, hidden = self.alignment.hide(
            params["alignment"], encoder["nodes"][:size], key
        )
        nodes = jnp.concatenate([nodes, encoder["nodes"][size:]])
        return encoder | {"nodes": nodes}, hidden
