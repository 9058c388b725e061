"""dlt's settings are ours alone, whatever the environment says."""

from __future__ import annotations

import pytest
from dlt.common.configuration.resolve import resolve_configuration
from dlt.common.configuration.specs import RuntimeConfiguration

from sync_platform.staging.landing import import_whole


def test_another_use_of_dlt_changes_nothing_here(monkeypatch: pytest.MonkeyPatch) -> None:
    import_whole()
    monkeypatch.setenv("RUNTIME__LOG_LEVEL", "DEBUG")
    monkeypatch.setenv("RUNTIME__DLTHUB_TELEMETRY", "true")
    found = resolve_configuration(RuntimeConfiguration())
    assert (found.log_level, found.dlthub_telemetry) == ("CRITICAL", False)
