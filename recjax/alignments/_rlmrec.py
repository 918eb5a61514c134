"""The alignments of RLMRec: by contrast, and by what hidden nodes can tell."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recjax.alignments._texts import Texts
from recjax.layers import init_mlp, mlp
from recjax.losses import info_nce_loss
from recjax.types import Batch, Embeddings, Params

# As in CLIP: a step to a sharper temperature would not come back.
_SHARPEST = 0.01


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
    """Cosines are divided by it; where it is learned, at the start."""
    learned: bool = False
    """Whether the temperature is, by its logarithm."""

    def init(self, key: jax.Array, *, dim: int, width: int) -> Params:
        """The perceptron on the text's side, and the temperature if it is learned."""
        params = {"mlp": init_mlp(key, width, (width + dim) // 2, dim)}
        return params | _init_temperature(self)

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
        temperature = _temperature(self, params)
        of_users = mlp(params["mlp"], texts.users.values)
        loss = info_nce_loss(
            vectors.users[batch.users],
            of_users[batch.users],
            temperature=temperature,
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
                temperature=temperature,
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
    """Cosines are divided by it; where it is learned, at the start."""
    learned: bool = False
    """Whether the temperature is, by its logarithm."""
    share: float = 0.15
    """Share of users and items that is hidden, anew at every step."""

    def init(self, key: jax.Array, *, dim: int, width: int) -> Params:
        """The token, 0, the perceptron on the graph's side, perhaps a temperature."""
        params = {
            "token": jnp.zeros(dim),
            "mlp": init_mlp(key, dim, (width + dim) // 2, width),
        }
        return params | _init_temperature(self)

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
            temperature=_temperature(self, params),
            where=present,
        )


def _init_temperature(alignment: Contrast | Reconstruct) -> Params:
    if not alignment.learned:
        return {}
    return {"log_temperature": jnp.log(jnp.float32(alignment.temperature))}


def _temperature(alignment: Contrast | Reconstruct, params: Params) -> Any:
    if "log_temperature" not in params:
        return alignment.temperature
    return jnp.exp(jnp.maximum(params["log_temperature"], np.log(_SHARPEST)))
