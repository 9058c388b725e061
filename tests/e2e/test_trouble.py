"""Trouble on the way (half answers, missing rights, unfit values, a full disk): a sentence, and nothing lost."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_platform.sandbox.server import env_lines
from tests.cut_proxy import CutProxy
from tests.world import World

QUERY = b"/queryAll?q=SELECT%20Id"


def test_half_a_page_is_read_again(world: World) -> None:
    world.seed_leads(30)
    with CutProxy(world.sandbox.port) as proxy:
        proxy.halve(QUERY, times=1)
        done = world.run(SALESFORCE_BASE_URL=f"http://127.0.0.1:{proxy.port}/salesforce")
        assert proxy.cuts == 1
    assert done.code == 0, done.out + done.err
    assert world.disagreements() == []


@pytest.mark.slow
def test_a_source_that_only_answers_half_pages_ends_the_run_and_nothing_is_taken_for_deleted(world: World) -> None:
    world.seed_leads(30)
    with CutProxy(world.sandbox.port) as proxy:
        through = {"SALESFORCE_BASE_URL": f"http://127.0.0.1:{proxy.port}/salesforce"}
        assert world.run(**through).code == 0
        world.seed_leads(5)
        mark = world.mark()
        proxy.halve(QUERY, times=1000)
        failed = world.run(**through)
        assert proxy.cuts > 1
        assert failed.code == 3, failed.out + failed.err
        assert "salesforce" in failed.json["error"]["message"]
        assert failed.json["error"]["mend"]
        assert world.written(mark) == []
        proxy.halve(QUERY, times=0)
        again = world.run(**through)
    assert again.code == 0, again.out + again.err
    assert world.disagreements() == []


def test_a_token_without_the_right_to_write_is_told_which_scope_it_lacks(world: World) -> None:
    world.seed_leads(5)
    limited = dict(line.split("=", 1) for line in env_lines(world.sandbox.port))["HUBSPOT_LIMITED_ACCESS_TOKEN"]
    refused = world.run(HUBSPOT_ACCESS_TOKEN=limited)
    assert refused.code == 3, refused.out + refused.err
    error = refused.json["error"]
    assert "crm.objects.contacts.write" in error["message"] + error["mend"]
    assert limited not in refused.out + refused.err
    assert world.run().code == 0
    assert world.disagreements() == []


def test_a_value_that_does_not_fit_sets_its_record_aside_and_is_taken_once_mended(own: World) -> None:
    own.spoil("company: Company", "company: Company\n    hs_email_optout: Title")
    ids = own.seed_leads(8)
    own.edit("salesforce/Lead", *[{"id": one, "fields": {"Title": "true"}} for one in ids])
    own.edit("salesforce/Lead", {"id": ids[2], "fields": {"Title": "maybe"}})
    report = own.run()
    assert report.code == 1, report.out + report.err
    assert report.json["sync_summary"]["created"] == 7
    (error,) = report.json["errors"]
    assert (error["key"], error["field"]) == (ids[2], "hs_email_optout")
    assert error["reason"]
    assert error["resolution"]
    own.edit("salesforce/Lead", {"id": ids[2], "fields": {"Title": "false"}})
    again = own.run()
    assert again.code == 0, again.out + again.err
    assert again.json["sync_summary"]["dead_letters_open"] == 0
    assert len(own.records("hubspot/contacts")) == 8


def test_a_field_that_does_not_exist_ends_a_run_before_anything_is_sent(own: World) -> None:
    file = own.spoil("company: Company", "company: Compny")
    own.seed_leads(3)
    refused = own.run()
    assert refused.code == 2, refused.out + refused.err
    error = refused.json["error"]
    assert "Compny" in error["message"]
    assert (error["field"], error["value"]) == ("company", "Compny")
    assert error["file"].endswith("defs.yaml")
    assert "Compny" in file.read_text().splitlines()[error["line"] - 1]
    assert error["mend"]
    assert own.written() == []


@pytest.fixture
def tiny_disk(world: World) -> Iterator[Path]:
    """The lake's folder on a file system of its own with room for nothing but a few files; else a plain folder."""
    lake = world.home / "lake"
    lake.mkdir(parents=True)
    mounting = ["mount", "-t", "tmpfs", "-o", "size=12m,mode=0700", "tmpfs", str(lake)]
    mounted = shutil.which("mount") and subprocess.run(mounting, capture_output=True, check=False).returncode == 0
    yield lake
    if mounted:
        subprocess.run(["umount", "-l", str(lake)], check=True)


@pytest.mark.slow
def test_a_full_disk_ends_the_run_with_a_sentence_and_the_next_goes_on(world: World, tiny_disk: Path) -> None:
    world.seed_leads(40)
    assert world.run().code == 0
    world.seed_leads(10)
    mark = world.mark()
    if os.path.ismount(tiny_disk):
        ballast = tiny_disk / "ballast"
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        failed = world.run()
        ballast.unlink()
    else:  # no right to mount here: a file may not grow beyond a few bytes, which fails at the same places
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
        try:
            failed = world.run()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert failed.code == 3, failed.out + failed.err
    assert "space" in failed.json["error"]["mend"]
    assert world.written(mark) == []
    again = world.run()
    assert again.code == 0, again.out + again.err
    assert world.disagreements() == []
