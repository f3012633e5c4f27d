"""The fault proxy: each fault does to a plain TCP connection what it says, and healing undoes it."""

from __future__ import annotations

import random
import socket
import socketserver
import threading
from collections.abc import Iterator

import grpc
import pytest

from fault_proxy import FAULTS, FaultProxy, misbehave
from harness import Daemon, until
from rpc_calls import channel_to


class Echo(socketserver.ThreadingTCPServer):
    """Says back what it hears, and remembers it by connection."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Echoing)
        self.heard: list[bytearray] = []
        self.ended: list[str] = []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.server_address[1]}"


class _Echoing(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        echo: Echo = self.server  # type: ignore[assignment]
        heard = bytearray()
        echo.heard.append(heard)
        try:
            while data := self.request.recv(1 << 16):
                heard += data
                self.request.sendall(data)
            echo.ended.append("closed")
        except OSError:
            echo.ended.append("reset")


@pytest.fixture
def echo() -> Iterator[Echo]:
    """A server that says back what it hears."""
    with Echo() as server:
        yield server
        server.shutdown()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[FaultProxy]:
    """A proxy before it."""
    with FaultProxy(echo.address) as proxy:
        yield proxy


def connect(proxy: FaultProxy, timeout_s: float = 5) -> socket.socket:
    """A connection through the proxy."""
    host, port = proxy.address.split(":")
    return socket.create_connection((host, int(port)), timeout=timeout_s)


def ask(connection: socket.socket, text: bytes) -> bytes:
    """Send, and what comes back of it; short when the connection ends."""
    connection.sendall(text)
    answer = b""
    while len(answer) < len(text) and (part := connection.recv(1 << 16)):
        answer += part
    return answer


def is_dead(connection: socket.socket) -> bool:
    """Whether nothing comes any more but an end."""
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def is_turned_away(proxy: FaultProxy) -> bool:
    """Whether a new connection ends at once."""
    try:
        with connect(proxy) as connection:
            return is_dead(connection)
    except ConnectionError:
        return True


def test_everything_passes_both_ways(proxy: FaultProxy, echo: Echo) -> None:
    text = random.Random(1).randbytes(1 << 20)
    with connect(proxy) as connection:
        threading.Thread(target=connection.sendall, args=(text,), daemon=True).start()
        answer = b""
        while len(answer) < len(text):
            answer += connection.recv(1 << 16)
    assert answer == text == bytes(echo.heard[0])
    assert proxy.counts == (1, 1 << 20, 1 << 20)
    until(lambda: echo.ended == ["closed"], "the end at the target")


def test_cut_resets_what_is_open_and_lets_new_ones_pass(proxy: FaultProxy, echo: Echo) -> None:
    with connect(proxy) as connection:
        assert ask(connection, b"one") == b"one"
        proxy.cut()
        assert is_dead(connection)
    until(lambda: echo.ended == ["reset"], "the reset at the target")
    with connect(proxy) as again:
        assert ask(again, b"two") == b"two"


def test_refuse_lets_nothing_in_until_healed(proxy: FaultProxy, echo: Echo) -> None:
    proxy.refuse()
    for _ in range(3):
        assert is_turned_away(proxy)
    assert echo.heard == []
    proxy.heal()
    with connect(proxy) as connection:
        assert ask(connection, b"one") == b"one"


def test_blackhole_swallows_and_keeps_open_and_healing_ends_what_it_spoiled(proxy: FaultProxy, echo: Echo) -> None:
    with connect(proxy) as old, connect(proxy) as idle:
        assert (ask(old, b"one"), ask(idle, b"one")) == (b"one", b"one")
        proxy.blackhole()
        with connect(proxy) as new:
            for connection in (old, new):
                connection.settimeout(0.1)
                connection.sendall(b"lost")
                with pytest.raises(TimeoutError):
                    connection.recv(1)
                connection.settimeout(5)
            proxy.heal()
            assert is_dead(old)
            assert is_dead(new)
        assert ask(idle, b"two") == b"two", "nothing was missing from it"
    assert sorted(map(bytes, echo.heard)) == [b"one", b"onetwo"]


def test_hold_passes_everything_on_later(proxy: FaultProxy) -> None:
    with connect(proxy) as connection:
        assert ask(connection, b"one") == b"one"
        proxy.hold()
        connection.settimeout(0.1)
        with pytest.raises(TimeoutError):
            ask(connection, b"two")
        connection.settimeout(5)
        proxy.heal()
        assert connection.recv(3) == b"two"


def test_truncate_ends_a_connection_in_the_middle_once(proxy: FaultProxy, echo: Echo) -> None:
    with connect(proxy) as connection:
        proxy.truncate(1_000)
        connection.sendall(b"x" * 5_000)
        while not is_dead(connection):
            pass
    until(lambda: len(echo.ended) == 1, "the end at the target")
    assert bytes(echo.heard[0]) == b"x" * 1_000
    with connect(proxy) as again:
        assert ask(again, b"y" * 5_000) == b"y" * 5_000


@pytest.mark.parametrize("gone", ["target", "client"])
def test_half_open_tells_only_one_side(proxy: FaultProxy, echo: Echo, gone: str) -> None:
    with connect(proxy) as connection:
        assert ask(connection, b"one") == b"one"
        proxy.half_open(gone=gone)
        if gone == "client":
            assert is_dead(connection)
            assert echo.ended == []
        else:
            until(lambda: echo.ended == ["reset"], "the reset at the target")
            connection.settimeout(0.1)
            connection.sendall(b"lost")
            with pytest.raises(TimeoutError):
                connection.recv(1)
        proxy.heal()
    until(lambda: echo.ended == ["reset"], "the end at the target")


def test_delay_comes_late_and_whole(proxy: FaultProxy) -> None:
    with connect(proxy) as connection:
        proxy.delay(0.1)
        connection.settimeout(0.05)
        with pytest.raises(TimeoutError):
            ask(connection, b"one")
        connection.settimeout(5)
        assert connection.recv(3) == b"one"
        proxy.heal()


def test_replay_sends_what_was_sent_once_more_on_connections_of_its_own(proxy: FaultProxy, echo: Echo) -> None:
    with connect(proxy) as past:
        ask(past, b"past")
    until(lambda: proxy.connections == 0, "the end of the first")
    with connect(proxy) as present:
        ask(present, b"present")
        assert proxy.replay() == 2
        assert ask(present, b"!") == b"!"
    assert sorted(map(bytes, echo.heard)) == [b"past", b"past", b"present", b"present!"]


def test_a_target_that_is_away_ends_the_connection_and_another_may_take_its_place(
    proxy: FaultProxy, echo: Echo
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        nobody = free.getsockname()[1]
    proxy.target = f"127.0.0.1:{nobody}"
    assert is_turned_away(proxy)
    proxy.target = echo.address
    with connect(proxy) as connection:
        assert ask(connection, b"one") == b"one"


def test_a_schedule_with_the_same_seed_makes_the_same_faults(proxy: FaultProxy) -> None:
    made = []
    for _ in range(2):
        rng = random.Random(7)
        made.append([misbehave(proxy, rng) for _ in range(40)])
        proxy.heal()
    assert made[0] == made[1]
    assert set(made[0]) == set(FAULTS)


def test_grpc_goes_through_and_comes_back_after_every_fault(daemon: Daemon) -> None:
    with FaultProxy(daemon.grpc) as proxy, channel_to(proxy.address) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        rng = random.Random(3)
        for name, fault in FAULTS.items():
            until(lambda: answers(check, 20), f"an answer before {name}")
            fault(proxy, rng)
            answers(check, 0.2)
            proxy.heal()
        until(lambda: answers(check, 20), "an answer after everything")


def answers(check: grpc.UnaryUnaryMultiCallable, timeout_s: float) -> bool:
    """Whether a daemon says that it serves."""
    try:
        return bool(check(b"", timeout=timeout_s, wait_for_ready=timeout_s > 1) == b"\x08\x01")
    except grpc.RpcError as error:
        if error.code() not in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
            raise
        return False
