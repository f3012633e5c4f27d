"""Fixtures: a real daemon, shared by a module's tests or one's own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import harness
from harness import Daemon

# The suite starts costd hundreds of times: where compiled modules may not be kept, each start would compile them all
# again, which is most of the work of a start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A shell starts what goes on in its background with Ctrl-C ignored; commands that a test interrupts would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


#: The files that take longest. Where files are dealt out to several processes these come first, or one process would
#: still be busy with one of them when the others have nothing left.
LONGEST = (
    "promises/test_promise_03_sidecar_to_hub_is_exactly_once.py",
    "budgets/test_fleet_slices.py",
    "budgets/test_alerts_delivered.py",
    "hub/test_poison.py",
    "hub/test_lineage.py",
    "hub/test_joining.py",
    "hub/test_sync_keys.py",
    "promises/test_promise_01_an_ok_means_on_disk.py",
    "promises/test_promise_13_metrics_never_explode_and_never_go_backwards.py",
    "promises/test_promise_12_no_one_gets_in.py",
    "hub/test_sync_lineage.py",
    "budgets/test_budgets_cli.py",
    "promises/test_promise_06_bad_peers_of_a_hub.py",
    "promises/test_promise_05_full_means_an_honest_refusal.py",
    "promises/test_promise_15_health_tells_the_truth.py",
)
FOLDER = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = {FOLDER / name: number for number, name in enumerate(LONGEST)}
        items.sort(key=lambda item: place.get(item.path, len(place)))


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
