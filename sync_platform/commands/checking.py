"""`check`: everything that can be found wrong with a project before anything runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sync_platform.commands.checking_capture import check_capture, deletion_notes
from sync_platform.commands.checking_target import (
    check_drift,
    mend_missing,
    reference_notes,
    refuse_unfit_creates,
    refuse_unfit_match,
    target_notes,
)
from sync_platform.commands.checking_two_way import check_two_way, two_way_notes
from sync_platform.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

    from sync_platform.engine.mapping import Problem
    from sync_platform.project import DeclaredSync, Project
    from sync_platform.session import Session

Found = dict[str, Any]


def check_project(project: Project) -> Found:
    """`{"ok", "problems": [...], "defaults": {...}, "notes": [...]}`; asks every system what its fields are.

    Raises AccessError when a system cannot be reached or refuses us: that is not the project's fault.
    """
    problems: list[Found] = []
    try:
        syncs = project.syncs
        sources = project.sources
        connectors = project.connectors
    except ConfigError as error:
        return {"ok": False, "problems": [_problem(error)], "defaults": {}, "notes": []}
    del sources, connectors
    problems += _shared_fields(list(syncs.values()))
    two_way: list[str] = []
    lost: list[str] = []
    if syncs:
        from sync_platform.session import Session

        with Session.open(project) as session:
            for declared in syncs.values():
                problems += _check_sync(session, declared)
            if not problems:
                problems += check_two_way(session, list(syncs.values()))
                lost = list(_target_notes(session, syncs)) if not problems else []
                two_way = (
                    [note for one in syncs.values() for note in two_way_notes(session, one)] if not problems else []
                )
    return {
        "ok": not problems,
        "problems": problems,
        "defaults": {name: _defaults(declared) for name, declared in syncs.items()},
        "notes": [*[note for one in syncs.values() for note in _notes(project, one)], *two_way, *lost]
        if not problems
        else [],
    }


def _target_notes(session: Session, syncs: Mapping[str, DeclaredSync]) -> Iterator[str]:
    """Deletions nobody sees, what values lose on their way, and what the targets' own rules mean for the syncs."""
    for declared in syncs.values():
        yield from deletion_notes(session, declared)
        yield from _losses(session, declared)
        yield from target_notes(session, declared)
    yield from reference_notes(session, syncs)


def _check_sync(session: Session, declared: DeclaredSync) -> list[Found]:
    spec, found = declared.spec, []
    schemas: dict[str, pa.Schema] = {}
    for side, endpoint in (("source", spec.source), ("target", spec.target)):
        try:
            schemas[side] = session.connector(endpoint.connection).discover(endpoint.object)
        except ConfigError as error:
            named = error.field if error.field in {"connection", "object"} else "connection"
            found.append(_placed(declared, error, f"attributes.{side}.{named}"))
    found += _lookups(session, declared)
    if len(schemas) < 2:
        return found
    found += check_capture(session, declared)
    for part in (_drift, _filter, _dedupe, _contract, _match, _creates, _alert):
        try:
            part(session, declared, schemas)
        except ConfigError as error:
            found.append(_placed(declared, error, _PATHS[part.__name__]))
    try:
        found += [_mapping_problem(declared, one) for one in _mapping(session, declared, schemas)]
    except ConfigError as error:
        found.append(_placed(declared, error, f"attributes.mapping.{error.field or ''}"))
    return found


_PATHS = {
    "_drift": "attributes.drift",
    "_filter": "attributes.source.filter",
    "_dedupe": "attributes.dedupe.by",
    "_contract": "attributes.contract",
    "_match": "attributes.target.match",
    "_creates": "attributes.mapping",
    "_alert": "attributes.errors.alert",
}


def _drift(session: Session, declared: DeclaredSync, schemas: dict[str, pa.Schema]) -> None:
    check_drift(session, declared, schemas)


def _filter(session: Session, declared: DeclaredSync, schemas: dict[str, pa.Schema]) -> None:
    if declared.spec.filter is not None:
        from sync_platform.engine.filters import Filter

        Filter.parse(declared.spec.filter, schemas["source"])


