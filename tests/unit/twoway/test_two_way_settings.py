"""What a two-way sync cannot be told is refused with file, line and mend; nothing a user writes is silently ignored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sync_platform.engine.spec import SyncSpec
from sync_platform.errors import ConfigError
from sync_platform.project import Project
from tests.unit.twoway.couple import Couple, a_two_way_sync

PLAIN = """
type: sync_platform.Sync
attributes:
  name: people
  direction: two_way
  source: {connection: crm, object: people}
  target: {connection: hub, object: people, match: [email]}
  mapping: {email: Email}
"""
FILE = "assets/people/defs.yaml"


def declared(root: Path, text: str) -> Project:
    """A project with one sync."""
    file = root / FILE
    file.parent.mkdir(parents=True)
    file.write_text(text)
    return Project(root)


@pytest.mark.parametrize(
    ("field", "said", "mend", "changes"),
    [
        *[
            ("mode", "keeps both sides equal", "leave mode out", [("  mapping", f"  mode: {mode}\n  mapping")])
            for mode in ("insert", "update", "mirror", "archive", "fill_empty")
        ],
        (
            "dedupe", "links one record to one", "leave dedupe out and merge duplicates in the source",
            [("  mapping", "  dedupe: {by: lower(Email)}\n  mapping")],
        ),
        ("compare", "reads its target", "leave compare out", [("  mapping", "  compare: links\n  mapping")]),
        *[
            (
                "on_target_delete", "for both sides", "write on_delete: {target: ...} instead",
                [("  mapping", f"  on_target_delete: {what}\n  mapping")],
            )
            for what in ("hold", "ignore")
        ],
        *[
            (
                "source.on_leave", "leaves its filter", "leave on_leave out",
                [("crm, object: people", f"crm, object: people, filter: Email IS NOT NULL, on_leave: {what}")],
            )
            for what in ("archive", "delete")
        ],
        *[
            (
                f"target.{name}", f"a target has no {name}", "write it under source",
                [("match: [email]", f"match: [email], {name}: {value}")],
            )
            for name, value in (("filter", "email IS NOT NULL"), ("on_leave", "keep"), ("timezone", "UTC"))
        ],
        ("target.object", "the same object", "name another object", [("connection: hub", "connection: crm")]),
        *[
            (
                name, "only a two-way sync has it", "add direction: two_way",
                [("direction: two_way", "direction: one_way"), ("  mapping", f"  {name}: {value}\n  mapping")],
            )
            for name, value in (
                ("back", "{Email: email}"), ("conflicts", "source"), ("on_delete", "{source: propagate}")
            )
        ],
    ],
)  # fmt: skip
def test_a_setting_that_does_not_fit_is_refused_with_file_line_and_mend(
    tmp_path: Path, field: str, said: str, mend: str, changes: list[tuple[str, str]]
) -> None:
    text = PLAIN
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    with pytest.raises(ConfigError) as found:
        declared(tmp_path, text).syncs  # noqa: B018
    error = found.value
    assert (error.file, error.field, error.mend) == (FILE, field, mend)
    assert said in error.message
    assert error.line is not None
    assert field.rpartition(".")[2] in text.splitlines()[error.line - 1]


@pytest.mark.parametrize("line", ["mode: upsert", "compare: target", "on_target_delete: recreate", "first_sync: match"])
def test_what_a_two_way_sync_does_anyway_may_be_written_down(tmp_path: Path, line: str) -> None:
    spec = declared(tmp_path, PLAIN.replace("  mapping", f"  {line}\n  mapping")).sync("people").spec
    assert spec.two_way is not None


def test_a_source_filter_chooses_what_takes_part_and_leaves_the_rest_alone(
    couple_of: Callable[[SyncSpec], Couple],
) -> None:
    couple = couple_of(a_two_way_sync(filter="Note IS NULL"))
    inside, outside = couple.crm.put(Email="a@x.org"), couple.crm.put(Email="b@x.org", Note="no")
    couple.run()
    other = couple.links()[inside]
    assert sorted(couple.links()) == [inside]
    couple.crm.edit(inside, Note="left", Name="Ann")
    couple.run()
    couple.hub.edit(other, phone="1")
    couple.run()
    assert (couple.hub.rows[other]["name"], couple.crm.rows[inside]["Phone"]) == (None, None), "neither side is written"
    couple.crm.edit(inside, Note=None)
    couple.run()
    assert (couple.hub.rows[other]["name"], couple.crm.rows[inside]["Phone"]) == ("Ann", "1"), "it is back"
    assert couple.crm.rows[outside]["Email"] == "b@x.org"
    assert couple.silent()
