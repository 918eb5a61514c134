"""Tables of learned vectors, one row a node, and the loss of models that have them."""

import jax
import jax.numpy as jnp

from recjax.losses import batch_l2_loss
from recjax.objectives import Objective
from recjax.types import Batch, Context, Embeddings, Params, Spec


def init_tables(key: jax.Array, spec: Spec, dim: int, *, scale: float = 0.1) -> Params:
    """Normal tables ``{"user": [U, D], "item": [I, D]}``, ``"attribute"`` where A > 0.

    Args:
      key: a PRNG key.
      spec: sizes.
      dim: D.
      scale: standard deviation.

    Returns:
      The tables.

    Examples:
      >>> import jax
      >>> from recjax.types import Spec
      >>> tables = init_tables(jax.random.key(0), Spec(2, 3), 4)
      >>> {name: table.shape for name, table in tables.items()}
      {'user': (2, 4), 'item': (3, 4)}
    """
    sizes = {"user": spec.num_users, "item": spec.num_items}
    if spec.num_attributes:
        sizes["attribute"] = spec.num_attributes
    keys = jax.random.split(key, len(sizes))
    return {
        name: scale * jax.random.normal(one, (size, dim))
        for one, (name, size) in zip(keys, sizes.items(), strict=True)
    }


def node_table(tables: Params) -> jax.Array:
    """The tables as one array ``[N, D]``: users, items, attributes."""
    names = [name for name in ("user", "item", "attribute") if name in tables]
    return jnp.concatenate([tables[name] for name in names])


def split_nodes(nodes: jax.Array, tables: Params) -> Embeddings:
    """The users' and the items' rows of an array ``[N, D]`` over all nodes."""
    num_users, num_items = tables["user"].shape[0], tables["item"].shape[0]
    return Embeddings(nodes[:num_users], nodes[num_users : num_users + num_items])


def objective_with_l2(
    objective: Objective,
    embeddings: Embeddings,
    tables: Params,
    context: Context,
    batch: Batch,
    *,
    l2: float,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The loss of models that learn tables: an objective, and L2 on the batch's rows.

    Args:
      objective: what the vectors are trained for.
      embeddings: vectors that are compared.
      tables: learned tables, before any propagation.
      context: the training data.
      batch: B rows.
      l2: weight of `recjax.losses.batch_l2_loss`.

    Returns:
      The loss, and the objective alone to be logged.
    """
    loss = objective(embeddings, context, batch)
    penalty = batch_l2_loss(
        tables["user"][batch.users],
        tables["item"][batch.items],
        tables["item"][batch.negatives],
        where=batch.weight,
    )
    return loss + l2 * penalty, {"objective": loss}
