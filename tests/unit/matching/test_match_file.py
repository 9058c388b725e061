"""The file of decisions: stable, readable, and refused with its line where it contradicts itself."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from sync_platform.errors import ConfigError
from sync_platform.matching.decisions import MATCHES, MatchFile, accepted, counts, merged

HEAD = "source_key,target_id,class,score,decision,evidence,source,target\n"


def rows(*given: tuple[str, str | None, str, float | None, str]) -> pl.DataFrame:
    named = [dict(zip(("source_key", "target_id", "class", "score", "decision"), row, strict=True)) for row in given]
    return pl.DataFrame(named, schema=MATCHES)


PROPOSED = rows(
    ("c", None, "unmatched", None, "undecided"),
    ("b", "2", "ambiguous", 0.6, "undecided"),
    ("b", "3", "ambiguous", 0.9, "undecided"),
    ("a", "1", "exact", 1.0, "undecided"),
)


def decided(frame: pl.DataFrame) -> list[tuple[str, str | None, str]]:
    return frame.select("source_key", "target_id", "decision").rows()


def test_the_file_is_sorted_by_class_and_reads_back_as_it_was(tmp_path: Path) -> None:
    file = MatchFile(tmp_path / "matches.csv")
    assert file.read().is_empty()
    whole = merged(PROPOSED, file.read())
    file.write(whole)
    assert file.read().equals(whole)
    assert [row[0] for row in decided(whole)] == ["a", "b", "b", "c"]
    assert whole["target_id"].to_list() == ["1", "3", "2", None]
    before = file.path.read_bytes()
    file.write(merged(PROPOSED.reverse(), file.read()))
    assert file.path.read_bytes() == before


def test_decisions_survive_a_new_plan_and_linked_records_do_not(tmp_path: Path) -> None:
    before = rows(
        ("a", "1", "exact", 1.0, "accept"),
        ("b", "3", "ambiguous", 0.9, "reject"),
        ("gone", "9", "exact", 1.0, "accept"),
    )
    told = merged(PROPOSED.filter(pl.col("target_id").ne_missing("3")), before)
    assert decided(told) == [
        ("a", "1", "accept"), ("b", "3", "reject"), ("b", "2", "undecided"), ("c", None, "undecided"),
    ]  # fmt: skip


def test_a_record_that_is_to_be_created_is_not_proposed_to_anybody() -> None:
    told = merged(PROPOSED, rows(("b", None, "ambiguous", None, "create")))
    assert [row for row in decided(told) if row[0] == "b"] == [("b", None, "create")]


def test_whole_classes_are_accepted_but_never_the_ambiguous_ones() -> None:
    told = accepted(merged(PROPOSED, PROPOSED.clear()), ["exact", "likely", "unmatched"])
    assert counts(told, "decision", ("accept", "create", "undecided")) == {"accept": 1, "create": 1, "undecided": 1}
    for name in ("ambiguous", "exakt"):
        with pytest.raises(ConfigError, match="cannot be accepted"):
            accepted(told, [name])


@pytest.mark.parametrize(
    ("lines", "line", "field"),
    [
        ("a,1,exact,1.0,yes,,,\n", 2, "decision"),
        ("a,,exact,1.0,accept,,,\n", 2, "target_id"),
        ("a,1,exact,high,accept,,,\n", 2, "score"),
        ("a,1,exact,1.0,accept,,,\na,2,exact,1.0,accept,,,\n", 3, "source_key"),
        ("a,1,exact,1.0,accept,,,\nb,1,exact,1.0,accept,,,\n", 3, "target_id"),
        ("a,1,exact,1.0,accept,,,\na,,,,create,,,\n", 3, "source_key"),
        (",1,exact,1.0,undecided,,,\n", 2, "source_key"),
    ],
)
def test_what_contradicts_itself_is_refused_with_its_line(tmp_path: Path, lines: str, line: int, field: str) -> None:
    file = MatchFile(tmp_path / "matches.csv")
    file.path.write_text(HEAD + lines)
    with pytest.raises(ConfigError) as caught:
        file.read()
    assert (caught.value.line, caught.value.field) == (line, field)


def test_a_spreadsheet_may_have_saved_it(tmp_path: Path) -> None:
    file = MatchFile(tmp_path / "matches.csv")
    file.path.write_text(
        "\ufeff" + HEAD.replace("\n", "\r\n") + 'a,1,exact,1.0, Accept ,"x, y",,\r\n', encoding="utf-8"
    )
    (row,) = file.read().to_dicts()
    assert (row["decision"], row["evidence"], row["source"]) == ("accept", "x, y", None)
