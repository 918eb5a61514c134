"""Ranking for the runs of a study: the setting travels with the parameters."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import optax

from recjax.types import Context, ItemLists, Params, Recommender

Setting: TypeAlias = Any
"""A pytree of scalars, such as ``{"learning_rate": 0.01, "l2": 1e-4}``."""
Make: TypeAlias = Callable[[Setting], tuple[Recommender, optax.GradientTransformation]]
"""A model and its optimizer from a setting whose scalars may be traced."""


class Bundle(NamedTuple):
    """What a model of one setting scores with, as the parameters of a `_Scorer`."""

    setting: Setting
    params: Params
    embedded: Any


@dataclasses.dataclass(frozen=True)
class _Scorer:
    """Models of all settings as one scorer: the setting travels with the parameters.

    It is static and hashes by the function alone, so that ranking compiles once.
    """

    make: Make

    def embed(self, params: Any, context: Context) -> Any:
        """What was computed for all runs together."""
        del context
        return params.embedded

    def score(
        self, params: Any, state: Any, users: jax.Array, items: jax.Array
    ) -> jax.Array:
        """The score of the model of that setting."""
        return self.make(params.setting)[0].score(params.params, state, users, items)

    def fold_in(
        self, params: Any, context: Context, state: Any, histories: ItemLists
    ) -> Any:
        """Not for newcomers."""
        raise NotImplementedError("a study ranks for known users only")


@dataclasses.dataclass(frozen=True)
class _BoundedScorer(_Scorer):
    """The same for a `recjax.types.BoundedScorer`."""

    def score_bound(self, params: Any, state: Any) -> tuple[jax.Array, jax.Array]:
        """The bound of the model of that setting."""
        model: Any = self.make(params.setting)[0]
        return model.score_bound(params.params, state)


def scorer_of(make: Make, bundle: Bundle) -> _Scorer:
    """What ranks for a run, with its bundle as the parameters."""
    bounded = hasattr(make(bundle.setting)[0], "score_bound")
    return _BoundedScorer(make) if bounded else _Scorer(make)
