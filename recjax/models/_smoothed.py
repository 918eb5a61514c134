"""Users and items as the mean of the layers of propagation, and newcomers likewise."""

import jax

from recjax.layers import propagate, unit_length
from recjax.models._nodes import newcomer_nodes, split_nodes
from recjax.sparse import graph_sum
from recjax.types import Context, Embeddings, ItemLists


def embed_smoothed(
    nodes: jax.Array,
    context: Context,
    *,
    depth: int,
    with_table: bool = True,
    cosine: bool = False,
) -> Embeddings:
    """The mean of ``A^k E0`` over layers k.

    Args:
      nodes: ``[N, D]``, E0.
      context: the training data.
      depth: L, the last layer.
      with_table: whether layer 0, the table itself, is part of the mean.
      cosine: give the rows unit length.

    Returns:
      The rows of users and items.
    """
    if not with_table:
        # The layers from 1 to L are those from 0 to L - 1 of A E0.
        nodes, depth = graph_sum(context.graph, nodes), depth - 1
    embeddings = split_nodes(propagate(context.graph, nodes, depth=depth), context)
    return Embeddings(*map(unit_length, embeddings)) if cosine else embeddings


def fold_in_smoothed(
    nodes: jax.Array,
    context: Context,
    state: Embeddings,
    histories: ItemLists,
    *,
    depth: int,
    with_table: bool = True,
    cosine: bool = False,
) -> Embeddings:
    """Newcomers receive from the items of their list, layer by layer.

    A newcomer has no vector of its own: layer 0 is zero, and layer k + 1 comes from
    layer k of the items, which are held still.

    Args:
      nodes: ``[N, D]``, E0.
      context: the training data.
      state: of `embed_smoothed`, with the same settings.
      histories: the newcomers' lists.
      depth: L.
      with_table: as there.
      cosine: as there.

    Returns:
      The state whose users are the newcomers.
    """
    users = newcomer_nodes(
        nodes, context, histories, depth=depth, with_table=with_table
    )
    return state._replace(users=unit_length(users) if cosine else users)
