"""The connection's url: `mysql://user:password@host:port/database?ssl-mode=VERIFY_IDENTITY&ssl-ca=/path/ca.pem`.

https://dev.mysql.com/doc/refman/8.4/en/connecting-using-uri-or-key-value-pairs.html
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from sync_platform.connectors.hiding import secrets_in
from sync_platform.connectors.sql import did_you_mean
from sync_platform.errors import ConfigError

_SCHEMES: Final = ("mysql", "mariadb")
_MODES: Final = ("DISABLED", "PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")
_OPTIONS: Final = ("ssl-mode", "ssl-ca", "ssl-cert", "ssl-key", "socket", "connect-timeout")
_MEND: Final = (
    "write mysql://user:password@host:port/database, with special characters of the password percent-encoded (@ is %40)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a server is and how to log in. `place` may be shown, `login` holds the password."""

    place: str
    database: str
    login: Mapping[str, Any] = field(repr=False)
    secrets: list[str] = field(repr=False)


def parse(url: str) -> Address:
    """The parts of a url; ConfigError without the password when it cannot be read."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "localhost", parts.port or 3306
        given = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise ConfigError("mysql: the url cannot be read", field="url", mend=_MEND) from None
    if parts.scheme.partition("+")[0] not in _SCHEMES:
        raise ConfigError("mysql: the url does not begin with mysql://", field="url", mend=_MEND)
    options = {name.lower().replace("_", "-"): value for name, value in given.items()}
    for name in options:
        if name not in _OPTIONS:
            raise ConfigError(f"mysql: the url has an unknown option {name!r}", mend=did_you_mean(name, _OPTIONS))
    password = unquote(parts.password or "")
    database = unquote(parts.path.removeprefix("/"))
    secrets = secrets_in(url, {"password": password})
    place = f"mysql {host}:{port}/{database}"
    if any(secret in place for secret in secrets):
        place = "mysql"
    login: dict[str, Any] = {
        "host": host,
        "port": port,
        "user": unquote(parts.username or ""),
        "password": password.encode(),
        "database": database or None,
        "unix_socket": options.get("socket"),
        "connect_timeout": _seconds(options.get("connect-timeout", "10")),
        **_encryption(options),
    }
    return Address(place=place, database=database, login=login, secrets=secrets)


def _seconds(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 3600:
        raise ConfigError(f"mysql: connect-timeout is {text!r}", field="url", mend="write whole seconds")
    return int(text)


def _encryption(options: Mapping[str, str]) -> dict[str, Any]:
    """The driver's arguments for TLS. Without any option it is used where the server offers it, unverified."""
    wanted = "VERIFY_CA" if "ssl-ca" in options else "PREFERRED"
    mode = options.get("ssl-mode", wanted).upper().replace("-", "_")
    if mode not in _MODES:
        raise ConfigError(f"mysql: ssl-mode is {mode!r}", field="url", mend="use one of: " + ", ".join(_MODES))
    if mode == "DISABLED":
        return {"ssl_disabled": True}
    if mode == "PREFERRED" and "ssl-cert" not in options:
        return {}
    try:
        context = ssl.create_default_context(cafile=options.get("ssl-ca"))
        context.check_hostname = mode == "VERIFY_IDENTITY"
        context.verify_mode = ssl.CERT_REQUIRED if mode.startswith("VERIFY") else ssl.CERT_NONE
        if "ssl-cert" in options:
            context.load_cert_chain(options["ssl-cert"], options.get("ssl-key"))
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"mysql: the certificates of the url cannot be used ({error.strerror or error})",
            field="url",
            mend="check ssl-ca, ssl-cert and ssl-key: paths of PEM files",
        ) from None
    return {"ssl": context}
