"""Connectors that speak HTTP: one client per account, and Arrow tables made of JSON rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import PrivateAttr

from sync_platform.connectors.connector import Connector
from sync_platform.connectors.credentials import Auth
from sync_platform.connectors.faults import Answer, FaultReader
from sync_platform.connectors.http import Http
from sync_platform.connectors.oauth import MemoryTokens
from sync_platform.connectors.quota import MemoryQuota
from sync_platform.connectors.shared import Quota, TokenStore
from sync_platform.errors import ContractError


class RestConnector(Connector):
    """A connector over HTTP. A system gives its `Http` in `open_http`; everyone uses `http`.

    Quota and tokens come from `connect(name)`; without it (a script, a test) they live in this object.
    """

    base_url: str

    _http: Http | None = PrivateAttr(default=None)
    _quota: Quota | None = PrivateAttr(default=None)
    _tokens: TokenStore | None = PrivateAttr(default=None)

    @property
    def http(self) -> Http:
        """The client of this account, opened at first use and kept."""
        if self._http is None:
            self._http = self.open_http()
        return self._http

    @property
    def quota(self) -> Quota:
        """The account's call budget."""
        if self._quota is None:
            self._quota = self._shared.quota if self._shared is not None else MemoryQuota()
        return self._quota

    @property
    def tokens(self) -> TokenStore:
        """Where the account's token is kept."""
        if self._tokens is None:
            self._tokens = self._shared.tokens if self._shared is not None else MemoryTokens()
        return self._tokens

    def open_http(self) -> Http:
        """The client of this account. A system with auth, limits or error bodies of its own overrides it."""
        return self.client()

    def client(
        self,
        *,
        auth: Auth | None = None,
        faults: FaultReader | None = None,
        observe: Callable[[Answer, Quota | None], None] | None = None,
        **options: Any,
    ) -> Http:
        """An `Http` at `base_url` that shares this connector's quota and traffic counters."""
        if self._shared is not None and self._shared.attempts is not None:
            options.setdefault("attempts", self._shared.attempts)
        return Http(
            self.base_url,
            system=self.system,
            auth=auth,
            quota=self.quota,
            traffic=self.traffic,
            faults=faults,
            observe=observe,
            **options,
        )


def table_of(
    rows: Sequence[Mapping[str, Any]],
    schema: pa.Schema,
    *,
    where: str,
    empty_is_null: bool = False,
) -> pa.Table:
    """The rows as an Arrow table with the schema's types, column by column.

    A field that no row mentions is absent from the table (with no rows at all, every field is there). JSON
    text becomes timestamps, dates and numbers where the schema says so. `empty_is_null` reads '' as null in
    every column that is not text. A value that does not fit its type is a ContractError naming `where`, the
    field and the value.
    """
    columns, fields = [], []
    for field in schema:
        values = [row.get(field.name) for row in rows]
        if rows and all(value is None for value in values) and not any(field.name in row for row in rows):
            continue
        if empty_is_null and not pa.types.is_string(field.type):
            values = [None if value == "" else value for value in values]
        columns.append(_column(values, field, where))
        fields.append(field)
    return pa.table(columns, schema=pa.schema(fields))


def _column(values: list[Any], field: pa.Field, where: str) -> pa.Array:
    try:
        return _array(values, field.type)
    except (pa.ArrowException, ValueError, TypeError, InvalidOperation):
        raise _misfit(values, field, where) from None


def _misfit(values: list[Any], field: pa.Field, where: str) -> ContractError:
    bad: Any = None
    for value in values:
        try:
            _array([value], field.type)
        except (pa.ArrowException, ValueError, TypeError, InvalidOperation):
            bad = value
            break
    return ContractError(
        f"{where}: field {field.name} answered {bad!r}, which is not a {field.type}",
        field=field.name,
        value=bad if isinstance(bad, str | int | float | bool) else repr(bad),
        mend="describe the object again (its type may have changed), or leave the field out with `fields`",
    )


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_string(kind) or pa.types.is_boolean(kind):
        return pa.array(values, kind)
    if pa.types.is_decimal(kind):
        return pa.array([None if value is None else _decimal(value) for value in values], kind)
    if pa.types.is_timestamp(kind):
        return _instants(values, kind)
    if any(isinstance(value, bool) for value in values):
        raise TypeError("a truth value is not a number")
    if all(value is None or isinstance(value, str) for value in values):
        return pc.cast(pa.array(values, pa.string()), kind)
    if pa.types.is_integer(kind):
        return pa.array([None if value is None else _whole(value) for value in values], kind)
    if pa.types.is_floating(kind):
        return pa.array([None if value is None else float(value) for value in values], kind)
    return pa.array(values, kind)


def _instants(values: list[Any], kind: pa.DataType) -> pa.Array:
    """Instants from ISO text with a zone (finer digits than microseconds are refused, not cut)."""
    if all(value is None or isinstance(value, str) for value in values):
        return pc.cast(pa.array(values, pa.string()), kind)
    return pa.array(values, kind)


def _decimal(value: Any) -> Decimal:
    if isinstance(value, bool):
        raise TypeError("a truth value is not a number")
    if isinstance(value, Decimal):
        return value
    return Decimal(repr(value) if isinstance(value, float) else str(value))


def _whole(value: Any) -> int:
    number = int(value)
    if not isinstance(value, str) and number != value:
        raise ValueError(f"{value!r} is not a whole number")
    return number
