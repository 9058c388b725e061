"""Laws of writing: one outcome each, in order, and what was written is what is read back."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from other_side import Subject, fields_of, new_record, text_field
from staged import Staged, key_of

from sync_platform.connectors.connector import BulkTarget, Connector
from sync_platform.model import Change, Op, Outcome, Status, Stream
from tests.law_table import law

SETTLED = 60.0


def changes(op: Op, records: Sequence[dict[str, Any]], targets: Sequence[str | None]) -> list[Change]:
    return [
        Change(op=op, key=f"source-{number}", token=uuid.uuid4().hex, target_id=target, fields=fields)
        for number, (fields, target) in enumerate(zip(records, targets, strict=True))
    ]


def written(connector: Connector, stream: Stream, wanted: Sequence[Change]) -> list[Outcome]:
    outcomes = list(connector.write(stream.name, wanted))
    assert [(each.key, each.op) for each in outcomes] == [(each.key, each.op) for each in wanted], "not in order"
    return outcomes


def ready(subject: Subject, side: Any) -> tuple[Any, Stream, dict[str, Any], str]:
    """A connection, its stream, an existing record's fields and the text field."""
    key = side.seed(subject.stream, 1)[0]
    side.later(SETTLED)
    connector = side.connector()
    example = side.truth(subject.stream)[key]
    return (
        connector,
        connector.stream(subject.stream),
        example,
        text_field(connector, connector.stream(subject.stream), example),
    )


def test_what_is_written_is_read_back(subject: Subject, side: Any) -> None:
    connector, stream, example, text = ready(subject, side)
    with law("written is read back", str(subject)) as met:
        records = [new_record(connector, stream, example) for _ in range(12)]
        created = written(connector, stream, changes(Op.CREATE, records, [None] * 12))
        assert {each.status for each in created} == {Status.APPLIED}, created[0].reason
        ids = [each.target_id or "" for each in created]
        assert len(set(ids)) == 12
        rows = {key_of(stream, row): row for row in connector.get(stream.name, ids, [text]).to_pylist()}
        assert [rows[key][text] for key in ids] == [record[text] for record in records]

        updates = [{text: f"Updated {number}"} for number in range(12)]
        assert {each.status for each in written(connector, stream, changes(Op.UPDATE, updates, ids))} <= {
            Status.APPLIED
        }
        rows = {key_of(stream, row): row for row in connector.get(stream.name, ids, [text]).to_pylist()}
        assert [rows[key][text] for key in ids] == [f"Updated {number}" for number in range(12)]

        gone = written(connector, stream, changes(Op.DELETE, [{}] * 4, ids[:4]))
        assert {each.status for each in gone} == {Status.APPLIED}, gone[0].reason
        left = {key_of(stream, row) for row in connector.get(stream.name, ids, [text]).to_pylist()}
        assert left == set(ids[4:])
        assert set(ids) & side.truth(subject.stream).keys() == set(ids[4:])
        met.case(12 + 12 + 4)


def test_a_created_record_is_found_by_its_natural_key_once_the_look_up_may_see_it(subject: Subject, side: Any) -> None:
    connector, stream, example, text = ready(subject, side)
    with law("a create is found by its key", str(subject)) as met:
        records = [new_record(connector, stream, example) for _ in range(5)]
        created = written(connector, stream, changes(Op.CREATE, records, [None] * 5))
        side.later(stream.lookup_lag.total_seconds())
        for field in stream.natural_keys or (text,):
            values = [str(record[field]) for record in records]
            found = connector.find(stream.name, field, [*values, "nobody@law.example.com"], [text]).to_pylist()
            by_value = {str(row[field]): key_of(stream, row) for row in found}
            assert by_value == {value: each.target_id for value, each in zip(values, created, strict=True)}
            met.case(len(found))


def optional_texts(connector: Connector, stream: Stream, example: dict[str, Any]) -> list[str]:
    """Text fields of an existing record that may be empty."""
    return [
        name
        for name, field in fields_of(connector, stream.name).items()
        if isinstance(example.get(name), str)
        and not (field.readonly or field.required or field.unique or field.values or name in stream.natural_keys)
        and name not in stream.key
    ]


def test_clearing_a_field_is_not_the_same_as_leaving_it_out(subject: Subject, side: Any) -> None:
    connector, stream, example, text = ready(subject, side)
    optional = optional_texts(connector, stream, example)
    with law("null clears, absent leaves", str(subject)) as met:
        for name in optional[:8]:  # some of them the system fills again by itself (an owner, a default)
            record = {**new_record(connector, stream, example), name: str(example[name])}
            (made,) = written(connector, stream, changes(Op.CREATE, [record], [None]))
            assert made.status is Status.APPLIED, made.reason
            (done,) = written(connector, stream, changes(Op.UPDATE, [{name: None}], [made.target_id]))
            (row,) = connector.get(stream.name, [made.target_id or ""], [name, text]).to_pylist()
            if name != text:
                assert row[text] == record[text]
            if done.status is Status.APPLIED and row.get(name) is None:
                met.case()


