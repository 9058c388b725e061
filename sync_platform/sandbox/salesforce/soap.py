"""The SOAP API as far as REST has no counterpart: merge().

SOAP API Developer Guide, "merge()", "MergeResult" and "API Fault Element" (https://developer.salesforce.com/docs/
atlas.en-us.api.meta/api/sforce_api_calls_merge.htm). Both the partner (/u/) and the enterprise (/c/) form are taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from starlette.responses import Response

from sync_platform.sandbox.kit import Call
from sync_platform.sandbox.salesforce import merging
from sync_platform.sandbox.salesforce.objects import find_object
from sync_platform.sandbox.salesforce.refusals import SalesforceError, UnbuiltError, unknown_type

if TYPE_CHECKING:
    from sync_platform.sandbox.salesforce.simulator import SalesforceSimulator

_PATH: Final = re.compile(r"/services/Soap/([uc])/\d+\.\d(?:/\w+)?/?")
_ENVELOPE: Final = "http://schemas.xmlsoap.org/soap/envelope/"
_XSI: Final = "http://www.w3.org/2001/XMLSchema-instance"
_API: Final = {"u": "urn:partner.soap.sforce.com", "c": "urn:enterprise.soap.sforce.com"}
MOST_REQUESTS: Final = 200


class _Request(NamedTuple):
    type: str
    id: str
    fields: dict[str, str | None]
    losers: list[str]


def answer(org: SalesforceSimulator, call: Call) -> Response:
    """The answer of /services/Soap/u/NN.0 and /c/NN.0. Raises UnbuiltError for anything but merge()."""
    found = _PATH.fullmatch(call.path)
    if found is None or call.method != "POST":
        raise UnbuiltError(f"{call.method} {call.path} is not built")
    namespace = _API[found.group(1)]
    try:
        envelope = _parsed(call.body)
        org.sessions.check_token(_session(envelope))
        operation = next(iter(_child(envelope, "Body") or ()), None)
        if operation is None or _local(operation.tag) != "merge":
            raise UnbuiltError("a SOAP call other than merge() is not built")
        requests = [_request(each) for each in operation]
        if len(requests) > MOST_REQUESTS:
            message = f"record limit reached. cannot submit more than {MOST_REQUESTS} records into this call"
            raise SalesforceError(500, "EXCEEDED_ID_LIMIT", message, violation=True)
        results = "".join(_result(org, call, each) for each in requests)
    except SalesforceError as error:
        if error.violation:
            call.violation(f"{error.code}: {error.message}")
        return _envelope(_fault(error), 500)
    return _envelope(f'<mergeResponse xmlns="{namespace}">{results}</mergeResponse>', 200)


def _result(org: SalesforceSimulator, call: Call, request: _Request) -> str:
    """One MergeResult; each request is a transaction of its own."""
    target = find_object(request.type)
    if target is None:
        raise unknown_type(request.type)
    prepared = org.writer.prepare(target, request.fields, text=True)
    try:
        merged = merging.merge(org, target, request.id, request.losers, prepared)
    except SalesforceError as error:
        if error.violation:
            call.violation(f"{error.code}: {error.message}")
        fields = "".join(f"<fields>{escape(name)}</fields>" for name in error.fields or ())
        said = f"<message>{escape(error.message)}</message><statusCode>{error.code}</statusCode>"
        return f"<result><errors>{fields}{said}</errors><success>false</success></result>"
    call.effect(target.name, merged.id, "update")
    for loser in merged.losers:
        call.effect(target.name, loser, "delete")
    for stream, id in merged.children:
        call.effect(stream, id, "update")
    gone = "".join(f"<mergedRecordIds>{id}</mergedRecordIds>" for id in merged.losers)
    moved = "".join(f"<updatedRelatedIds>{id}</updatedRelatedIds>" for _, id in merged.children)
    return f"<result><id>{merged.id}</id>{gone}<success>true</success>{moved}</result>"


def _request(element: ElementTree.Element) -> _Request:
    """A MergeRequest. Raises SalesforceError when its parts are missing."""
    master = _child(element, "masterRecord")
    if master is None:
        raise _malformed("a merge request has a masterRecord")
    given = {_local(each.tag): each.text for each in master if _local(each.tag) != "fieldsToNull"}
    given |= {str(each.text): None for each in master if _local(each.tag) == "fieldsToNull"}
    named = given.pop("type", None) or master.get(f"{{{_XSI}}}type", "").rpartition(":")[2]
    id = given.pop("Id", None)
    if not named or not id:
        raise _malformed("a masterRecord has a type and an Id")
    losers = [each.text or "" for each in element if _local(each.tag) == "recordToMergeIds"]
    return _Request(named, id, given, losers)


def _parsed(body: bytes) -> ElementTree.Element:
    if b"<!DOCTYPE" in body or b"<!ENTITY" in body:
        raise _malformed("a document type is not allowed")
    try:
        root = ElementTree.fromstring(body)
    except ElementTree.ParseError as error:
        raise _malformed(f"the body is not XML: {error}") from None
    if root.tag != f"{{{_ENVELOPE}}}Envelope":
        raise _malformed("the body is not a SOAP envelope")
    return root


def _session(envelope: ElementTree.Element) -> str | None:
    session = _child(_child(envelope, "Header"), "SessionHeader")
    return (getattr(_child(session, "sessionId"), "text", None) or "").strip() or None


def _child(element: ElementTree.Element | None, name: str) -> ElementTree.Element | None:
    return next(_named(element, name), None)


def _named(element: ElementTree.Element | None, name: str) -> Iterator[ElementTree.Element]:
    return (each for each in (element if element is not None else ()) if _local(each.tag) == name)


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _malformed(message: str) -> SalesforceError:
    return SalesforceError(500, "UNKNOWN_EXCEPTION", message, violation=True)


def _fault(error: SalesforceError) -> str:
    return (
        f'<soapenv:Fault xmlns:sf="urn:fault.partner.soap.sforce.com"><faultcode>sf:{error.code}</faultcode>'
        f"<faultstring>{error.code}: {escape(error.message)}</faultstring></soapenv:Fault>"
    )


def _envelope(body: str, status: int) -> Response:
    text = (
        f'<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="{_ENVELOPE}">'
        f"<soapenv:Body>{body}</soapenv:Body></soapenv:Envelope>"
    )
    return Response(text, status, media_type="text/xml")
