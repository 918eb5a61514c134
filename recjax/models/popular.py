"""Popularity: the same list for everyone."""

import dataclasses

import jax
import jax.numpy as jnp

from recjax.types import Context, ItemLists, Params


@dataclasses.dataclass(frozen=True)
class Popular:
    """Most popular items first, ``s_ui = c_i``, the training count of the item.

    The least that any model must beat.

    Examples:
      >>> import jax.numpy as jnp
      >>> params = {"count": jnp.array([5.0, 1.0, 7.0])}
      >>> Popular().score(params, params["count"], jnp.array([0]), jnp.array([2, 1]))
      Array([[7., 1.]], dtype=float32)
    """

    def solve(self, context: Context) -> Params:
        """The training counts ``[I]``."""
        return {"count": context.item_counts}

    def embed(self, params: Params, context: Context) -> jax.Array:
        """The training counts ``[I]``; the users do not matter."""
        del context
        return params["count"]

    def score(
        self, params: Params, state: jax.Array, users: jax.Array, items: jax.Array
    ) -> jax.Array:
        """Scores ``[B, C]``, alike in every row."""
        del params
        return jnp.broadcast_to(state[items], (users.shape[0], items.shape[0]))

    def fold_in(
        self, params: Params, context: Context, state: jax.Array, histories: ItemLists
    ) -> jax.Array:
        """The same state: a newcomer gets the list that everyone gets."""
        del params, context, histories
        return state
