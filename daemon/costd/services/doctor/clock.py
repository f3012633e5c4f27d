"""Checks of the clock: records, ids and budgets go by it."""

from __future__ import annotations

import ctypes
from datetime import UTC, datetime

from costd.domain.finding import FAIL, OK, WARN, Finding

#: Before this no ledger of ours was written; after that, ids and dates are not what they seem.
_FIRST_YEAR, _LAST_YEAR = 2026, 2100
#: Clocks are set by a little all the time.
_STEP_MS = 2_000

#: From <sys/timex.h>: the answer of adjtimex for a clock that nobody keeps; `modes` = 0 only asks.
_TIME_ERROR = 5
_TIMEX_BYTES = 512
_FIX = "set the clock, and keep it set (chrony, systemd-timesyncd)"


def check_clock(now_ms: int, last_commit_ms: int | None) -> list[Finding]:
    """Whether the time can be true, and whether somebody keeps it so."""
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    about = f"{now:%Y-%m-%d %H:%M:%S} UTC"
    if not _FIRST_YEAR <= now.year < _LAST_YEAR:
        return [Finding("clock", FAIL, f"{about} cannot be", _FIX)]
    if last_commit_ms is not None and now_ms < last_commit_ms - _STEP_MS:
        behind_s = (last_commit_ms - now_ms) // 1000
        return [Finding("clock", FAIL, f"{about} is {behind_s:,} s before the ledger's last commit", _FIX)]
    is_kept = kernel_says_kept()
    if is_kept is False:
        return [Finding("clock", WARN, f"{about}; the kernel says that nothing keeps it in step", _FIX)]
    return [Finding("clock", OK, f"{about}, {'kept in step' if is_kept else 'unknown whether kept in step'}")]


def kernel_says_kept() -> bool | None:
    """Whether the kernel takes its clock for synchronised; None where it does not say."""
    try:
        ask = ctypes.CDLL(None, use_errno=True).adjtimex
        answer = int(ask(ctypes.create_string_buffer(_TIMEX_BYTES)))
    except (OSError, AttributeError):
        return None
    return None if answer < 0 else answer != _TIME_ERROR
