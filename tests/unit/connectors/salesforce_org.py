"""A small Salesforce org on a local port, shaped from the vendor's documents, for the connector's tests.

It knows one object (Lead), evaluates the SOQL the documents describe, and refuses what they say is refused:
AND and OR mixed without parentheses, unknown fields, ORDER BY or LIMIT in a Bulk query it is told to refuse.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import re
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

from local_server import Asked, Reply

START = dt.datetime(2026, 3, 1, 12, 0, tzinfo=dt.UTC)
ROOT = "/org/services/data/v66.0"
TYPES = {
    "Id": "id",
    "IsDeleted": "boolean",
    "SystemModstamp": "datetime",
    "FirstName": "string",
    "Email": "email",
    "Status": "picklist",
    "Notes": "textarea",
    "Budget__c": "currency",
    "Score__c": "double",
    "Staff": "int",
    "Born__c": "date",
    "Ext__c": "string",
    "Address": "address",
    "Photo__c": "base64",
}
READONLY = {"Id", "IsDeleted", "SystemModstamp"}


def stamp(offset_ms: int) -> str:
    """The org's start plus so many milliseconds, as Salesforce writes a time in JSON."""
    at = START + dt.timedelta(milliseconds=offset_ms)
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}+0000"


def describe(hidden: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The describe answer for Lead, without fields that field-level security hides."""
    fields = []
    for name, kind in TYPES.items():
        if name in hidden:
            continue
        writable = name not in READONLY
        fields.append(
            {
                "name": name,
                "label": name.removesuffix("__c"),
                "type": kind,
                "createable": writable,
                "updateable": writable,
                "nillable": name not in {"FirstName", *READONLY},
                "defaultedOnCreate": name in READONLY,
                "filterable": kind not in {"textarea", "base64"},
                "externalId": name == "Ext__c",
                "unique": name == "Ext__c",
                "caseSensitive": False,
                "length": 80 if kind in {"string", "email", "picklist"} else 0,
                "scale": 2 if kind == "currency" else 0,
                "restrictedPicklist": name == "Status",
                "picklistValues": [{"value": "Open", "active": True}, {"value": "Old", "active": False}]
                if kind == "picklist"
                else [],
            }
        )
    return {"name": "Lead", "fields": fields, "createable": True, "updateable": True, "queryable": True}


class Org:
    """The org's rows and habits; calling it answers a request."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self.batch = 2000  # rows of one query answer
        self.part = 50_000  # rows of one part of a Bulk file
        self.now = START
        self.tokens = 0
        self.valid: set[str] = set()
        self.secret = "org-secret"
        self.hidden: frozenset[str] = frozenset()
        self.jobs: dict[str, list[dict[str, Any]]] = {}
        self.job_fields: dict[str, list[str]] = {}
        self.before: list[Callable[[Asked], Reply | None]] = []  # looked at first; None lets the org answer
        self.item_errors: dict[str, dict[str, Any]] = {}  # FirstName -> error of that record
        self.url = ""

    def lead(self, number: int, offset_ms: int, **fields: Any) -> str:
        """A lead with that number in its id and that time stamp."""
        key = f"00Q{number:012d}AAA"
        blank = dict.fromkeys(TYPES)
        for name in ("Address", "Photo__c"):
            blank.pop(name)
        self.rows[key] = {**blank, "Id": key, "IsDeleted": False, "SystemModstamp": stamp(offset_ms), **fields}
        return key

    def __call__(self, asked: Asked) -> Reply:
        for hook in self.before:
            reply = hook(asked)
            if reply is not None:
                return reply
        if asked.path == "/services/oauth2/token":
            return self._token(asked)
        if asked.headers.get("Authorization", "").removeprefix("Bearer ") not in self.valid:
            return refusal(401, "INVALID_SESSION_ID", "Session expired or invalid")
        if asked.path == "/org/services/data/":
            return Reply(data=[{"label": "Spring '26", "version": "66.0"}, {"version": "65.0"}])
        path = asked.path.removeprefix(ROOT)
        if path == "/limits":
            return Reply(data={"DailyApiRequests": {"Max": 15000, "Remaining": 14000}})
        if path == "/sobjects/Lead/describe":
            return Reply(data=describe(self.hidden))
        if path in ("/query", "/queryAll"):
            return self._query(asked, deleted=path == "/queryAll")
        if path.startswith("/jobs/query"):
            return self._job(asked, path)
        if path.startswith("/composite/sobjects"):
            return self._collection(asked, path)
        return refusal(404, "NOT_FOUND", "The requested resource does not exist")

    def _token(self, asked: Asked) -> Reply:
        if asked.form.get("client_secret") != self.secret:
            return Reply(
                status=401, data={"error": "invalid_client", "error_description": "invalid client credentials"}
            )
        self.tokens += 1
        token = f"00D-token-{self.tokens}"
        self.valid = {token}
        identity = f"{self.url}/id/00D000000000001EAA/005000000000001AAA"
        return Reply(data={"access_token": token, "instance_url": f"{self.url}/org", "id": identity})

    def _query(self, asked: Asked, *, deleted: bool) -> Reply:
        headers = {"Sforce-Limit-Info": "api-usage=18/15000"}
        fields, rows = self.select(asked.query["q"], deleted=deleted)
        if isinstance(rows, Reply):
            return rows
        if fields == ["COUNT()"]:
            return Reply(data={"totalSize": len(rows), "done": True, "records": []}, headers=headers)
        shown = [{"attributes": {"type": "Lead"}, **{f: row[f] for f in fields}} for row in rows[: self.batch]]
        body: dict[str, Any] = {"totalSize": len(rows), "done": len(rows) <= self.batch, "records": shown}
        if not body["done"]:
            body["nextRecordsUrl"] = f"{ROOT}/query/01gCURSOR-{self.batch}"
        return Reply(data=body, headers=headers)

    def select(self, soql: str, *, deleted: bool) -> tuple[list[str], Any]:
        """(fields, rows) of a query, or a refusal in place of the rows."""
        shape = re.fullmatch(
            r"SELECT (.+?) FROM (\w+)(?: WHERE (.+?))?(?: ORDER BY (.+?))?(?: LIMIT (\d+))?", soql, re.DOTALL
        )
        if shape is None:
            return [], refusal(400, "MALFORMED_QUERY", f"unexpected token: {soql[:40]}")
        fields = [name.strip() for name in shape[1].split(",")]
        unknown = [f for f in fields if f != "COUNT()" and (f not in TYPES or f in self.hidden)]
        if unknown:
            return [], refusal(400, "INVALID_FIELD", f"No such column '{unknown[0]}' on entity 'Lead'")
        try:
            test = Where(shape[3]).test if shape[3] else lambda _: True
        except ValueError as wrong:
            return [], refusal(400, "MALFORMED_QUERY", str(wrong))
        rows = [row for row in self.rows.values() if (deleted or not row["IsDeleted"]) and test(row)]
        for order in reversed((shape[4] or "Id").split(",")):
            rows.sort(key=itemgetter(order.split()[0]))
        return fields, rows[: int(shape[5])] if shape[5] else rows

    def _job(self, asked: Asked, path: str) -> Reply:
        if asked.method == "POST":
            soql = asked.json["query"]
            if " ORDER BY " in soql or " LIMIT " in soql:
                return refusal(400, "API_ERROR", "PK chunking is off with ORDER BY or LIMIT")
            fields, rows = self.select(soql, deleted=asked.json["operation"] == "queryAll")
            if isinstance(rows, Reply):
                return rows
            job = f"750{len(self.jobs):012d}AAA"
            self.jobs[job] = [dict(row) for row in sorted(rows, key=lambda row: str(row["Id"])[::-1])]
            self.job_fields[job] = fields
            return Reply(data={"id": job, "state": "UploadComplete", "object": "Lead"})
        job = path.split("/")[3]
        if job not in self.jobs:
            return refusal(404, "NOT_FOUND", "The requested resource does not exist")
        rows = self.jobs[job]
        if not path.endswith("/results"):
            return Reply(data={"id": job, "state": "JobComplete", "numberRecordsProcessed": len(rows)})
        start = int(asked.query.get("locator") or 0)
        part = rows[start : start + min(self.part, int(asked.query["maxRecords"]))]
        after = start + len(part)
        return Reply(
            body=as_csv(part, self.job_fields[job]),
            zipped=True,
            headers={
                "Content-Type": "text/csv",
                "Sforce-NumberOfRecords": str(len(part)),
                "Sforce-Locator": str(after) if after < len(rows) else "null",
            },
        )

    def _collection(self, asked: Asked, path: str) -> Reply:
        if asked.method == "DELETE":
            return Reply(data=[self._delete(key) for key in asked.query["ids"].split(",")])
        if path == "/composite/sobjects/Lead" and asked.method == "POST":
            rows = [self.rows.get(key) for key in asked.json["ids"]]
            wanted = asked.json["fields"]
            return Reply(data=[None if r is None or r["IsDeleted"] else {f: r[f] for f in wanted} for r in rows])
        external = path.removeprefix("/composite/sobjects").removeprefix("/Lead/")
        return Reply(data=[self._save(asked.method, external, dict(record)) for record in asked.json["records"]])

    def _delete(self, key: str) -> dict[str, Any]:
        row = self.rows.get(key)
        if row is None or row["IsDeleted"]:
            return {"success": False, "errors": [{"statusCode": "ENTITY_IS_DELETED", "message": "entity is deleted"}]}
        row["IsDeleted"] = True
        return {"id": key, "success": True, "errors": []}

    def _save(self, method: str, external: str, record: dict[str, Any]) -> dict[str, Any]:
        if next(iter(record)) != "attributes":
            return {"success": False, "errors": [{"statusCode": "JSON_PARSER_ERROR", "message": "attributes first"}]}
        record.pop("attributes")
        if record.get("FirstName") in self.item_errors:
            return {"success": False, "errors": [self.item_errors[record["FirstName"]]]}
        key = record.pop("id", None)
        if method == "PATCH" and external:
            key = next((k for k, row in self.rows.items() if row["Ext__c"] == record[external]), None)
        created = key is None
        if created:
            key = self.lead(900_000 + len(self.rows), 0)
        self.rows[key].update(record)
        return {"id": key, "success": True, "errors": [], "created": created}


def refusal(status: int, code: str, message: str) -> Reply:
    """An error answer in Salesforce's form."""
    return Reply(status=status, data=[{"message": message, "errorCode": code}])


def as_csv(rows: list[dict[str, Any]], fields: list[str]) -> bytes:
    """A Bulk result file: everything quoted, null as nothing, times with a Z."""
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(fields)
    for row in rows:
        cells = [row[name] for name in fields]
        writer.writerow(
            [
                "" if v is None else str(v).lower() if isinstance(v, bool) else str(v).replace("+0000", "Z")
                for v in cells
            ]
        )
    return out.getvalue().encode()


class Where:
    """A SOQL condition, evaluated on a row as Salesforce does: null is a value, text ignores case."""

    TOKEN = re.compile(r"\s*('(?:\\.|[^'\\])*'|[(),]|!=|>=|<=|=|<|>|[^\s(),'!=<>]+)")

    def __init__(self, text: str) -> None:
        self.tokens = self.TOKEN.findall(text)
        self.at = 0
        self.test: Callable[[Mapping[str, Any]], bool] = self._any()
        if self.at != len(self.tokens):
            raise ValueError(f"unexpected token: {self.tokens[self.at]}")

    def _take(self) -> str:
        self.at += 1
        return str(self.tokens[self.at - 1])

    def _peek(self) -> str:
        return str(self.tokens[self.at]).upper() if self.at < len(self.tokens) else ""

    def _any(self) -> Callable[[Mapping[str, Any]], bool]:
        parts, word = [self._one()], ""
        while self._peek() in ("AND", "OR"):
            if word and self._peek() != word:
                raise ValueError(f"unexpected token: {self._peek()}")
            word = self._take().upper()
            parts.append(self._one())
        return (lambda row: any(p(row) for p in parts)) if word == "OR" else (lambda row: all(p(row) for p in parts))

    def _one(self) -> Callable[[Mapping[str, Any]], bool]:
        first = self._take()
        if first == "(":
            inner = self._any()
            if self._take() != ")":
                raise ValueError("missing )")
            return inner
        if first.upper() == "NOT":
            negated = self._one()
            return lambda row: not negated(row)
        if first not in TYPES or TYPES[first] == "textarea":
            raise ValueError(f"field {first} can not be filtered in a query call")
        operator = self._take().upper()
        if operator in ("IN", "NOT"):
            return self._list(first, operator)
        value = self._value(self._take(), first)
        return lambda row: compare(row[first], operator, value, first)

    def _list(self, name: str, operator: str) -> Callable[[Mapping[str, Any]], bool]:
        if operator == "NOT":
            self._take()
        self._take()
        values = []
        while (token := self._take()) != ")":
            if token != ",":
                values.append(self._value(token, name))
        return lambda row: any(compare(row[name], "=", v, name) for v in values) != (operator == "NOT")

    def _value(self, token: str, name: str) -> Any:
        if token.lower() == "null":
            return None
        if token.startswith("'"):
            if TYPES[name] not in ("id", "string", "email", "picklist"):
                raise ValueError(f"value of filter criterion for field '{name}' must not be enclosed in quotes")
            return re.sub(r"\\(.)", lambda m: {"n": "\n", "r": "\r", "t": "\t"}.get(m[1], m[1]), token[1:-1])
        if TYPES[name] == "datetime":
            return dt.datetime.fromisoformat(token)
        if TYPES[name] == "boolean":
            return token.upper() == "TRUE"
        return dt.date.fromisoformat(token) if TYPES[name] == "date" else float(token)


def compare(held: Any, operator: str, value: Any, name: str) -> bool:
    """One comparison of SOQL."""
    if held is not None and TYPES[name] == "datetime":
        held = dt.datetime.fromisoformat(held)
    elif held is not None and TYPES[name] == "date":
        held = dt.date.fromisoformat(held)
    elif isinstance(held, str) and isinstance(value, str) and name != "Id":
        held, value = held.lower(), value.lower()
    if operator == "LIKE":
        pattern = re.escape(value).replace("%", ".*").replace("_", ".")
        return held is not None and re.fullmatch(pattern, held, re.DOTALL) is not None
    if operator in ("=", "!="):
        return (held == value) == (operator == "=")
    if held is None:
        return False
    return bool({">": held > value, ">=": held >= value, "<": held < value, "<=": held <= value}[operator])
