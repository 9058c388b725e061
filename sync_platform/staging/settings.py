"""dlt's settings during a load: ours alone.

dlt looks every setting up in the environment, in `.dlt` folders and under `/run/secrets`, section by section: thousands
of look-ups and a fifth of a second a load, and whatever another use of dlt on this machine has set would change how
records are staged. All that a load needs is given in the calls; what is left has its default.
"""

from __future__ import annotations

from typing import Any, Final

from dlt.common.configuration.container import Container
from dlt.common.configuration.providers import ConfigProvider
from dlt.common.configuration.specs.config_providers_context import ConfigProvidersContainer
from dlt.common.configuration.specs.pluggable_run_context import PluggableRunContext

_SETTINGS: Final = {"dlthub_telemetry": False, "log_level": "CRITICAL"}


class _Ours(ConfigProvider):
    """Answers the few settings above, whatever section they are looked for in."""

    name = "sync-platform"
    supports_secrets = True
    supports_sections = False

    def get_value(self, key: str, hint: type[Any], pipeline_name: str | None, *sections: str) -> tuple[Any, str]:
        """The setting and its name; None for what has no value of ours."""
        return _SETTINGS.get(key), key


def use_our_settings() -> None:
    """From now on dlt asks nothing but this module, in this process."""
    context = Container()[PluggableRunContext]
    if not isinstance(context.providers.providers[0], _Ours):
        context.providers = ConfigProvidersContainer([_Ours()])
