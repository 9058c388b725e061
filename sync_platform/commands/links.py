"""`links`: which target record each source record is, and changing that by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sync_platform.commands.invocation import Json, ProjectDir, SyncName, answering, project_of
from sync_platform.commands.output import table
from sync_platform.errors import ConfigError

if TYPE_CHECKING:
    from sync_platform.engine.spec import SyncSpec
    from sync_platform.session import Session

links = typer.Typer(help="Links between source and target records: list, make and break them.", no_args_is_help=True)
Key = Annotated[str, typer.Argument(metavar="KEY", help="The source record's key.")]


@links.command("list")
def links_list(
    sync: SyncName,
    key: Annotated[str | None, typer.Argument(metavar="[KEY]", help="Only this source record's.")] = None,
    json: Json = False,
) -> None:
    """List which target record each source record is."""
    with answering(json) as output:
        from sync_platform.state.database import open_state

        with open_state().connection() as connection:
            rows = connection.execute(
                """SELECT source_key, target_id, updated_at FROM sync.links
                   WHERE sync = %(sync)s AND (%(key)s::text IS NULL OR source_key = %(key)s) ORDER BY source_key""",
                {"sync": sync, "key": key},
            ).fetchall()
        found = [{"key": key, "target_id": target, "since": since} for key, target, since in rows]
        output.show(
            {"sync": sync, "links": found},
            lambda: table(sync, ["key", "target_id", "since"], [list(one.values()) for one in found]),
        )


@links.command("make")
def links_make(
    sync: SyncName,
    key: Key,
    target_id: Annotated[str, typer.Argument(metavar="TARGET_ID", help="The target record's id.")],
    project: ProjectDir = None,
    json: Json = False,
) -> None:
    """Say that a source record is this target record; the next run brings it up to date."""
    with answering(json) as output:
        from sync_platform.session import Session

        loaded = project_of(project)
        spec = loaded.sync(sync).spec
        with Session.open(loaded) as session:
            _make(session, spec, key, target_id)
        made = {"sync": sync, "key": key, "target_id": target_id}
        output.show(made, lambda: print(f"{key} is {target_id}"))


@links.command("break")
def links_break(sync: SyncName, key: Key, project: ProjectDir = None, json: Json = False) -> None:
    """Say that a source record is not the target record it is linked to; it is held until somebody decides."""
    with answering(json) as output:
        from sync_platform.session import Session

        loaded = project_of(project)
        spec = loaded.sync(sync).spec
        with Session.open(loaded) as session:
            target_id = _break(session, spec, key)
        broken = {"sync": sync, "key": key, "target_id": target_id}
        output.show(broken, lambda: print(f"{key} is not {target_id} any more"))


def _make(session: Session, spec: SyncSpec, key: str, target_id: str) -> None:
    """Links by hand; ConfigError when either record is not there or linked otherwise."""
    import polars as pl

    from sync_platform.engine.lookups import target_rows
    from sync_platform.matching.applying import apply_decisions
    from sync_platform.matching.decisions import ACCEPT, MATCHES

    connector = session.connector(spec.target.connection)
    stream = connector.stream(spec.target.object)
    if target_rows(connector, stream, [target_id], list(spec.mapping)[:1]).is_empty():
        raise ConfigError(f"{spec.target} has no record {target_id}", field="TARGET_ID", value=target_id)
    row = {"source_key": key, "target_id": target_id, "decision": ACCEPT, "evidence": "by hand"}
    done = apply_decisions(session, spec, pl.DataFrame([row], schema=MATCHES), by_hand=True)
    if done.refused:
        told = str(done.refused[0]["reason"])
        raise ConfigError(
            f"{key} cannot be linked to {target_id}: {told}", field="KEY", value=key,
            mend=f"break the other link first: sync-platform links break {spec.name} …",
        )  # fmt: skip


def _break(session: Session, spec: SyncSpec, key: str) -> str:
    """Breaks a link by hand; the target id it led to."""
    from sync_platform.matching.applying import break_link

    target_id = break_link(session, spec, key)
    if target_id is None:
        raise ConfigError(
            f"{spec.name} has no link of {key}",
            field="KEY",
            value=key,
            mend=f"see `sync-platform links list {spec.name}`",
        )
    return target_id
