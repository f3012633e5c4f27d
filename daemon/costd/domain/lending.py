"""How much of a window a source is granted: enough for the call that waits, some for those after it, never too much.

Amounts are nano-USD; `granted`, `returned` and `settled` are a source's counters in one of its epochs, which only grow.
"""

from __future__ import annotations

#: Of what is left at most this part goes to one source beyond what a call of its needs: the others ask soon, too.
_SHARE = 2


def charge_nano(granted_nano: int, returned_nano: int, settled_nano: int) -> int:
    """What a source takes of the limit: what it may spend, or what it has spent where that is more."""
    return max(granted_nano - returned_nano, settled_nano)


def held_nano(granted_nano: int, returned_nano: int, settled_nano: int) -> int:
    """What is with a source, unsettled."""
    return max(0, granted_nano - returned_nano - settled_nano)


def grant(account: tuple[int, int, int], needed_nano: int, wanted_nano: int, free_nano: int) -> int:
    """What `granted` is from here on, given what of the window is free; it never shrinks.

    `needed_nano` and `wanted_nano` are totals, too, so that a request that is repeated grants nothing twice. What a
    source has spent beyond its bound is charged to it already: a grant of that much takes nothing. Where what is
    needed does not fit nothing is granted: money that is too little for the call that waits helps nobody.
    """
    granted, returned, _ = account
    base = returned + charge_nano(*account)
    most = base + max(0, free_nano)
    if needed_nano > max(granted, most):
        return granted
    target = max(needed_nano, min(wanted_nano, base + max(0, free_nano) // _SHARE))
    return max(granted, min(target, most))
