"""Certificates of clients: who gets into a gRPC door that asks for them, by which files, renewed at either end."""

from __future__ import annotations

import logging
import os
import shutil
import ssl
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from certificates import make_certs
from costd.config import load
from costd.domain.errors import ConfigError
from costd.wire.outbound.channel import HubDoor
from costd.wire.tls import TlsFiles
from harness import Daemon, costd, until

Launch = Callable[..., Daemon]
KEY = "ct_live_" + "k" * 43


@pytest.fixture
def certs(tmp_path: Path) -> Path:
    return make_certs(tmp_path / "certs")


@pytest.fixture
def others(tmp_path: Path) -> Path:
    """The files of another authority."""
    return make_certs(tmp_path / "others")


@pytest.fixture
def tls(certs: Path) -> TlsFiles:
    return TlsFiles(certs / "server.pem", certs / "server-key.pem", client_ca=certs / "ca.pem")


@pytest.fixture
def port(tls: TlsFiles) -> Iterator[int]:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    servicer = health.HealthServicer()
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_secure_port("127.0.0.1:0", tls.grpc_credentials())
    server.start()
    yield port
    server.stop(None).wait()


def door(address: str, *, ca: Path | None = None, pair: Path | None = None, **more: str) -> HubDoor:
    """A sidecar's door to a hub; `pair` is the folder of its certificate."""
    flags: dict[str, object] = {"hub.address": address, "hub.key": KEY} | {
        name.replace("__", "."): value for name, value in more.items()
    }
    if "hub.key_file" in flags:
        del flags["hub.key"]
    if ca is not None:
        flags["hub.ca"] = str(ca)
    if pair is not None:
        flags |= {"hub.cert": str(pair / "client.pem"), "hub.cert_key": str(pair / "client-key.pem")}
    return HubDoor(load(flags, {"HOME": "/nowhere"}).config)


def gets_in(at: HubDoor) -> bool:
    """Whether a call through the door is answered."""
    with at.open() as channel:
        try:
            health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), metadata=at.metadata(), timeout=10
            )
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return False
    return True


def test_only_those_get_in_whose_certificate_the_authority_signed(port: int, certs: Path, others: Path) -> None:
    address = f"localhost:{port}"
    assert gets_in(door(address, ca=certs / "ca.pem", pair=certs))
    assert not gets_in(door(address, ca=certs / "ca.pem"))  # shows none
    assert not gets_in(door(address, ca=certs / "ca.pem", pair=others))
    assert not gets_in(door(address, ca=others / "ca.pem", pair=certs))  # does not trust the hub
    assert not gets_in(door(address))  # speaks no TLS


def test_a_new_authority_is_in_force_once_its_file_is_there(
    tls: TlsFiles, port: int, certs: Path, others: Path
) -> None:
    # The chain of the server holds its authority, too, and stays as it is.
    before, after = (door(f"localhost:{port}", ca=certs / "server.pem", pair=pair) for pair in (certs, others))
    assert (gets_in(before), gets_in(after)) == (True, False)
    replace(others / "ca.pem", certs / "ca.pem")
    assert tls.reload_if_changed() is True
    assert (gets_in(before), gets_in(after)) == (False, True)


def test_a_renewed_certificate_is_shown_at_the_next_connection(port: int, certs: Path, others: Path) -> None:
    mine = shutil.copytree(others, certs.parent / "mine")
    at = door(f"localhost:{port}", ca=certs / "ca.pem", pair=mine)
    assert not gets_in(at)
    assert not at.changed()
    (mine / "client.pem").unlink()  # a renewal that removes before it writes
    assert not at.changed()
    for name in ("client.pem", "client-key.pem"):
        replace(certs / name, mine / name)
    assert at.changed()
    assert gets_in(at)
    assert not at.changed()


