"""`up --sandbox`: the simulated systems send their webhooks to the gateway, as a person would have set them up."""

from __future__ import annotations

import json
import os
import secrets
import urllib.request
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sync_platform.project import Project

#: The variable of the secret address, for systems that sign nothing.
WEBHOOK_SECRET: Final = "SALESFORCE_WEBHOOK_SECRET"


def sandbox_environment(port: int) -> Mapping[str, str]:
    """The variables that point at a sandbox; what is set already stays."""
    from sync_platform.sandbox.server import env_lines

    told = dict(line.split("=", 1) for line in env_lines(port))
    told[WEBHOOK_SECRET] = secrets.token_urlsafe(24)
    return {name: os.environ.get(name) or value for name, value in told.items()}


def send_webhooks(project: Project, sandbox_port: int, gateway_port: int, secret: str) -> None:
    """Subscribes the gateway to every connection whose system sends webhooks."""
    from sync_platform.connectors.webhook import Proof

    for name, connector in project.connectors.items():
        if connector.proof is Proof.NONE:
            continue
        address = f"http://127.0.0.1:{gateway_port}/webhooks/{name}"
        if connector.proof is Proof.PATH:
            address += f"/{secret}"
        body = json.dumps({"system": connector.system, "target_url": address}).encode()
        url = f"http://127.0.0.1:{sandbox_port}/__control__/webhooks"
        with urllib.request.urlopen(urllib.request.Request(url, body, method="POST"), timeout=10):
            pass
