"""Answers of `sync-platform sql` as JSON text, or as CSV, JSON and Parquet files."""

from __future__ import annotations

import decimal
import math
import os
import tempfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

import orjson
import pyarrow as pa

from sync_platform.errors import ConfigError
from sync_platform.home import unwritable

Write = Callable[[pa.RecordBatchReader], int]
_JSON: Final = {b"sync": b"json"}


def marked(reader: pa.RecordBatchReader, documents: Collection[str]) -> pa.RecordBatchReader:
    """The same batches, with the text columns named in `documents` marked as holding JSON."""
    schema = pa.schema([field.with_metadata(_JSON) if field.name in documents else field for field in reader.schema])
    batches = (pa.record_batch(batch.columns, schema=schema) for batch in reader)
    return pa.RecordBatchReader.from_batches(schema, batches)


def json_text(table: pa.Table) -> bytes:
    """The rows as a JSON list of objects; numbers keep all their digits, times are ISO 8601."""
    return b"[" + b",".join(_json_rows(table)) + b"]"


def writer_for(file: Path) -> Write:
    """What writes an answer to that file, chosen by its ending; the file appears complete or not at all."""
    parts = {".csv": _csv, ".json": _json, ".parquet": _parquet}
    try:
        part = parts[file.suffix.lower()]
    except KeyError:
        raise ConfigError(
            f"{file} cannot be written: its ending names no format",
            field="file",
            value=str(file),
            mend="end it in .csv, .json or .parquet",
        ) from None

    def write(reader: pa.RecordBatchReader) -> int:
        try:
            handle, draft = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.absolute().parent)
        except OSError as error:
            raise unwritable(error, file) from None
        try:
            with os.fdopen(handle, "wb") as sink:
                rows = part(reader, sink)
            os.chmod(draft, 0o666 & ~_umask())
            os.replace(draft, file)
        except OSError as error:
            raise unwritable(error, file) from None
        finally:
            Path(draft).unlink(missing_ok=True)
        return rows

    return write


def _csv(reader: pa.RecordBatchReader, sink: BinaryIO) -> int:
    import pyarrow.csv

    rows = 0
    flat = pa.schema([pa.field(field.name, _flat(field.type)) for field in reader.schema])
    with pyarrow.csv.CSVWriter(sink, flat) as writer:
        for batch in reader:
            columns = [_text(column) if _flat(column.type) != column.type else column for column in batch.columns]
            writer.write_batch(pa.record_batch(columns, schema=flat))
            rows += batch.num_rows
    return rows


def _json(reader: pa.RecordBatchReader, sink: BinaryIO) -> int:
    rows = 0
    sink.write(b"[")
    for batch in reader:
        for row in _json_rows(pa.Table.from_batches([batch])):
            sink.write(b",\n" if rows else b"\n")
            sink.write(row)
            rows += 1
    sink.write(b"\n]\n")
    return rows


def _parquet(reader: pa.RecordBatchReader, sink: BinaryIO) -> int:
    import pyarrow.parquet

    rows = 0
    with pyarrow.parquet.ParquetWriter(sink, reader.schema, compression="zstd") as writer:
        for batch in reader:
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


def _json_rows(table: pa.Table) -> Iterator[bytes]:
    documents = [(field.metadata or {}).get(b"sync") == b"json" for field in table.schema]
    names = _distinct(table.column_names)
    columns = [column.to_pylist() for column in table.columns]
    for values in zip(*columns, strict=True):
        row = {
            name: orjson.Fragment(value) if document and value is not None else value
            for name, document, value in zip(names, documents, values, strict=True)
        }
        yield orjson.dumps(row, default=_plain, option=orjson.OPT_NON_STR_KEYS)


def _plain(value: object) -> Any:
    if isinstance(value, decimal.Decimal):
        return orjson.Fragment(format(value, "f")) if value.is_finite() else None
    if isinstance(value, int):  # beyond 64 bits
        return orjson.Fragment(str(value))
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value)


def _distinct(names: list[str]) -> list[str]:
    """Column names as keys: a repeated one gets a number."""
    seen: dict[str, int] = {}
    result = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        result.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return result


def _flat(kind: pa.DataType) -> pa.DataType:
    """What CSV can hold of a type: lists, structs, maps, bytes and intervals become text."""
    foreign = pa.types.is_nested(kind) or isinstance(kind, pa.BaseExtensionType)
    return pa.string() if foreign or pa.types.is_binary(kind) or pa.types.is_interval(kind) else kind


def _text(column: pa.Array) -> pa.Array:
    """Nested values as JSON, bytes as hexadecimal digits."""
    values = [
        value if value is None or isinstance(value, str) else orjson.dumps(value, default=_plain).decode().strip('"')
        for value in column.to_pylist()
    ]
    return pa.array(values, pa.string())


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
