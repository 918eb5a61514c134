"""The score that most models share."""

import jax
import jax.numpy as jnp
from jax import lax

from recjax.types import Embeddings, Params


def dot_score(
    params: Params, state: Embeddings, users: jax.Array, items: jax.Array
) -> jax.Array:
    r"""Scores of users for items: dot products of their representations.

    .. math:: s_{bc} = e_{u_b} \cdot e_{i_c}

    A model takes it as its own by ``score = staticmethod(dot_score)``.

    Args:
      params: not used; there because it is the signature of `recjax.types.Scorer`.
      state: representations ``[U, D]`` and ``[I, D]``.
      users: ``[B]`` integer users.
      items: ``[C]`` integer items.

    Returns:
      ``[B, C]`` float32.

    Examples:
      >>> items = jnp.array([[3.0, 0.0], [0.0, 1.0]])
      >>> state = Embeddings(jnp.array([[1.0, 2.0]]), items)
      >>> dot_score({}, state, jnp.array([0]), jnp.array([1, 0])).tolist()
      [[2.0, 3.0]]
    """
    del params
    # Accelerators multiply float32 in shorter types unless told otherwise; scores that
    # differ would then tie, and a ranking would depend on the machine.
    return jnp.einsum(
        "bd,cd->bc",
        jnp.asarray(state.users)[users],
        jnp.asarray(state.items)[items],
        precision=lax.Precision.HIGHEST,
        preferred_element_type=jnp.float32,
    )
