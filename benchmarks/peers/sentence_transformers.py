"""sentence-transformers: texts to vectors on torch."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer

from benchmarks.peers.torch_common import DEVICE


def encode(
    folder: Path, texts: Sequence[str], *, batch_size: int = 32
) -> Callable[[], np.ndarray]:
    """A function to the vectors of texts.

    Args:
      folder: of the model.
      texts: n of them.
      batch_size: texts of a batch, which it pads to the longest of them; 32 is its
        own default.

    Returns:
      The function.
    """
    model = SentenceTransformer(str(folder), device=DEVICE)
    texts = list(texts)
    return lambda: np.asarray(model.encode(texts, batch_size=batch_size))
