"""Texts to tokens, and to vectors: side by side in rows, in few shapes."""

import functools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from recjax.encoders._blocks import pool
from recjax.encoders._extra import library
from recjax.encoders._types import TextTower, Tokens
from recjax.types import Params

# Columns of the compiled programs; longer texts take the next multiple of the last.
_WIDTHS = (64, 80, 96, 112, 128, 160, 192, 224, 256)
# Texts side by side in a row: at most one for so many of its columns.
_COLUMNS_A_TEXT = 4
# More fall out of the caches of a CPU, fewer leave an accelerator idle.
_CPU_TOKENS, _OTHER_TOKENS = 2048, 16384


def read_tokenizer(folder: Path, *, vocabulary: int) -> Any:
    """The tokenizer of a model, which neither cuts nor pads.

    Args:
      folder: with ``tokenizer.json``.
      vocabulary: tokens that the model knows.

    Returns:
      A ``tokenizers.Tokenizer``.

    Raises:
      ValueError: there is none, it is damaged, or it knows more tokens than the model.
    """
    tokenizers = library("tokenizers")
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise ValueError(
            f"{file} is missing: save the tokenizer again by save_pretrained of a fast "
            "tokenizer, which writes it"
        )
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(f"{file} is no tokenizer ({error})") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    last = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    if last >= vocabulary:
        raise ValueError(
            f"{file} knows tokens up to {last}, the model only {vocabulary}: they do "
            "not belong together"
        )
    config = folder / "sentence_bert_config.json"
    if config.is_file() and json.loads(config.read_text()).get("do_lower_case"):
        lower = tokenizers.normalizers.Lowercase()
        rest = [tokenizer.normalizer] if tokenizer.normalizer is not None else []
        tokenizer.normalizer = tokenizers.normalizers.Sequence([lower, *rest])
    return tokenizer


def tokenize(tokenizer: Any, texts: Sequence[str], *, length: int) -> Tokens:
    """Texts as arrays of one width, padded on the right.

    A text of more tokens is cut, and keeps the special tokens that stand at its ends.
    An empty one has those alone, or no token at all where the tokenizer adds none.
    Padding is masked, so that a tokenizer needs no token for it.

    Args:
      tokenizer: as in `Loaded`.
      texts: B of them.
      length: T.

    Returns:
      Tokens ``[B, T]``, on the host.

    Raises:
      ValueError: something among the texts is no text, or the length leaves no room.

    Examples:
      >>> from tokenizers import Tokenizer, models, pre_tokenizers
      >>> words = {"[UNK]": 0, "a": 1, "film": 2}
      >>> tokenizer = Tokenizer(models.WordLevel(words, "[UNK]"))
      >>> tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
      >>> tokens = tokenize(tokenizer, ["a film", ""], length=3)
      >>> tokens.ids.tolist(), tokens.mask.sum(axis=1).tolist()
      ([[1, 2, 0], [0, 0, 0]], [2, 0])
    """
    rows = _rows(tokenizer, texts, length)
    return _padded(rows, length)


def encode_texts(
    tower: TextTower,
    params: Params,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    length: int | None = None,
    batch_tokens: int | None = None,
) -> np.ndarray:
    """Vectors of texts, in their order; see `encode_batches`.

    Args:
      tower: the model.
      params: its parameters.
      tokenizer: as in `Loaded`.
      texts: n of them.
      length: tokens of the longest text, the rest of which is cut; None for the
        tower's own.
      batch_tokens: tokens of a batch, with padding; None for what suits the device.

    Returns:
      ``[n, D]`` float32, on the host; zeros for a text without any token.

    Raises:
      ValueError: something among the texts is no text, or a vector is not finite.
    """
    out = np.zeros((len(texts), tower.dim), np.float32)
    for places, vectors in encode_batches(
        tower, params, tokenizer, texts, length=length, batch_tokens=batch_tokens
    ):
        out[places] = vectors
    return out


