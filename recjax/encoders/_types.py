"""What a tower takes, what it is, and what a folder holds."""

from typing import Any, Literal, NamedTuple, Protocol

import jax

from recjax.types import Params

Pooling = Literal["mean", "cls", "last"]
"""How the vectors of tokens become one: their mean, the first one, the last one."""


class Tokens(NamedTuple):
    """Texts as a tower takes them; T is the number of columns.

    Attributes:
      ids: ``[B, T]`` int32; what stands in padding is of no effect.
      mask: ``[B, T]`` bool, True for tokens, False for padding on either side.  Where
        rows hold several texts, one after the other, int32: the number of the text
        from 1, and 0 for padding.
    """

    ids: Any
    mask: Any


class TextTower(Protocol):
    """A large model that makes one vector of a text.

    A frozen dataclass that is its own configuration: printable, hashable, an argument
    of jitted functions.  Parameters are a plain nested dict; the layers are stacked:
    an array below ``params["layers"]`` has the layers on its first axis.
    """

    @property
    def dim(self) -> int:
        """Width D of the vectors."""
        ...

    @property
    def length(self) -> int:
        """Tokens of the longest text that is read; the rest of it is cut."""
        ...

    @property
    def pooling(self) -> Pooling:
        """How the vectors of tokens become one."""
        ...

    @property
    def normalise(self) -> bool:
        """Whether vectors get the length 1."""
        ...

    def init(self, key: jax.Array) -> Params:
        """Random parameters."""
        ...

    def states(self, params: Params, tokens: Tokens) -> jax.Array:
        """A vector of each token, ``[B, T, D]``."""
        ...

    def encode(self, params: Params, tokens: Tokens) -> jax.Array:
        """A vector of each text, ``[B, D]`` float32."""
        ...


class Loaded(NamedTuple):
    """A model from a folder.

    Attributes:
      tower: the model.
      params: its parameters.
      tokenizer: a ``tokenizers.Tokenizer``; None for an image tower.
    """

    tower: Any
    params: Params
    tokenizer: Any
