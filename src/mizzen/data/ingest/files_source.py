"""Rows from files: CSV, TSV, Parquet, JSON Lines and Arrow IPC.

All files of a dataset are of one format and have the same columns. Parquet and Arrow files say their types, which must
be the same; of CSV and JSON Lines all rows are looked at before a type is chosen, so that an integer column with one
`1.5` in the last line is a column of doubles. A CSV file has a header line; commas, semicolons, tabs or bars between
fields; double quotes around those that need them; and an empty field is null.

A load file by file reads the files that are new or changed, and says of each row in `_file` where it came from.
"""
# ruff: noqa: S608 - SQL is put together of quoted names and constants; values are parameters

import csv
import gzip
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mizzen.data.ingest.chunks import WrongColumns, expect_same_columns, tables
from mizzen.data.ingest.found_files import Found, find
from mizzen.data.ingest.reading import FILE_COLUMN, Reading
from mizzen.data.lake.errors import RowsUnfit
from mizzen.data.lake.rows import storable_schema
from mizzen.data.lake.sql import BATCH_ROWS, connect, one_line
from mizzen.data.pod import Failure

_FORMATS = {
    ".parquet": "parquet", ".csv": "csv", ".csv.gz": "csv", ".tsv": "csv", ".tsv.gz": "csv",
    ".jsonl": "json", ".jsonl.gz": "json", ".ndjson": "json", ".ndjson.gz": "json",
    ".arrow": "arrow", ".arrows": "arrow", ".feather": "arrow", ".ipc": "arrow",
}  # fmt: skip
_DELIMITERS = (",", ";", "\t", "|")
_CSV = (
    # What a file means is not guessed from its rows, but for the columns' types, and for these from all rows.
    "header = true, skip = 0, quote = '\"', escape = '\"', comment = '', null_padding = false, strict_mode = true, "
    "sample_size = -1, union_by_name = true"
)
_JSON = "format = 'newline_delimited', sample_size = -1, union_by_name = true, maximum_object_size = 67108864"
_WHERE = "_mizzen_path"
"""Of a row on its way: the file it was read from, on this machine."""


def read_files(
    patterns: Sequence[str], folder: Path | None, work: Path, loaded: Mapping[str, str] | None = None
) -> Reading:
    """The rows of all files that the patterns name; with `loaded`, of those that are not among them as they are now.

    Raises `Failure` (`SourceFailed`, `WrongColumns`) with the file's name.
    """
    found = find(patterns, folder)
    formats = {_format_of(file.name) for file in found}
    if len(formats) != 1:
        raise Failure(
            "SourceFailed", f"expected files of one format, found {', '.join(sorted(formats))}: use two datasets"
        )
    format_ = formats.pop()
    wanted = found if loaded is None else [file for file in found if loaded.get(file.name) != file.mark]
    rows = _tables(wanted, format_, work, with_file=loaded is not None) if wanted else iter(())
    now = None if loaded is None else {**loaded, **{file.name: file.mark for file in found}}
    return Reading(rows, format_ in {"csv", "json"}, now, frozenset(file.name for file in wanted))


def _tables(wanted: Sequence[Found], format_: str, work: Path, *, with_file: bool) -> Iterator[pa.Table]:
    found = [file.fetched(work / "fetched" / f"{number:06d}") for number, file in enumerate(wanted)]
    if format_ == "parquet":
        yield from _typed_tables(found, _parquet_pieces, "Parquet", with_file=with_file)
    elif format_ == "arrow":
        yield from _typed_tables(found, _arrow_pieces, "Arrow IPC", with_file=with_file)
    else:
        yield from _text_tables(found, format_, work, with_file=with_file)


def _format_of(name: str) -> str:
    ending = "".join(PurePosixPath(name.casefold()).suffixes[-2:])
    format_ = _FORMATS.get(ending) or _FORMATS.get(PurePosixPath(name.casefold()).suffix)
    if format_ is None:
        raise Failure("SourceFailed", f"{name}: expected a file that ends in {', '.join(_FORMATS)}")
    return format_


def _parquet_pieces(path: Path) -> Iterator[pa.Table]:
    with pq.ParquetFile(path) as parquet:
        yield parquet.schema_arrow.empty_table()
        yield from (pa.Table.from_batches([batch]) for batch in parquet.iter_batches(BATCH_ROWS))


def _arrow_pieces(path: Path) -> Iterator[pa.Table]:
    with pa.memory_map(str(path)) as mapped:
        magic = mapped.read(6)
        mapped.seek(0)
        if magic == b"ARROW1":
            file = pa.ipc.open_file(mapped)
            batches: Iterable[pa.RecordBatch] = (file.get_batch(index) for index in range(file.num_record_batches))
            schema = file.schema
        else:
            stream = pa.ipc.open_stream(mapped)
            batches, schema = stream, stream.schema
        yield schema.empty_table()
        yield from (pa.Table.from_batches([batch], schema) for batch in batches)