def _dedupe(session: Session, declared: DeclaredSync, schemas: dict[str, pa.Schema]) -> None:
    if declared.spec.dedupe is not None:
        from sync_platform.engine import normalisers
        from sync_platform.engine.expressions import parse

        parse(
            declared.spec.dedupe.by,
            schemas["source"].names,
            what="dedupe key",
            before=normalisers.for_duckdb,
            functions=normalisers.NAMES,
        )


def _contract(session: Session, declared: DeclaredSync, schemas: dict[str, pa.Schema]) -> None:
    spec = declared.spec
    if spec.contract is None:
        return
    model = session.project.load(spec.contract, field_name="contract")
    unfilled = [name for name in model.to_schema().columns if name not in spec.mapping]
    if unfilled:
        raise ConfigError(
            f"{spec.contract} checks {unfilled[0]!r}, which the mapping does not fill",
            field="contract",
            value=spec.contract,
            mend=f"add {unfilled[0]} to the mapping or take it out of the contract",
        )


def _match(session: Session, declared: DeclaredSync, schemas: dict[str, pa.Schema]) -> None:
    unknown = [name for name in declared.spec.match if name not in schemas["target"].names]
    if unknown:
        raise ConfigError(
            f"{declared.spec.target} has no field {unknown[0]!r}",
            field="match",
            value=unknown[0],
            mend="match on a field of the target",
        )
    refuse_unfit_match(session, declared)


def _creates(session: Session, declared: DeclaredSync, schemas: dict[str, pa.Schema]) -> None:
    refuse_unfit_creates(session, declared)


def _alert(session: Session, declared: DeclaredSync, schemas: dict[str, pa.Schema]) -> None:
    from sync_platform.components.alerts import address_of, label_of, understood, variable_of

    for entry in declared.spec.errors.alert:
        address = address_of(entry)
        if address is not None and not understood(address):
            raise ConfigError(
                f"{label_of(entry)} is not an apprise URL",
                field="alert",
                value=variable_of(entry) or label_of(entry),
                mend="write it as https://github.com/caronc/apprise says, e.g. slack://… or mailto://…",
            )


def _lookups(session: Session, declared: DeclaredSync) -> Iterator[Found]:
    """Looked-up objects and fields that do not exist."""
    from sync_platform.engine.expressions import did_you_mean
    from sync_platform.engine.spec import Lookup

    for name, rule in declared.spec.mapping.items():
        if not isinstance(rule, Lookup):
            continue
        path = f"attributes.mapping.{name}"
        try:
            schema = session.connector(rule.connection).discover(rule.object)
        except ConfigError as error:
            yield _placed(declared, error, f"{path}.{'connection' if error.field == 'connection' else 'lookup'}", name)
            continue
        known = {one.lower() for one in schema.names}
        for key, value in (("key", rule.key), ("value", rule.value)):
            if value.lower() not in known:
                wrong = ConfigError(
                    f"{name} looks up {value!r}, and {rule.connection}/{rule.object} has no such field",
                    field=name,
                    value=value,
                    mend=did_you_mean(value, schema.names),
                )
                yield _placed(declared, wrong, f"{path}.{key}")


def _mapping(session: Session, declared: DeclaredSync, schemas: dict[str, pa.Schema]) -> list[Problem]:
    from sync_platform.engine.mapping import compile_mapping

    compiled = compile_mapping(
        declared.spec,
        schemas["source"],
        schemas["target"],
        load=lambda dotted: session.project.load(dotted, field_name="mapping"),
    )
    found = compiled.check(schemas["source"], schemas["target"])
    return [mend_missing(session, declared, schemas, problem) for problem in found]


def _losses(session: Session, declared: DeclaredSync) -> Iterator[str]:
    """What values may lose between the two sides' types, and a source that can only be read as a whole."""
    from sync_platform.engine.losses import mapping_losses
    from sync_platform.engine.mapping import compile_mapping

    spec = declared.spec
    source, target = (session.connector(side.connection).discover(side.object) for side in (spec.source, spec.target))
    compiled = compile_mapping(
        spec, source, target, load=lambda dotted: session.project.load(dotted, field_name="mapping")
    )
    yield from (f"{spec.name}: {loss}" for loss in mapping_losses(compiled.rules, source, target))
    if session.connector(spec.source.connection).stream(spec.source.object).cursor is None:
        mend = "name one in the connection's tables"
        yield f"{spec.name}: {spec.source} has no cursor, so every read is a full one; {mend}"


