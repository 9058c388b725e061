"""`webhooks`: what a vendor sends us, seen and changed through the vendor's API, and a test of our address."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sync_platform.commands.invocation import PUBLIC_URL, Json, ProjectDir, answering, project_of, public_address
from sync_platform.commands.output import table
from sync_platform.errors import ConfigError

if TYPE_CHECKING:
    from sync_platform.connectors.connector import Connector
    from sync_platform.engine.spec import SyncSpec
    from sync_platform.project import Project

webhooks = typer.Typer(help="The webhooks a vendor sends: list, create, delete, verify.", no_args_is_help=True)

ConnectionName = Annotated[str, typer.Argument(metavar="CONNECTION", help="The connection's name.")]
PublicUrl = Annotated[
    str | None,
    typer.Option(envvar=PUBLIC_URL, help="Where vendors reach the gateway, without /webhooks/…"),
]
_COLUMNS = ["id", "event", "field", "active"]


@webhooks.command("list")
def list_webhooks(connection: ConnectionName, project: ProjectDir = None, json: Json = False) -> None:
    """List what the vendor tells us about, and the address it calls."""
    with answering(json) as output:
        subscriber = _connected(project_of(project), connection).subscriber()
        target, found = subscriber.target(), [asdict(one) for one in subscriber.subscriptions()]
        document = {"connection": connection, "target": target, "webhooks": found}
        title = f"{connection} calls {target or 'nobody'}"
        output.show(document, lambda: table(title, _COLUMNS, _rows(found)))


@webhooks.command("create")
def create_webhooks(
    connection: ConnectionName,
    public_url: PublicUrl = None,
    fields: Annotated[
        list[str] | None, typer.Option("--field", help="Also this one: object.field (repeatable).")
    ] = None,
    project: ProjectDir = None,
    json: Json = False,
) -> None:
    """Subscribe to what the realtime syncs of this connection read; what is there already stays."""
    with answering(json) as output:
        loaded = project_of(project)
        connector = _connected(loaded, connection)
        subscriber = connector.subscriber()
        url = f"{_base(public_url)}/webhooks/{connection}"
        wanted = _wanted(loaded, connector, connection, fields or [])
        added = [asdict(one) for one in subscriber.subscribe(url, wanted)]
        document = {"connection": connection, "target": url, "created": added}
        output.show(
            document, lambda: table(f"added, to {url}", _COLUMNS, [[one[c] for c in _COLUMNS] for one in added])
        )


@webhooks.command("delete")
def delete_webhooks(
    connection: ConnectionName,
    ids: Annotated[list[str] | None, typer.Option("--id", help="Only this one (repeatable).")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of this connection's.")] = False,
    project: ProjectDir = None,
    json: Json = False,
) -> None:
    """End subscriptions at the vendor."""
    with answering(json) as output:
        if bool(ids) == everything:
            raise ConfigError("say which webhooks", field="--id", mend="give --id (see `webhooks list`), or --all")
        subscriber = _connected(project_of(project), connection).subscriber()
        gone = ids or [one.id for one in subscriber.subscriptions()]
        subscriber.unsubscribe(gone)
        output.show({"connection": connection, "deleted": gone}, lambda: print(f"{len(gone)} webhooks deleted"))


@webhooks.command("verify")
def verify_webhooks(
    connection: ConnectionName, public_url: PublicUrl = None, project: ProjectDir = None, json: Json = False
) -> None:
    """Send the gateway a genuine webhook without events, and a forged one, to its public address."""
    with answering(json) as output:
        connector = _connected(project_of(project), connection)
        url = f"{_base(public_url)}/webhooks/{connection}"
        checks = _checks(connector, url)
        fine = all(one["ok"] for one in checks)
        document = {"connection": connection, "url": url, "ok": fine, "checks": checks}
        columns = ["what", "ok", "told", "mend"]
        output.show(document, lambda: table(url, columns, [[one[c] for c in columns] for one in checks]))
        raise SystemExit(0 if fine else 3)


def _rows(subscriptions: list[dict[str, Any]]) -> list[list[Any]]:
    return [[one[column] for column in _COLUMNS] for one in subscriptions]


def _connected(project: Project, name: str) -> Connector:
    from sync_platform.connectors.shared import Shared
    from sync_platform.state.database import open_state
    from sync_platform.state.quota import PostgresQuota
    from sync_platform.state.vault import PostgresTokens

    project.connector(name)  # an unknown name is told before any state is started
    database = open_state()
    shared = Shared(name=name, tokens=PostgresTokens(database, name), quota=PostgresQuota(database, name))
    return project.connect(name, shared)


def _base(public_url: str | None) -> str:
    """The public address, else that of the gateway `up` started."""
    from sync_platform.commands.services import running
    from sync_platform.home import Home

    own = next((one.url for one in running(Home.current()) if one.name == "gateway"), None)
    found = public_address(public_url) or own
    if not found:
        raise ConfigError(
            "where is the gateway?", field="--public-url", mend="give --public-url, or start it: `sync-platform up`"
        )
    return found.rstrip("/")


def _written_back(spec: SyncSpec, connector: Connector) -> list[str]:
    """The target fields whose changes a two-way sync takes to its source."""
    from sync_platform.engine.compiling import compile_rule
    from sync_platform.engine.mapping import load_dotted

    assert spec.two_way is not None
    schema = connector.discover(spec.target.object)
    names = [field for field in spec.mapping if field in schema.names]
    for field, rule in spec.two_way.back.items():
        names += [] if rule is None else compile_rule(field, rule, schema, load_dotted).fields
    return names


def _wanted(project: Project, connector: Connector, name: str, more: list[str]) -> dict[str, list[str]]:
    """The fields each stream is read for by realtime syncs: mapping and filter."""
    from functools import partial

    from sync_platform.engine.filters import Filter
    from sync_platform.engine.mapping import compile_mapping

    found: dict[str, dict[str, None]] = {}
    for declared in project.syncs.values():
        spec = declared.spec
        if spec.two_way is not None and spec.target.connection == name and spec.frequency == "realtime":
            found.setdefault(spec.target.object, {}).update(dict.fromkeys(_written_back(spec, connector)))
        if spec.source.connection != name or spec.frequency != "realtime":
            continue
        schema = connector.discover(spec.source.object)
        mapping = compile_mapping(spec, schema, load=partial(project.load, field_name="mapping"))
        names = [field for fields in mapping.lineage().values() for field in fields]
        names += Filter.parse(spec.filter, schema).fields if spec.filter else []
        found.setdefault(spec.source.object, {}).update(dict.fromkeys(names))
    for each in more:
        stream, point, field = each.rpartition(".")
        if not point:
            raise ConfigError(f"{each!r} names no field", field="--field", value=each, mend="write object.field")
        found.setdefault(stream, {})[field] = None
    if not found:
        raise ConfigError(
            f"no realtime sync reads {name}", field="CONNECTION", value=name, mend="add a sync, or give --field"
        )
    return {stream: list(fields) for stream, fields in found.items()}


def _checks(connector: Connector, url: str) -> list[dict[str, Any]]:
    sample, wanted = connector.sample(url), connector.acknowledge()
    taken = _post(sample.url, sample.body, dict(sample.headers))
    forged = _post(url, sample.body, {"Content-Type": sample.headers.get("Content-Type", "text/plain")})
    mend = None
    if taken[0] is None:
        mend = "start the gateway, and check the public URL, its certificate and the proxy before it"
    elif taken != (wanted.status, wanted.body):
        mend = "the gateway must have the same secret and the same public URL (SYNC_PUBLIC_URL) as this command"
    return [
        _check("a genuine webhook is taken", taken == (wanted.status, wanted.body), taken, mend),
        _check("a forged webhook is refused", forged[0] == 401, forged, "whatever answers there is not our gateway"),
    ]


def _check(what: str, ok: bool, answer: tuple[int | None, bytes], mend: str | None) -> dict[str, Any]:
    status, body = answer
    told = f"HTTP {status}" if status is not None else body.decode()
    return {"what": what, "ok": ok, "told": told, "mend": None if ok else mend}


def _post(url: str, body: bytes, headers: dict[str, str]) -> tuple[int | None, bytes]:
    """Status and body of the answer; None and the kind of trouble when there was none."""
    import requests

    try:
        got = requests.post(url, data=body, headers=headers, timeout=10, allow_redirects=False)
    except requests.RequestException as error:
        return None, type(error).__name__.encode()  # its text would hold the secret address
    return got.status_code, got.content