def _typed_tables(found: Sequence[Found], pieces: object, words: str, *, with_file: bool) -> Iterator[pa.Table]:
    """Of files that say their types: the first one's are those of all."""
    assert callable(pieces)
    schema: pa.Schema | None = None
    for file in found:
        try:
            read = pieces(file.here)
            first = next(read)
            if schema is None:
                schema = storable_schema(first.schema)
            else:
                expect_same_columns(schema, first.schema, file.name)
            for table in tables(itertools.chain([first], read)):
                yield _with_file(table, file.name) if with_file else table
        except RowsUnfit as error:
            raise WrongColumns(f"{file.name}: {error}") from error
        except (pa.ArrowException, OSError) as error:
            raise Failure("SourceFailed", f"{file.name}: cannot be read as {words}: {one_line(error)}") from error


def _with_file(table: pa.Table, name: str) -> pa.Table:
    return table.append_column(FILE_COLUMN, pa.repeat(pa.scalar(name), table.num_rows))


def _text_tables(found: Sequence[Found], format_: str, work: Path, *, with_file: bool) -> Iterator[pa.Table]:
    paths = [str(file.path) for file in found]
    where = f", filename = '{_WHERE}'" if with_file else ""
    with connect(work) as connection:
        try:
            if format_ == "csv":
                options = {"delim": _expect_same_header(found), "paths": paths}
                rows = connection.sql(f"SELECT * FROM read_csv($paths, delim = $delim, {_CSV}{where})", params=options)
            else:
                rows = connection.sql(f"SELECT * FROM read_json($paths, {_JSON}{where})", params={"paths": paths})
            reader = rows.to_arrow_reader(BATCH_ROWS)
            for table in tables(itertools.chain([reader.schema.empty_table()], reader)):
                yield _with_names(table, found) if with_file else table
        except duckdb.Error as error:
            message = (_bad_line(found) if format_ == "csv" else "") or one_line(error)
            raise Failure("SourceFailed", _named(message, found)) from error


def _with_names(table: pa.Table, found: Sequence[Found]) -> pa.Table:
    """The rows with the files as the user knows them."""
    paths = pa.array([str(file.path) for file in found], pa.string())
    names = pa.array([file.name for file in found], pa.string())
    column = names.take(pc.index_in(table.column(_WHERE), value_set=paths).combine_chunks())
    return table.drop_columns([_WHERE]).append_column(FILE_COLUMN, column)


def _bad_line(found: Sequence[Found]) -> str:
    """The first line that is not UTF-8 or has more or fewer fields than its header; nothing where there is none."""
    delimiter = _expect_same_header(found)
    for file in found:
        with _opened(file, errors="strict") as text:
            lines = csv.reader(text, delimiter=delimiter)
            try:
                expected = len(next(lines, []))
                for fields in lines:
                    if fields and len(fields) != expected:
                        got = f"{len(fields)}: {delimiter.join(fields)[:60]}"
                        return f"{file.name} line {lines.line_num}: expected {expected} fields, found {got}"
            except UnicodeDecodeError as error:
                byte = error.object[error.start]
                return f"{file.name}: expected text in UTF-8, found byte 0x{byte:02x} after line {lines.line_num}"
    return ""


def _opened(file: Found, *, errors: str) -> IO[str]:
    opened = gzip.open if file.name.casefold().endswith(".gz") else open
    return opened(file.here, "rt", encoding="utf-8-sig", errors=errors, newline="")


def _expect_same_header(found: Sequence[Found]) -> str:
    """The files' delimiter: of the four that are used, the one that the header line has most of."""
    first: tuple[str, list[str]] | None = None
    for file in found:
        with _opened(file, errors="replace") as text:
            header = text.readline()
        delimiter = max(_DELIMITERS, key=header.count)
        names = sorted(next(csv.reader([header], delimiter=delimiter), []))
        if not names:
            raise Failure(
                "SourceFailed", f"{file.name}: expected a header line with the columns' names, found an empty file"
            )
        first = first if first is not None else (delimiter, names)
        if names != first[1]:
            expected, got = ", ".join(first[1]), ", ".join(names)
            raise WrongColumns(f"{file.name}: expected the columns of {found[0].name} ({expected}), found {got}")
    assert first is not None, "there is at least one file"
    return first[0]


def _named(message: str, found: Sequence[Found]) -> str:
    """The message with the files as the user knows them."""
    for file in found:
        message = message.replace(str(file.path), file.name)
    return message
