"""Laws of reading: nothing missing, nothing stale, nothing that is gone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from other_side import Subject, chunks, text_field
from staged import Staged, keys_in

from sync_platform.model import Deletes, Page, Position
from tests.law_table import law

#: More than two pages of every system met so far.
ROWS = 4_100
#: Longer than any index lags and any stamp moves after a write.
SETTLED = 60.0


def last_position(pages: list[Page]) -> Position:
    position = pages[-1].position
    assert position is not None, "the last page of a read carries no position"
    return position


def test_every_row_is_read_once_and_ties_at_the_boundary_are_not_lost(subject: Subject, side: Any) -> None:
    keys = side.seed(subject.stream, ROWS)
    connector = side.connector()
    stream = connector.stream(subject.stream)
    text = text_field(connector, stream, side.truth(subject.stream)[keys[0]])
    side.later(SETTLED)
    side.edit(subject.stream, {key: {text: f"Tie {key}"} for key in keys[:300]})
    with law("every row once, ties at the boundary", str(subject)) as met:
        staged = Staged(stream)
        pages = staged.load(connector.read(subject.stream))
        read = keys_in(stream, pages)
        assert len(read) == len(set(read)), "a full read without interference brought a row twice"
        assert pages[-1].complete
        assert staged.differences(side.truth(subject.stream), text) == []
        met.case(len(read))
        # the same instant goes on: these share the highest cursor of what was read
        late = side.seed(subject.stream, 3) + keys[300:310]
        side.edit(subject.stream, {key: {text: f"Late tie {key}"} for key in late})
        side.later(SETTLED)
        pages = staged.load(connector.read(subject.stream, last_position(pages)))
        assert staged.differences(side.truth(subject.stream), text) == []
        met.case(len(late))


def test_a_read_killed_after_any_page_resumes_without_a_gap(subject: Subject, side: Any) -> None:
    keys = side.seed(subject.stream, ROWS)
    connector = side.connector()
    stream = connector.stream(subject.stream)
    with law("a killed read resumes", str(subject)) as met:
        pages = list(connector.read(subject.stream))
        middle = [number for number, page in enumerate(pages) if page.position is not None]
        for number in dict.fromkeys((middle[0], middle[len(middle) // 2], middle[-1])):
            rest = side.connector().read(subject.stream, pages[number].position)
            found = keys_in(stream, pages[: number + 1]) + keys_in(stream, rest)
            assert set(found) >= set(keys), f"resumed after page {number}"
            met.case()


def test_pages_that_shift_while_they_are_read_hide_nothing(subject: Subject, side: Any) -> None:
    keys = side.seed(subject.stream, ROWS)
    connector = side.connector()
    stream = connector.stream(subject.stream)
    text = text_field(connector, stream, side.truth(subject.stream)[keys[0]])
    side.later(SETTLED)
    numbered, gone = iter(range(1_000)), set[str]()

    def disturbed(pages: Iterator[Page]) -> Iterator[Page]:
        """Between two pages: edits before and behind, a delete, a new record."""
        for page in pages:
            yield page
            number = next(numbered)
            if number < 5:
                side.later(1)
                touched = [keys[(number * 7 + step * 613) % len(keys)] for step in range(4)]
                alive = [key for key in dict.fromkeys(touched) if key not in gone]
                gone.update(alive[:1])
                side.edit(subject.stream, {key: {text: f"Moved {number}"} for key in alive[1:]})
                side.delete(subject.stream, alive[:1])
                side.seed(subject.stream, 1)
                met.case(len(alive) + 1)

    with law("pages shift while they are read", str(subject)) as met:
        staged = Staged(stream)
        pages = staged.load(disturbed(connector.read(subject.stream)))
        side.later(SETTLED)
        side.edit(subject.stream, {key: {text: "Wave"} for key in list(side.truth(subject.stream))[:1_500]})
        side.later(SETTLED)
        pages = staged.load(disturbed(connector.read(subject.stream, last_position(pages))))
        for _ in range(2):
            side.later(SETTLED)
            pages = staged.load(connector.read(subject.stream, last_position(pages)))
        if stream.deletes is Deletes.ABSENCE:
            staged.load(connector.read(subject.stream))
        assert staged.differences(side.truth(subject.stream), text) == []


def test_a_change_that_shows_late_is_not_skipped(subject: Subject, side: Any) -> None:
    keys = side.seed(subject.stream, 60)
    connector = side.connector()
    stream = connector.stream(subject.stream)
    text = text_field(connector, stream, side.truth(subject.stream)[keys[0]])
    with law("a late change is not skipped", str(subject)) as met:
        staged = Staged(stream)
        pages = staged.load(connector.read(subject.stream))
        for number in range(25):
            side.edit(subject.stream, {key: {text: f"Round {number}"} for key in keys[number::25]})
            side.later(0.4)
            pages = staged.load(connector.read(subject.stream, last_position(pages)))
            met.case(len(keys[number::25]))
        side.later(SETTLED)
        staged.load(connector.read(subject.stream, last_position(pages)))
        assert staged.differences(side.truth(subject.stream), text) == []


def test_deletes_appear(subject: Subject, side: Any) -> None:
    keys = side.seed(subject.stream, 250)
    connector = side.connector()
    stream = connector.stream(subject.stream)
    with law("deletes appear", str(subject)) as met:
        staged = Staged(stream)
        pages = staged.load(connector.read(subject.stream))
        side.later(SETTLED)
        side.delete(subject.stream, keys[10:14])
        since = None if stream.deletes is Deletes.ABSENCE else last_position(pages)
        staged.load(connector.read(subject.stream, since))
        if stream.deletes is Deletes.NONE:
            pytest.fail(f"{subject} never shows a delete")
        assert staged.rows.keys() == side.truth(subject.stream).keys()
        met.case(4)


@pytest.mark.over_http
def test_more_than_ten_thousand_changes_at_one_instant_are_all_read(subject: Subject, side: Any) -> None:
    keys = side.seed(subject.stream, 50)
    connector = side.connector()
    stream = connector.stream(subject.stream)
    text = text_field(connector, stream, side.truth(subject.stream)[keys[0]])
    with law("more than 10,000 changes at one instant", str(subject)) as met:
        pages = list(connector.read(subject.stream, fields=[text]))
        keys += [key for _ in range(4) for key in side.seed(subject.stream, 2_600)]
        side.later(SETTLED)
        for part in chunks(keys, 2_600):
            side.edit(subject.stream, {key: {text: "Changed"} for key in part})
        side.later(SETTLED)
        staged = Staged(stream)
        staged.load(connector.read(subject.stream, last_position(pages), fields=[text]))
        assert staged.differences(side.truth(subject.stream), text) == []
        met.case(len(keys))


def test_a_read_limited_to_some_fields_brings_those_and_the_key(subject: Subject, side: Any) -> None:
    keys = side.seed(subject.stream, 5)
    connector = side.connector()
    stream = connector.stream(subject.stream)
    text = text_field(connector, stream, side.truth(subject.stream)[keys[0]])
    with law("a read limited to some fields", str(subject)) as met:
        for page in connector.read(subject.stream, fields=[text]):
            cursor = {stream.cursor.field} if stream.cursor is not None else set()
            assert {text, *stream.key} <= set(page.table.column_names) <= {text, *stream.key, *cursor, "_deleted"}
            met.case(page.table.num_rows)


def test_what_discover_names_is_what_a_read_brings(subject: Subject, side: Any) -> None:
    side.seed(subject.stream, 5)
    connector = side.connector()
    schema = connector.discover(subject.stream)
    with law("discover and read agree", str(subject)) as met:
        for page in connector.read(subject.stream):
            for column in page.table.schema:
                if column.name == "_deleted":
                    continue
                assert schema.field(column.name).type == column.type, column.name
                met.case()
