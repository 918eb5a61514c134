"""Alignments that bring vectors near each other: distillation, and with uniformity."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from recjax.alignments._texts import Texts, of_batch
from recjax.layers import init_mlp, mlp
from recjax.losses import alignment_loss, distillation_loss, uniformity_loss
from recjax.types import Batch, Embeddings, Params


@dataclasses.dataclass(frozen=True)
class Distil:
    r"""Distillation between graph and text, in either direction or in both.

    With ``g_v = mlp(e_v)``, widths D, (F + D) / 2, F, and ``t_v = mlp'(s_v)``, back,

    .. math:: d(g_v, \mathrm{sg}(s_v)) \text{ (the text teaches)}, \qquad
              d(t_v, \mathrm{sg}(e_v)) \text{ (the graph teaches)},

    means over the users and items of a batch that have a text, with d one minus the
    cosine, or the mean square of the differences, and sg no derivative.  A text that
    is frozen learns nothing from the graph; its perceptron does, and with it items
    that have no interaction yet come into the graph's space.

    Examples:
      >>> import jax
      >>> params = Distil(teacher="both").init(jax.random.key(0), dim=4, width=6)
      >>> {name: part["layer1"]["bias"].shape for name, part in params.items()}
      {'to_text': (6,), 'to_graph': (4,)}

    References:
      Hinton et al., Distilling the knowledge in a neural network, 2015; Romero et al.,
      FitNets, ICLR 2015, equation 3 (of vectors, by a map between their spaces).
    """

    weight: float = 0.1
    """Weight of the loss beside that of the encoder."""
    teacher: Literal["text", "graph", "both"] = "text"
    """Which side stays as it is."""
    distance: Literal["cosine", "mse"] = "cosine"
    """What is made small."""

    def init(self, key: jax.Array, *, dim: int, width: int) -> Params:
        """A perceptron for each direction."""
        between, keys = (width + dim) // 2, jax.random.split(key)
        params = {}
        if self.teacher != "graph":
            params["to_text"] = init_mlp(keys[0], dim, between, width)
        if self.teacher != "text":
            params["to_graph"] = init_mlp(keys[1], width, between, dim)
        return params

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
        loss = jnp.zeros(())
        for nodes, said, where in of_batch(vectors, texts, batch):
            pairs = []
            if "to_text" in params:
                pairs.append((mlp(params["to_text"], nodes), said))
            if "to_graph" in params:
                pairs.append((mlp(params["to_graph"], said), nodes))
            for student, teacher in pairs:
                loss += distillation_loss(
                    student, teacher, distance=self.distance, where=where
                )
        return loss


@dataclasses.dataclass(frozen=True)
class AlignUniform:
    r"""Alignment and uniformity across modalities: near one's text, far from others.

    With ``t_v = mlp(s_v)``, widths F, (F + D) / 2, D, all vectors of unit length,

    .. math:: \mathrm{mean}\,|e_v - t_v|^2 + \frac{\gamma}{2}
              (\mathrm{uniformity}(e) + \mathrm{uniformity}(t)),

    for the users and for the items of a batch, each counted once, that have a text.

    Examples:
      >>> import jax
      >>> params = AlignUniform().init(jax.random.key(0), dim=4, width=6)
      >>> params["mlp"]["layer1"]["bias"].shape
      (4,)

    References:
      Wang and Isola, ICML 2020, sections 4.1 and 4.2; Wang et al., DirectAU, KDD 2022
      (for recommenders).  Across two modalities is ours.
    """

    weight: float = 0.1
    """Weight of the loss beside that of the encoder."""
    gamma: float = 1.0
    """Weight of uniformity in it."""

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
        loss = jnp.zeros(())
        for nodes, said, where in of_batch(vectors, texts, batch):
            mapped = mlp(params["mlp"], said)
            spread = uniformity_loss(nodes, where=where)
            spread += uniformity_loss(mapped, where=where)
            loss += alignment_loss(nodes, mapped, where=where) + self.gamma / 2 * spread
        return loss
