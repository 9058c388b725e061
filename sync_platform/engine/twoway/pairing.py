"""Which fields of the two sides belong together, and what leads back from target to source.

The mapping is *forward*; *back* are the rules written under `back:` and those that follow from the mapping: a plain
rename, and a table of values that is one to one. A *pair* is the smallest set of fields that must be decided
together: `name` at the target, made of `FirstName` and `LastName`, is one pair with both when they are made of
`name` again. Fields that only lead one way belong to no pair.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from sync_platform.engine.compiling import compile_rule
from sync_platform.engine.expressions import resolve
from sync_platform.engine.mapping import CompiledMapping, compile_mapping, load_dotted
from sync_platform.engine.spec import Expression, FieldRule, SyncSpec, ValueMap
from sync_platform.model import Field


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Fields decided together. `sources` and `targets` may be written; the others are read as well.

    A pair without `sources` leads to the target only, one without `targets` to the source only.
    """

    name: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    reads_source: tuple[str, ...]
    reads_target: tuple[str, ...]

    @property
    def both(self) -> bool:
        """Whether either side may change it."""
        return bool(self.sources and self.targets)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """The pairs of a sync with its mapping in both directions.

    `reversed` is the sync as seen from the target: its source is our target. Its `match` are the source fields by
    which a source record is found before one is created; empty when the match fields do not lead back.
    """

    pairs: tuple[Pair, ...]
    forward: CompiledMapping
    back: CompiledMapping
    reversed: SyncSpec

    @property
    def source_fields(self) -> tuple[str, ...]:
        """Every source field that is compared or written."""
        return _distinct(f for pair in self.pairs for f in (*pair.reads_source, *pair.sources))

    @property
    def target_fields(self) -> tuple[str, ...]:
        """Every target field that is compared or written."""
        return _distinct(f for pair in self.pairs for f in (*pair.reads_target, *pair.targets))


def back_rules(spec: SyncSpec, source: pa.Schema, target: pa.Schema) -> dict[str, FieldRule]:
    """The rules over target fields, by source field: those written under `back:` and those that follow."""
    assert spec.two_way is not None
    written = {resolve(n, source.names) or n: rule for n, rule in spec.two_way.back.items()}
    found: dict[str, FieldRule] = {n: rule for n, rule in written.items() if rule is not None}
    flags = {f.name: f for f in map(Field.from_arrow, source)}
    told = {f.name: f for f in map(Field.from_arrow, target)}
    for name, rule in spec.mapping.items():
        follows = _inverse(name, rule, source)
        if follows is None or name not in told:
            continue
        field, back = follows
        if field not in written and field not in found and field in flags and not flags[field].readonly:
            found[field] = back
    return found


def pairing(spec: SyncSpec, source: pa.Schema, target: pa.Schema, load: Callable[[str], Any] = load_dotted) -> Pairing:
    """The pairs of a two-way sync over these schemas (with `model.Field` metadata where there is some)."""
    rules = back_rules(spec, source, target)
    turned = replace(
        spec, source=spec.target, target=spec.source, mapping=rules, match=(), filter=None, two_way=None, contract=None
    )
    forward = compile_mapping(spec, source, target, load)
    back = compile_mapping(turned, target, source, load)
    pairs = tuple(_pairs(forward, back))
    return Pairing(pairs=pairs, forward=forward, back=back, reversed=replace(turned, match=_match(spec, pairs)))


def _inverse(name: str, rule: FieldRule, source: pa.Schema) -> tuple[str, FieldRule] | None:
    """The source field a rule only renames (or translates one to one), and what leads back to it."""
    if isinstance(rule, Expression):
        field = _plain(name, rule, source)
        return (field, Expression(sql=_quoted(name))) if field else None
    if isinstance(rule, ValueMap) and not rule.has_default and rule.default is None:
        field = _plain(name, Expression(sql=rule.source), source)
        values = list(rule.values.values())
        if field and None not in values and len(set(values)) == len(values):
            turned = {str(new): old for old, new in rule.values.items()}
            return field, ValueMap(source=_quoted(name), values=turned)
    return None


def _plain(name: str, rule: Expression, source: pa.Schema) -> str | None:
    """The field an expression is, when it is nothing but a field."""
    from sqlglot import exp

    compiled = compile_rule(name, rule, source, load_dotted)
    if compiled.error or not isinstance(compiled.scalars[0].tree, exp.Column):
        return None
    return resolve(compiled.fields[0], source.names)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _pairs(forward: CompiledMapping, back: CompiledMapping) -> list[Pair]:
    reads = {name: set(rule.fields) for name, rule in forward.rules.items()}
    backs = {name: set(rule.fields) for name, rule in back.rules.items()}
    groups: list[tuple[set[str], set[str]]] = []
    for target, fields in reads.items():
        mutual = {s for s in fields if target in backs.get(s, ())}
        joined = [group for group in groups if mutual & group[0]]
        groups = [group for group in groups if group not in joined]
        groups.append((mutual.union(*(g[0] for g in joined)), {target}.union(*(g[1] for g in joined))))
    paired = set().union(*(sources for sources, _ in groups)) if groups else set()
    groups += [({name}, set()) for name in backs if name not in paired]
    order, back_order = list(forward.rules), list(back.rules)
    made = []
    for sources, targets in groups:
        ours = sorted(sources, key=back_order.index)
        theirs = sorted(targets, key=order.index)
        made.append(
            Pair(
                name=",".join(theirs or ours),
                sources=tuple(ours),
                targets=tuple(theirs),
                reads_source=_distinct(f for t in theirs for f in forward.rules[t].fields),
                reads_target=_distinct(f for s in ours for f in back.rules[s].fields),
            )
        )
    return made


def _match(spec: SyncSpec, pairs: tuple[Pair, ...]) -> tuple[str, ...]:
    """The source fields that the match fields lead back to, one each; none when some field leads nowhere."""
    found = []
    for name in spec.match:
        mine = [pair for pair in pairs if name in pair.targets and len(pair.sources) == 1 and len(pair.targets) == 1]
        if not mine:
            return ()
        found.append(mine[0].sources[0])
    return tuple(found)


def _distinct(names: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def side_of(owners: Mapping[str, str], pair: Pair) -> str | None:
    """The side that owns a pair by one of its fields' names."""
    named = [owners[name] for name in (*pair.targets, *pair.sources) if name in owners]
    return named[0] if named else None
