"""Which result of a batch belongs to which change. HubSpot does not keep the order of the inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sync_platform.connectors.hubspot.answers import Refusal
from sync_platform.model import Change, Op, Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A change and the properties it sends, in HubSpot's form."""

    index: int
    change: Change
    properties: dict[str, str]


def matched(
    inputs: Sequence[Prepared], results: Sequence[Record], unique: Iterable[str]
) -> tuple[dict[int, Record], list[Prepared]]:
    """Results by the index of their change, and the inputs no result belongs to.

    Tried in turn: the trace id, the record's id, the unique properties that were sent, then the whole
    content (of equal inputs it does not matter which is which). Never the order.
    """
    found: dict[int, Record] = {}
    open_inputs, open_results = list(inputs), list(results)
    tests: list[Callable[[Prepared, Record], bool]] = [_same_trace, _same_id]
    tests += [_same_property(name) for name in unique]
    tests.append(_same_content)
    for test in tests:
        left: list[Record] = []
        for result in open_results:
            owners = [each for each in open_inputs if test(each, result)]
            if not owners or not _interchangeable(owners):
                left.append(result)
                continue
            found[owners[0].index] = result
            open_inputs.remove(owners[0])
        open_results = left
    if len(open_inputs) == len(open_results) == 1:
        found[open_inputs.pop().index] = open_results.pop()
    return found, open_inputs


def blamed(inputs: Sequence[Prepared], refusals: Sequence[Refusal]) -> dict[int, Refusal]:
    """The refusal of each input a result is missing for; an input nobody names gets what is left over."""
    found: dict[int, Refusal] = {}
    unnamed: list[Refusal] = []
    for refusal in refusals:
        named = [
            each
            for each in inputs
            if each.change.token in refusal.trace_ids or (each.change.target_id or "\0") in refusal.ids
        ]
        found.update((each.index, refusal) for each in named)
        if not named:
            unnamed.append(refusal)
    for each in inputs:
        if each.index not in found and unnamed:
            found[each.index] = unnamed[0] if len(unnamed) == 1 else _together(unnamed)
    return found


def _together(refusals: Sequence[Refusal]) -> Refusal:
    said = "; ".join(dict.fromkeys(each.message for each in refusals))
    return Refusal(message=said, category=refusals[0].category, request_id=refusals[0].request_id)


def _same_trace(item: Prepared, result: Record) -> bool:
    return bool(result.get("objectWriteTraceId")) and result["objectWriteTraceId"] == item.change.token


def _same_id(item: Prepared, result: Record) -> bool:
    return item.change.op is not Op.CREATE and str(result.get("id")) == item.change.target_id


def _same_property(name: str) -> Callable[[Prepared, Record], bool]:
    def same(item: Prepared, result: Record) -> bool:
        sent = _folded(item.properties.get(name))
        return item.change.op is Op.CREATE and bool(sent) and sent == _folded(_answered(result).get(name))

    return same


def _same_content(item: Prepared, result: Record) -> bool:
    if item.change.op is not Op.CREATE:
        return False
    answered = _answered(result)
    both = [name for name in item.properties if name in answered]
    return bool(both) and all(_folded(item.properties[name]) == _folded(answered[name]) for name in both)


def _interchangeable(owners: Sequence[Prepared]) -> bool:
    return all(each.properties == owners[0].properties for each in owners[1:]) if len(owners) > 1 else True


def _answered(result: Record) -> dict[str, Any]:
    return dict(result.get("properties") or {})


def _folded(value: Any) -> str:
    return "" if value is None else str(value).strip().casefold()
