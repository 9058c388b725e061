"""`sql` answers before, during and after a sync that is writing."""

from __future__ import annotations

from tests.world import SYNC, World


def test_sql_answers_while_a_sync_is_writing(world: World) -> None:
    world.seed_leads(120)
    assert world.run().code == 0
    before = world.cli("sql", "SELECT count(*) AS n FROM staging.salesforce.Lead", "--json")
    assert before.json == [{"n": 120}]
    world.seed_leads(150)
    world.control.post(
        "faults",
        {
            "system": "hubspot",
            "kind": "slow",
            "times": 2,
            "match": "POST /hubspot/crm/v3/objects/contacts/batch/create",
        },
    )
    running = world.start("run", SYNC, "--json")
    answers = []
    while running.poll() is None:
        asked = world.cli(
            "sql",
            "SELECT count(*) AS leads, count(o.source_key) AS written FROM staging.salesforce.lead l "
            "LEFT JOIN (SELECT DISTINCT source_key FROM sync.outcomes) o ON o.source_key = l.Id",
            "--json",
        )
        assert asked.code == 0, asked.err
        answers.append(asked.json[0])
    out, err = running.communicate()
    assert running.returncode == 0, out + err
    assert len(answers) >= 1
    assert all(120 <= one["leads"] <= 270 for one in answers)
    after = world.cli(
        "sql", "SELECT count(DISTINCT source_key) AS n FROM sync.outcomes WHERE status = 'applied'", "--json"
    )
    assert after.json == [{"n": 270}]


def test_csv_and_parquet_hold_the_same_rows(world: World) -> None:
    world.seed_leads(3)
    assert world.run().code == 0
    query = "SELECT Email, LastName FROM staging.salesforce.Lead ORDER BY Email"
    rows = world.cli("sql", query, "--json").json
    lines = world.cli("sql", query, "--csv").out.splitlines()
    assert lines[0].replace('"', "") == "Email,LastName"
    assert len(lines) == len(rows) + 1
    file = world.home / "answer.parquet"
    assert world.cli("sql", query, "--parquet", str(file), "--json").json["rows"] == 3
    assert file.read_bytes()[:4] == b"PAR1"
