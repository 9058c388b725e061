"""Connections to a real PostgreSQL are encrypted, verified and refused as the url asks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest

from sync_platform.connectors.postgres import Postgres
from sync_platform.errors import AccessError
from sync_platform.model import Change, Op, Status
from tests.certificates import certificate
from tests.private_postgres import NOBODY, PrivateServer

Connect = Callable[..., Postgres]


@contextmanager
def refused(*words: str) -> Iterator[None]:
    """Expects an AccessError that says these words, what to do, and no password."""
    with pytest.raises(AccessError) as caught:
        yield
    for word in ("no secure connection", *words):
        assert word in str(caught.value)
    assert "sslrootcert" in str(caught.value.mend)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Certificates of two authorities; the server's own may read its key."""
    made = Path("/tmp") / f"pg-tls-{os.getpid()}"
    (made / "other").mkdir(mode=0o755, parents=True)
    for place in (made, made / "other"):
        certificate(place)
        (place / "server.key").chmod(0o600)
        if os.geteuid() == 0:
            os.chown(place / "server.key", NOBODY, NOBODY)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    """A server with a certificate of 127.0.0.1 (the wheel of the newer one is built without TLS)."""
    settings = {"ssl": "on", "ssl_cert_file": f"{folder}/server.pem", "ssl_key_file": f"{folder}/server.key"}
    with PrivateServer(settings=settings, major=17) as server:
        yield server.url()


def test_a_certificate_of_the_right_authority_and_host_is_taken_by_every_kind_of_connection(
    connect: Connect, url: str, folder: Path
) -> None:
    postgres = connect(url=f"{url}?sslmode=verify-full&sslrootcert={folder}/ca.pem")
    assert postgres.check().ok
    with postgres.server().session() as session:
        told = session.rows("SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()", "asking").to_pylist()
        assert told[0]["ssl"]
        assert told[0]["version"].startswith("TLS")
        session.run("DROP TABLE IF EXISTS t", "making room")
        session.run("CREATE TABLE t (id int PRIMARY KEY, v text)", "making a table")
        session.run("INSERT INTO t VALUES (1, 'a')", "filling it")
    change = Change(op=Op.UPDATE, key="a", token="t", target_id="1", fields={"v": "b"})  # a few rows: another driver
    assert [one.status for one in postgres.write("t", [change])] == [Status.APPLIED]
    query = {"query": "SELECT id FROM t", "key": ["id"]}
    assert connect(url=f"{url}?sslmode=verify-full&sslrootcert={folder}/ca.pem", tables={"q": query}).discover("q")


def test_a_certificate_of_another_authority_is_refused(connect: Connect, url: str, folder: Path) -> None:
    for mode in ("verify-ca", "verify-full"):
        with refused("certificate verify failed", "the authority that signed the server's certificate"):
            connect(url=f"{url}?sslmode={mode}&sslrootcert={folder}/other/ca.pem").check()


def test_a_certificate_of_another_host_is_refused_by_verify_full_alone(
    connect: Connect, url: str, folder: Path
) -> None:
    elsewhere = url.replace("127.0.0.1", "localhost")
    with refused("does not match host name", "name the host as the server's certificate does"):
        connect(url=f"{elsewhere}?sslmode=verify-full&sslrootcert={folder}/ca.pem").check()
    assert connect(url=f"{elsewhere}?sslmode=verify-ca&sslrootcert={folder}/ca.pem").check().ok


def test_a_missing_authority_and_a_server_without_tls_are_refused(
    connect: Connect, url: str, database: str, folder: Path
) -> None:
    with refused("does not exist"):
        connect(url=f"{url}?sslmode=verify-full&sslrootcert={folder}/none.pem").check()
    with refused("does not support SSL"):
        connect(url=f"{database}?sslmode=verify-full&sslrootcert={folder}/ca.pem").check()


def test_xml_goes_there_and_back_as_text(connect: Connect, url: str) -> None:
    postgres = connect(url=url)
    with psycopg.connect(url, autocommit=True) as person:  # this server alone is built with libxml
        person.execute("DROP TABLE IF EXISTS documents")
        person.execute("CREATE TABLE documents (id int PRIMARY KEY, v xml)")
        person.execute("INSERT INTO documents VALUES (1, '<a b=\"é\">x &amp; y</a>')")
        (page,) = postgres.read("documents")
        part = page.table.set_column(0, "id", pa.array([2], pa.int32()))
        part = part.append_column("_key", pa.array(["2"])).append_column("_target_id", pa.nulls(1, pa.string()))
        assert postgres.write_bulk("documents", "create", part, "d")["_status"].to_pylist() == ["applied"]
        rows = person.execute("SELECT v::text FROM documents").fetchall()
    assert len(rows) == 2
    assert len(set(rows)) == 1
