"""The calls this connector makes to one HubSpot account."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import orjson

from sync_platform.connectors.connector import Quota
from sync_platform.connectors.faults import Answer
from sync_platform.connectors.http import Http
from sync_platform.connectors.hubspot.answers import GENERAL, SEARCH, learn_limits
from sync_platform.errors import ConfigError, ContractError
from sync_platform.model import Record

LIST_LIMIT: Final = 100
SEARCH_LIMIT: Final = 200
BATCH: Final = 100
#: The last offset a search serves; beyond it the answer is 400.
SEARCH_REACH: Final = 10_000
#: Longest property list put into an address, and longest search body, in characters.
URL_ROOM: Final = 4_000
BODY_ROOM: Final = 3_000

#: Whole-batch refusals: nothing was stored, and the body says why.
REFUSED: Final = frozenset({400, 404, 409, 413, 415, 422})


@dataclass(frozen=True, slots=True)
class Paths:
    """The addresses of an API version: `v3` puts the version first, dated ones after the API's name."""

    version: str

    def objects(self, object_type: str, tail: str = "") -> str:
        """The address of an object type's records."""
        return f"/crm/{self._versioned('objects')}/{quote(object_type, safe='')}{tail}"

    def properties(self, object_type: str) -> str:
        """The address of an object type's properties."""
        return f"/crm/{self._versioned('properties')}/{quote(object_type, safe='')}"

    def token(self) -> str:
        """The address that renews OAuth tokens."""
        return f"/oauth/{self.version}/token"

    def _versioned(self, name: str) -> str:
        return f"{self.version}/{name}" if self.version.startswith("v") else f"{name}/{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One answer with records, and the token of the next page (None at the end)."""

    records: Sequence[Record]
    after: str | None
    answer: Answer


class Heard:
    """Learns limits from every answer and keeps the latest of each thread: an error has no body to read."""

    def __init__(self) -> None:
        self._latest = threading.local()

    def __call__(self, answer: Answer, quota: Quota | None) -> None:
        learn_limits(answer, quota)
        self._latest.answer = answer

    def refusal(self, path: str, statuses: Collection[int]) -> Answer | None:
        """This thread's latest answer, if it came from `path` with one of the statuses."""
        answer: Answer | None = getattr(self._latest, "answer", None)
        return answer if answer is not None and answer.path == path and answer.status in statuses else None


class Api:
    """HubSpot's CRM calls over one `Http`; reads by POST are repeatable, writes only where harmless."""

    def __init__(self, http: Http, paths: Paths, heard: Heard) -> None:
        self._http, self._paths, self._heard = http, paths, heard

    def properties(self, object_type: str) -> Sequence[Record]:
        """Every property of an object type."""
        answer = self._http.get(self._paths.properties(object_type), bucket=GENERAL)
        return _results(answer)

    def list_page(
        self, object_type: str, names: Collection[str], *, after: str | None = None, archived: bool = False
    ) -> Found:
        """One page of the strongly consistent list, in the order of ids."""
        params: dict[str, Any] = {"limit": LIST_LIMIT, "after": after, "archived": "true" if archived else "false"}
        if names:
            params["properties"] = ",".join(names)
        return _found(self._http.get(self._paths.objects(object_type), params=params, bucket=GENERAL))

    def search(self, object_type: str, body: Mapping[str, Any]) -> Found:
        """One page of a search."""
        path = self._paths.objects(object_type, "/search")
        return _found(self._http.post(path, json=body, repeatable=True, bucket=SEARCH))

    def batch_read(
        self, object_type: str, ids: Sequence[str], names: Collection[str], *, id_property: str | None = None
    ) -> Found:
        """At most 100 records by id or by a unique property, strongly consistent; unknown ids are left out."""
        body: dict[str, Any] = {"inputs": [{"id": each} for each in ids], "properties": list(names)}
        if id_property is not None:
            body["idProperty"] = id_property
        path = self._paths.objects(object_type, "/batch/read")
        answer = self._answer_or_refusal(path, body, {404}, repeatable=True)
        if answer.status == 404:
            if _category(answer) != "OBJECT_NOT_FOUND":
                raise ConfigError(
                    f"hubspot has no object {object_type!r}: {answer.text()}", field="object", value=object_type
                )
            return Found(records=(), after=None, answer=answer)
        return _found(answer)

    def write(self, object_type: str, action: str, inputs: Sequence[Record], *, repeatable: bool) -> Answer:
        """The answer to a batch of at most 100: a success, or the refusal of the whole batch (`REFUSED`)."""
        path = self._paths.objects(object_type, f"/batch/{action}")
        return self._answer_or_refusal(path, {"inputs": inputs}, REFUSED, write=True, repeatable=repeatable)

    def account(self) -> Record:
        """Who the token belongs to (`portalId`, `uiDomain`, ...)."""
        data = self._http.get("/account-info/v3/details", bucket=GENERAL).data
        return data if isinstance(data, dict) else {}

    def _answer_or_refusal(
        self, path: str, body: Mapping[str, Any], statuses: Collection[int], *, write: bool = False, repeatable: bool
    ) -> Answer:
        """The answer to a POST, also when its status is one of `statuses`."""
        try:
            return self._http.post(path, json=body, write=write, repeatable=repeatable, bucket=GENERAL)
        except (ConfigError, ContractError):
            refusal = self._heard.refusal(path, statuses)
            if refusal is None:
                raise
            return refusal


def body_size(body: Mapping[str, Any]) -> int:
    """The length of a request body as sent, in bytes."""
    return len(orjson.dumps(body))


def _category(answer: Answer) -> str:
    return str(answer.data.get("category") or "") if isinstance(answer.data, dict) else ""


def _results(answer: Answer) -> Sequence[Record]:
    data = answer.data
    if not isinstance(data, dict) or not isinstance(data.get("results"), list):
        raise ContractError(
            f"hubspot: {answer.method} {answer.path} answered no list of results: {answer.text()}",
            mend="check that base_url is HubSpot's API",
        )
    return data["results"]  # type: ignore[no-any-return]


def _found(answer: Answer) -> Found:
    results = _results(answer)
    following = (answer.data.get("paging") or {}).get("next") or {}
    after = following.get("after")
    return Found(records=results, after=str(after) if after else None, answer=answer)
