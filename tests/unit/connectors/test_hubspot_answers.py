"""What HubSpot's error bodies say; every part of them is optional."""

from __future__ import annotations

import json

import pytest

from sync_platform.connectors.hubspot.answers import refusal_of


def test_the_refused_properties_are_found_inside_the_message() -> None:
    sentence = '"x" was not one of the allowed options'
    why = {"isValid": False, "message": sentence, "error": "INVALID_OPTION", "name": "stage"}
    refusal = refusal_of({"message": "Property values were not valid: " + json.dumps([why]), "correlationId": "c1"})
    assert refusal.properties == {"stage": sentence}
    assert refusal.message == f"stage: {sentence}"
    assert refusal.broken == {}
    assert refusal.request_id == "c1"


def test_properties_no_value_would_satisfy_are_told_apart() -> None:
    details = [
        {"message": 'Property "nope" does not exist', "code": "PROPERTY_DOESNT_EXIST"},
        {"message": "read only", "code": "READ_ONLY_VALUE", "context": {"propertyName": ["createdate"]}},
        {"message": "bad", "code": "INVALID_EMAIL", "in": "email"},
    ]
    refusal = refusal_of({"message": "wrong", "errors": details})
    assert set(refusal.properties) == {"nope", "createdate", "email"}
    assert set(refusal.broken) == {"nope", "createdate"}


def test_properties_that_were_not_set_are_named() -> None:
    refusal = refusal_of({"message": "Some required properties were not set.", "context": {"properties": ["subject"]}})
    assert refusal.properties == {"subject": "Some required properties were not set."}


@pytest.mark.parametrize(
    "body",
    [
        {"message": "Contact already exists. Existing ID: 123"},
        {"message": "Contact already exists", "context": {"existingId": ["123"]}},
        {"message": "Contact already exists", "context": {"existingId": 123}},
    ],
)
def test_the_record_that_is_in_the_way_is_named(body: dict[str, object]) -> None:
    assert refusal_of(body).existing_id == "123"


@pytest.mark.parametrize("body", [None, [], "", {}, {"errors": ["x"], "context": None, "message": None}])
def test_a_body_that_says_nothing_is_no_surprise(body: object) -> None:
    assert refusal_of(body, request_id="r").message == "no reason given"
    assert refusal_of(body, request_id="r").request_id == "r"
