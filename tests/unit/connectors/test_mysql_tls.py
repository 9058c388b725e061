"""Connections to a real MariaDB are encrypted as asked, and a server is never given a file it asks for."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sync_platform.connectors.mysql import MySQL
from sync_platform.errors import AccessError, SyncError
from tests.certificates import certificate
from tests.private_mariadb import PrivateMariaDB

Connect = Callable[..., MySQL]


@contextmanager
def refused(*words: str) -> Iterator[None]:
    """Expects an AccessError that says these words and has a mend."""
    with pytest.raises(AccessError) as caught:
        yield
    assert caught.value.mend
    for word in words:
        assert word in str(caught.value)


def test_tls_is_used_verified_and_demanded(shop: str, connect_mysql: Connect, tmp_path: Path) -> None:
    with refused("no secure connection", "ssl-mode"):
        connect_mysql(url=shop + "?ssl-mode=REQUIRED").check()  # this server has no certificate
    folder = Path("/tmp") / f"tls-{os.getpid()}"
    folder.mkdir(mode=0o755)
    try:
        certificate(folder)
        settings = {"ssl-cert": f"{folder}/server.pem", "ssl-key": f"{folder}/server.key"}
        with PrivateMariaDB(settings=settings) as server:
            url = server.create("x")
            for option in ("", "?ssl-mode=REQUIRED", f"?ssl-mode=VERIFY_IDENTITY&ssl-ca={folder}/ca.pem"):
                connector = connect_mysql(url=url + option)
                assert connector.check().ok
                with connector.server().session() as session:
                    (told,) = session.rows("SHOW STATUS LIKE 'Ssl_version'", "asking")
                    assert (told["Value"] or "").startswith("TLS"), option
            with refused("no secure connection"):
                connect_mysql(url=url + "?ssl-mode=VERIFY_CA").check()  # not by an authority of this machine
            (folder / "other").mkdir(mode=0o755)
            certificate(folder / "other")
            with refused("no secure connection", "certificate verify failed"):
                connect_mysql(url=f"{url}?ssl-mode=VERIFY_IDENTITY&ssl-ca={folder}/other/ca.pem").check()
            with refused("no secure connection", "name the host as the server's certificate does"):
                other = url.replace("127.0.0.1", "localhost")
                connect_mysql(url=f"{other}?ssl-mode=VERIFY_IDENTITY&ssl-ca={folder}/ca.pem").check()
            assert connect_mysql(url=url + "?ssl-mode=DISABLED").check().ok
    finally:
        shutil.rmtree(folder)


def test_a_server_that_asks_for_a_file_of_ours_gets_none(
    connect_mysql: Connect, mariadb: PrivateMariaDB, shop: str
) -> None:
    """A rogue server may answer any statement with the wish for a file (LOAD DATA LOCAL is the server asking)."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        got: list[bytes] = []

        def serve() -> None:
            client, _ = listener.accept()
            with client, socket.create_connection(("127.0.0.1", mariadb.port)) as real:
                client.sendall(real.recv(65536))
                real.sendall(client.recv(65536))
                client.sendall(real.recv(65536))
                client.recv(65536)
                client.sendall(b"\x0c\0\0\x01\xfb/etc/passwd")
                got.append(client.recv(65536))

        threading.Thread(target=serve, daemon=True).start()
        url = shop.replace(str(mariadb.port), str(listener.getsockname()[1])) + "?ssl-mode=DISABLED"
        with pytest.raises(SyncError):
            connect_mysql(url=url).check()
    assert not any(b"root" in data for data in got)
