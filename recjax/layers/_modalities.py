"""What all fusions share: checks, masks, and steps that a missing modality leaves be.

Modalities are combined in the order of their names, by a chain of two-operand steps in
which a missing one is the neutral element.  A masked modality then gives the very
bits that leaving it out gives, which a reduction over a stacked axis need not.
"""

import functools
import operator
from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

Arrays: TypeAlias = Mapping[str, jax.Array]


class Modality(NamedTuple):
    """One modality, checked.

    Attributes:
      name: its name.
      values: ``[N, F]`` floating; rows of nodes that lack it are 0.
      present: ``[N]`` bool.
    """

    name: str
    values: jax.Array
    present: jax.Array


def prepare(
    modalities: Arrays,
    present: Arrays | None,
    *,
    known: Iterable[str] | None = None,
    same_width: bool = False,
) -> list[Modality]:
    """Modalities in the order of their names, with a mask each and 0 where missing.

    Args:
      modalities: ``[N, F]`` each.
      present: ``[N]`` each; a modality without a mask is present everywhere.
      known: names that there are parameters for; None allows all.
      same_width: whether F must be the same for all.

    Returns:
      The modalities.

    Raises:
      ValueError: no modality, an unknown one, a mask for one that is not there, or
        shapes that do not fit.
    """
    names = sorted(modalities)
    if not names:
        raise ValueError("there must be at least one modality")
    if known is not None and (unknown := sorted(set(names) - set(known))):
        raise ValueError(f"unknown modalities {unknown}: there are {sorted(known)}")
    present = {} if present is None else present
    if strangers := sorted(set(present) - set(names)):
        raise ValueError(f"masks for {strangers}: the modalities are {names}")
    first = jnp.shape(modalities[names[0]])
    ready = []
    for name in names:
        shape = jnp.shape(modalities[name])
        if len(shape) != 2 or shape[:1] != first[:1]:
            raise ValueError(
                f"{name} {shape} must be [N, F], with the N of {names[0]} {first}"
            )
        if same_width and shape != first:
            raise ValueError(
                f"{name} {shape} must have the shape of {names[0]} {first}"
            )
        mask = jnp.asarray(present.get(name, jnp.ones(shape[0], bool)))
        if mask.shape != shape[:1]:
            raise ValueError(
                f"the mask of {name} {mask.shape} must be {shape[:1]}, as it is {shape}"
            )
        mask = mask.astype(bool)
        # Before any arithmetic: NaN times 0 is NaN, in derivatives too.
        values = keep(mask, jnp.asarray(modalities[name]))
        ready.append(Modality(name, values, mask))
    return ready


def keep(mask: jax.Array, values: jax.Array, other: float = 0.0) -> jax.Array:
    """Values ``[N, F]`` in the rows of the mask ``[N]``, and another elsewhere."""
    return jnp.where(mask[:, None], values, other)


def total(terms: Iterable[jax.Array]) -> jax.Array:
    """The sum, from the first to the last."""
    return functools.reduce(operator.add, terms)


def any_present(ready: list[Modality]) -> jax.Array:
    """Nodes ``[N]`` that have a modality at all."""
    return functools.reduce(operator.or_, (m.present for m in ready))
