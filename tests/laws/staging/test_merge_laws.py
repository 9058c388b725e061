"""What a load makes of the pages it reads."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest

from sync_platform.errors import AccessError, ContractError
from sync_platform.model import Page
from sync_platform.staging.chunks import Limits
from sync_platform.staging.lake import Lake
from sync_platform.staging.load import Progress, next_read_is_full, stage
from sync_platform.staging.tables import columns, exists, high_seq
from tests.laws.staging.scripted import Scripted, at, lead, page

Rows = Callable[..., list[dict[str, Any]]]
Leads = Callable[..., dict[str, Any]]


def load(lake: Lake, *pages: Page, **options: Any) -> Any:
    return stage(lake, Scripted.of(*pages), "crm", options.pop("stream", "Lead"), **options)


def seq(lake: Lake, stream: str = "Lead") -> int:
    with lake.connect() as con:
        return high_seq(con, "crm", stream)


def test_a_record_on_two_pages_of_one_read_is_staged_once_and_the_newest_wins(lake: Lake, leads: Leads) -> None:
    done = load(
        lake,
        page([lead("a", 5, Name="newer"), lead("b", 1, Name="b")], 1),
        page([lead("a", 3, Name="older")], 2),
        page([lead("b", 1, Name="b, later page")], 3),
    )
    assert leads("Name") == {"a": "newer", "b": "b, later page"}
    assert (done.rows_read, done.rows_changed) == (4, 2)


def test_the_newest_wins_across_chunks_too(lake: Lake, leads: Leads) -> None:
    load(
        lake,
        page([lead("a", 5, Name="newer")], 1),
        page([lead("a", 3, Name="older")], 2),
        page([lead("a", 5, Name="same time, later page")], 3),
        limits=Limits(rows=1),
    )
    assert leads("Name") == {"a": "same time, later page"}


def test_the_highest_number_is_found_from_any_lower_one_and_where_that_is_gone(lake: Lake) -> None:
    for minutes in range(3):
        load(lake, page([lead(f"{minutes}", minutes, Name="x")], minutes))
    with lake.connect() as con:
        high = high_seq(con, "crm", "Lead")
        assert {high_seq(con, "crm", "Lead", at_least=number) for number in (0, 1, high - 1, high)} == {high}
        assert high_seq(con, "crm", "Lead", at_least=high + 5) == high
        assert high_seq(con, "crm", "Nothing", at_least=5) == 0


def test_a_chunk_whose_keys_lie_among_the_staged_ones_is_compared_with_them(lake: Lake, leads: Leads) -> None:
    for key, name in (("b", "first"), ("d", "first"), ("a", "before all"), ("e", "behind all"), ("b", "first")):
        load(lake, page([lead(key, 1, Name=name)], 1))
    done = load(lake, page([lead("c", 2, Name="between"), lead("b", 2, Name="changed"), lead("d", 1, Name="first")], 2))
    assert done.rows_changed == 2
    named = {"a": "before all", "b": "changed", "c": "between", "d": "first", "e": "behind all"}
    assert leads("Name") == named


def test_an_older_page_never_overwrites_a_newer_row(lake: Lake, leads: Leads) -> None:
    load(lake, page([lead("a", 5, Name="new")], 1))
    before = seq(lake)
    assert load(lake, page([lead("a", 4, Name="old")], 2)).rows_changed == 0
    assert leads("Name") == {"a": "new"}
    assert seq(lake) == before


def test_a_request_started_earlier_does_not_win_a_tie(lake: Lake, leads: Leads) -> None:
    early, late = page([lead("a", 5, Name="early")], 1), page([lead("a", 5, Name="late")], 2)
    load(lake, late)
    assert load(lake, early).rows_changed == 0
    assert leads("Name") == {"a": "late"}


def test_a_column_missing_from_a_page_blanks_nothing(lake: Lake, leads: Leads) -> None:
    load(lake, page([lead("a", 1, Name="Ann", Email="a@x.org"), lead("b", 1, Name="Bob", Email="b@x.org")], 1))
    done = load(lake, page([lead("a", 2, Name="Anna"), lead("c", 2, Name="Cem")], 2))
    assert done.rows_changed == 2
    assert leads("Email") == {"a": "a@x.org", "b": "b@x.org", "c": None}
    assert leads("Name") == {"a": "Anna", "b": "Bob", "c": "Cem"}


def test_a_column_missing_from_a_page_makes_no_row_look_changed(lake: Lake) -> None:
    load(lake, page([lead("a", 1, Name="Ann", Email="a@x.org"), lead("b", 1, Name="Bob", Email=None)], 1))
    assert load(lake, page([lead("a", 1, Name="Ann"), lead("b", 1, Name="Bob")], 2)).rows_changed == 0
    load(lake, page([lead("a", 2, Name="Anna")], 3))
    assert load(lake, page([lead("a", 2, Name="Anna", Email="a@x.org")], 4)).rows_changed == 0


def test_pages_of_different_shape_in_one_read_do_not_touch_each_others_columns(lake: Lake, leads: Leads) -> None:
    load(lake, page([lead("a", 1, Name="Ann", Email="a@x.org")], 1))
    load(lake, page([lead("a", 2, Name="Anna")], 2), page([lead("a", 3, Email="anna@x.org")], 3))
    assert leads("Name") == {"a": "Anna"}
    assert leads("Email") == {"a": "anna@x.org"}


def test_null_absent_and_empty_are_three_things(lake: Lake, leads: Leads) -> None:
    load(lake, page([lead("a", 1, Name="x", Note="n"), lead("b", 1, Name="x", Note="n")], 1))
    load(lake, page([lead("a", 2, Name="", Note=None)], 2), page([lead("b", 2, Name=None)], 3))
    assert leads("Name") == {"a": "", "b": None}
    assert leads("Note") == {"a": None, "b": "n"}
    assert load(lake, page([lead("a", 2, Name=None, Note=None)], 4)).rows_changed == 1


def test_a_reload_of_the_same_rows_changes_nothing_and_writes_no_snapshot(lake: Lake, rows: Rows) -> None:
    records = [lead(str(n), n, Name=f"n{n}", Score=n / 3, Open=n % 2 == 0) for n in range(50)]
    load(lake, page(records, 1))
    before, snapshots = seq(lake), rows("SELECT max(snapshot_id) AS id FROM lake.snapshots()")
    done = load(lake, page(records[25:], 1), page(records[:25], 1))
    assert (done.rows_read, done.rows_changed, done.seq_to) == (50, 0, before)
    assert rows("SELECT max(snapshot_id) AS id FROM lake.snapshots()") == snapshots


def test_the_order_of_columns_and_a_new_empty_column_do_not_change_a_row(lake: Lake) -> None:
    load(lake, page([{"Id": "a", "Modified": lead("a", 1)["Modified"], "Name": "x"}], 1))
    again = page([{"Name": "x", "Empty": None, "Modified": lead("a", 1)["Modified"], "Id": "a"}], 2, Empty=pa.string())
    assert load(lake, again).rows_changed == 0


def test_a_tombstone_flips_only_the_flag_and_a_record_that_comes_back_lives(lake: Lake, leads: Leads) -> None:
    load(lake, page([lead("a", 1, Name="Ann"), lead("b", 1, Name="Bob")], 1))
    first = seq(lake)
    gone = load(lake, page([{"Id": "a", "Modified": lead("a", 2)["Modified"], "_deleted": True}], 2))
    assert (gone.rows_changed, gone.rows_deleted) == (0, 1)
    assert leads("_deleted") == {"a": True, "b": False}
    assert leads("Name") == {"a": "Ann", "b": "Bob"}
    assert leads("_seq", "_deleted") == {"a": seq(lake)}
    assert seq(lake) > first
    assert load(lake, page([lead("a", 3, Name="Ann")], 3)).rows_changed == 1
    assert leads("_deleted") == {"a": False, "b": False}


def test_a_record_that_is_gone_keeps_its_values_beside_records_that_changed(lake: Lake, leads: Leads) -> None:
    load(lake, page([lead("a", 1, Name="Ann"), lead("b", 1, Name="Bob")], 1))
    gone = lead("a", 2, Name=None) | {"_deleted": True}
    load(lake, page([gone, lead("b", 2, Name="Bo") | {"_deleted": False}], 2, Name=pa.string()))
    assert leads("_deleted") == {"a": True, "b": False}
    assert leads("Name") == {"a": "Ann", "b": "Bo"}


def test_a_tombstone_without_a_cursor_wins_over_the_page_before_it_and_not_over_the_one_after(
    lake: Lake, leads: Leads
) -> None:
    def gone(key: str) -> dict[str, Any]:
        return {"Id": key, "_deleted": True}

    load(lake, page([lead(key, 1, Name=key) for key in "abc"], 1))
    load(
        lake,
        page([lead("a", 5, Name="a5"), lead("b", 5, Name="b5")], 2),
        page([gone("a"), gone("c"), gone("never seen")], 3),
    )
    assert leads("_deleted") == {"a": True, "b": False, "c": True}
    load(
        lake, page([{**gone("a"), "Modified": None, "Name": None}, lead("a", 6, Name="back") | {"_deleted": False}], 4)
    )
    assert leads("_deleted", "_key = 'a'") == {"a": False}


def test_composite_keys_are_told_apart(lake: Lake, rows: Rows) -> None:
    records = [
        {"Region": r, "Code": c, "Value": v} for r, c, v in (("a", 1, 1), ("a", 2, 2), ('b"', 1, 3), ("b\\", 1, 4))
    ]
    load(lake, page(records, complete=True), stream="Rate")
    records[1]["Value"] = 20
    assert load(lake, page(records, complete=True), stream="Rate").rows_changed == 1
    found = {row["_key"]: row["Value"] for row in rows('SELECT _key, "Value" FROM lake.crm."Rate"')}
    assert found == {'["a","1"]': 1, '["a","2"]': 20, '["b\\"","1"]': 3, '["b\\\\","1"]': 4}


def test_odd_values_and_names_survive_as_they_are(lake: Lake, rows: Rows) -> None:
    odd = ["Zoë 🎉", "O'Hara", 'say "hi"', "a\\b", "line\nbreak\ttab", "a\x1fb\x1ec", " pad ", "NULL", "{}", "日本語"]
    name = "Größe 'x' \"y\" 🎈.z"
    records = [lead(value, 1, **{name: value}) for value in odd]
    load(lake, page(records, 1))
    quoted = '"' + name.replace('"', '""') + '"'
    found = rows(f'SELECT "Id" AS id, {quoted} AS value FROM lake.crm."Lead"')
    assert sorted((row["id"], row["value"]) for row in found) == sorted((value, value) for value in odd)
    assert load(lake, page(records, 2)).rows_changed == 0


def test_the_vendors_names_work_in_any_case(lake: Lake, rows: Rows) -> None:
    record = {"Id": "1", "LastModifiedDate": "x", "Email": "a@x.org"}
    stage(lake, Scripted.of(page([{**record, "Modified": lead("1", 1)["Modified"]}], 1)), "salesforce", "Lead")
    assert rows("SELECT Email FROM lake.salesforce.Lead") == [{"Email": "a@x.org"}]
    assert rows("SELECT email FROM lake.Salesforce.lead")[0] == {"Email": "a@x.org"}
    stage(lake, Scripted.of(page([lead("1", 2, EMAIL="b@x.org")], 2)), "salesforce", "Lead")
    assert rows("SELECT Email, LastModifiedDate FROM lake.salesforce.Lead") == [
        {"Email": "b@x.org", "LastModifiedDate": "x"}
    ]


def test_every_type_comes_back_as_it_was(lake: Lake, rows: Rows) -> None:
    import decimal

    moment = dt.datetime(2026, 3, 29, 1, 30, 0, 123456, tzinfo=dt.UTC)
    record = {
        "Id": "a", "Modified": moment, "Whole": 2**62, "Part": 0.1, "Money": decimal.Decimal("12345678901.120000000"),
        "Yes": True, "Day": dt.date(2024, 2, 29), "Clock": dt.time(23, 59, 59, 999999),
        "Local": dt.datetime(2026, 3, 29, 2, 30), "Raw": b"\x00\xff", "Tags": ["a", "b"], "Nested": {"k": 1},
    }  # fmt: skip
    done = load(lake, page([record], 1, Money=pa.decimal128(38, 9)))
    assert done.rows_changed == 1
    found = rows('SELECT * FROM lake.crm."Lead"')[0]
    assert {name: found[name] for name in record} == {**record, "Tags": '["a","b"]', "Nested": '{"k":1}'}
    assert found["_cursor"] == int(moment.timestamp() * 1_000_000)
    assert load(lake, page([record], 2, Money=pa.decimal128(38, 9))).rows_changed == 0


@pytest.mark.parametrize(
    ("value", "kind"),
    [(1.5, pa.float64()), ("twelve", pa.string()), (2**70, pa.decimal128(30, 0)), (True, pa.bool_())],
)
def test_a_value_that_does_not_fit_fails_the_load_and_leaves_everything_as_it_was(
    lake: Lake, leads: Leads, value: object, kind: pa.DataType
) -> None:
    load(lake, page([lead("a", 1, Size=1)], 1))
    before = seq(lake)
    with pytest.raises(ContractError, match=r"crm/Lead.*Size") as caught:
        load(lake, page([lead("a", 2, Size=2)], 2), page([lead("b", 2, Size=value)], 3, Size=kind))
    assert caught.value.field == "Size"
    assert str(value) in str(caught.value)
    assert caught.value.mend
    assert leads("Size") == {"a": 1}
    assert seq(lake) == before
    assert load(lake, page([lead("a", 2, Size=2)], 4)).rows_changed == 1


def test_whole_numbers_in_another_type_are_no_misfit(lake: Lake, leads: Leads) -> None:
    load(lake, page([lead("a", 1, Size=1, Text="x")], 1))
    load(lake, page([lead("a", 2, Size=2.0, Text=7)], 2))
    assert leads("Size") == {"a": 2}
    assert leads("Text") == {"a": "7"}


@pytest.mark.parametrize("rows_of_key", [[{"Id": None}, {"Id": "b"}], [{"Other": 1}]])
def test_a_row_without_its_key_is_refused(lake: Lake, rows_of_key: list[dict[str, Any]]) -> None:
    with pytest.raises(ContractError, match="key"):
        load(lake, page(rows_of_key, 1, Id=pa.string()))
    with lake.connect() as con:
        assert not exists(con, "crm", "Lead")


def test_a_new_column_is_added_and_older_rows_are_read_again_for_it(lake: Lake, leads: Leads) -> None:
    old = [lead("a", 1, Name="Ann"), lead("b", 1, Name="Bob")]
    versions: list[list[dict[str, Any]]] = [old]

    def answers(since: object) -> Iterator[Page]:
        records = versions[-1]
        yield page(records if since is None else records[1:], 1)

    source = Scripted.by(answers)
    stage(lake, source, "crm", "Lead")
    versions.append([lead("a", 1, Name="Ann", Phone="1"), lead("b", 2, Name="Bob", Phone="2")])
    stage(lake, source, "crm", "Lead")
    assert leads("Phone") == {"a": None, "b": "2"}
    assert "Phone is new" in str(next_read_is_full(lake, "crm", "Lead"))
    stage(lake, source, "crm", "Lead")
    assert leads("Phone") == {"a": "1", "b": "2"}
    stage(lake, source, "crm", "Lead")
    assert [asked["since"] for asked in source.asked] == [None, {"next": 1}, None, {"next": 1}]
    assert next_read_is_full(lake, "crm", "Lead") is None
    assert next_read_is_full(lake, "crm", "Lead", where="x > 1") == "its filter changed from none to x > 1"


def test_another_filter_or_more_fields_read_everything_once(lake: Lake) -> None:
    source = Scripted.of(page([lead("a", 1, Name="Ann")], 1))
    ranges = [
        (["Name"], None),
        (["Name"], None),
        (["Name"], "x"),
        (["Name", "Note"], "x"),
        (None, "x"),
        (["Name"], "x"),
    ]
    for fields, where in ranges:
        stage(lake, source, "crm", "Lead", fields=fields, where=where)
    assert [asked["since"] is None for asked in source.asked] == [True, False, True, True, True, False]
    assert source.asked[0]["fields"] == ["Id", "Modified", "Name"]


def test_what_came_before_a_break_is_kept_and_the_break_is_told(lake: Lake, leads: Leads) -> None:
    def breaking(since: object) -> Iterator[Page]:
        yield page([lead("a", 1, Name="Ann")], 1)
        raise AccessError("the line went dead")

    with pytest.raises(AccessError, match="the line went dead"):
        stage(lake, Scripted.by(breaking), "crm", "Lead")
    assert leads("Name") == {"a": "Ann"}
    source = Scripted.of(page([lead("b", 2, Name="Bob")], 2))
    stage(lake, source, "crm", "Lead")
    assert source.asked[0]["since"] == {"next": 1}
    assert leads("Name") == {"a": "Ann", "b": "Bob"}


def test_progress_is_told_and_the_load_is_on_record(lake: Lake) -> None:
    told: list[Progress] = []
    done = load(lake, page([lead("a", 1)], 1), page([lead("b", 2)], 2), limits=Limits(rows=1), on_progress=told.append)
    assert [(step.rows_read, step.rows_changed, step.chunks) for step in told] == [(2, 1, 1), (2, 2, 2)]
    with lake.db.connection() as pg:
        row = pg.execute("SELECT rows_read, rows_changed, seq_to, state FROM sync.loads").fetchone()
    assert row == (2, 2, done.seq_to, "finished")


def test_the_landing_table_is_empty_after_a_load(lake: Lake, rows: Rows) -> None:
    load(lake, page([lead("a", 1)], 1))
    assert rows('SELECT count(*) AS n FROM lake."landing__crm__Lead".rows') == [{"n": 0}]
    with lake.connect() as con:
        schema = columns(con, "crm", "Lead")
    assert schema is not None
    assert schema.names == ["Id", "Modified"]


def test_after_chunks_of_many_new_rows_the_landing_table_takes_more(lake: Lake, rows: Rows) -> None:
    def many(first: int) -> Page:
        return page([lead(f"{n:06}", n, Name=str(n)) for n in range(first, first + 20_000)], first)

    done = load(lake, many(0), many(20_000), limits=Limits(rows=20_000))
    assert (done.rows_read, done.rows_changed) == (40_000, 40_000)
    assert rows('SELECT count(*) AS n FROM lake."landing__crm__Lead".rows') == [{"n": 0}]
    more = load(lake, page([lead("000007", 99_999, Name="changed"), lead("z", 1, Name="new")], 40_001))
    assert more.rows_changed == 2
    held = rows("SELECT Name AS name FROM lake.crm.\"Lead\" WHERE Id IN ('000007', '030000', 'z') ORDER BY Id")
    assert [row["name"] for row in held] == ["changed", "30000", "new"]
    assert rows('SELECT count(*) AS n, count(DISTINCT _key) AS keys FROM lake.crm."Lead"') == [
        {"n": 40_001, "keys": 40_001}
    ]


def test_a_load_since_asked_for_is_joined(lake: Lake) -> None:
    source = Scripted.of(page([lead("a", 1)], 1))
    before = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=5)
    first = stage(lake, source, "crm", "Lead", requested_at=before)
    joined = stage(lake, source, "crm", "Lead", requested_at=before)
    assert (first.joined, joined.joined, joined.load_id) == (False, True, first.load_id)
    assert stage(lake, source, "crm", "Lead", requested_at=dt.datetime.now(dt.UTC)).joined is False
    assert len(source.asked) == 2


def many_leads(count: int, minute: float) -> pa.Table:
    """So many leads of that minute; the last of them holds nothing but its key."""
    names = pa.array([f"lead {n}" for n in range(count - 1)] + [None], pa.string())
    modified = pa.array([at(minute)] * count, pa.timestamp("us", tz="UTC"))
    return pa.table({"Id": [f"{n:06}" for n in range(count)], "Modified": modified, "Name": names})


def test_a_large_chunk_of_new_rows_is_written_in_parts_and_staged_whole(lake: Lake, rows: Rows) -> None:
    two_cores = Lake(lake.db, threads=1)
    try:
        done = stage(two_cores, Scripted.of(page(many_leads(100_001, 1), 1)), "crm", "Lead")
        files = rows("SELECT data_file FROM ducklake_list_files('lake', 'Lead', schema => 'crm')")
        assert len(files) == two_cores.writers
        assert (done.rows_read, done.rows_changed) == (100_001, 100_001)
        whole = "SELECT count(*) AS n, count(DISTINCT _key) AS keys, count(DISTINCT _seq) AS seqs, min(_key) AS least, "
        whole += 'max(_key) AS most, count("Name") AS names FROM lake.crm."Lead"'
        staged = rows(whole)[0]
        assert (staged["n"], staged["keys"], staged["names"], staged["seqs"]) == (100_001, 100_001, 100_000, 1)
        assert (staged["least"], staged["most"]) == ("000000", "100000")
        for minute, changed in ((1, 0), (2, 100_001), (2, 0)):  # now all are compared; the landing table is merged
            again = stage(two_cores, Scripted.of(page(many_leads(100_001, minute), minute)), "crm", "Lead", full=True)
            assert again.rows_changed == changed
        assert rows(whole)[0]["n"] == 100_001
        assert rows('SELECT count(*) AS n FROM lake."landing__crm__Lead".rows') == [{"n": 0}]
    finally:
        two_cores.close()
