"""The example of docs/two-way.md, run as a user runs it: check, plan, apply, run, conflicts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.two_way_world import SYNC, contact, disagreements, install
from tests.world import World


@pytest.mark.slow
def test_contacts_of_two_crms_are_kept_in_step(own: World, tmp_path: Path) -> None:
    install(own, ("conflicts: newest", "conflicts: ask"))
    keys = own.edit("salesforce/Contact", *[{"fields": contact(n)} for n in range(3)])
    own.edit("hubspot/contacts", {"fields": {"email": "h@x.org", "lastname": "Hub", "firstname": "Hal", "phone": "9"}})
    checked = own.cli("check", "--json")
    assert checked.code == 0, checked.out + checked.err
    assert any("jobtitle goes from salesforce/Contact" in note for note in checked.json["notes"])
    first = own.run(SYNC)
    assert (first.code, first.json["sync_summary"]["created"]) == (0, 4), first.out + first.err
    assert disagreements(own) == []
    hub = {one["fields"]["email"]: one["id"] for one in own.records("hubspot/contacts")}

    own.edit("salesforce/Contact", {"id": keys[0], "fields": {"Phone": "100"}})
    own.edit("hubspot/contacts", {"id": hub["p1@x.org"], "fields": {"firstname": "Fay"}})
    file = tmp_path / "plan.json"
    planned = own.cli("plan", SYNC, "--out", str(file), "--json")
    assert planned.code == 0, planned.out + planned.err
    told = {(one["side"], one["op"]): one["fields"] for one in planned.json["changes"]}
    assert told == {
        ("target", "update"): [{"name": "phone", "old": "0", "new": "100"}],
        ("source", "update"): [{"name": "FirstName", "old": "F1", "new": "Fay"}],
    }
    mark = own.mark()
    applied = own.cli("apply", str(file), "--json")
    assert (applied.code, applied.json["sync_summary"]["updated"]) == (0, 2), applied.out + applied.err
    assert [len(own.written(mark, system)) for system in ("salesforce", "hubspot")] == [1, 1]
    assert disagreements(own) == []

    own.edit("salesforce/Contact", {"id": keys[2], "fields": {"Phone": "7"}})
    own.edit("hubspot/contacts", {"id": hub["p2@x.org"], "fields": {"phone": "8"}})
    assert own.run(SYNC).code == 1  # a person is asked
    [waiting] = own.cli("conflicts", "list", "--json").json["conflicts"]
    assert (waiting["key"], waiting["source"], waiting["target"]) == (keys[2], {"Phone": "7"}, {"phone": "8"})
    shown = own.cli("conflicts", "show", str(waiting["id"]), "--json").json["conflict"]
    assert shown["base"] == {"source": {"Phone": "2"}, "target": {"phone": "2"}}
    assert own.cli("conflicts", "resolve", str(waiting["id"]), "--take", "both", "--json").code == 2
    assert own.cli("conflicts", "resolve", str(waiting["id"]), "--take", "target", "--json").code == 0
    assert own.run(SYNC).code == 0
    assert disagreements(own) == []
    mark = own.mark()
    silent = own.run(SYNC)
    assert (silent.code, silent.json["sync_summary"]["updated"]) == (0, 0)
    assert [own.written(mark, system) for system in ("salesforce", "hubspot")] == [[], []]
    assert own.violations() == []


def test_a_looping_example_is_refused_by_check_and_by_run(own: World) -> None:
    install(own, ("    phone: Phone\n", "    phone: regexp_replace(Phone, '[^0-9]', '', 'g')\n"))
    file = own.project / "assets" / SYNC / "defs.yaml"
    file.write_text(file.read_text().replace("  conflicts:", "  back: {Phone: phone}\n  conflicts:"))
    checked = own.cli("check", "--json")
    assert checked.code == 2
    [problem] = checked.json["problems"]
    lines = file.read_text().splitlines()
    assert (problem["field"], lines[problem["line"] - 1].strip()) == ("Phone", "back: {Phone: phone}")
    assert problem["value"] in problem["message"]
    own.edit("salesforce/Contact", {"fields": contact(1)})
    ran = own.run(SYNC)
    assert ran.code == 2, ran.out + ran.err
    assert json.loads(ran.out)["error"]["field"] == "Phone"
    assert own.records("hubspot/contacts") == []
