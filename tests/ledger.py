"""A ledger without doors: the store's own writer on a clock that the test moves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from costd.clock import Clock, ManualClock
from costd.domain.series import Series
from costd.store.connection import DATABASE_NAME
from costd.store.ledger import EventDraft
from costd.store.space import DiskReserve
from costd.store.ticket import Ticket
from costd.store.writer import Writer

NOW_MS = 1_795_000_000_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


class Observed:
    """Remembers what the writer tells."""

    def __init__(self) -> None:
        self.tally: dict[tuple[str, str], int] = {}
        self.failed: list[str] = []

    def committed(self, sums: Sequence[Any], tally: Mapping[tuple[str, str], int], duration_s: float) -> None:
        """A transaction is durable."""
        for key, count in tally.items():
            self.tally[key] = self.tally.get(key, 0) + count

    def adjusted(self, adjustments: Any) -> None:
        """Corrections are durable."""

    def commit_failed(self, doors: Sequence[str]) -> None:
        """A transaction was refused."""
        self.failed += doors


@contextmanager
def writing(
    folder: Path, clock: Clock | None = None, *, started: bool = True, reserve_bytes: int = 0, **limits: int
) -> Iterator[Writer]:
    """A writer on `folder`, stopped in the end; its observer is `writer._observer`."""
    writer = Writer(
        folder / DATABASE_NAME,
        clock or ManualClock(NOW_MS),
        Observed(),
        **({"max_records": 10_000, "max_bytes": 1 << 26} | limits),
        reserve=DiskReserve(folder, reserve_bytes),
    )
    if started:
        writer.start()
    try:
        yield writer
    finally:
        assert writer.stop(20)


def series(**dimensions: Any) -> Series:
    """A series of the local organization."""
    texts = dict.fromkeys(Series._fields[2:], "") | {"provider": "openai", "model": "gpt-4o", "status": "success"}
    return Series(**({"org_id": 1, "key_id": "", **texts} | dimensions))


def draft(**fields: Any) -> EventDraft:
    """A record of a nano-dollar."""
    plain: dict[str, Any] = dict.fromkeys(EventDraft._fields, 0) | {
        "series": series(),
        "at_ms": NOW_MS,
        "charged_ms": None,
        "input_tokens": 1,
        "cost_nano": 1,
        "price_source_id": None,
        "latency_ms": None,
        "extra": None,
        "rare": (),
        "unrated": False,
        "request_id": "",
        "fingerprint": b"",
        "door": "test",
    }
    return EventDraft(**(plain | fields))


def submit(writer: Writer, *drafts: EventDraft) -> list[Ticket[Any]]:
    """Queue drafts; the tickets answer with what the store answered."""
    return [writer.submit_event(one, lambda stored: stored) for one in drafts]


def record(writer: Writer, *drafts: EventDraft) -> list[Any]:
    """Queue drafts and wait for all of them."""
    return [ticket.wait(20) for ticket in submit(writer, *drafts)]
