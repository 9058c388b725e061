"""kill -9 of a run, and a database restarted at any moment of the talk with it: nothing is lost, nothing is doubled.

MariaDB and two majors of PostgreSQL, each as source and as target. A moment is a share of the bytes that an undisturbed
run of the same size exchanged with that server, so that every one of them is in mid-talk.
"""

from __future__ import annotations

import json
from functools import partial

import pytest

from tests.chaos.scenes import kill_at
from tests.chaos.two_databases import SYNCS, Side, TwoDatabases, label
from tests.law_table import CASES, law

POINTS = [
    "staging_loaded", "plan_written", "between_batches", "request_sent", "answer_received", "outcome_written",
    "position_written",
]  # fmt: skip
#: What a server restarted in mid-talk may cost the run: a system could not be reached, or it is finished with failures.
ENDS = (0, 1, 3)
_SLOW = pytest.mark.slow


@_SLOW
@pytest.mark.parametrize("couple", ["mariadb-18", "17-18"])
@pytest.mark.parametrize("sync", SYNCS)
@pytest.mark.parametrize("point", POINTS)
def test_a_run_killed_at_a_crash_point_is_finished_by_the_next(both: TwoDatabases, sync: str, point: str) -> None:
    source, target = both.of(sync)
    source.fill(1, 2_000)
    assert both.world.run(sync).code == 0
    source.change()
    source.fill(10_001, 12_000)
    with law(
        f"a run killed at {point} is finished by the next", f"{label(source.server)} to {label(target.server)}"
    ) as met:
        kill_at(both.world, point, "run", sync, "--json")
        both.assert_settled(sync)
        met.case()


def work(source: Side, turn: int) -> None:
    """The same amount of edits, deletions and new rows every time."""
    source.change("!" * turn)
    source.fill(10_000 * turn + 1, 10_000 * turn + 6_000)


@pytest.mark.timeout(3_600)
@pytest.mark.parametrize(
    ("couple", "sync", "which", "moments"),
    [
        ("mariadb-18", "there", "source", 1),
        ("mariadb-18", "back", "source", 1),
        *(
            pytest.param(*one, 20, marks=_SLOW)
            for one in (
                ("mariadb-18", "there", "source"), ("mariadb-18", "back", "target"),
                ("mariadb-18", "back", "source"), ("mariadb-18", "there", "target"),
                ("17-18", "there", "source"), ("17-18", "back", "target"),
            )
        ),
    ],
)  # fmt: skip
def test_a_database_restarted_at_any_moment_of_a_run_costs_at_most_that_run(
    both: TwoDatabases, sync: str, which: str, moments: int
) -> None:
    source, target = both.of(sync)
    struck = source if which == "source" else target
    source.fill(1, 9_000)
    both.assert_repaired(sync)
    work(source, 1)
    struck.proxy.disarm()
    both.assert_repaired(sync)
    size = struck.proxy.carried
    subject = f"{label(source.server)} to {label(target.server)}"
    with law(f"the {which} restarted in mid-talk costs at most that run", subject) as met:
        for moment in range(moments):
            work(source, moment + 2)
            struck.proxy.after(int(size * (moment + 0.5) / moments), partial(struck.restart, kill=moment % 2 == 0))
            cuts = struck.proxy.cuts
            done = both.world.run(sync)
            assert struck.proxy.cuts == cuts + 1, f"moment {moment} of {moments} was never reached: it proves nothing"
            assert done.code in ENDS, f"moment {moment}: {done.out[-3000:]}{done.err[-3000:]}"
            if done.code == 3:
                assert json.loads(done.out)["error"]["mend"], done.out
            CASES[f"... its exit code was {done.code}", subject] += 1
            both.assert_repaired(sync)
            met.case()
    assert both.world.run(sync).json["sync_summary"]["records_processed"] == 0
