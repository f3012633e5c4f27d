"""`costd report --plot`: what was spent, drawn in the terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

import harness
from harness import Daemon

MIDDAY = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=4)


@pytest.fixture(scope="module")
def spent(daemon: Daemon) -> Daemon:
    """$1 of one team's on one day, $3 of another's two days later, and one record nobody has a price for."""
    for team, model, tokens, days in (
        ("blue", "gpt-4o", 400_000, 0),
        ("red", "gpt-4o", 1_200_000, 2),
        ("red", "no", 1, 2),
    ):
        body = {
            "user_external_id": "u",
            "source_app": "a",
            "team": team,
            "model": model,
            "units": {"input_tokens": tokens},
            "timestamp": (MIDDAY + timedelta(days=days)).isoformat(),
        }
        assert daemon.client.post("/v1/usage/record", json=body).status_code == 200
    return daemon


def plotted(running: Daemon, *more: str) -> list[str]:
    out = harness.costd("report", "--plot", "--since", "10d", "--data-dir", str(running.data_dir), *more)
    assert (out.returncode, out.stderr) == (0, "")
    return out.stdout.splitlines()


def test_days_are_drawn_stacked_with_a_mark_for_each_group(spent: Daemon) -> None:
    lines = plotted(spent, "--by", "team")
    assert lines[0].strip() == "USD by day (UTC)"
    assert {len(line) for line in lines[:-1]} == {80}
    text = "\n".join(lines)
    assert "\x1b" not in text
    assert "## red" in text
    assert "xx blue" in text
    assert lines[-1] == "$4 for 3 records, 1 of them unpriced"
    days = [(MIDDAY + timedelta(days=day)).strftime("%Y-%m-%d") for day in range(3)]
    assert all(day in text for day in days)
    bars = text.split("blue", 1)[1]
    assert "#####" in bars
    assert "xxxxx" in bars


def test_hours_and_totals_can_be_drawn(spent: Daemon) -> None:
    assert plotted(spent, "--by", "", "--bucket", "hour")[0].strip() == "USD by hour (UTC)"


def test_nothing_is_drawn_where_nothing_was_spent(spent: Daemon) -> None:
    assert plotted(spent, "--filter", "team=nobody") == ["no records in this time"]
    assert plotted(spent, "--filter", "model=no")[-1] == "$0 for 1 records, 1 of them unpriced"


def test_it_goes_with_no_other_form(spent: Daemon) -> None:
    for other in ("--json", "--csv"):
        out = harness.costd("report", "--plot", other, "--data-dir", str(spent.data_dir))
        assert (out.returncode, "exclude each other" in out.stderr) == (2, True)


def test_many_groups_are_drawn_as_six_and_the_rest(launch: Callable[..., Daemon]) -> None:
    running = launch()
    for number in range(9):
        body = {
            "user_external_id": f"u{number}",
            "source_app": "a",
            "model": "gpt-4o",
            "units": {"input_tokens": 1000 + number},
        }
        assert running.client.post("/v1/usage/record", json=body).status_code == 200
    text = "\n".join(plotted(running, "--by", "user"))
    assert [f"u{number}" in text for number in range(9)] == [False] * 3 + [True] * 6
    assert "other" in text


@pytest.mark.parametrize(("more", "is_coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colours_are_for_terminals(spent: Daemon, more: dict[str, str], is_coloured: bool) -> None:
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "costd", "report", "--plot", "--data-dir", str(spent.data_dir)]
    done = subprocess.run(
        command, stdout=follower, env=harness.clean_env({"TERM": "xterm-256color"} | more), check=True
    )
    assert done.returncode == 0
    os.close(follower)
    shown = b""
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(leader)
    assert (b"\x1b[" in shown) is is_coloured
