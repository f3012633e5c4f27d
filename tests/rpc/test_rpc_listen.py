"""Where the gRPC door listens: ports, IPv6, the unix socket's file, TLS, and what stands in the way."""

from __future__ import annotations

import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from costd.clock import Clock
from costd.domain.errors import SetupError
from costd.services.services import Services
from costd.wire.rpc.server import SERVICE_NAMES, RpcServer
from costd.wire.tls import TlsFiles
from rpc_calls import channel_to, refusal_of

MAKE_CERTS = Path(__file__).parents[2] / "scripts" / "make_certs.py"


class Ready:
    """A daemon's health, reduced to yes."""

    def problems(self) -> list[str]:
        return []

    def watch(self, callback: Any) -> None:
        callback(True)


@pytest.fixture
def services() -> Services:
    """Enough of a daemon for a door at which only health and reflection are asked."""
    access = SimpleNamespace(authenticate=None, auth_required=True, clock=Clock())
    rest = dict.fromkeys(set(Services.__dataclass_fields__) - {"access", "health"})
    return cast("Services", SimpleNamespace(access=access, health=Ready(), **rest))


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short path: a socket's must fit into 103 bytes."""
    return tmp_path_factory.mktemp("s")


def is_serving(target: str, credentials: grpc.ChannelCredentials | None = None) -> bool:
    with channel_to(target, credentials) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


@pytest.fixture
def open_door(services: Services) -> Iterator[Any]:
    """Opens doors and closes them after the test."""
    opened: list[RpcServer] = []

    def open_one(listen: str | None, path: Path | None = None, credentials: Any = None) -> tuple[RpcServer, int]:
        door = RpcServer(services, listen, str(path) if path else None, credentials)
        port = door.start()
        opened.append(door)
        return door, port or 0

    yield open_one
    for door in opened:
        door.stop(1)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
def test_port_0_is_any_free_port(open_door: Any, host: str) -> None:
    """On IPv4, IPv6 and by name; the door says which it was."""
    door, port = open_door(f"{host}:0")
    assert door.addresses.grpc == f"{host}:{port}"
    assert is_serving(f"{host}:{port}")


def test_a_port_in_use_is_named_with_its_setting(open_door: Any) -> None:
    """A second daemon must not get half of the calls."""
    _, port = open_door("127.0.0.1:0")
    with pytest.raises(
        SetupError, match=rf"grpc\.listen: cannot listen at 127\.0\.0\.1:{port}: address already in use"
    ):
        open_door(f"127.0.0.1:{port}")


def test_an_address_of_another_machine_is_named(open_door: Any) -> None:
    """192.0.2.0/24 belongs to no machine (RFC 5737)."""
    with pytest.raises(SetupError, match=r"192\.0\.2\.1:0: cannot assign requested address"):
        open_door("192.0.2.1:0")


def test_the_socket_is_its_owners_alone_and_goes_with_the_daemon(open_door: Any, folder: Path) -> None:
    """Mode 0600 in a folder that is made for it."""
    path = folder / "made" / "costd.sock"
    door, _ = open_door(None, path)
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert door.addresses.socket == str(path)
    assert is_serving(f"unix:{path}")
    door.stop(1)
    assert not path.exists()


def test_the_socket_of_a_dead_daemon_is_replaced(open_door: Any, folder: Path) -> None:
    """A crash leaves the file behind."""
    path = folder / "costd.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    open_door(None, path)
    assert is_serving(f"unix:{path}")


def test_the_socket_of_a_living_daemon_is_not_taken(open_door: Any, folder: Path) -> None:
    """Two daemons never share one."""
    path = folder / "costd.sock"
    open_door(None, path)
    with pytest.raises(SetupError, match="another daemon answers at"):
        open_door(None, path)
    assert is_serving(f"unix:{path}")


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_nothing_but_a_socket_is_removed(open_door: Any, folder: Path, kind: str) -> None:
    """Whatever else is there is not ours."""
    path = folder / "costd.sock"
    if kind == "file":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(folder / "elsewhere")
    with pytest.raises(SetupError, match=r"grpc\.socket: .* is no socket"):
        open_door(None, path)
    assert path.is_symlink() if kind == "link" else path.exists()


def test_tls_encrypts_tcp_and_not_the_socket(open_door: Any, folder: Path) -> None:
    """Over TCP only TLS is understood; the socket needs none."""
    subprocess.run([sys.executable, str(MAKE_CERTS), str(folder / "certs")], check=True, capture_output=True)
    tls = TlsFiles(folder / "certs" / "server.pem", folder / "certs" / "server-key.pem")
    path = folder / "costd.sock"
    _, port = open_door("127.0.0.1:0", path, tls.grpc_credentials())
    trusted = grpc.ssl_channel_credentials((folder / "certs" / "ca.pem").read_bytes())
    assert is_serving(f"localhost:{port}", trusted)
    assert is_serving(f"unix:{path}")
    assert refusal_of(lambda: is_serving(f"127.0.0.1:{port}")).code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("version", ["v1alpha", "v1"])
def test_reflection_describes_the_services(open_door: Any, version: str) -> None:
    """Under both names of the protocol: the list, and a file with the comments' subject in it."""
    _, port = open_door("127.0.0.1:0")
    request, response = reflection_pb2.ServerReflectionRequest, reflection_pb2.ServerReflectionResponse
    with channel_to(f"127.0.0.1:{port}") as channel:
        ask = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request.SerializeToString,
            response.FromString,
        )
        questions = [
            request(list_services=""),
            request(file_containing_symbol="costd.v1.UsageService"),
            request(file_containing_symbol="nobody.Service"),
        ]
        listed, described, unknown = ask(iter(questions), timeout=10)
    assert {service.name for service in listed.list_services_response.service} == set(SERVICE_NAMES)
    assert any(b"RecordRequest" in file for file in described.file_descriptor_response.file_descriptor_proto)
    assert unknown.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


def test_an_unknown_method_is_unimplemented(open_door: Any) -> None:
    """The status tools expect of it."""
    _, port = open_door("127.0.0.1:0")
    with channel_to(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/costd.v1.UsageService/Nothing")
        assert refusal_of(lambda: call(b"", timeout=10)).code() is grpc.StatusCode.UNIMPLEMENTED
