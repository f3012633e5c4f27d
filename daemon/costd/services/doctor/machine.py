"""Checks of the machine: Python, SQLite, and how many files a process may have open."""

from __future__ import annotations

import os
import platform
import re
import resource
from pathlib import Path

from costd.domain.finding import FAIL, OK, WARN, Finding
from costd.store.sqlite_release import SQLITE, is_too_old, loses_resets

_FEW_FILES, _TOO_FEW_FILES = 1024, 128
_LIMIT = re.compile(r"^Max open files\s+(\d+|unlimited)", re.MULTILINE)


def check_versions() -> list[Finding]:
    """Python, and the SQLite it brings."""
    found = [Finding("python", OK, platform.python_version())]
    written = ".".join(map(str, SQLITE))
    if is_too_old(SQLITE):
        found.append(Finding("sqlite", FAIL, written, "costd needs 3.37.0 or newer"))
    elif loses_resets(SQLITE):
        about = f"{written}, which has the WAL-reset bug: two programs that write to one database can damage it"
        advice = "nothing: costd writes and checkpoints by one connection. Let no other program write to the ledger"
        found.append(Finding("sqlite", OK, about, advice))
    else:
        found.append(Finding("sqlite", OK, written))
    return found


def check_open_files(pid: int | None) -> list[Finding]:
    """The limit of the daemon of process `pid`, or what one started from here would have."""
    limit, used = resource.getrlimit(resource.RLIMIT_NOFILE)[0], ""
    whose = "a daemon started from here"
    if pid is not None:
        try:
            match = _LIMIT.search(Path(f"/proc/{pid}/limits").read_text())
            used = f", {len(os.listdir(f'/proc/{pid}/fd')):,} in use"
        except OSError:
            return [Finding("open files", OK, f"unknown: process {pid} is not for us to look at")]
        whose = "the daemon"
        limit = int(match[1]) if match and match[1].isdigit() else resource.RLIM_INFINITY
    about = f"{'no limit' if limit == resource.RLIM_INFINITY else f'{limit:,}'} for {whose}{used}"
    if limit == resource.RLIM_INFINITY or limit >= _FEW_FILES:
        return [Finding("open files", OK, about)]
    advice = "every connection takes one: raise it (LimitNOFILE= in the unit, ulimit -n in a shell)"
    return [Finding("open files", FAIL if limit < _TOO_FEW_FILES else WARN, about, advice)]
