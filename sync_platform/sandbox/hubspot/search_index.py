"""The late search index: filters see what it holds, which trails the records.

Each write becomes visible at its own moment; until then the index holds the version before. Sorted and keyed views
of a property are built when a search first needs them and kept current from then on.
"""

from __future__ import annotations

import heapq
import itertools
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sync_platform.sandbox.hubspot.filters import Filter, Key, Operator, Search, Seen, key_of, matches_query, parts
from sync_platform.sandbox.hubspot.properties import Property

#: How long replaced versions are kept for searches that must look back (milliseconds of the sandbox clock).
LOOK_BACK_MS = 15 * 60 * 1000
#: Above this many changes at once, sorting again is cheaper than moving single entries.
BULK = 256
NO_ID, ANY_ID = -1, 1 << 62
RANGES = frozenset({Operator.EQ, Operator.GT, Operator.GTE, Operator.LT, Operator.LTE, Operator.BETWEEN})


class Write(NamedTuple):
    """One version on its way into the index, or out of it again (`before`, for looking back)."""

    visible_at: int
    order: int
    id: int
    seen: Seen | None


class Sorted:
    """(value, id) of every record that has the property, in order."""

    def __init__(self, definition: Property) -> None:
        self.definition = definition
        self.rows: list[tuple[Key, int]] = []

    def replace(self, dropped: Iterable[Seen], added: Iterable[Seen]) -> None:
        """Takes rows out and others in."""
        gone = {(key, seen.id) for seen in dropped if (key := key_of(self.definition, seen)) is not None}
        fresh = {(key, seen.id) for seen in added if (key := key_of(self.definition, seen)) is not None}
        gone, fresh = gone - fresh, fresh - gone
        if len(gone) + len(fresh) > BULK:
            self.rows = [row for row in self.rows if row not in gone] if gone else self.rows
            self.rows.extend(fresh)
            self.rows.sort()
            return
        for row in gone:
            at = bisect_left(self.rows, row)
            if at < len(self.rows) and self.rows[at] == row:
                del self.rows[at]
        for row in fresh:
            insort(self.rows, row)

    def span(self, filters: Sequence[Filter]) -> tuple[int, int]:
        """First and past-the-last row that meets all the filters."""
        first, last = 0, len(self.rows)
        for condition in filters:
            low, high, low_in, high_in = condition.bounds()
            if low is not None:
                first = max(first, bisect_left(self.rows, (low, NO_ID if low_in else ANY_ID)))
            if high is not None:
                last = min(last, bisect_right(self.rows, (high, ANY_ID if high_in else NO_ID)))
        return first, max(first, last)


class Keyed:
    """The ids of the records by value."""

    def __init__(self, definition: Property) -> None:
        self.definition = definition
        self.ids: dict[Key, set[int]] = {}

    def replace(self, dropped: Iterable[Seen], added: Iterable[Seen]) -> None:
        """Takes records out and others in."""
        for seen in dropped:
            key = key_of(self.definition, seen)
            for part in () if key is None else parts(self.definition, key):
                self.ids.get(part, set()).discard(seen.id)
        for seen in added:
            key = key_of(self.definition, seen)
            for part in () if key is None else parts(self.definition, key):
                self.ids.setdefault(part, set()).add(seen.id)

    def find(self, condition: Filter) -> set[int]:
        """The ids an EQ or IN filter matches."""
        wanted = condition.values if condition.operator is Operator.IN else {condition.value}
        found = [self.ids[key] for key in wanted if key is not None and key in self.ids]
        return found[0] if len(found) == 1 else set().union(*found)


