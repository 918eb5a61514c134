"""Linear autoencoder of items that starts from what their texts say (L3AE)."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import cho_factor, cho_solve

from recjax.layers import unit_length
from recjax.lists import contains
from recjax.models._texts import item_texts
from recjax.types import Context, Feature, ItemLists, Params

# Users whose training items stand as rows of 0 and 1 at a time.
_USERS = 256


@dataclasses.dataclass(frozen=True)
class TextAutoencoder:
    r"""L3AE: EASE on texts, and EASE on interactions that stays near it.

    With X the 0/1 training matrix and T the items' texts, of unit length, ``[I, F]``,

    .. math::
      S &= \arg\min \|T^\top - T^\top S\|^2 + \lambda_t \|S\|^2, \\
      B &= \arg\min \|X - X B\|^2 + \lambda \|B\|^2 + \kappa \|B - S\|^2,

    both with a diagonal of 0, and scores ``s_u = x_u B``.  In closed form, with ``Q =
    (X^T X + (lambda + kappa) 1)^-1`` and ``R = Q S``, whatever S has on its diagonal,

    .. math::
      B_{ij} = \kappa R_{ij} - Q_{ij} \frac{1 + \kappa R_{jj}}{Q_{jj}} \quad (i \ne j),

    and S by the F x F inverse ``M = (T^T T + lambda_t 1)^-1``: ``S_ij = H_ij / (1 -
    H_jj)``, ``H = T M T^T``.  With kappa = 0 this is EASE.  An item without
    interactions is scored by its column of S, shrunk; an item without a text has 0
    there, and is scored by its interactions.

    Memory is a few arrays ``[I, I]``; the inverse takes I^3 operations.  The equations
    are derived from the objective, the paper's code was not compared.

    Examples:
      >>> import numpy as np
      >>> from recjax.data.graph import make_context
      >>> from recjax.types import Interactions, Spec
      >>> train = Interactions(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 1]))
      >>> text = Feature(np.eye(3, 2) + np.eye(3, 2, k=-2), np.ones(3, bool))
      >>> context = make_context(train, Spec(3, 3), features={"text": text})
      >>> model = TextAutoencoder(ridge=1.0, text_ridge=1.0, kappa=1.0)
      >>> params = model.solve(context)
      >>> scores = model.score(params, context.seen, np.array([0]), np.array([2]))
      >>> scores.tolist()  # nobody took item 2, whose text is that of item 0
      [[0.093...]]

    References:
      Moon et al., LLM-enhanced linear autoencoders for recommendation, CIKM 2025;
      Steck, Embarrassingly shallow autoencoders for sparse data (EASE), WWW 2019.
    """

    ridge: float = 100.0
    """Lambda, of the interactions."""
    text_ridge: float = 10.0
    """Lambda_t, of the texts."""
    kappa: float = 100.0
    """Weight of the distance to S."""
    feature: str = ""
    """The feature table to read; empty for all of them, side by side."""

    def solve(self, context: Context) -> Params:
        """The matrix B ``[I, I]``."""
        return _solve(self, context, item_texts(context, self.feature))

    def embed(self, params: Params, context: Context) -> ItemLists:
        """The training items of each user."""
        del params
        return context.seen

    def score(
        self, params: Params, state: ItemLists, users: jax.Array, items: jax.Array
    ) -> jax.Array:
        """Scores ``[B, C]``: sums of the rows of B of each user's items."""
        weights = params["weights"]
        columns = weights[:, items]
        every = jnp.arange(len(weights), dtype=jnp.int32)

        def one(user):
            row = contains(state, user[None], every[None])[0]
            return jnp.matmul(
                row.astype(columns.dtype), columns, precision=lax.Precision.HIGHEST
            )

        return lax.map(one, jnp.asarray(users), batch_size=_USERS)

    def fold_in(
        self, params: Params, context: Context, state: ItemLists, histories: ItemLists
    ) -> ItemLists:
        """The histories: newcomers are scored like users of the training data."""
        del params, context, state
        return histories


@functools.partial(jax.jit, static_argnums=0)
def _solve(model: TextAutoencoder, context: Context, texts: Feature) -> Params:
    dot = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)
    num_items = context.item_counts.shape[0]
    each = jnp.arange(num_items)
    # T^T T and X^T X with their ridges are positive definite.
    text = unit_length(texts.values)
    inner = dot(text.T, text) + model.text_ridge * jnp.eye(text.shape[1])
    factor = cho_solve(cho_factor(inner), text.T)
    own = jnp.sum(text * factor.T, axis=1)
    gram = _gram(context)
    gram = gram.at[each, each].add(model.ridge + model.kappa)
    inverse = cho_solve(cho_factor(gram), jnp.eye(num_items))
    # The diagonal of S does not matter where that of B is held; without it S is of low
    # rank, and never made.
    smoothed = model.kappa * dot(dot(inverse, text), factor) / (1 - own)[None]
    diagonal = jnp.diagonal(inverse)
    share = (1 + jnp.diagonal(smoothed)) / diagonal
    weights = smoothed - inverse * share[None]
    return {"weights": weights.at[each, each].set(0.0)}


def _gram(context: Context) -> jax.Array:
    """X^T X: the sum over users of the outer product of their rows, by blocks."""
    num_users = context.seen.pointer.shape[0] - 1
    num_items = context.item_counts.shape[0]
    every = jnp.arange(num_items, dtype=jnp.int32)[None]

    def add(block, gram):
        users = block * _USERS + jnp.arange(_USERS, dtype=jnp.int32)
        inside = users < num_users
        users = jnp.where(inside, users, 0)
        columns = jnp.broadcast_to(every, (_USERS, num_items))
        rows = contains(context.seen, users, columns) & inside[:, None]
        rows = rows.astype(jnp.float32)
        return gram + jnp.matmul(rows.T, rows, precision=lax.Precision.HIGHEST)

    blocks = -(-num_users // _USERS)
    return lax.fori_loop(0, blocks, add, jnp.zeros((num_items, num_items)))
