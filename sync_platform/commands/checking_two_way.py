"""What `check` finds wrong with two-way syncs, and with syncs that together lead back to where they began."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

    from sync_platform.engine.mapping_check import Problem
    from sync_platform.engine.twoway.cycles import Step
    from sync_platform.engine.twoway.pairing import Pairing
    from sync_platform.engine.twoway.values import Comparing
    from sync_platform.project import DeclaredSync
    from sync_platform.session import Session

Found = dict[str, Any]


def check_two_way(session: Session, syncs: Sequence[DeclaredSync]) -> list[Found]:
    """Problems of the ways back, each sync by itself and all of them together."""
    from sync_platform.engine.twoway.refusing import loops_of, place_of

    found: list[Found] = []
    pairings: dict[str, Pairing] = {}
    for declared in syncs:
        if declared.spec.two_way is None:
            continue
        pairings[declared.spec.name], problems = loops_of(session, declared.spec)
        wrong = list(_wrong_rules(declared, pairings[declared.spec.name]))
        found += wrong
        for problem in problems if not wrong else ():
            found.append(_told(declared, problem, place_of(declared.spec, pairings[declared.spec.name], problem.field)))
    if found:
        return found
    return [*_shared(syncs, pairings), *_cycles(session, syncs, pairings)]


def _told(declared: DeclaredSync, problem: Problem, path: str) -> Found:
    return {
        "file": declared.place.file,
        "line": declared.place.line(path),
        "field": problem.field,
        "value": problem.value,
        "message": problem.message,
        "mend": problem.mend,
    }


def _wrong_rules(declared: DeclaredSync, found: Pairing) -> Iterator[Found]:
    """Rules under `back` that cannot work, and owners of fields that no side may change."""
    from dataclasses import replace

    from sync_platform.engine.mapping_check import Problem, check_mapping
    from sync_platform.engine.spec import Lookup

    spec, back = declared.spec, found.back
    assert spec.two_way is not None
    assert back.source is not None
    for name, rule in spec.two_way.back.items():
        if isinstance(rule, Lookup):
            problem = Problem(
                field=name, value=rule.object, message=f"{name} is looked up, and a look-up leads one way only",
                mend=f"make it one-way with `back: {{{name}: null}}`",
            )  # fmt: skip
            yield _told(declared, problem, f"attributes.back.{name}")
    updating = replace(found.reversed, mode="update", match=())  # a field no record can be made without is a note
    for problem in check_mapping(updating, back.rules, back.source, found.forward.source):
        yield _told(declared, problem, f"attributes.back.{problem.field}")
    known = {name for pair in found.pairs if pair.both for name in (*pair.sources, *pair.targets)}
    for name in spec.two_way.owners:
        if name not in known:
            problem = Problem(
                field=name, value=spec.two_way.owners[name], message=f"{name} is not a field that both sides change",
                mend="name one of: " + ", ".join(sorted(known)),
            )  # fmt: skip
            yield _told(declared, problem, f"attributes.conflicts.owner.{name}")


def _shared(syncs: Sequence[DeclaredSync], pairings: dict[str, Pairing]) -> Iterator[Found]:
    """A source field that a two-way sync writes back must not be another sync's target field."""
    from sync_platform.engine.mapping_check import Problem

    owners = {(str(s.spec.target), name): s.spec.name for s in syncs for name in s.spec.mapping}
    for declared in syncs:
        found = pairings.get(declared.spec.name)
        for name in found.back.fields if found else ():
            other = owners.get((str(declared.spec.source), name))
            if other is not None and name not in (found.reversed.match if found else ()):
                problem = Problem(
                    field=name, value=str(declared.spec.source),
                    message=f"{declared.spec.source}.{name} is already written by {other}",
                    mend=f"let one sync own the field: make it one-way here with `back: {{{name}: null}}`",
                )  # fmt: skip
                yield _told(declared, problem, f"attributes.back.{name}")
            owners.setdefault((str(declared.spec.source), name), declared.spec.name)


def _cycles(session: Session, syncs: Sequence[DeclaredSync], pairings: dict[str, Pairing]) -> Iterator[Found]:
    """Syncs that together lead a value back to where it began, changed."""
    from sync_platform.engine.twoway.cycles import loops
    from sync_platform.engine.twoway.refusing import place_of
    from sync_platform.engine.twoway.terms import comparing

    steps: list[Step] = []
    schemas: dict[str, pa.Schema] = {}
    compare: dict[str, Comparing] = {}
    for declared in syncs:
        for place in (declared.spec.source, declared.spec.target):
            if str(place) not in schemas:
                schemas[str(place)] = session.connector(place.connection).discover(place.object)
                compare[str(place)] = comparing(session, place)
        steps += _steps(session, declared, pairings.get(declared.spec.name), schemas)
    named = {declared.spec.name: declared for declared in syncs}
    for loop in loops(steps, schemas, compare):
        declared = named[loop.step.sync]
        found = pairings.get(declared.spec.name)
        back = place_of(declared.spec, found, loop.problem.field) if found and loop.step.back else None
        yield _told(declared, loop.problem, back or f"attributes.mapping.{loop.problem.field}")


def _steps(
    session: Session, declared: DeclaredSync, found: Pairing | None, schemas: dict[str, pa.Schema]
) -> Iterator[Step]:
    from sync_platform.engine.mapping import compile_mapping
    from sync_platform.engine.twoway.cycles import Step

    spec = declared.spec
    source, target = str(spec.source), str(spec.target)
    if found is None:
        mapping = compile_mapping(
            spec, schemas[source], schemas[target], lambda dotted: session.project.load(dotted, field_name="mapping")
        )
        yield Step(sync=spec.name, origin=source, end=target, mapping=mapping)
        return
    yield Step(sync=spec.name, origin=source, end=target, mapping=found.forward)
    yield Step(sync=spec.name, origin=target, end=source, mapping=found.back, back=True)


def two_way_notes(session: Session, declared: DeclaredSync) -> Iterator[str]:
    """What a two-way sync cannot do, so that nobody is surprised."""
    from sync_platform.engine.twoway.terms import pairing_of, tells_time
    from sync_platform.model import Field

    spec = declared.spec
    if spec.two_way is None:
        return
    found = pairing_of(session, spec)
    for pair in found.pairs:
        if not pair.sources:
            yield f"{spec.name}: {pair.name} goes from {spec.source} to {spec.target} only"
    if not found.reversed.match:
        yield (
            f"{spec.name}: the match fields do not lead back, so a record made at {spec.source} cannot be looked up "
            "there first; a lost answer is held"
        )
    needed = [f.name for f in map(Field.from_arrow, found.forward.source) if f.required and not f.readonly]
    for name in [one for one in needed if one not in found.back.fields]:
        yield f"{spec.name}: {spec.source} needs {name}, and nothing leads back to it: new {spec.target} stay there"
    if spec.two_way.conflicts == "newest":
        for place in (spec.source, spec.target):
            if not tells_time(session, place):
                yield f"{spec.name}: {place} tells no time of change, so conflicts go to {spec.source}"
