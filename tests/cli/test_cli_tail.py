"""`costd tail`: records as they come, also past a restart of the daemon, for as long as somebody looks."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from callers import stubs
from costd.v1 import records_pb2, usage_pb2
from costd.wire.rpc.pools import MAX_LONG
from harness import Daemon, clean_env, costd, until
from record_calls import send
from rpc_calls import details_of, refusal_of


class Tail:
    """A running `costd tail`; its lines are read as they come."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines += (line.rstrip("\n") for line in self.process.stdout)  # each as it comes

    def interrupt(self) -> tuple[int, str]:
        """Ctrl-C; the exit code and what was said on stderr."""
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(10)
        self._reader.join(10)
        assert self.process.stderr is not None
        return code, self.process.stderr.read()


@contextmanager
def tailing(daemon: Daemon, *options: str) -> Iterator[Tail]:
    command = [sys.executable, "-m", "costd", "tail", "--data-dir", str(daemon.data_dir), *options]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": clean_env()}
    with subprocess.Popen(command, **pipes) as process:
        tail = Tail(process)
        try:
            yield tail
        finally:
            if process.poll() is None:
                process.kill()
                tail._reader.join(10)


def row(number: int, **said: Any) -> usage_pb2.RecordRequest:
    dimensions = usage_pb2.Dimensions(**({"source_app": "tail", "model": "gpt-4o", "user": f"u{number}"} | said))
    return usage_pb2.RecordRequest(
        dimensions=dimensions, units=[usage_pb2.Quantity(unit="input_tokens", count=1_000_000 + number)]
    )


def record(daemon: Daemon, *numbers: int, **said: Any) -> None:
    with stubs(daemon) as services:
        for number in numbers:
            send(services, [row(number, **said)], history=False)


def test_records_come_as_they_are_recorded_across_restarts(launch: Callable[..., Daemon]) -> None:
    """The newest first of all, then each once: also those of the first moment after a stop, and after a kill."""
    daemon = launch()
    record(daemon, *range(4))
    with tailing(daemon, "-n", "2", "--json") as tail:

        def users() -> list[str]:
            return [json.loads(line)["dimensions"]["user"] for line in [*tail.lines]]

        until(lambda: users() == ["u2", "u3"], "the newest two")
        record(daemon, 4, 5)
        until(lambda: len(users()) == 4, "live records")
        assert daemon.stop() == 0
        daemon = launch()
        record(daemon, 6, 7)
        until(lambda: len(users()) == 6, "records after a restart")
        daemon.kill()
        daemon = launch()
        record(daemon, 8)
        until(lambda: len(users()) == 7, "records after a kill")
        assert users() == [f"u{number}" for number in range(2, 9)]
        code, error = tail.interrupt()
        assert code == 130
        assert error == "costd: the daemon is gone; waiting for it to come back\n" * 2
    first = json.loads(tail.lines[0])
    assert first == json.loads(costd("show", first["event_id"], "--json", "--data-dir", str(daemon.data_dir)).stdout)


def test_filters_and_columns(daemon: Daemon) -> None:
    """Only what was asked for; names cannot do a terminal harm; what has no price is not shown as free."""
    with tailing(daemon, "-n", "0", "--filter", "source_app=columns", "--filter", "team=red") as tail:
        seen = lambda: len(tail.lines)  # noqa: E731
        for number in range(200):  # until it listens; each of these is of another team or the first it sees
            record(daemon, number, source_app="columns", team="blue")
            record(daemon, number, source_app="columns", team="red", user="\u202eevil", project="p")
            if seen():
                break
        record(daemon, 1, source_app="columns", team="red", model="nobodys-model")
        until(lambda: tail.lines and "nobodys-model" in tail.lines[-1], "the last record")
        tail.interrupt()
    header, first, *_, last = tail.lines
    assert header.split() == ["time", "(UTC)", "source_app", "user", "project", "model", "in", "out", "cost"]
    assert first.split()[2:6] == ["columns", "\\u202eevil", "p", "gpt-4o"]
    assert last.split()[-3:] == ["1,000,001", "-", "unpriced"]
    assert "blue" not in "".join(tail.lines)


def test_a_terminal_is_not_overrun(daemon: Daemon) -> None:
    """On a narrow terminal every record is one line of its width."""
    record(daemon, 1, source_app="a" * 200, user="u" * 200, project="p" * 200, model="m" * 200)
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "costd", "tail", "-n", "1", "--data-dir", str(daemon.data_dir)]
    env = clean_env({"COLUMNS": "110"})
    with subprocess.Popen(command, stdout=follower, stderr=subprocess.DEVNULL, env=env) as process:
        os.close(follower)
        shown = b""
        while shown.count(b"\n") < 2:
            shown += os.read(leader, 4096)
        process.send_signal(signal.SIGINT)
    os.close(leader)
    assert [len(line) <= 110 for line in shown.decode().splitlines()] == [True, True]
    assert "…" in shown.decode()


def test_without_a_daemon_there_is_only_what_was(launch: Callable[..., Daemon]) -> None:
    """And the folder is let go of, so that a daemon can start."""
    daemon = launch()
    record(daemon, 1, 2, 3)
    assert daemon.stop() == 0
    done = costd("tail", "-n", "2", "--json", "--data-dir", str(daemon.data_dir))
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 2)
    assert done.stderr == "costd: no daemon runs, so nothing more will come\n"
    launch()


def test_who_leaves_gives_the_place_free(daemon: Daemon) -> None:
    """As many tails as there is room for, twice: each is over soon after its caller is gone, though nothing comes."""
    with stubs(daemon) as services:

        def opened() -> Any:
            call = services.query.Tail(records_pb2.TailRequest(), metadata=services.metadata)
            try:
                next(call)
            except grpc.RpcError:  # no room yet
                return None
            return call

        for _ in range(2):
            calls: list[Any] = []
            while len(calls) < MAX_LONG:
                until(lambda: calls.append(opened()) or calls[-1] or calls.pop(), "room for one more")  # noqa: B023
            for call in calls:
                call.cancel()


def test_a_key_that_is_revoked_sees_no_more(daemon: Daemon) -> None:
    """Within seconds, even where nothing comes."""
    key = daemon.key("watcher", role="read")
    with stubs(daemon, key) as services:
        call = services.query.Tail(records_pb2.TailRequest(), metadata=services.metadata, timeout=20)
        next(call)
        assert costd("keys", "revoke", "watcher", "--data-dir", str(daemon.data_dir)).returncode == 0
        error = refusal_of(lambda: list(call))
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"last": 1001}, "last"),
        ({"last": 1, "after": 1}, "last"),
        ({"after": -1}, "after"),
        ({"filters": {"x": ""}}, "filters"),
    ],
)
def test_a_request_that_makes_no_sense_names_its_field(daemon: Daemon, fields: dict[str, Any], named: str) -> None:
    with stubs(daemon) as services:
        call = services.query.Tail(records_pb2.TailRequest(**fields), metadata=services.metadata, timeout=20)
        error = refusal_of(lambda: list(call))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert list(details_of(error)[0]) == [named]


def test_a_ledger_that_was_put_back_is_followed_from_its_end(daemon: Daemon) -> None:
    """A position beyond everything there is: nothing is repeated, and what comes is shown."""
    with stubs(daemon) as services:
        call = services.query.Tail(records_pb2.TailRequest(after=1 << 50), metadata=services.metadata, timeout=20)
        position = next(call).position
        assert position < 1 << 50
        record(daemon, 77)
        message = next(each for each in call if each.events)
        assert [event.dimensions["user"] for event in message.events] == ["u77"]
        call.cancel()
