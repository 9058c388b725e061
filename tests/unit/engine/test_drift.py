"""Which changes of a schema concern a sync, and which type a column gets that a sync adds."""

from __future__ import annotations

import pyarrow as pa
import pytest

from sync_platform.connectors.postgres.adding import type_for
from sync_platform.engine.drift import differences
from sync_platform.ledger.shapes import Shape
from tests.unit.engine.workshop import a_sync

BEFORE: Shape = {
    "source": {"Id": "string", "Email": "string", "Name": "string", "Other": "int64"},
    "target": {"email": "string", "name": "string"},
}
USED = {"Email", "Name"}


@pytest.mark.parametrize(
    ("side", "name", "kind", "told"),
    [
        ("source", "Phone", "string", "crm/Lead has a new field Phone (string)"),
        ("source", "Email", None, "crm/Lead no longer has Email, which the sync reads"),
        ("source", "Name", "int64", "crm/Lead: Name is int64 now, it was string"),
        ("target", "email", None, "shop/contacts no longer has email, which the sync writes"),
        ("target", "name", "int64", "shop/contacts: name is int64 now, it was string"),
        ("source", "Other", None, None),
        ("source", "Other", "string", None),
        ("target", "phone", "string", None),
    ],
)
def test_what_a_sync_reads_or_writes_must_stay_and_what_is_new_at_its_source_is_told(
    side: str, name: str, kind: str | None, told: str | None
) -> None:
    fields = {**BEFORE[side], name: kind}
    now = {**BEFORE, side: {field: found for field, found in fields.items() if found is not None}}
    assert differences(a_sync(), BEFORE, now, USED) == ([told] if told else [])
    assert differences(a_sync(), BEFORE, BEFORE, USED) == []


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (pa.bool_(), "boolean"), (pa.int8(), "smallint"), (pa.uint8(), "smallint"), (pa.uint16(), "integer"),
        (pa.int32(), "integer"), (pa.uint32(), "bigint"), (pa.int64(), "bigint"), (pa.uint64(), "numeric(20,0)"),
        (pa.float32(), "real"), (pa.float64(), "double precision"), (pa.decimal128(12, 3), "numeric(12,3)"),
        (pa.date32(), "date"), (pa.time64("us"), "time"), (pa.timestamp("us"), "timestamp"),
        (pa.timestamp("us", "UTC"), "timestamp with time zone"), (pa.binary(), "bytea"), (pa.string(), "text"),
        (pa.large_string(), "text"), (pa.list_(pa.int64()), "jsonb"), (pa.null(), "text"),
    ],
)  # fmt: skip
def test_a_column_that_is_added_holds_every_value_of_its_field(kind: pa.DataType, name: str) -> None:
    assert type_for(kind) == name
