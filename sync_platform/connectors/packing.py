"""What became of each row of a delivery as bytes, to be kept beside the delivery's marker in the target.

An Arrow stream. Of a part whose rows were all written only the keys are left: a column of one value, or with the values
of the first column, is told in the schema's metadata instead of being written.
"""

from __future__ import annotations

from typing import Any, Final

import orjson
import pyarrow as pa

from sync_platform.connectors.sql import OUTCOMES

_ALIKE: Final = b"alike"  # columns that are not written: [the value of every row], or the first column's name


def packed(outcomes: pa.Table) -> bytes:
    """Outcomes (the columns of `OUTCOMES`) as bytes."""
    first, *others = outcomes.column_names
    alike = {name: told for name in others if (told := _told(outcomes, first, name)) is not None}
    kept = outcomes.drop_columns(list(alike)).replace_schema_metadata({_ALIKE: orjson.dumps(alike)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, kept.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(kept)
    return bytes(sink.getvalue())


def unpacked(recorded: bytes) -> pa.Table:
    """The reverse of `packed`."""
    with pa.ipc.open_stream(pa.py_buffer(recorded)) as reader:
        table = reader.read_all()
    for name, told in orjson.loads((table.schema.metadata or {}).get(_ALIKE, b"{}")).items():
        same = isinstance(told, str)
        values = table[told] if same else pa.repeat(pa.scalar(told[0], pa.string()), table.num_rows)
        table = table.append_column(name, values)
    return table.replace_schema_metadata(None).select(OUTCOMES.names)


def _told(outcomes: pa.Table, first: str, name: str) -> Any:
    """What is told instead of a column; None when it must be written."""
    values = outcomes[name]
    if not outcomes.num_rows or not pa.types.is_string(values.type):
        return None
    value = values[0].as_py()
    if values.null_count == len(values) or values.equals(pa.chunked_array([pa.repeat(values[0], len(values))])):
        return [value]
    return first if values.equals(outcomes[first]) else None