def encode_batches(
    tower: TextTower,
    params: Params,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    length: int | None = None,
    batch_tokens: int | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Vectors of texts as they are done, the longest texts first.

    Several texts stand in a row, so that hardly anything is computed for padding; a
    token attends to those of its own text.  Rows have few widths, each compiled once.
    The vector of a text does not depend on its company, but for rounding.

    Args:
      tower: the model.
      params: its parameters.
      tokenizer: as in `Loaded`.
      texts: n of them.
      length: as for `encode_texts`.
      batch_tokens: tokens of a batch, with padding; None for what suits the device.

    Yields:
      Places of some texts, and their vectors ``[B, D]`` float32, on the host.

    Raises:
      ValueError: as `encode_texts`.
    """
    rows = _rows(tokenizer, texts, tower.length if length is None else length)
    waiting: list[tuple[_Packed, jax.Array]] = []
    if batch_tokens is None:
        on_cpu = jax.default_backend() == "cpu"
        batch_tokens = _CPU_TOKENS if on_cpu else _OTHER_TOKENS

    def alone(places: np.ndarray) -> np.ndarray:
        some = [rows[place] for place in places]
        tokens = _padded(some, max(map(len, some)))
        return np.asarray(_encode(tower, params, tokens, 1))[:, 0]

    for packed in _batches(rows, batch_tokens):
        most = packed.tokens.ids.shape[1] // _COLUMNS_A_TEXT
        waiting.append((packed, _encode(tower, params, packed.tokens, most)))
        # The next ones are on their way while this one is computed.
        if len(waiting) > 2:
            yield _taken(texts, alone, *waiting.pop(0))
    for packed, vectors in waiting:
        yield _taken(texts, alone, packed, vectors)


class _Packed(NamedTuple):
    """Several texts a row: their places in the list, and where each of them went."""

    places: np.ndarray
    row: np.ndarray
    number: np.ndarray
    tokens: Tokens


def _taken(
    texts: Sequence[str],
    alone: Callable[[np.ndarray], np.ndarray],
    packed: _Packed,
    vectors: jax.Array,
) -> tuple[np.ndarray, np.ndarray]:
    """A finished batch, without its padding; ValueError where it is not finite."""
    places = packed.places
    found = np.asarray(vectors)[packed.row, packed.number]
    bad = np.flatnonzero(~np.isfinite(found).all(axis=1))
    if len(bad):
        # What is not finite reaches the other texts of its row.
        found[bad] = alone(places[bad])
        bad = bad[~np.isfinite(found[bad]).all(axis=1)]
    if len(bad):
        raise ValueError(
            f"the vectors of {len(bad)} of {len(places)} texts are not finite, such as "
            f"that of {texts[places[bad[0]]][:60]!r}: the parameters are damaged, or "
            "too large for their type"
        )
    return places, found


@functools.partial(jax.jit, static_argnames=("tower", "most"))
def _encode(tower: TextTower, params: Params, tokens: Tokens, most: int) -> jax.Array:
    """A vector of each text of each row, ``[B, most, D]``."""
    states, mask = tower.states(params, tokens), tokens.mask
    return pool(states, mask, tower.pooling, normalise=tower.normalise, texts=most)


def _rows(tokenizer: Any, texts: Sequence[str], length: int) -> list[list[int]]:
    """The tokens of each text."""
    if isinstance(texts, str):
        raise ValueError(f"texts are a list of texts; got the text {texts[:60]!r}")
    texts = list(texts)
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"text {place} is {text!r}, which is no text")
    if tokenizer.padding is not None or tokenizer.truncation is not None:
        raise ValueError(
            "the tokenizer pads or cuts by itself: call its no_padding() and "
            "no_truncation() once"
        )
    special = tokenizer.num_special_tokens_to_add(is_pair=False)
    if length <= special:
        raise ValueError(
            f"length {length} leaves no room beside {special} special tokens"
        )
    rows = []
    for one in tokenizer.encode_batch(texts, add_special_tokens=False):
        one.truncate(length - special)
        rows.append(tokenizer.post_process(one).ids)
    return rows


def _padded(rows: Sequence[Sequence[int]], width: int) -> Tokens:
    """Tokens of that many columns, one text a row."""
    lengths = np.array([len(row) for row in rows], np.int64)
    mask = np.arange(width) < lengths[:, None]
    ids = np.zeros(mask.shape, np.int32)
    ids[mask] = [token for row in rows for token in row]
    return Tokens(ids, mask)


def _batches(rows: Sequence[Sequence[int]], batch_tokens: int) -> Iterator[_Packed]:
    """Texts side by side in rows, so that hardly a column is padding.

    The longest text that is left begins a row, then the longest that still fits.
    """
    waiting: list[list[int]] = [[] for _ in range(max(map(len, rows), default=0) + 1)]
    for place in reversed(range(len(rows))):
        waiting[len(rows[place])].append(place)
    left = len(rows)
    while left:
        while not waiting[-1]:
            waiting.pop()
        width = _width(len(waiting) - 1)
        full = max(1, batch_tokens // width)
        lines: list[list[int]] = []
        while left and len(lines) < full:
            lines.append(_line(waiting, width))
            left -= len(lines[-1])
        # The last batch grows by eighths of a full one, for few shapes.
        step = -(-full // 8)
        height = min(full, -(-len(lines) // step) * step)
        yield _side_by_side(rows, lines, (height, width))


def _line(waiting: list[list[int]], width: int) -> list[int]:
    """Takes the places of one row's texts out of those that wait, by their length."""
    line: list[int] = []
    size = len(waiting) - 1
    room = width
    while len(line) < width // _COLUMNS_A_TEXT:
        while size >= 0 and not waiting[size]:
            size -= 1
        if size < 0:
            break
        line.append(waiting[size].pop())
        room -= size
        size = min(size, room)
    return line


def _side_by_side(
    rows: Sequence[Sequence[int]], lines: list[list[int]], shape: tuple[int, int]
) -> _Packed:
    ids, mask = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    at = []
    for row, line in enumerate(lines):
        start = 0
        for number, place in enumerate(line):
            end = start + len(rows[place])
            ids[row, start:end], mask[row, start:end] = rows[place], number + 1
            at.append((place, row, number))
            start = end
    return _Packed(*np.array(at).T, tokens=Tokens(ids, mask))


def _width(length: int) -> int:
    """Columns for texts of that length."""
    for width in _WIDTHS:
        if length <= width:
            return width
    return -(-length // _WIDTHS[-1]) * _WIDTHS[-1]