def _mapping_problem(declared: DeclaredSync, problem: Problem) -> Found:
    return {
        "file": declared.place.file,
        "line": declared.place.line(f"attributes.mapping.{problem.field}{_within(declared, problem)}"),
        "field": problem.field,
        "value": problem.value,
        "message": problem.message,
        "mend": problem.mend,
    }


def _within(declared: DeclaredSync, problem: Problem) -> str:
    """Where inside a field's rule a wrong value of a value map stands."""
    from sync_platform.engine.spec import ValueMap

    rule = declared.spec.mapping.get(problem.field)
    if not isinstance(rule, ValueMap):
        return ""
    if rule.default == problem.value:
        return ".default"
    return next((f".values.{name}" for name, value in rule.values.items() if value == problem.value), "")


def _placed(declared: DeclaredSync, error: ConfigError, path: str, field: str | None = None) -> Found:
    found = _problem(error)
    found["field"] = field or error.field
    found["file"] = error.file or declared.place.file
    if found["file"] == declared.place.file:
        found["line"] = error.line or declared.place.line(path)
    return found


def _problem(error: ConfigError) -> Found:
    told = error.to_json()
    told.pop("code")
    return told


def _shared_fields(syncs: list[DeclaredSync]) -> Iterator[Found]:
    """Two syncs must never own the same field of the same target."""
    owners: dict[tuple[str, str], list[DeclaredSync]] = defaultdict(list)
    for declared in syncs:
        for name in declared.spec.mapping:
            owners[str(declared.spec.target), name].append(declared)
    for (target, name), group in owners.items():
        for declared in group[1:]:
            if name in declared.spec.match:
                continue  # a key field is how both find the record
            yield {
                "file": declared.place.file,
                "line": declared.place.line(f"attributes.mapping.{name}"),
                "field": name,
                "value": target,
                "message": f"{target}.{name} is already written by {group[0].spec.name}",
                "mend": "let one sync own the field: remove it from the other's mapping",
            }


def _defaults(declared: DeclaredSync) -> dict[str, Any]:
    """The settings the file leaves out, with the value that is used."""
    told = declared.attributes
    taken: dict[str, Any] = {}
    for path, model in (("", told), ("source.", told.source), ("guards.", told.guards), ("errors.", told.errors)):
        for name in type(model).model_fields:
            if name not in model.model_fields_set and name not in {"name", "description", "guards", "errors"}:
                taken[path + name] = getattr(model, name)
    return taken


def _notes(project: Project, declared: DeclaredSync) -> Iterator[str]:
    """What this target can't promise and who is not told, so that nobody is surprised."""
    from sync_platform.components.alerts import address_of, variable_of
    from sync_platform.model import Repeat

    spec = declared.spec
    for entry in spec.errors.alert:
        if address_of(entry) is None:
            yield f"{spec.name}: alert {entry!r} reaches nobody; set {variable_of(entry)} to an apprise URL"
    stream = project.connector(spec.target.connection).stream(spec.target.object)
    if stream.repeat is Repeat.NONE:
        yield f"{spec.name}: {spec.target} has no way to tell whether a create happened; lost answers are held"
    if not stream.transactional:
        yield f"{spec.name}: {spec.target} has no conditional write; between compare and write a change can slip in"


def show_problems(found: Found) -> None:
    """Prints what `check` found for people."""
    from rich.console import Console

    console = Console()
    for one in found["problems"]:
        where = f"{one['file']}:{one['line']}" if one.get("line") else one.get("file") or ""
        console.print(f"[red]wrong[/red] {where} {one['field'] or ''}: {one['message']}", highlight=False)
        if one.get("mend"):
            console.print(f"      mend: {one['mend']}", markup=False, highlight=False)
    for sync, defaults in found["defaults"].items():
        told = ", ".join(f"{name}={value}" for name, value in defaults.items())
        console.print(f"[dim]{sync}: defaults taken: {told}[/dim]", highlight=False)
    for note in found["notes"]:
        console.print(f"[dim]note: {note}[/dim]", highlight=False)
    if found["ok"]:
        console.print("[green]ok[/green]")
