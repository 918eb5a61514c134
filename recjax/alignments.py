"""How representations of a graph are brought together with those of a text.

An alignment is a frozen dataclass, as an objective is: its fields are its settings,
``init`` makes what it learns, and calling it with what the encoder gives is the loss.
One with a ``hide`` replaces some vectors before the encoder sees them.  Any of them
goes with any encoder and any objective; see `recjax.models.Aligned`.
"""

import dataclasses
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from recjax.layers import init_mlp, mlp
from recjax.losses import info_nce_loss
from recjax.types import Batch, Embeddings, Feature, Params


class Texts(NamedTuple):
    """Vectors of texts about users and about items, width F.

    Attributes:
      users: values ``[U, F]``, with their mask.
      items: values ``[I, F]``, with their mask.
    """

    users: Feature
    items: Feature


@dataclasses.dataclass(frozen=True)
class Contrast:
    r"""RLMRec-Con: a text, mapped into the space of the graph, finds its node.

    With ``t_v = mlp(s_v)``, widths F, (F + D) / 2, D, and InfoNCE by cosines,

    .. math:: \mathrm{NCE}(e_u, t_u; U) + \mathrm{NCE}(e_i, t_i; B)
              + \mathrm{NCE}(e_j, t_j; B),

    over the users u, the positives i and the negatives j of a batch: users compete
    with all users, items with those of the batch.  Of several negatives a pair the
    first one counts, and without negatives there is no third term.  An item that is
    in the batch twice competes with itself, as in the released code.  Nodes without a
    text are left out.

    Examples:
      >>> import jax
      >>> params = Contrast().init(jax.random.key(0), dim=4, width=6)
      >>> params["mlp"]["layer0"]["kernel"].shape, params["mlp"]["layer1"]["bias"].shape
      ((6, 5), (4,))

    References:
      Ren et al., Representation learning with large language models for
      recommendation, WWW 2024, contrastive alignment; the released code (which users
      and items compete).
    """

    weight: float = 1e-2
    """Weight of the loss beside that of the encoder."""
    temperature: float = 0.2
    """Cosines are divided by it."""

    def init(self, key: jax.Array, *, dim: int, width: int) -> Params:
        """The perceptron on the text's side."""
        return {"mlp": init_mlp(key, width, (width + dim) // 2, dim)}

    def __call__(
        self,
        params: Params,
        vectors: Embeddings,
        texts: Texts,
        batch: Batch,
        hidden: jax.Array | None = None,
    ) -> jax.Array:
        """The loss of a batch."""
        del hidden
        of_users = mlp(params["mlp"], texts.users.values)
        loss = info_nce_loss(
            vectors.users[batch.users],
            of_users[batch.users],
            temperature=self.temperature,
            candidates=of_users,
            counted=texts.users.present,
            where=(batch.weight > 0) & texts.users.present[batch.users],
        )
        some = [batch.items]
        if batch.negatives.shape[1]:
            some.append(batch.negatives[:, 0])
        for items in some:
            loss += info_nce_loss(
                vectors.items[items],
                mlp(params["mlp"], texts.items.values[items]),
                temperature=self.temperature,
                where=(batch.weight > 0) & texts.items.present[items],
            )
        return loss


@dataclasses.dataclass(frozen=True)
class Reconstruct:
    r"""RLMRec-Gen: hidden nodes are to tell their texts from what surrounds them.

    A share of the nodes' vectors is replaced by one learned token before the encoder
    runs; the loss of the encoder is that of this masked pass, too.  With ``g_v =
    mlp(e_v)``, widths D, (F + D) / 2, F, and H the hidden nodes that have a text,

    .. math:: -\frac{1}{|H|} \sum_{v \in H} \log
              \frac{\exp(\cos(g_v, s_v) / t)}{\sum_{w \in H} \exp(\cos(g_v, s_w) / t)}.

    An encoder whose nodes do not see each other learns nothing from it.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> model = Reconstruct(share=0.5)
      >>> params = model.init(jax.random.key(0), dim=2, width=6)
      >>> nodes, hidden = model.hide(params, jnp.ones((8, 2)), jax.random.key(1))
      >>> len(hidden), nodes.sum().item()  # the token starts as 0
      (4, 8.0)

    References:
      Ren et al., WWW 2024, generative alignment; the released code (the masked pass).
    """

    weight: float = 0.1
    """Weight of the loss beside that of the encoder."""
    temperature: float = 0.5
    """Cosines are divided by it."""
    share: float = 0.15
    """Share of users and items that is hidden, anew at every step."""

    def init(self, key: jax.Array, *, dim: int, width: int) -> Params:
        """The token, 0, and the perceptron on the graph's side."""
        return {
            "token": jnp.zeros(dim),
            "mlp": init_mlp(key, dim, (width + dim) // 2, width),
        }

    def hide(
        self, params: Params, nodes: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """The nodes with the token in some rows, and these rows ``[H]``, distinct."""
        number = max(1, round(self.share * len(nodes)))
        rows = jax.random.permutation(key, len(nodes))[:number]
        return nodes.at[rows].set(params["token"]), rows

    def __call__(
        self,
        params: Params,
        vectors: Embeddings,
        texts: Texts,
        batch: Batch,
        hidden: jax.Array | None = None,
    ) -> jax.Array:
        """The loss of the hidden nodes, whatever the batch is."""
        del batch
        both = [jnp.concatenate([a, b]) for a, b in zip(*texts, strict=True)]
        values, present = (table[hidden] for table in both)
        nodes = jnp.concatenate([vectors.users, vectors.items])[hidden]
        return info_nce_loss(
            mlp(params["mlp"], nodes),
            values,
            temperature=self.temperature,
            where=present,
        )


Alignment: TypeAlias = Contrast | Reconstruct

ALIGNMENTS = {"contrast": Contrast, "reconstruct": Reconstruct}
"""Names that the command line takes."""
