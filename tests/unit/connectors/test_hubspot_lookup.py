"""Look-ups in a HubSpot account, by id and by property."""

from __future__ import annotations

from hubspot_portal import Portal, error

from sync_platform.connectors.hubspot import HubSpot


def test_look_ups_by_id_and_by_a_unique_property_do_not_wait_for_the_index(portal: Portal, hubspot: HubSpot) -> None:
    key = portal.add(email="anna@example.com", ext_id="E1", firstname="Anna")
    table = hubspot.get("contacts", [key, "999", key, "not-an-id"], ["firstname", "email"])
    assert table.to_pylist() == [{"id": key, "firstname": "Anna", "email": "anna@example.com"}]
    assert hubspot.find("contacts", "email", [" ANNA@example.com", "x@y.z", ""], ["firstname"]).to_pylist() == [
        {"id": key, "email": "anna@example.com", "firstname": "Anna"}
    ]
    assert hubspot.find("contacts", "ext_id", ["E1"], [])["id"].to_pylist() == [key]
    assert not portal.sent("/search")


def test_look_ups_of_nothing_answer_an_empty_table_with_the_columns(portal: Portal, hubspot: HubSpot) -> None:
    assert hubspot.get("contacts", [], ["email"]).column_names == ["id", "email"]
    assert hubspot.find("contacts", "email", [""], ["firstname"]).column_names == ["id", "email", "firstname"]
    missing = error(404, "nothing found", "OBJECT_NOT_FOUND")
    portal.script = lambda request: missing if request.path.endswith("/read") else None
    assert hubspot.get("contacts", ["5"], ["email"]).num_rows == 0


def test_look_ups_by_any_other_property_find_every_record_of_a_value(portal: Portal, hubspot: HubSpot) -> None:
    wanted = [portal.add(firstname="Anna") for _ in range(250)] + [portal.add(firstname="Bert")]
    portal.add(firstname="Carl")
    portal.index()
    portal.touch(wanted[0], firstname="Renamed")  # the index does not know yet
    table = hubspot.find("contacts", "firstname", ["ANNA", "bert", *(f"value {n}" * 5 for n in range(150))], [])
    assert table["id"].to_pylist() == wanted[1:]
    assert all(len(each.body["filterGroups"][0]["filters"][0]["values"]) <= 100 for each in portal.sent("/search"))
    assert all(len(str(each.body)) < 3300 for each in portal.sent("/search"))
