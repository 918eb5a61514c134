"""CSV files as text: nothing is guessed about a cell, bad rows are counted."""

import contextlib
import csv
import io
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv

from recjax.data._names import shown

_BLOCK_BYTES = 8 << 20
_HINTS = {
    "UTF8": "; convert it to UTF-8 first",
    "JSON": '; a line is one object, such as {"user": "7", "item": "9"}, and a '
    "field is a number in all lines or text in all lines",
}


class Skipped:
    """Counts the rows that have the wrong number of cells."""

    def __init__(self) -> None:
        """Starts at zero."""
        self.count = 0
        self.over_lines = False

    def __call__(self, row: pa_csv.InvalidRow) -> str:
        """Counts one row; pyarrow calls this."""
        self.count += 1
        self.over_lines |= "\n" in row.text
        return "skip"


@contextlib.contextmanager
def naming(path: Path) -> Generator[None]:
    """Makes what pyarrow or a decoder says a ValueError that names the file."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 ({error}); convert it first") from None
    except (pa.ArrowException, OSError) as error:
        hint = next((hint for word, hint in _HINTS.items() if word in str(error)), "")
        raise ValueError(f"{path}: {error}{hint}") from None


def csv_header(path: Path, delimiter: str | None = None) -> tuple[list[str], str]:
    """Column names of a CSV file, and its delimiter (None: the commonest there)."""
    with naming(path), pa.input_stream(str(path)) as stream:
        first, _, rest = stream.read(1 << 16).partition(b"\n")
        line = first.decode("utf-8-sig").rstrip("\r")
    if "\0" in line:
        raise ValueError(f"{path}: this is no text, but something binary")
    if not line.strip():
        raise ValueError(f"{path}: the file is empty, or its first line is")
    if not rest.strip():
        raise ValueError(
            f"{path}: there are no rows below the first line, {shown(line)}"
        )
    if delimiter is None:
        delimiter = max(",\t;|", key=line.count)
    return next(csv.reader([line], delimiter=delimiter)), delimiter


def csv_batches(
    path: Path,
    header: Sequence[str],
    names: Sequence[str],
    delimiter: str,
    quoted: bool,
    skipped: Skipped,
) -> Iterator[pa.RecordBatch]:
    """Streams some columns of a CSV file as text; an empty cell is empty text."""
    last = ""
    # The last column comes too, for its last cell says whether a quote is open.
    wanted = list(dict.fromkeys([*names, header[-1]]))
    try:
        for batch in pa_csv.open_csv(
            str(path),
            read_options=pa_csv.ReadOptions(block_size=_BLOCK_BYTES),
            parse_options=_parse_options(delimiter, quoted, skipped),
            convert_options=pa_csv.ConvertOptions(
                include_columns=wanted,
                column_types=dict.fromkeys(wanted, pa.string()),
                strings_can_be_null=False,
            ),
        ):
            if batch.num_rows:
                last = batch.column(header[-1])[-1].as_py()
            yield batch
    except pa.ArrowInvalid as error:
        if "straddling" not in str(error):
            raise
        last = "\n"  # a cell longer than a block
    if skipped.over_lines or "\n" in last:
        _check_quotes(path, delimiter)


def csv_table(
    path: Path, *, delimiter: str | None = None, quoted: bool = True
) -> tuple[pa.Table, int]:
    """A whole CSV file as text, an empty cell is null; and how many rows are bad."""
    header, delimiter = csv_header(path, delimiter)
    skipped = Skipped()
    with naming(path):
        table = pa_csv.read_csv(
            str(path),
            read_options=pa_csv.ReadOptions(block_size=_BLOCK_BYTES),
            parse_options=_parse_options(delimiter, quoted, skipped),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()),
                strings_can_be_null=True,
                null_values=[""],
            ),
        )
        last = table.column(len(header) - 1)[-1].as_py() if table.num_rows else None
        if skipped.over_lines or "\n" in (last or ""):
            _check_quotes(path, delimiter)
    return table, skipped.count


def _check_quotes(path: Path, delimiter: str) -> None:
    """Refuses a file with a quote that is open at its end.

    pyarrow takes all that follows such a quote for one cell, and says nothing.
    """
    with (
        pa.input_stream(str(path)) as stream,
        io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text,
    ):
        rows = csv.reader(text, delimiter=delimiter, strict=True)
        try:
            for _ in rows:
                pass
        except csv.Error as error:
            raise pa.ArrowInvalid(
                f"a quote is opened and not closed, or stands inside a cell, at line "
                f"{rows.line_num} or before ({error}); close it, or write a cell with "
                'quotes as """so"""'
            ) from None


def _parse_options(
    delimiter: str, quoted: bool, skipped: Skipped
) -> pa_csv.ParseOptions:
    return pa_csv.ParseOptions(
        delimiter=delimiter,
        quote_char='"' if quoted else False,
        newlines_in_values=quoted,
        invalid_row_handler=skipped,
    )
