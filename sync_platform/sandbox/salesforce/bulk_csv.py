"""Query results as CSV: every value quoted, null as the empty text."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any, Final

from sync_platform.sandbox.salesforce.metadata import NUMBERS
from sync_platform.sandbox.salesforce.rows import Past, rest_datetime
from sync_platform.sandbox.salesforce.soql_run import Output

DELIMITERS: Final = {"COMMA": ",", "SEMICOLON": ";", "TAB": "\t", "PIPE": "|", "CARET": "^", "BACKQUOTE": "`"}


def _columns(outputs: Sequence[Output], rows: Sequence[Past]) -> list[list[Any]]:
    """The values column by column, gathered a few rows at a time: rows lie scattered in memory."""
    columns: list[list[Any]] = [[] for _ in outputs]
    for at in range(0, len(rows), 512):
        part = rows[at : at + 512]
        fields = [row.fields for row in part]
        for output, column in zip(outputs, columns, strict=True):
            if output.is_plain:
                name = output.field.name
                column += [held.get(name) for held in fields]
            else:
                column += map(output.getter, part)
    return columns


def _texts(output: Output, values: list[Any]) -> list[str | None]:
    type = output.field.type
    if type == "boolean":
        return ["true" if value else "false" for value in values]
    if type == "datetime":
        known: dict[Any, str | None] = {None: None}  # stamps repeat: format each once
        for value in set(values) - {None}:
            known[value] = rest_datetime(value).replace("+0000", "Z")
        return [known[value] for value in values]
    if type in NUMBERS:
        return [None if value is None else str(value) for value in values]
    return values


def render(outputs: Sequence[Output], rows: Sequence[Past], *, delimiter: str, crlf: bool) -> bytes:
    """The header and the rows; UTF-8."""
    names = [".".join(output.parts) for output in outputs]
    columns = [_texts(o, values) for o, values in zip(outputs, _columns(outputs, rows), strict=True)]
    if crlf or delimiter != ",":
        text = io.StringIO()
        writer = csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\r\n" if crlf else "\n")
        writer.writerow(names)
        writer.writerows(zip(*columns, strict=True))
        return text.getvalue().encode()
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv as pa_csv

    arrays = [pc.fill_null(pa.array(column, pa.string()), "") for column in columns]
    sink = pa.BufferOutputStream()
    options = pa_csv.WriteOptions(include_header=True, quoting_style="all_valid", batch_size=65_536)
    pa_csv.write_csv(pa.table(arrays, names=names), sink, options)
    return bytes(sink.getvalue())