@pytest.mark.parametrize("content", ["", "hello", "-----BEGIN CERTIFICATE-----\nhello\n-----END CERTIFICATE-----\n"])
def test_a_broken_authority_stops_the_start_and_not_a_running_door(
    tls: TlsFiles, port: int, certs: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    at = door(f"localhost:{port}", ca=certs / "server.pem", pair=certs)
    (certs / "ca.pem").write_text(content)
    with pytest.raises(ConfigError, match="PEM") as caught:
        TlsFiles(certs / "server.pem", certs / "server-key.pem", str.upper, certs / "ca.pem")
    assert caught.value.setting == "TLS.CLIENT_CA"
    with caplog.at_level(logging.ERROR):
        assert [tls.reload_if_changed() for _ in range(3)] == [False, False, False]
    assert [vars(record)["file"] for record in caplog.records] == [str(certs / "ca.pem")]
    assert gets_in(at)


def test_files_of_a_sidecar_that_cannot_be_used_name_their_setting(certs: Path, others: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("hello")
    pair = {"hub.cert": certs / "client.pem", "hub.cert_key": certs / "client-key.pem"}
    for name, files in [
        ("hub.ca", {"hub.ca": tmp_path / "bad.pem"}),
        ("hub.ca", {"hub.ca": tmp_path / "none.pem"}),
        ("hub.cert", pair | {"hub.cert": tmp_path / "bad.pem"}),
        ("hub.cert", pair | {"hub.cert": tmp_path / "none.pem"}),
        ("hub.cert", pair | {"hub.cert": others / "client.pem"}),
        ("hub.cert_key", pair | {"hub.cert_key": tmp_path / "bad.pem"}),
        ("hub.cert_key", pair | {"hub.cert_key": tmp_path / "none.pem"}),
    ]:
        at = door("localhost:1", **{key.replace(".", "__"): str(path) for key, path in files.items()})
        with pytest.raises(ConfigError, match="must be a PEM file") as caught:
            at.open()
        assert caught.value.setting == "--" + name.replace(".", "-").replace("_", "-")


def test_the_key_is_read_anew_from_its_file_and_never_repeated(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(KEY + "\n")
    at = door("localhost:1", hub__key_file=str(path))
    assert at.metadata() == (("authorization", f"Bearer {KEY}"),)
    replaced = path.with_name("new")
    replaced.write_text(KEY[:-1] + "z")
    os.replace(replaced, path)
    assert at.changed()
    assert at.metadata() == (("authorization", f"Bearer {KEY[:-1]}z"),)
    for content in (b"", b"two words", b"\xff\xfe"):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match="holds a key, alone") as caught:
            at.metadata()
        assert "two words" not in caught.value.message
    path.unlink()
    with pytest.raises(ConfigError, match="must be a file") as caught:
        at.metadata()
    assert caught.value.setting == "--hub-key-file"


def test_a_hub_asks_over_tcp_alone_and_takes_a_new_authority_without_a_restart(
    launch: Launch, certs: Path, others: Path
) -> None:
    trusted = certs / "clients.pem"
    shutil.copy(certs / "ca.pem", trusted)
    files = {"cert": certs / "server.pem", "key": certs / "server-key.pem", "client-ca": trusted}
    hub = launch(*(f"--tls-{name}={path}" for name, path in files.items()), command="hub")
    address = f"localhost:{hub.grpc.rpartition(':')[2]}"
    known, unknown = (door(address, ca=certs / "ca.pem", pair=pair) for pair in (certs, others))
    assert (gets_in(known), gets_in(unknown)) == (True, False)
    trusting = ssl.create_default_context(cafile=str(certs / "ca.pem"))
    url = f"https://localhost:{httpx.URL(hub.http_url).port}/api/health"
    assert httpx.get(url, verify=trusting, trust_env=False).status_code == 200
    assert costd("sources", "list", "--data-dir", str(hub.data_dir)).returncode == 0  # by the socket
    replace(others / "ca.pem", trusted)
    until(lambda: gets_in(unknown), "the new authority")
    assert not gets_in(known)


def replace(source: Path, target: Path) -> None:
    """Put a copy of a file in another's place, in one step."""
    new = target.with_name(f".{target.name}.new")
    shutil.copy(source, new)
    os.replace(new, target)
