"""The notification protocol: what the service manager is told, over a real socket."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from costd.notify import Manager
from service_manager import managing


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_every_word_arrives_over_both_kinds_of_sockets(tmp_path: Path, kind: str) -> None:
    with managing(tmp_path, address=f"@costd-test-{os.getpid()}" if kind == "abstract" else "") as listening:
        manager = Manager.of(listening.variables)
        manager.status("opening")
        manager.ready("taking\nrecords")
        manager.ping()
        manager.stopping()
        assert listening.message() == {"STATUS": "opening"}
        assert listening.message() == {"READY": "1", "STATUS": "taking records"}
        assert listening.message() == {"WATCHDOG": "1"}
        assert listening.message()["STOPPING"] == "1"


def test_pings_are_due_at_half_of_what_the_manager_allows_this_very_process(tmp_path: Path) -> None:
    with managing(tmp_path, watchdog_s=30) as listening:
        here = listening.variables
        assert Manager.of(here).ping_every_s == 15
        assert Manager.of(here | {"WATCHDOG_PID": str(os.getpid())}).ping_every_s == 15
        assert Manager.of(here | {"WATCHDOG_PID": "1"}).ping_every_s is None
        for odd in ("", "0", "-5", "soon", "³"):
            assert Manager.of(here | {"WATCHDOG_USEC": odd}).ping_every_s is None
        assert Manager.of({"WATCHDOG_USEC": "1000000"}).ping_every_s is None


def test_without_a_manager_nothing_is_done(caplog: pytest.LogCaptureFixture) -> None:
    manager = Manager.of({})
    manager.ready("taking records")
    manager.ping()
    assert not caplog.records


def test_a_socket_of_another_kind_is_said_to_be_of_no_use(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        Manager.of({"NOTIFY_SOCKET": "vsock:2:1234", "WATCHDOG_USEC": "1000000"}).ready("taking records")
    assert ["NOTIFY_SOCKET" in record.getMessage() for record in caplog.records] == [True]


def test_a_manager_that_is_gone_is_logged_and_survived(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with managing(tmp_path) as listening:
        manager = Manager.of(listening.variables)
    with caplog.at_level(logging.WARNING):
        manager.ready("taking records")
    assert "'READY=1'" in caplog.text


def test_a_manager_that_does_not_listen_holds_nobody_up_for_long(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with managing(tmp_path) as listening, caplog.at_level(logging.WARNING):
        manager = Manager.of(listening.variables)
        for _ in range(5_000):  # more than any queue of datagrams holds
            manager.ping()
            if caplog.records:
                break
        assert "WATCHDOG=1" in caplog.text
