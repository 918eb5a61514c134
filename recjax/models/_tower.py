"""Vectors of items by a tower, a large model that is trained along with the graph.

The tower's own weights are data: they and its inputs stay in ``context.prepared``, and
only what changes them, adapters and differences (`recjax.adapters`), is learned.
"""

import dataclasses
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from recjax.adapters import add_delta, init_delta, init_lora, merge_lora
from recjax.models._texts import item_texts
from recjax.types import Batch, Context, Feature, Params, prepared


class Tower(Protocol):
    """What is asked of a large model; those of `recjax.encoders` fit."""

    @property
    def dim(self) -> int:
        """Width F of its vectors."""
        ...

    def init(self, key: jax.Array) -> Params:
        """Parameters, of which the shapes are read."""
        ...

    def encode(self, params: Params, tokens: Any) -> jax.Array:
        """Vectors ``[B, F]`` of inputs, a tree of arrays with a leading axis B."""
        ...


def with_tower(
    context: Context, params: Params, tokens: Any, present: Any = None
) -> Context:
    """A context that holds the weights of a tower and what it reads of each item.

    Args:
      context: the training data.
      params: the weights.
      tokens: the inputs of all items, a tree of arrays ``[I, ...]``.
      present: ``[I]`` bool, which items have a text at all; None for all.

    Returns:
      The context, with all of it on the device.

    Raises:
      ValueError: the inputs are not one an item.
    """
    num_items = context.item_counts.shape[0]
    present = np.ones(num_items, bool) if present is None else np.asarray(present)
    for leaf in [*jax.tree.leaves(tokens), present]:
        if leaf.shape[:1] != (num_items,):
            raise ValueError(
                f"tokens or present {leaf.shape} must have a row for each of "
                f"{num_items} items, in the order of the dataset"
            )
    held = {"tower": params, "tokens": tokens, "texts_present": present}
    held = jax.device_put(held)
    return context._replace(prepared=context.prepared | held)


@dataclasses.dataclass(frozen=True)
class Tuned:
    """A tower within a model: what of it is learned, and which items pass it.

    It starts as the frozen tower, to the last bit.  In a step all items pass it, or
    some of the batch's positives; the vectors of the others then come from a memory
    bank, filled anew at the start of every epoch.  Items pass in chunks, and what a
    chunk computes is done again for its derivative, so that memory is that of one
    chunk.

    Examples:
      >>> Tuned().tower is None  # the model reads the dataset's feature tables
      True

    References:
      Hu et al., LoRA, ICLR 2022; Chen et al., Training deep nets with sublinear memory
      cost, 2016 (computing again); Wu et al., Unsupervised feature learning via
      non-parametric instance discrimination, CVPR 2018 (the memory bank).
    """

    tower: Any = None
    """The large model, a `Tower`; None for none."""
    rank: int = 8
    """Of the adapters; 0 for none."""
    adapt: tuple[str, ...] = ("*query*kernel", "*value*kernel")
    """Patterns of the kernels that get one."""
    scale: float = 2.0
    """Of the adapters' product; the paper's alpha / r."""
    unfreeze: tuple[str, ...] = ()
    """Patterns of weights that are trained in full."""
    refreshed: Literal["batch", "all"] = "batch"
    """Items that pass the tower in a step."""
    rows: int = 64
    """At most so many of the batch; 0 for no limit."""
    chunk: int = 64
    """Items that pass together."""

    def init(self, key: jax.Array) -> Params:
        """What is learned: nothing of it has an effect yet."""
        shapes = jax.eval_shape(self.tower.init, key)
        changes = {"delta": init_delta(shapes, self.unfreeze)}
        if self.rank:
            adapt = {"rank": self.rank, "targets": self.adapt}
            changes["lora"] = init_lora(key, shapes, **adapt)
        return changes

    def weights(self, changes: Params, context: Context) -> Params:
        """The tower's weights, changed."""
        weights = prepared(context, "tower")
        weights = merge_lora(weights, changes.get("lora", {}), scale=self.scale)
        return add_delta(weights, changes["delta"])

    def vectors(
        self, changes: Params, context: Context, rows: jax.Array | None = None
    ) -> jax.Array:
        """What the tower gives now, ``[R, F]``, for items ``[R]``; None for all.

        A row outside the catalogue gives that of some item.
        """
        weights, tokens = self.weights(changes, context), prepared(context, "tokens")
        last = context.item_counts.shape[0] - 1
        rows = jnp.arange(last + 1) if rows is None else jnp.minimum(rows, last)
        chunks = -(-len(rows) // max(1, self.chunk))
        # Of even size: a last chunk that is nearly empty would be padding for the most.
        size = -(-len(rows) // chunks)

        @jax.checkpoint
        def one(rows):
            return self.tower.encode(weights, jax.tree.map(lambda x: x[rows], tokens))

        padded = jnp.pad(rows, (0, chunks * size - len(rows)))
        vectors = jax.lax.map(one, padded.reshape(chunks, size))
        return vectors.reshape(chunks * size, -1)[: len(rows)]

    def refresh(self, changes: Params, context: Context) -> Context:
        """The context with the bank of an epoch, where there is one."""
        if self.tower is None or self.refreshed == "all":
            return context
        bank = self.vectors(changes, context)
        return context._replace(prepared=context.prepared | {"bank": bank})

    def texts(
        self,
        changes: Params,
        context: Context,
        batch: Batch | None = None,
        feature: str = "",
    ) -> Feature:
        """Vectors ``[I, F]`` of all items; in a step, by the schedule.

        Args:
          changes: from `init`.
          context: the training data, with the tower's if there is one.
          batch: of a step; None when scoring.
          feature: the table to read where there is no tower; empty for all.
        """
        if self.tower is None:
            return item_texts(context, feature)
        if batch is None or self.refreshed == "all":
            vectors = self.vectors(changes, context)
            return Feature(vectors, prepared(context, "texts_present"))
        num_items = context.item_counts.shape[0]
        # For padding, and an item that is there twice, a row that is nobody's.
        rows = jnp.where(batch.weight > 0, batch.items, num_items)
        rows = rows[: self.rows or None]
        rows = jnp.unique(rows, size=len(rows), fill_value=num_items)
        fresh = self.vectors(changes, context, rows)
        bank = prepared(context, "bank").at[rows].set(fresh, mode="drop")
        return Feature(bank, prepared(context, "texts_present"))
