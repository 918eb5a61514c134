"""CSV files as text: nothing is guessed about a cell, bad rows are counted."""

import contextlib
import csv
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv

_BLOCK_BYTES = 8 << 20


class Skipped:
    """Counts the rows that have the wrong number of cells."""

    def __init__(self) -> None:
        """Starts at zero."""
        self.count = 0

    def __call__(self, row: pa_csv.InvalidRow) -> str:
        """Counts one row; pyarrow calls this."""
        self.count += 1
        return "skip"


@contextlib.contextmanager
def naming(path: Path) -> Generator[None]:
    """Makes what pyarrow or a decoder says a ValueError that names the file."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 ({error}); convert it first") from None
    except (pa.ArrowException, OSError) as error:
        hint = "; convert it to UTF-8 first" if "UTF8" in str(error) else ""
        raise ValueError(f"{path}: {error}{hint}") from None


def csv_header(path: Path, delimiter: str | None = None) -> tuple[list[str], str]:
    """Column names of a CSV file, and its delimiter (None: the commonest there)."""
    with naming(path), pa.input_stream(str(path)) as stream:
        first, _, rest = stream.read(1 << 16).partition(b"\n")
        line = first.decode("utf-8-sig").rstrip("\r")
    if not line.strip():
        raise ValueError(f"{path}: the file is empty, or its first line is")
    if not rest.strip():
        raise ValueError(f"{path}: there are no rows below the first line, {line!r}")
    if delimiter is None:
        delimiter = max(",\t;|", key=line.count)
    return next(csv.reader([line], delimiter=delimiter)), delimiter


def csv_batches(
    path: Path, names: Sequence[str], delimiter: str, quoted: bool, skipped: Skipped
) -> Iterator[pa.RecordBatch]:
    """Streams some columns of a CSV file as text; an empty cell is empty text."""
    yield from pa_csv.open_csv(
        str(path),
        read_options=pa_csv.ReadOptions(block_size=_BLOCK_BYTES),
        parse_options=_parse_options(delimiter, quoted, skipped),
        convert_options=pa_csv.ConvertOptions(
            include_columns=list(names),
            column_types=dict.fromkeys(names, pa.string()),
            strings_can_be_null=False,
        ),
    )


def csv_table(
    path: Path, *, delimiter: str | None = None, quoted: bool = True
) -> tuple[pa.Table, int]:
    """A whole CSV file as text, an empty cell is null; and how many rows are bad."""
    header, delimiter = csv_header(path, delimiter)
    skipped = Skipped()
    with naming(path):
        table = pa_csv.read_csv(
            str(path),
            parse_options=_parse_options(delimiter, quoted, skipped),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()),
                strings_can_be_null=True,
                null_values=[""],
            ),
        )
    return table, skipped.count


def _parse_options(
    delimiter: str, quoted: bool, skipped: Skipped
) -> pa_csv.ParseOptions:
    return pa_csv.ParseOptions(
        delimiter=delimiter,
        quote_char='"' if quoted else False,
        newlines_in_values=quoted,
        invalid_row_handler=skipped,
    )
