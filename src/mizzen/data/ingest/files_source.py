"""Rows from files: CSV, Parquet and JSON Lines, in the code bundle, on this machine or in S3.

Globs are resolved first, and each must match something. S3 objects are copied to the Pod's work folder, whole. All
files of a dataset are of one format and have the same columns. Parquet files say their types, which must be the same;
of CSV and JSON Lines all rows are looked at before a type is chosen, so that an integer column with one `1.5` in the
last line is a column of doubles. A CSV file has a header line; commas, semicolons, tabs or bars between fields; double
quotes around those that need them; and an empty field is null.
"""
# ruff: noqa: S608 - SQL is put together of quoted names and constants; values are parameters

import csv
import fnmatch
import glob
import gzip
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import unquote, urlsplit

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from mizzen.data.ingest.chunks import WrongColumns, expect_same_columns, tables
from mizzen.data.ingest.sql import BATCH_ROWS, connect, one_line
from mizzen.data.lake.errors import RowsUnfit
from mizzen.data.lake.objects import Store
from mizzen.data.lake.rows import storable_schema
from mizzen.data.pod import Failure

_FORMATS = {
    ".parquet": "parquet", ".csv": "csv", ".csv.gz": "csv", ".tsv": "csv", ".tsv.gz": "csv",
    ".jsonl": "json", ".jsonl.gz": "json", ".ndjson": "json", ".ndjson.gz": "json",
}  # fmt: skip
_DELIMITERS = (",", ";", "\t", "|")
_CSV = (
    # What a file means is not guessed from its rows, but for the columns' types, and for these from all rows.
    "header = true, skip = 0, quote = '\"', escape = '\"', comment = '', null_padding = false, strict_mode = true, "
    "sample_size = -1, union_by_name = true"
)
_JSON = "format = 'newline_delimited', sample_size = -1, union_by_name = true, maximum_object_size = 67108864"
_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Found:
    """One file: as the user knows it, and where it lies on this machine."""

    name: str
    path: Path


def files_tables(patterns: Sequence[str], folder: Path | None, work: Path) -> Iterator[pa.Table]:
    """The rows of all files that the patterns name, in the order of the patterns and then of the names.

    Relative patterns are of `folder`, the unpacked bundle. Raises `Failure` (`SourceFailed`, `WrongColumns`) with the
    file's name.
    """
    found = [file for pattern in patterns for file in _resolved(pattern, folder, work)]
    formats = {_format_of(file.name) for file in found}
    if len(formats) != 1:
        raise Failure(
            "SourceFailed", f"expected files of one format, found {', '.join(sorted(formats))}: use two datasets"
        )
    format_ = formats.pop()
    yield from _parquet_tables(found) if format_ == "parquet" else _text_tables(found, format_, work)


def _format_of(name: str) -> str:
    ending = "".join(PurePosixPath(name.casefold()).suffixes[-2:])
    format_ = _FORMATS.get(ending) or _FORMATS.get(PurePosixPath(name.casefold()).suffix)
    if format_ is None:
        raise Failure("SourceFailed", f"{name}: expected a file that ends in {', '.join(_FORMATS)}")
    return format_


def _resolved(pattern: str, folder: Path | None, work: Path) -> list[Found]:
    parts = urlsplit(pattern)
    if parts.scheme == "s3":
        return _from_s3(pattern, work)
    if parts.scheme == "file":
        absolute = unquote(parts.path)
        return _expect_some([Found(name, Path(name)) for name in sorted(_local(absolute, None))], pattern)
    if parts.scheme or pattern.startswith("/") or ".." in PurePosixPath(pattern).parts:
        raise Failure("SourceFailed", f"{pattern}: expected a path inside the code bundle, file:///… or s3://…")
    if folder is None:
        raise Failure("SourceFailed", f"{pattern}: is inside a code bundle, and the dataset has none (spec.code)")
    return _expect_some([Found(name, folder / name) for name in sorted(_local(pattern, folder))], pattern)


