"""The README's section on budgets: its commands, run as they stand there, say what it says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from budget_calls import HttpDoor, Spend, standing
from harness import Daemon, costd

README = Path(__file__).parents[2] / "README.md"
#: What the quick start's record cost, and what its preflight asks for: in input tokens of $2.50 a million.
_RECORDED, _ASKED = 1_707, 1_800


class _Tokens(Spend):
    """A call in input tokens."""

    @property
    def tokens(self) -> int:
        return self.cents


def test_the_quick_start_does_what_it_says(daemon: Daemon) -> None:
    """One call was recorded before; one more is allowed, a third is not; released, it is free again."""
    section = README.read_text().partition("\n### Budgets\n")[2].partition("\n### ")[0]
    commands = re.findall(r"^\$ costd (.*?)(?:  +#.*)?$", section, re.MULTILINE)
    assert [shlex.split(command)[:2] for command in commands] == [["budgets", "set"], ["budgets", "show"]]
    door = HttpDoor(daemon)
    assert door.record(_Tokens(_RECORDED, user="u1", source_app="my-service")) == "kept"
    done = costd(*shlex.split(commands[0]), "--data-dir", str(daemon.data_dir))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() in section
    call = _Tokens(_ASKED, user="u1", source_app="my-service")
    first, second = door.ask(call), door.ask(call)
    assert (first.allow, second.word) == (True, "budget_exceeded")
    amounts = {name: second.budget[f"{name}_nano_usd"] / 1e9 for name in ("limit", "spent", "remaining")}
    assert all(f'"{name}_usd":{amount}' in section for name, amount in amounts.items()), amounts
    shown = costd(*shlex.split(commands[1]), "--data-dir", str(daemon.data_dir))
    assert (shown.returncode, "u1" in shown.stdout) == (0, True)
    assert door.release(first.request_id)
    assert standing(daemon, "trial", "u1").reserved_nano_usd == 0
    door.close()
