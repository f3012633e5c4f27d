"""`costd budgets`: what is set is what is shown, and what is wrong is said by its flag."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
from typing import Any

import pytest

from budget_calls import GrpcDoor, Spend
from harness import Daemon, costd


def run(daemon: Daemon, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """`costd budgets …`, ended with this code."""
    done = costd("budgets", *words, "--data-dir", str(daemon.data_dir))
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def ask(daemon: Daemon, *words: str) -> Any:
    """What it prints as JSON."""
    return json.loads(run(daemon, *words, "--json").stdout)


def test_every_flag_of_set_is_in_what_is_shown(daemon: Daemon) -> None:
    """And what is not given later stays."""
    made = ask(
        daemon, "set", "flags", "--scope", "team=video", "--scope", "provider=OpenAI", "--each", "user",
        "--amount", "12.50", "--period", "month", "--timezone", "Europe/London", "--anchor-day", "15",
        "--alert", "0.5,0.80,1.0", "--soft", "--on-unpriced", "deny", "--on-hub-down", "allow",
    )  # fmt: skip
    assert (made["scope"], made["each"]) == ({"team": "video", "provider": "openai"}, "user")
    assert (made["amount_usd"], made["period"], made["timezone"], made["anchor_day"]) == (
        "12.5", "month", "Europe/London", 15,
    )  # fmt: skip
    assert made["alert_thresholds"] == ["0.5", "0.8", "1"]
    assert (made["hard"], made["on_unpriced"], made["on_hub_down"], made["revision"]) == (False, "deny", "allow", 1)
    again = ask(daemon, "set", "flags", "--amount", "13", "--hard", "--alert", "none")
    changes = {"amount_usd": "13", "hard": True, "alert_thresholds": [], "updated": again["updated"]}
    assert again == made | changes
    shown = ask(daemon, "show", "flags")
    assert shown == {"budget": again, "windows": [], "window_count": 0}
    assert ask(daemon, "show", made["id"]) == shown
    anew = run(daemon, "set", "flags", "--each", "none")
    assert "revision 2" in anew.stderr
    assert ask(daemon, "show", "flags")["budget"]["each"] is None


BAD: list[tuple[list[str], str]] = [
    (["--scope", "team"], "--scope"),
    (["--scope", "colour=red", "--amount", "1"], "--scope"),
    (["--scope", "team=a", "--scope", "team=b", "--amount", "1"], "--scope"),
    (["--scope", "key=nobody", "--amount", "1"], "--scope key"),
    (["--scope", "org=elsewhere", "--amount", "1"], "--scope org"),
    (["--amount", "1"], "--scope"),
    (["--scope", "team=a"], "--amount"),
    (["--scope", "team=a", "--amount", "-1"], "--amount"),
    (["--scope", "team=a", "--amount", "nan"], "--amount"),
    (["--scope", "team=a", "--amount", "1e5"], "--amount"),
    (["--scope", "team=a", "--amount", "1_000"], "--amount"),
    (["--scope", "team=a", "--amount", "10000000000"], "--amount"),
    (["--scope", "team=a", "--amount", "1", "--period", "fortnight"], "--period"),
    (["--scope", "team=a", "--amount", "1", "--timezone", "Mars/Olympus"], "--timezone"),
    (["--scope", "team=a", "--amount", "1", "--anchor-day", "32"], "--anchor-day"),
    (["--scope", "team=a", "--amount", "1", "--anchor-day", "99999999999"], "--anchor-day"),
    (["--scope", "team=a", "--amount", "1", "--period", "week", "--anchor-day", "8"], "--anchor-day"),
    (["--scope", "team=a", "--amount", "1", "--alert", "0.8,0.5"], "--alert"),
    (["--scope", "team=a", "--amount", "1", "--alert", "80%"], "--alert"),
    (["--scope", "team=a", "--amount", "1", "--alert", "50"], "--alert"),
    (["--scope", "team=a", "--amount", "1", "--each", "colour"], "--each"),
    (["--scope", "team=a", "--amount", "1", "--each", "team"], "--each"),
    (["--scope", "team=a", "--amount", "1", "--on-unpriced", "ask"], "--on-unpriced"),
    (["--scope", "team=a", "--amount", "1", "--on-hub-down", "ask"], "--on-hub-down"),
    (["--scope", "team=a", "--amount", "1", "--hard", "--soft"], "--hard and --soft"),
]


@pytest.mark.parametrize(("words", "named"), BAD)
def test_what_is_wrong_is_said_by_its_flag(daemon: Daemon, words: list[str], named: str) -> None:
    """In one line, with exit code 2, and nothing is made of it."""
    done = run(daemon, "set", "bad", *words, code=2)
    assert done.stderr.startswith(f"costd: {named}")
    assert done.stderr.count("\n") == 1
    run(daemon, "show", "bad", code=1)


def test_what_was_spent_before_and_since_is_shown_exactly(daemon: Daemon) -> None:
    """The present period counts from its beginning; an amount keeps it, another scope counts anew."""
    door = GrpcDoor(daemon)
    for user, cents in (("ada", 25), ("bob", 50)):
        assert door.record(Spend(cents, request_id=f"before-{user}", user=user, team="exact")) == "kept"
    run(daemon, "set", "exact", "--scope", "team=exact", "--amount", "1")
    window = ask(daemon, "show", "exact")["windows"][0]
    assert (window["settled_usd"], window["available_usd"], window["overshoot_usd"]) == ("0.75", "0.25", "0")
    assert door.record(Spend(50, request_id="over", user="ada", team="exact")) == "kept"
    (window,) = ask(daemon, "show", "exact")["windows"]
    assert (window["settled_usd"], window["available_usd"], window["overshoot_usd"]) == ("1.25", "0", "0.25")
    assert window["seconds_to_exhaustion"] == 0
    assert window["holders"] == [{"source": None, "bound_usd": "1.25", "settled_usd": "1.25", "held_usd": "0"}]
    run(daemon, "set", "exact", "--amount", "2")
    reserved = door.ask(Spend(10, request_id="reserved", user="ada", team="exact"))
    assert reserved.allow
    (window,) = ask(daemon, "show", "exact")["windows"]
    assert [window[f"{name}_usd"] for name in ("limit", "settled", "reserved", "held", "available")] == [
        "2", "1.25", "0.1", "0.1", "0.65",
    ]  # fmt: skip
    run(daemon, "set", "exact", "--each", "user")
    shown = ask(daemon, "show", "exact")
    assert [(each["value"], each["settled_usd"]) for each in shown["windows"]] == [("ada", "0.75"), ("bob", "0.5")]
    assert shown["window_count"] == 2
    assert len(ask(daemon, "show", "exact", "--limit", "1")["windows"]) == 1
    (one,) = ask(daemon, "show", "exact", "--value", "bob")["windows"]
    assert one | {"forecast_usd": ""} == shown["windows"][1] | {"forecast_usd": ""}
    (nobody,) = ask(daemon, "show", "exact", "--value", "nobody")["windows"]
    assert (nobody["settled_usd"], nobody["available_usd"]) == ("0", "2")


def test_lists_as_tables_json_and_csv(daemon: Daemon) -> None:
    """The same in each."""
    run(daemon, "set", "listed", "--scope", "team=listed", "--scope", "model=gpt-4o", "--amount", "3")
    rows = {row["name"]: row for row in ask(daemon, "list")["budgets"]}
    assert list(rows) == sorted(rows)
    table = run(daemon, "list").stdout
    lines = {row["name"]: row for row in csv.DictReader(io.StringIO(run(daemon, "list", "--csv").stdout))}
    assert lines.keys() == rows.keys()
    assert lines["listed"]["scope"] == "team=listed, model=gpt-4o"
    assert lines["listed"]["available_usd"] == rows["listed"]["window"]["available_usd"] == "3"
    assert all(name in table for name in rows)
    shown = run(daemon, "show", "listed").stdout
    assert "team=listed, model=gpt-4o" in shown
    assert "$3 a month" in shown
    (line,) = csv.DictReader(io.StringIO(run(daemon, "show", "listed", "--csv").stdout))
    assert line["limit_usd"] == "3"


def test_what_was_removed_is_in_its_history(daemon: Daemon) -> None:
    made = ask(daemon, "set", "gone", "--scope", "team=gone", "--amount", "1")
    run(daemon, "set", "gone", "--amount", "2")
    assert ask(daemon, "remove", "gone")["id"] == made["id"]
    run(daemon, "show", "gone", code=1)
    run(daemon, "remove", "gone", code=1)
    history = ask(daemon, "history", made["id"])
    assert [(change["action"], change["budget"]["amount_usd"]) for change in history["changes"]] == [
        ("removed", "2"), ("changed", "2"), ("created", "1"),
    ]  # fmt: skip
    assert "created" in run(daemon, "history", made["id"]).stdout
    assert ask(daemon, "set", "gone", "--scope", "team=gone", "--amount", "1")["id"] != made["id"]


def test_without_a_daemon_the_ledger_is_opened(launch: Any) -> None:
    """And a daemon that is started then holds to it."""
    daemon = launch()
    assert daemon.stop() == 0
    run(daemon, "set", "offline", "--scope", "team=video", "--amount", "0.10")
    daemon = launch()
    door = GrpcDoor(daemon)
    assert door.ask(Spend(10, team="video")).allow
    assert door.ask(Spend(1, team="video")).word == "budget_exceeded"
    door.close()


def test_the_status_names_budgets_that_are_spent(launch: Any) -> None:
    """Hard ones alone deny calls."""
    daemon = launch()
    assert re.search(r"^budgets +none$", costd("status", "--data-dir", str(daemon.data_dir)).stdout, re.MULTILINE)
    run(daemon, "set", "spent", "--scope", "team=video", "--amount", "0")
    run(daemon, "set", "soft", "--scope", "team=video", "--amount", "0", "--soft")
    run(daemon, "set", "full", "--scope", "team=video", "--amount", "1")
    said = costd("status", "--data-dir", str(daemon.data_dir), "--json")
    assert json.loads(said.stdout)["budgets"] == {"total": 3, "hard": 2, "spent": ["spent"]}
    shown = costd("status", "--data-dir", str(daemon.data_dir)).stdout
    assert "3, 2 of them hard; spent: spent" in shown


def test_a_shell_completes_what_is_known() -> None:
    """Dimensions, periods and policies."""
    env = {"_COSTD_COMPLETE": "bash_complete", "COMP_WORDS": "costd budgets set x --period ", "COMP_CWORD": "5"}
    assert "quarter" in costd("budgets", env=env).stdout
    env |= {"COMP_WORDS": "costd budgets set x --scope te", "COMP_CWORD": "5"}
    assert "team=" in costd("budgets", env=env).stdout
