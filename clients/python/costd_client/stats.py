"""What became of the records of one process."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Stats:
    """Counts of records since this process began to track; `queued` and `spooled` are what there is now.

    `sent` are on costd's disk. `queued` wait in memory, `spooled` wait in the spool. `refused` found no room in either.
    `dropped` were refused by costd for what is in them, were damaged in the spool, or were still in memory when the
    process ended. `recovered` were found in the spool, left by processes that are gone. Always:
    recorded + recovered = sent + queued + spooled + refused + dropped.
    """

    sent: int = 0
    queued: int = 0
    spooled: int = 0
    refused: int = 0
    dropped: int = 0
    recovered: int = 0
