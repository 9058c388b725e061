"""`plan --out` and `apply`: exactly that, and what moved since is named, not overwritten."""

from __future__ import annotations

import json
from pathlib import Path

from tests.world import SYNC, World

DATA = ("/query", "/queryAll", "/sobjects/Lead", "/composite", "/jobs")


def test_apply_writes_exactly_the_plan_and_names_what_moved(world: World, tmp_path: Path) -> None:
    ids = world.seed_leads(30)
    assert world.run().code == 0
    world.edit("salesforce/Lead", *[{"id": one, "fields": {"Company": f"Planned {one}"}} for one in ids[:20]])
    file = tmp_path / "plan.json"
    planned = world.cli("plan", SYNC, "--out", str(file), "--json")
    assert planned.code == 0, planned.err
    document = json.loads(file.read_text())
    assert document["summary"]["update"] == 20
    assert {one["op"] for one in document["changes"]} == {"update"}

    targets = {change["key"]: change["target_id"] for change in document["changes"]}
    moved = ids[:3]
    world.edit("hubspot/contacts", *[{"id": targets[one], "fields": {"company": "By hand"}} for one in moved])
    world.edit("salesforce/Lead", *[{"id": one, "fields": {"Company": "Newer still"}} for one in ids[5:10]])
    world.edit("salesforce/Lead", {"fields": {"LastName": "New", "Company": "X", "Email": "new@example.com"}})
    world.control.delete("records/salesforce/Lead", [ids[19]])

    mark = world.mark()
    applied = world.cli("apply", str(file), "--json")
    assert applied.code == 1, applied.out + applied.err
    asked = [one["path"] for one in world.requests(mark, "salesforce") if any(part in one["path"] for part in DATA)]
    assert asked == [], "apply must ask the source for nothing"
    written = world.written(mark)
    assert sorted(one["id"] for one in written) == sorted(targets[one] for one in ids[3:20])
    refused = {one["key"]: one for one in applied.json["refused"]}
    assert sorted(refused) == sorted(moved)
    assert {one["found"] for one in refused.values()} == {"By hand"}
    assert {one["field"] for one in refused.values()} == {"company"}

    mark = world.mark()
    again = world.cli("apply", str(file), "--json")
    assert again.code == 0, again.out
    assert world.written(mark) == []

    assert world.run().code == 0
    world_leads = {lead["id"] for lead in world.records("salesforce/Lead")}
    assert ids[19] not in world_leads
    wrong = [one for one in world.disagreements() if not one.endswith("is in the target only")]
    assert wrong == []
    assert world.violations() == []


def test_an_altered_plan_is_refused_before_anything_is_sent(world: World, tmp_path: Path) -> None:
    world.seed_leads(5)
    file = tmp_path / "plan.json"
    assert world.cli("plan", SYNC, "--out", str(file)).code == 0
    document = json.loads(file.read_text())
    document["changes"][0]["fields"][0]["new"] = "someone.else@example.com"
    file.write_text(json.dumps(document))
    mark = world.mark()
    refused = world.cli("apply", str(file), "--json")
    assert refused.code == 2
    assert refused.json["error"]["field"] == "digest"
    assert world.requests(mark) == []
    assert world.records("hubspot/contacts") == []


def test_a_plan_that_is_never_applied_moves_no_position(world: World, tmp_path: Path) -> None:
    world.seed_leads(5)
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    for file in (first, second):
        assert world.cli("plan", SYNC, "--out", str(file)).code == 0
    plans = [json.loads(file.read_text()) for file in (first, second)]
    assert [plan["summary"]["create"] for plan in plans] == [5, 5]
    assert world.cli("apply", str(second), "--json").code == 0
    superseded = world.cli("apply", str(first), "--json")
    assert superseded.code == 4, superseded.out
    assert "superseded" in superseded.json["error"]["message"]
    assert world.disagreements() == []


def test_a_first_sync_holds_its_creates_until_someone_decides(own: World) -> None:
    own.spoil("  first_sync: create\n", "")  # the default holds them
    own.seed_leads(4)
    held = own.run()
    assert held.code == 4, held.out + held.err
    assert held.json["sync_summary"]["held"] == 4
    assert own.records("hubspot/contacts") == []

    assert own.cli("match", SYNC, "--apply", "--json").code == 2  # there is no plan yet that somebody could have read
    matched = own.cli("match", SYNC, "--accept", "exact,unmatched", "--json")
    assert matched.code == 0, matched.out + matched.err
    assert matched.json["applied"] == {"linked": 0, "create": 4, "undecided": 0, "refused": []}
    done = own.run()
    assert (done.code, done.json["sync_summary"]["created"]) == (0, 4), done.out + done.err

    first, second, *_ = own.cli("links", "list", SYNC, "--json").json["links"]
    taken = own.cli("links", "make", SYNC, first["key"], second["target_id"], "--json")
    assert taken.code == 2
    assert f"linked to {first['target_id']}" in taken.json["error"]["message"]
    broken = own.cli("links", "break", SYNC, first["key"], "--json")
    assert (broken.code, broken.json["target_id"]) == (0, first["target_id"])
    made = own.cli("links", "make", SYNC, first["key"], first["target_id"], "--json")
    assert made.code == 0, made.out
    assert len(own.cli("links", "list", SYNC, first["key"], "--json").json["links"]) == 1
    told = [one["reason"] for one in own.cli("log", SYNC, first["key"], "--json").json["outcomes"]]
    assert {"the link to {target_id} was broken by hand", "linked by hand with {target_id}"} <= {
        reason.replace(first["target_id"], "{target_id}") for reason in told if reason
    }
    assert own.violations() == []
