"""Fixtures: a real daemon, shared by a module's tests or one's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import harness
from harness import Daemon

# The suite starts costd hundreds of times: where compiled modules may not be kept, each start would compile them all
# again, which is most of the work of a start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon shared by the tests of one module; none of them may assume an empty ledger."""
    running = harness.start(tmp_path_factory.mktemp("costd") / "data")
    yield running
    if running.process.poll() is None:
        assert running.stop() == 0, running.log


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A hub shared by the tests of one module; none of them may assume an empty ledger."""
    running = harness.start(tmp_path_factory.mktemp("costd") / "hub", command="hub")
    yield running
    if running.process.poll() is None:
        assert running.stop() == 0, running.log


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Starts daemons of a test's own, as `launch("--flag", name="data", env={}, command="hub")`.

    What still runs is ended after it.
    """
    started: list[Daemon] = []

    def start(*flags: str, name: str = "data", env: dict[str, str] | None = None, command: str = "run") -> Daemon:
        running = harness.start(tmp_path / name, *flags, env=env, command=command)
        started.append(running)
        return running

    yield start
    for running in started:
        if running.process.poll() is None:
            running.kill()
