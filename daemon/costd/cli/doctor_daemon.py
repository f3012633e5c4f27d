"""The doctor's questions to a daemon: does it answer, is it well, is it the costd that asks."""

from __future__ import annotations

from pathlib import Path

from costd import __version__
from costd.cli.connection import Daemon, Target, of_daemon, open_channel, remote, running
from costd.cli.options import Reach
from costd.domain.errors import CostdError, Forbidden, Unauthenticated
from costd.domain.finding import FAIL, OK, WARN, Finding
from costd.v1 import admin_pb2

_ANSWER_S = 5.0


def check_daemon(folder: Path, pid: int | None, reach: Reach) -> list[Finding]:
    """The daemon of process `pid`, which holds `folder`; None where nobody does."""
    if pid is None:
        return [Finding("daemon", OK, f"none is running on {folder}")]
    found = running(folder)
    if found is None:
        advice = "wait, if it is just starting or a command is at work; else look at its log"
        return [Finding("daemon", WARN, f"process {pid} holds the folder, and does not say where it answers", advice)]
    return _check(of_daemon(found, reach), f"process {pid}")


def check_remote(reach: Reach) -> list[Finding]:
    """The daemon at --address."""
    return _check(remote(reach), reach.address or "")


def _check(target: Target, who: str) -> list[Finding]:
    try:
        with open_channel(target) as channel:
            daemon = Daemon(channel, target)
            answer: admin_pb2.StatusResponse = daemon.ask(daemon.admin.Status, admin_pb2.StatusRequest(), _ANSWER_S)
    except (Unauthenticated, Forbidden):
        advice = "give an admin's key with COSTD_KEY; `costd health` needs none"
        return [Finding("daemon", WARN, f"{who} answers, but does not tell us how it is", advice)]
    except CostdError as error:
        advice = "look at its log; where it is stopped in the middle, its service manager restarts it"
        return [Finding("daemon", FAIL, f"{who}: {error.message}", advice)]
    return [_state(answer, who), _version(answer)]


def _state(answer: admin_pb2.StatusResponse, who: str) -> Finding:
    if answer.problems:
        return Finding(
            "daemon", FAIL, f"{who}: {'; '.join(answer.problems)}", "docs/operations.md says what each means"
        )
    return Finding("daemon", OK, f"{who} takes records")


def _version(answer: admin_pb2.StatusResponse) -> Finding:
    if answer.version != __version__:
        about = f"the daemon is {answer.version}, this command {__version__}"
        return Finding("version", WARN, about, "restart the daemon, or use the costd that it runs")
    return Finding("version", OK, f"costd {__version__}, as this command")
