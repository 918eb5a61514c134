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


def dot_bound(params: Params, state: Embeddings) -> tuple[jax.Array, jax.Array]:
    r"""Lengths that bound `dot_score`, ``s_ui <= lengths_u lengths_i``.

    It is the inequality of Cauchy and Schwarz, with room for the rounding of D
    products and their sum.  A model takes it as its own by ``score_bound =
    staticmethod(dot_bound)``.

    Args:
      params: not used, as in `dot_score`.
      state: representations ``[U, D]`` and ``[I, D]``.

    Returns:
      Lengths ``[U]`` and ``[I]``, float32.

    Examples:
      >>> state = Embeddings(jnp.array([[3.0, 4.0]]), jnp.array([[0.0, 2.0]]))
      >>> [round(float(x[0]), 3) for x in dot_bound({}, state)]
      [5.0, 2.0]
    """
    del params
    dim, floats = state.items.shape[1], jnp.finfo(jnp.float32)
    room = 1 + (dim + 4) * floats.eps
    # What squares too small for a float may have lost.
    lost = float(dim * floats.tiny) ** 0.5

    def lengths(vectors):
        return room * jnp.linalg.norm(vectors.astype(jnp.float32), axis=1) + lost

    return lengths(state.users), lengths(state.items)
