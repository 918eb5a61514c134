"""Cells of a table to arrays: ids, numbers, times; a whole column at a time."""

import numpy as np
import pyarrow as pa

from recjax.data._arrow import pc

_INTEGER = r"^-?\d{1,18}$"
_NUMBER = r"^-?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_ISO = (
    r"^(?P<day>\d{4}-\d{2}-\d{2})(?:[T ](?P<clock>\d{2}:\d{2}:\d{2})(?:\.\d+)?)?"
    r"(?:Z|(?P<sign>[+-])(?P<hours>\d{2}):?(?P<minutes>\d{2}))?$"
)
_MAX_SECONDS = 1e18


class Vocabulary:
    """Ids seen so far; the code of an id is its position in order of appearance."""

    def __init__(self) -> None:
        """Starts empty."""
        self.ids = pa.array([], pa.string())

    def encode(self, chunks: list[pa.Array]) -> np.ndarray:
        """Codes of all chunks, int32, -1 for null; new ids join the vocabulary."""
        # Encoding the known ids first keeps their codes: one hash pass, all in C++.
        both = pa.chunked_array([self.ids, *chunks], pa.string())
        encoded = both.dictionary_encode().combine_chunks()
        codes = encoded.indices[len(self.ids) :].fill_null(-1).to_numpy()
        self.ids = encoded.dictionary
        return codes.astype(np.int32)


def decoded(column: pa.Array) -> pa.Array:
    """The column without dictionary encoding, and text of any layout as ``string``."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if (
        pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_null(kind)
    ):
        column = column.cast(pa.string())
    return column


def ids(column: pa.Array) -> pa.Array:
    """A column of ids as text; missing and empty ids are null.

    Text stays exactly as it is.  Whole numbers are written without a point, also
    those that a missing value made floating (7.0 is ``"7"``).
    """
    column = decoded(column)
    if pa.types.is_floating(column.type):
        column = column.cast(pa.float64())
        whole = pc.and_(
            pc.equal(pc.floor(column), column), pc.less(pc.abs(column), _MAX_SECONDS)
        )
        digits = pc.if_else(whole, column, 0.0).cast(pa.int64()).cast(pa.string())
        text = pc.if_else(whole, digits, column.cast(pa.string()))
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, pa.string()), text)
    elif pa.types.is_integer(column.type):
        column = column.cast(pa.string())
    elif not pa.types.is_string(column.type):
        raise ValueError(
            f"ids are text or whole numbers, got a column of {column.type}"
        )
    return pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)


def numbers(column: pa.Array) -> np.ndarray:
    """A column of numbers as float32; whatever is no finite number is NaN."""
    column = decoded(column)
    if pa.types.is_string(column.type):
        column = _text_to_float(column)
    elif pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    try:
        column = column.cast(pa.float64(), safe=False).fill_null(np.nan)
    except pa.ArrowException:
        raise ValueError(f"values are numbers, got a column of {column.type}") from None
    found = column.to_numpy(zero_copy_only=False)
    # What overflows float32 is not finite either.
    with np.errstate(over="ignore"):
        found = found.astype(np.float32)
    return np.where(np.isfinite(found), found, np.float32(np.nan))


def times(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Unix seconds as int64, and which cells could be read.

    Numbers are seconds (a fraction is cut off); text is a number or an ISO date,
    which without a zone is UTC.
    """
    column = decoded(column)
    kind = column.type
    if pa.types.is_string(kind):
        column = _text_to_time(column)
    elif pa.types.is_floating(kind):
        column = _float_to_time(column)
    elif pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        zone = kind.tz if pa.types.is_timestamp(kind) else None
        column = column.cast(pa.timestamp("s", zone), safe=False)
    elif not pa.types.is_integer(kind):
        raise ValueError(f"times are seconds or ISO dates, got a column of {kind}")
    readable = column.is_valid().to_numpy(zero_copy_only=False)
    return column.cast(pa.int64()).fill_null(0).to_numpy(), readable


def _where(text: pa.Array, pattern: str) -> pa.Array:
    """The cells that match, null elsewhere."""
    match = pc.match_substring_regex(text, pattern)
    return pc.if_else(match, text, pa.scalar(None, pa.string()))


def _text_to_float(text: pa.Array) -> pa.Array:
    try:
        return text.cast(pa.float64())
    except pa.ArrowInvalid:
        return _where(pc.utf8_trim_whitespace(text), _NUMBER).cast(pa.float64())


def _float_to_time(column: pa.Array) -> pa.Array:
    column = column.cast(pa.float64())
    readable = pc.less(pc.abs(column), _MAX_SECONDS)
    kept = pc.if_else(readable, pc.floor(column), pa.scalar(None, pa.float64()))
    return kept.cast(pa.int64())


def _text_to_time(text: pa.Array) -> pa.Array:
    try:
        return text.cast(pa.int64())
    except pa.ArrowInvalid:
        text = pc.utf8_trim_whitespace(text)
    whole = _where(text, _INTEGER).cast(pa.int64())
    broken = _float_to_time(_where(text, _NUMBER).cast(pa.float64()))
    return pc.coalesce(whole, broken, _iso_to_time(text))


def _iso_to_time(text: pa.Array) -> pa.Array:
    fields = pc.extract_regex(text, _ISO)
    day, clock, sign, hours, minutes = (
        pc.struct_field(fields, name)
        for name in ("day", "clock", "sign", "hours", "minutes")
    )
    clock = pc.if_else(pc.equal(clock, ""), "00:00:00", clock)
    moment = pc.strptime(
        pc.binary_join_element_wise(day, clock, " "),
        format="%Y-%m-%d %H:%M:%S",
        unit="s",
        error_is_null=True,
    ).cast(pa.int64())
    hours, minutes = (
        pc.if_else(pc.equal(x, ""), "0", x).cast(pa.int64()) for x in (hours, minutes)
    )
    offset = pc.add(pc.multiply(hours, 3600), pc.multiply(minutes, 60))
    west = pc.equal(sign, "-")
    return pc.if_else(west, pc.add(moment, offset), pc.subtract(moment, offset))
