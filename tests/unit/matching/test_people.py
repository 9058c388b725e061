"""People whose identity is known: what must hold whatever the data."""

from __future__ import annotations

import pytest

from tests.matching.measure import classified, measured
from tests.matching.people import World, people

FLOORS = {"exact": (1.0, 0.6), "likely": (0.995, 0.2), "ambiguous": (0.4, 0.005), "unmatched": (1.0, 0.95)}


@pytest.mark.parametrize(("count", "seed"), [(1_000, 1), (1_000, 2), pytest.param(10_000, 3, marks=pytest.mark.slow)])
def test_exact_pairs_are_right_and_nobody_who_is_known_is_called_unmatched(count: int, seed: int) -> None:
    world = people(count, seed)
    classes = {one.name: one for one in measured(world, classified(world))}
    for name, (precision, recall) in FLOORS.items():
        told = classes[name]
        assert told.precision >= precision, f"{name}: precision {told.precision:.4f} of {told.pairs}"
        assert told.recall >= recall, f"{name}: recall {told.recall:.4f}"
    assert sum(classes[name].recall for name in ("exact", "likely", "ambiguous")) == pytest.approx(1.0)


def test_pairs_are_one_to_one() -> None:
    found = classified(people(1_000, 4))
    paired = found.filter(found["class"].is_in(["exact", "likely"]))
    assert paired["_key"].is_unique().all()
    assert paired["_target_id"].is_unique().all()
    assert found["_key"].n_unique() == 1_000


def test_the_order_of_the_records_decides_nothing() -> None:
    world = people(400, 5)
    turned = World(source=world.source[::-1], target=world.target[::-1])
    one, other = classified(world), classified(turned)
    last = {"_key": len(world.source) - 1, "_target_id": len(world.target) - 1}
    back = [(str(last["_key"] - int(k)), None if t is None else str(last["_target_id"] - int(t)), c, s)
            for k, t, c, s in other.select("_key", "_target_id", "class", "score").iter_rows()]  # fmt: skip
    rows = one.select("_key", "_target_id", "class", "score").rows()
    assert sorted(rows, key=str) == sorted(back, key=str)


def test_the_same_seed_makes_the_same_people() -> None:
    assert people(100, 6) == people(100, 6)
    assert people(100, 6) != people(100, 7)
