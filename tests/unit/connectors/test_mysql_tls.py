"""Connections to a real MariaDB are encrypted as asked, and a server is never given a file it asks for."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sync_platform.connectors.mysql import MySQL
from sync_platform.errors import AccessError, SyncError
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


def certificate(folder: Path) -> None:
    """An authority (ca.pem) and a certificate of 127.0.0.1 by it (server.pem, server.key)."""
    now = dt.datetime.now(dt.UTC)

    def signed(name: str, issuer: str, key: ec.EllipticCurvePrivateKey, by: ec.EllipticCurvePrivateKey) -> bytes:
        built = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=name == issuer, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
            )
        )
        return built.sign(by, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    authority, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    (folder / "ca.pem").write_bytes(signed("ca", "ca", authority, authority))
    (folder / "server.pem").write_bytes(signed("server", "ca", own, authority))
    encoded = own.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "server.key").write_bytes(encoded)
    for file in folder.glob("server.*"):
        file.chmod(0o644)


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
            with refused("no secure connection"):
                other = url.replace("127.0.0.1", "localhost")
                connect_mysql(url=f"{other}?ssl-mode=VERIFY_IDENTITY&ssl-ca={folder}/ca.pem").check()
            assert connect_mysql(url=url + "?ssl-mode=DISABLED").check().ok
    finally:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


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
