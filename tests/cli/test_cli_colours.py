"""Colours are for terminals: none in pipes and files, none where they are not wanted."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

from harness import clean_env, costd

_COLOUR = re.compile(rb"\x1b\[(?:[0-9]+;)*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;[0-9]+)*m")
_STYLE = re.compile(rb"\x1b\[[0-9;]*m")


def on_terminal(*arguments: str, **variables: str) -> bytes:
    """What a command writes to a terminal that is both its outputs."""
    leader, follower = pty.openpty()
    env = clean_env({"TERM": "xterm-256color", "COLUMNS": "100"}) | variables
    for name in {"NO_COLOR", "FORCE_COLOR"} - variables.keys():
        env.pop(name, None)
    with subprocess.Popen(
        [sys.executable, "-m", "costd", *arguments], stdout=follower, stderr=follower, stdin=follower, env=env
    ) as process:
        os.close(follower)
        seen = b""
        while piece := read(leader):
            seen += piece
        process.wait(30)
    os.close(leader)
    return seen


def read(leader: int) -> bytes:
    try:
        return os.read(leader, 65_536)
    except OSError:  # the other end is closed
        return b""


#: It fails, and says so in red.
DOCTOR = ("doctor", "--config", "/nowhere/costd.toml", "--data-dir", "/nowhere/at/all")


def test_a_terminal_gets_colours_and_styles() -> None:
    assert _STYLE.search(on_terminal("config", "show"))
    assert _COLOUR.search(on_terminal(*DOCTOR))


def test_no_color_is_respected() -> None:
    seen = on_terminal(*DOCTOR, NO_COLOR="1")
    assert b"fail" in seen
    assert not _COLOUR.search(seen)


def test_a_dumb_terminal_gets_plain_text() -> None:
    assert b"\x1b" not in on_terminal(*DOCTOR, TERM="dumb")


def test_pipes_get_plain_text_whatever_the_environment_says() -> None:
    for variables in ({}, {"FORCE_COLOR": "1"}, {"TTY_COMPATIBLE": "1"}, {"CLICOLOR_FORCE": "1"}):
        for arguments in (("config", "show"), DOCTOR, ("report", "--bogus")):
            done = costd(*arguments, env=variables)
            assert "\x1b" not in done.stdout + done.stderr, (arguments, variables)