class SearchIndex:
    """The index of one object. `searched`: the properties the free-text query reads."""

    def __init__(self, searched: tuple[str, ...]) -> None:
        self._searched = searched
        self._order = itertools.count()
        self.clear()

    def clear(self) -> None:
        """Empties it."""
        self._held: dict[int, Seen] = {}
        self._newest: dict[int, int] = {}
        self._waiting: list[Write] = []
        self._before: deque[Write] = deque()
        self._sorted: dict[str, Sorted] = {}
        self._keyed: dict[str, Keyed] = {}
        self._answers: dict[tuple[object, ...], list[int]] = {}

    def forget(self, name: str) -> None:
        """Drops what was built for a property whose definition changed."""
        self._sorted.pop(name, None)
        self._keyed.pop(name, None)
        self._answers.clear()

    def write(self, id: int, seen: Seen | None, visible_at: int) -> None:
        """Takes note of a new version (None: the record left) that searches see from `visible_at` on."""
        heapq.heappush(self._waiting, Write(visible_at, next(self._order), id, seen))

    def settle(self, now: int) -> None:
        """Takes in what has become visible by `now`."""
        if not self._waiting or self._waiting[0].visible_at > now:
            return
        dropped: dict[int, Seen] = {}
        touched: dict[int, Seen | None] = {}
        while self._waiting and self._waiting[0].visible_at <= now:
            write = heapq.heappop(self._waiting)
            if write.order < self._newest.get(write.id, -1):
                continue  # a later version was visible sooner
            self._newest[write.id] = write.order
            before = self._held.get(write.id)
            if write.id not in touched and before is not None:
                dropped[write.id] = before
            # In order of time, also when records from the past (seeds) come in late.
            at = max(write.visible_at, self._before[-1].visible_at) if self._before else write.visible_at
            self._before.append(Write(at, write.order, write.id, before))
            touched[write.id] = write.seen
            if write.seen is None:
                self._held.pop(write.id, None)
            else:
                self._held[write.id] = write.seen
        while self._before and self._before[0].visible_at < now - LOOK_BACK_MS:
            self._before.popleft()
        added = [seen for seen in touched.values() if seen is not None]
        views: list[Sorted | Keyed] = [*self._sorted.values(), *self._keyed.values()]
        for view in views:
            view.replace(dropped.values(), added)
        self._answers.clear()

    def find(self, search: Search, now: int, back: int = 0) -> tuple[int, list[int]]:
        """(total, ids of the page) as the index held it `back` milliseconds before `now`."""
        self.settle(now)
        if back:
            ids = self._find_back(search, now - back)
        else:
            page = self._slice(search)
            if page is not None:
                return page
            key = (search.groups, search.query, search.sort.name, search.descending)
            known = self._answers.get(key)
            if known is None:
                if len(self._answers) >= 8:
                    self._answers.clear()
                known = self._answers[key] = self._ordered(self._matching(search), search, self._held)
            ids = known
        return len(ids), ids[search.after : search.after + search.limit]

    def _slice(self, search: Search) -> tuple[int, list[int]] | None:
        """The page straight from the sorted view, when the filters are ranges of the sorted property."""
        if search.query or len(search.groups) > 1 or not search.sort.sorted_by_number:
            return None
        filters = search.groups[0] if search.groups else ()
        if any(f.definition.name != search.sort.name or f.operator not in RANGES for f in filters):
            return None
        view = self._sorted_view(search.sort)
        if not filters and len(view.rows) != len(self._held):
            return None  # records without the property come last
        first, last = view.span(filters)
        if search.descending:
            stop = last - search.after
            rows = view.rows[max(first, stop - search.limit) : max(first, stop)][::-1]
        else:
            rows = view.rows[min(last, first + search.after) : min(last, first + search.after + search.limit)]
        return last - first, [id for _, id in rows]

    def _find_back(self, search: Search, at: int) -> list[int]:
        then: dict[int, Seen | None] = {}
        for write in reversed(self._before):
            if write.visible_at <= at:
                break
            then[write.id] = write.seen
        held = {id: seen for id, seen in {**self._held, **then}.items() if seen is not None}
        ids = {id for id in self._matching(search) if id not in then}
        for id, seen in then.items():
            if seen is not None and self._meets(search, seen):
                ids.add(id)
        return self._ordered(ids, search, held)

    def _meets(self, search: Search, seen: Seen) -> bool:
        if search.query and not matches_query(search.query, seen, self._searched):
            return False
        return not search.groups or any(all(f.matches(seen) for f in group) for group in search.groups)

    def _matching(self, search: Search) -> Iterable[int]:
        ids: Iterable[int]
        if not search.groups:
            ids = self._held
        elif len(search.groups) == 1:
            ids = self._group(search.groups[0])
        else:
            ids = set(itertools.chain.from_iterable(map(self._group, search.groups)))
        if search.query:
            held, searched = self._held, self._searched
            ids = [id for id in ids if matches_query(search.query, held[id], searched)]
        return ids

    def _group(self, filters: Sequence[Filter]) -> Iterable[int]:
        """The ids that meet all the filters: narrowed by the best view, the rest tested one by one."""
        best: Sequence[int] | set[int] | None = None
        used: Sequence[Filter] = ()
        size = len(self._held) + 1
        for name in {f.definition.name for f in filters if f.definition.sorted_by_number and f.operator in RANGES}:
            ranged = [f for f in filters if f.definition.name == name and f.operator in RANGES]
            view = self._sorted_view(ranged[0].definition)
            first, last = view.span(ranged)
            if last - first < size:
                size, used, best = last - first, ranged, [id for _, id in view.rows[first:last]]
        for condition in filters:
            if condition.operator is Operator.IN or (
                condition.operator is Operator.EQ and not condition.definition.sorted_by_number
            ):
                found = self._keyed_view(condition.definition).find(condition)
                if len(found) < size:
                    size, used, best = len(found), [condition], found
        rest = [f for f in filters if f not in used]
        candidates: Iterable[int] = self._held if best is None else best
        if not rest:
            return candidates
        held = self._held
        return [id for id in candidates if all(f.matches(held[id]) for f in rest)]

    def _ordered(self, ids: Iterable[int], search: Search, held: dict[int, Seen]) -> list[int]:
        """The ids in the order of the sort; records without a value come last."""
        with_value: list[tuple[Key, int]] = []
        without: list[int] = []
        for id in ids:
            key = key_of(search.sort, held[id])
            if key is None:
                without.append(id)
            else:
                with_value.append((key, id))
        with_value.sort(reverse=search.descending)
        return [*(id for _, id in with_value), *sorted(without)]

    def _sorted_view(self, definition: Property) -> Sorted:
        view = self._sorted.get(definition.name)
        if view is None:
            view = self._sorted[definition.name] = Sorted(definition)
            view.replace((), self._held.values())
        return view

    def _keyed_view(self, definition: Property) -> Keyed:
        view = self._keyed.get(definition.name)
        if view is None:
            view = self._keyed[definition.name] = Keyed(definition)
            view.replace((), self._held.values())
        return view
