"""The folder of an installation."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sync_platform.errors import AccessError, ConfigError
from sync_platform.home import Home


def test_the_home_is_dot_sync_under_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SYNC_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    assert Home.current().root == tmp_path / ".sync"


def test_sync_home_names_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNC_HOME", str(tmp_path / "elsewhere"))
    assert Home.current() == Home(tmp_path / "elsewhere")
    assert Home.current().lake == tmp_path / "elsewhere" / "lake"


def test_nothing_is_made_before_create(tmp_path: Path) -> None:
    home = Home(tmp_path / "a" / "b")
    assert home.kept("x") is None
    assert not home.root.exists()


def test_what_is_kept_is_private(home: Home) -> None:
    home.keep("key", "one")
    home.keep("key", "two")
    assert home.kept("key") == "two"
    assert stat.S_IMODE((home.root / "key").stat().st_mode) == 0o600
    assert [path.name for path in home.root.glob(".key*")] == []


def test_the_first_writer_wins_and_everybody_gets_its_text(home: Home) -> None:
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda number: home.keep_first("key", f"text {number}"), range(40)))
    assert len(set(got)) == 1
    assert home.kept("key") == got[0]


def test_an_existing_folder_keeps_its_rights(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o750)
    before = (tmp_path / "home").stat().st_mode
    Home(tmp_path / "home").create()
    assert (tmp_path / "home").stat().st_mode == before


def test_a_file_in_the_homes_place_is_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("I am a file")
    with pytest.raises(ConfigError, match="is a file") as caught:
        Home(tmp_path / "home").create()
    assert caught.value.field == "SYNC_HOME"


def test_a_full_disk_is_named_with_the_path(home: Home) -> None:
    (home.root / "full").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space") as caught:
        (home.root / "full").write_text("x")
    from sync_platform.home import unwritable

    ours = unwritable(caught.value, home.root / "full")
    assert isinstance(ours, AccessError)
    assert "No space left" in str(ours)
    assert "free some space" in str(ours)