def spoiled(connector: Connector, stream: Stream, example: dict[str, Any]) -> list[dict[str, Any]]:
    """Records a system may refuse, most to least plausible."""
    made: list[dict[str, Any]] = []
    for name, field in fields_of(connector, stream.name).items():
        good = new_record(connector, stream, example)
        if name in good and "@" in str(good[name]):
            made.append({**good, name: "no address"})
        if field.max_length is not None and name in good and field.max_length < 10_000:
            made.append({**good, name: "x" * (field.max_length + 1)})
        if field.unique and name in good:
            made.append({**good, name: example[name]})
        if field.values and not field.readonly:
            made.append({**good, name: "no such option"})
    return made


def test_one_bad_record_does_not_stop_the_rest(subject: Subject, side: Any) -> None:
    connector, stream, example, _ = ready(subject, side)
    with law("one bad record does not stop the rest", str(subject)) as met:
        for bad in spoiled(connector, stream, example):
            (alone,) = written(connector, stream, changes(Op.CREATE, [bad], [None]))
            if alone.status is Status.APPLIED:  # this system takes it: no bad record
                continue
            records = [new_record(connector, stream, example) for _ in range(6)]
            records.insert(3, bad)
            before = side.truth(subject.stream).keys()
            outcomes = written(connector, stream, changes(Op.CREATE, records, [None] * 7))
            failed = [number for number, each in enumerate(outcomes) if each.status is not Status.APPLIED]
            assert failed == [3], [each.reason for each in outcomes]
            assert outcomes[3].reason
            assert len(side.truth(subject.stream).keys() - before) == 6
            met.case()


def test_what_was_written_comes_back_with_the_next_read(subject: Subject, side: Any) -> None:
    connector, stream, example, text = ready(subject, side)
    with law("own writes come back with the next read", str(subject)) as met:
        staged = Staged(stream)
        pages = staged.load(connector.read(stream.name))
        records = [new_record(connector, stream, example) for _ in range(20)]
        created = written(connector, stream, changes(Op.CREATE, records, [None] * 20))
        pages = staged.load(connector.read(stream.name, pages[-1].position))
        side.later(SETTLED)
        staged.load(connector.read(stream.name, pages[-1].position))
        for record, outcome in zip(records, created, strict=True):
            assert staged.rows[outcome.target_id or ""][text] == record[text]
            met.case()


def test_a_bulk_part_is_delivered_once(subject: Subject, side: Any) -> None:
    connector, stream, example, _ = ready(subject, side)
    if not isinstance(connector, BulkTarget):
        assert not stream.transactional, "a stream that calls itself transactional must take bulk parts"
        return
    with law("a bulk part is delivered once", str(subject)) as met:
        records = [new_record(connector, stream, example) for _ in range(30)]
        columns = {name: [record[name] for record in records] for name in records[0]}
        keys = [f"source-{number}" for number in range(30)]
        part = pa.table({"_key": keys, "_target_id": pa.array([None] * 30, pa.string()), **columns})
        first = connector.write_bulk(stream.name, "create", part, "plan-1/part-1")
        again = connector.write_bulk(stream.name, "create", part, "plan-1/part-1")
        assert connector.delivered(stream.name, "plan-1/part-1")
        assert not connector.delivered(stream.name, "plan-1/part-2")
        assert first["_target_id"].to_pylist() == again["_target_id"].to_pylist()
        assert len(side.truth(subject.stream)) == 31
        met.case(30)


def test_empty_text_is_nothing_exactly_where_the_stream_says_so(subject: Subject, side: Any) -> None:
    connector, stream, example, text = ready(subject, side)
    with law("'' is null only where it is said", str(subject)) as met:
        for name in dict.fromkeys([text, *optional_texts(connector, stream, example)[:8]]):
            (made,) = written(connector, stream, changes(Op.CREATE, [new_record(connector, stream, example)], [None]))
            (done,) = written(connector, stream, changes(Op.UPDATE, [{name: ""}], [made.target_id]))
            if done.status is Status.APPLIED:
                (row,) = connector.get(stream.name, [made.target_id or ""], [name]).to_pylist()
                assert (row[name] == "") is not stream.empty_is_null, name
                met.case()
