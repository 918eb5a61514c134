"""EDLAE: a linear denoising autoencoder in closed form."""

import dataclasses

import jax

from recjax.models._autoencoder import zero_diagonal_weights
from recjax.models._item_matrix import dense_item_score
from recjax.types import Context, ItemLists, Params


@dataclasses.dataclass(frozen=True)
class EDLAE:
    r"""EDLAE: a linear autoencoder that predicts what dropout took from its input.

    .. math::
      \min_B \; \mathbb{E}_z \sum_{ui} (1 - z_{ui})
        \big( X_{ui} - \tfrac{1}{1 - p} \sum_j z_{uj} X_{uj} B_{ji} \big)^2
        + p \lambda |B|_F^2

    .. math::
      C = \big( X^T X + \tfrac{p}{1 - p} \mathrm{diag}(X^T X) + \lambda I \big)^{-1},
      \qquad B_{ij} = -C_{ij} / C_{jj} \;\; (i \ne j), \qquad S = X B

    with X the interactions and z independent, 0 with probability p and else 1: only
    dropped entries count ("emphasis" a = 1, b = 0), so that copying an input teaches
    nothing and the diagonal of B is 0.  It is `EASE` with a ridge that grows with the
    count of an item, and EASE for p = 0.  B is of full rank; memory and time are those
    of `EASE`.

    Examples:
      >>> import numpy as np
      >>> from recjax.data.graph import make_context
      >>> from recjax.types import Interactions, Spec
      >>> train = Interactions(np.array([0, 0, 1]), np.array([0, 1, 1]))
      >>> context = make_context(train, Spec(num_users=2, num_items=2))
      >>> model = EDLAE(dropout=0.5, l2=1.0)
      >>> params = model.solve(context)
      >>> state = model.embed(params, context)
      >>> model.score(params, state, np.array([1]), np.arange(2)).round(3).tolist()
      [[0.2, 0.0]]

    References:
      Steck, Autoencoders that don't overfit towards the identity, NeurIPS 2020
      (the full-rank model).  The input is scaled by 1 / (1 - p) here, as in dropout,
      which changes B by a factor and no order of scores.
    """

    dropout: float = 0.5
    """p, the probability that an input is dropped; in [0, 1)."""
    l2: float = 10.0
    """Lambda, the ridge on top; positive."""

    def solve(self, context: Context) -> Params:
        """B ``[I, I]``."""
        if not (0 <= self.dropout < 1 and self.l2 > 0):
            raise ValueError(
                f"dropout {self.dropout} must be in [0, 1) and l2 {self.l2} positive"
            )
        # The diagonal of X^T X is the counts.
        odds = self.dropout / (1 - self.dropout)
        ridge = odds * context.item_counts + self.l2
        return {"weights": zero_diagonal_weights(context, ridge)}

    def embed(self, params: Params, context: Context) -> ItemLists:
        """The training items of each user."""
        del params
        return context.seen

    def score(
        self, params: Params, state: ItemLists, users: jax.Array, items: jax.Array
    ) -> jax.Array:
        """Scores ``[B, C]``: sums of the rows of B of each user's items."""
        return dense_item_score(params["weights"], state, users, items)

    def fold_in(
        self, params: Params, context: Context, state: ItemLists, histories: ItemLists
    ) -> ItemLists:
        """The histories: newcomers are scored like users of the training data."""
        del params, context, state
        return histories