def _local(pattern: str, folder: Path | None) -> list[str]:
    names = glob.glob(pattern, root_dir=folder, recursive=True)  # noqa: PTH207 - pathlib's has no root to be relative to
    top = folder if folder is not None else Path("/")
    return [name for name in names if (top / name).is_file()]


def _expect_some(found: list[Found], pattern: str) -> list[Found]:
    if not found:
        what = "matches no file" if _WILD.search(pattern) else "there is no such file"
        raise Failure("SourceFailed", f"{pattern}: {what}")
    return found


def _from_s3(pattern: str, work: Path) -> list[Found]:
    parts = urlsplit(pattern)
    key = parts.path.lstrip("/")
    wild = _WILD.search(key)
    store = Store.open(f"s3://{parts.netloc}")
    if wild is None:
        names = [key] if store.stat(key) is not None else []
    else:
        known = key[: wild.start()].rpartition("/")[0]
        names = [stored.path for stored in store.list(known) if glob_matches(key, stored.path)]
    found = []
    for number, name in enumerate(sorted(names)):
        path = work / "s3" / f"{number:06d}" / PurePosixPath(name).name
        path.parent.mkdir(parents=True, exist_ok=True)
        store.download(name, path)
        found.append(Found(f"s3://{parts.netloc}/{name}", path))
    return _expect_some(found, pattern)


def glob_matches(pattern: str, name: str) -> bool:
    """Whether a path matches, `*` within one folder and `**` across folders, as for local files.

    >>> [glob_matches(pattern, "a/b/c.csv") for pattern in ("a/*.csv", "a/*/*.csv", "a/**/*.csv", "**/b/**/c.csv")]
    [False, True, True, True]
    """
    return _matches(pattern.split("/"), name.split("/"))


def _matches(patterns: list[str], names: list[str]) -> bool:
    if not patterns:
        return not names
    if patterns[0] == "**":
        return any(_matches(patterns[1:], names[skipped:]) for skipped in range(len(names) + 1))
    return bool(names) and fnmatch.fnmatchcase(names[0], patterns[0]) and _matches(patterns[1:], names[1:])


def _parquet_tables(found: Sequence[Found]) -> Iterator[pa.Table]:
    schema: pa.Schema | None = None
    for file in found:
        try:
            with pq.ParquetFile(file.path) as parquet:
                if schema is None:
                    schema = storable_schema(parquet.schema_arrow)
                else:
                    expect_same_columns(schema, parquet.schema_arrow, file.name)
                empty = [parquet.schema_arrow.empty_table()]
                pieces = (pa.Table.from_batches([batch]) for batch in parquet.iter_batches(BATCH_ROWS))
                yield from tables([*empty, *pieces] if parquet.metadata.num_rows == 0 else pieces)
        except RowsUnfit as error:
            raise WrongColumns(f"{file.name}: {error}") from error
        except (pa.ArrowException, OSError) as error:
            raise Failure("SourceFailed", f"{file.name}: cannot be read as Parquet: {one_line(error)}") from error


def _text_tables(found: Sequence[Found], format_: str, work: Path) -> Iterator[pa.Table]:
    paths = [str(file.path) for file in found]
    with connect(work) as connection:
        try:
            if format_ == "csv":
                options = {"delim": _expect_same_header(found), "paths": paths}
                rows = connection.sql(f"SELECT * FROM read_csv($paths, delim = $delim, {_CSV})", params=options)
            else:
                rows = connection.sql(f"SELECT * FROM read_json($paths, {_JSON})", params={"paths": paths})
            reader = rows.to_arrow_reader(BATCH_ROWS)
            yield from tables(itertools.chain([reader.schema.empty_table()], reader))
        except duckdb.Error as error:
            message = (_bad_line(found) if format_ == "csv" else "") or one_line(error)
            raise Failure("SourceFailed", _named(message, found)) from error


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
    return opened(file.path, "rt", encoding="utf-8-sig", errors=errors, newline="")


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
