"""TLS on both doors: one certificate, renewed without a restart, and never lost to a broken file."""

from __future__ import annotations

import asyncio
import logging
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import aiohttp
import grpc
import pytest
from aiohttp import web
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from certificates import SCRIPT, make_certs
from costd.domain.errors import ConfigError
from costd.wire.tls import TlsFiles


@pytest.fixture
def certs(tmp_path: Path) -> Path:
    make_certs(tmp_path / "certs")
    return tmp_path / "certs"


@pytest.fixture
def tls(certs: Path) -> TlsFiles:
    return TlsFiles(certs / "server.pem", certs / "server-key.pem")


async def hello(_: web.Request) -> web.Response:
    return web.Response(text="hello")


def served_over_http(tls: TlsFiles, certs: Path) -> bytes:
    """The certificate (DER) that the HTTP door hands out, checked against the authority."""

    async def talk() -> bytes:
        app = web.Application()
        app.router.add_get("/", hello)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls.http_context).start()
            port = runner.addresses[0][1]
            client = ssl.create_default_context(cafile=str(certs / "ca.pem"))
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"https://localhost:{port}/", ssl=client) as answer,
            ):
                assert await answer.text() == "hello"
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
            certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            writer.close()
            await writer.wait_closed()
            return bytes(certificate)
        finally:
            await runner.cleanup()

    return asyncio.run(talk())


@pytest.fixture
def grpc_port(tls: TlsFiles) -> Iterator[int]:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    servicer = health.HealthServicer()
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_secure_port("127.0.0.1:0", tls.grpc_credentials())
    server.start()
    yield port
    server.stop(None).wait()


def served_over_grpc(port: int, certs: Path) -> bytes:
    """The certificate (DER) that the gRPC door hands out, checked against the authority."""
    credentials = grpc.ssl_channel_credentials((certs / "ca.pem").read_bytes())
    with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
        request = health_pb2.HealthCheckRequest()
        answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=10, wait_for_ready=True)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    pem = ssl.get_server_certificate(("127.0.0.1", port))
    return ssl.PEM_cert_to_DER_cert(pem)


def leaf(certs: Path) -> bytes:
    first, mark, _ = (certs / "server.pem").read_text().partition("-----END CERTIFICATE-----")
    return ssl.PEM_cert_to_DER_cert(first + mark)


def test_both_doors_hand_out_a_new_certificate_once_it_is_there(tls: TlsFiles, certs: Path, grpc_port: int) -> None:
    first = leaf(certs)
    assert served_over_http(tls, certs) == served_over_grpc(grpc_port, certs) == first
    assert tls.reload_if_changed() is False
    make_certs(certs)
    assert served_over_grpc(grpc_port, certs) == first
    assert tls.reload_if_changed() is True
    assert leaf(certs) != first
    assert served_over_http(tls, certs) == served_over_grpc(grpc_port, certs) == leaf(certs)


@pytest.mark.parametrize("damage", ["empty", "not PEM", "another's key", "missing"])
def test_broken_new_files_leave_the_old_certificate_in_use(
    tls: TlsFiles, certs: Path, grpc_port: int, damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = leaf(certs)
    make_certs(tmp_path / "other")
    if damage == "missing":
        (certs / "server.pem").unlink()
    elif damage == "another's key":
        shutil.copy(tmp_path / "other" / "server-key.pem", certs / "server-key.pem")
    else:
        (certs / "server.pem").write_text("" if damage == "empty" else "hello")
    with caplog.at_level(logging.ERROR):
        assert [tls.reload_if_changed() for _ in range(3)] == [False, False, False]
    assert served_over_http(tls, certs) == served_over_grpc(grpc_port, certs) == first
    # Said once per version of the files, with the file's name; a file that is away for a moment is being renewed.
    assert len(caplog.records) == (0 if damage == "missing" else 1)
    assert all(str(certs) in vars(record)["file"] for record in caplog.records)
    make_certs(certs)
    assert tls.reload_if_changed() is True


def test_files_that_are_no_pair_stop_the_start_and_name_the_setting(certs: Path, tmp_path: Path) -> None:
    make_certs(tmp_path / "other")
    (tmp_path / "bad.pem").write_text("hello")
    names = {"tls.cert": "--tls-cert", "tls.key": "COSTD_TLS_KEY"}.__getitem__
    good, key = certs / "server.pem", certs / "server-key.pem"
    for certificate, private, name in [
        (tmp_path / "none.pem", key, "--tls-cert"),
        (good, tmp_path / "none.pem", "COSTD_TLS_KEY"),
        (tmp_path / "bad.pem", key, "--tls-cert"),
        (good, tmp_path / "bad.pem", "COSTD_TLS_KEY"),
        (good, tmp_path / "other" / "server-key.pem", "--tls-cert"),
    ]:
        with pytest.raises(ConfigError) as caught:
            TlsFiles(certificate, private, names)
        assert caught.value.setting == name


def test_an_encrypted_key_is_refused_instead_of_asking_for_a_password(certs: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key((certs / "server-key.pem").read_bytes(), None)
    form = serialization.PrivateFormat.PKCS8
    locked = key.private_bytes(serialization.Encoding.PEM, form, serialization.BestAvailableEncryption(b"secret"))
    (certs / "server-key.pem").write_bytes(locked)
    with pytest.raises(ConfigError, match="encrypted"):
        TlsFiles(certs / "server.pem", certs / "server-key.pem")


def test_made_certificates_keep_their_authority_and_hide_their_keys(certs: Path) -> None:
    authority, server = (certs / "ca.pem").read_bytes(), (certs / "server.pem").read_bytes()
    subprocess.run([sys.executable, SCRIPT, certs, "costd.internal"], check=True, stdout=subprocess.DEVNULL)
    assert (certs / "ca.pem").read_bytes() == authority
    assert (certs / "server.pem").read_bytes() != server
    modes = {path.name: path.stat().st_mode & 0o777 for path in certs.iterdir()}
    assert modes == {"ca.pem": 0o644, "ca-key.pem": 0o600, "server.pem": 0o644, "server-key.pem": 0o600} | {
        "client.pem": 0o644,
        "client-key.pem": 0o600,
    }
