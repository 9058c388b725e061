"""What people see: a table where it fits, blocks where it does not, and every value whole."""

from __future__ import annotations

import pytest

from sync_platform.commands.output import table

COLUMNS = ["id", "key", "resolution"]


def test_a_table_that_fits_is_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    table("letters", COLUMNS, [[1, "00Q1", None]])
    assert "│ 1  │ 00Q1 │" in capsys.readouterr().out


@pytest.mark.parametrize("columns", ["20", "80"])
def test_a_value_is_never_cut_off(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    key, mend = "00QSB00000000012AA", "correct it in the source or change the mapping; it is tried again then " * 2
    table("letters", COLUMNS, [[1, key, mend], [2, "00Q2", None]])
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "letters"
    assert f"  key         {key}" in told
    assert f"  resolution  {mend}".rstrip() in told
    assert "  resolution" in told, "an empty value has its line, too"


def test_no_rows_are_an_empty_table(capsys: pytest.CaptureFixture[str]) -> None:
    table("letters", COLUMNS, [])
    assert "resolution" in capsys.readouterr().out
