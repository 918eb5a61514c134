"""How representations of a graph are brought together with those of a text.

An alignment is a frozen dataclass, as an objective is: its fields are its settings,
``init`` makes what it learns, and calling it with what the encoder gives is the loss.
One with a ``hide`` replaces some vectors before the encoder sees them.  Any of them
goes with any encoder and any objective; see `recjax.models.Aligned`.
"""

from typing import TypeAlias

from recjax.alignments._distil import AlignUniform, Distil
from recjax.alignments._rlmrec import Contrast, Reconstruct
from recjax.alignments._texts import Texts

Alignment: TypeAlias = Contrast | Reconstruct | Distil | AlignUniform

ALIGNMENTS = {
    "contrast": Contrast,
    "reconstruct": Reconstruct,
    "distil": Distil,
    "align_uniform": AlignUniform,
}
"""Names that the command line takes."""

__all__ = [
    "ALIGNMENTS",
    "AlignUniform",
    "Alignment",
    "Contrast",
    "Distil",
    "Reconstruct",
    "Texts",
]
