"""A ledger whose sums lie everywhere they can: folded, late and since; blocks over most of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from costd.clock import Clock, ManualClock
from costd.domain.days import DAY_MS, HOUR_MS
from costd.store import event_blocks, totals
from costd.store.commit import Change
from costd.store.ledger import EventDraft
from costd.store.reader import Readers
from costd.store.writer import Writer
from ledger import draft, record, series, writing

#: Between Europe's and America's change of the clock, so that days of 23, 24 and 25 hours are all in.
NOW_MS = int(datetime(2026, 11, 5, 10, 17, 3, tzinfo=UTC).timestamp()) * 1000 + 456
#: So long that a whole month is in it.
DAYS = 75
TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")


def traffic(chance: random.Random, count: int, from_ms: int, to_ms: int) -> list[EventDraft]:
    """Records of a few dozen series, some of them unpriced or failed, on and around the hours."""
    drafts = []
    for _ in range(count):
        moment = chance.randrange(from_ms, to_ms)
        at_ms = chance.choice([moment, moment // HOUR_MS * HOUR_MS, moment // HOUR_MS * HOUR_MS - 1, moment])
        mine = series(
            provider=chance.choice(["openai", "acme", ""]),
            model=chance.choice(["m1", "m2", "m3"]),
            team=chance.choice(["", "search"]),
            prompt_key=chance.choice(["", "summarize"]),
            tags=chance.choice(["", "a", "a,b"]),
            status=chance.choice(["success", "success", "error"]),
        )
        cost = chance.choice([None, 0, 1, chance.randrange(10**6), 10**15])
        tokens = {name: chance.randrange(10**4) for name in TOKENS}
        extra = chance.choice([None, None, '{"unrated": ["images"]}'])
        drafts.append(draft(series=mine, at_ms=at_ms, cost_nano=cost, extra=extra, unrated=extra is not None, **tokens))
    return drafts


def fold(writer: Writer) -> None:
    """Fold what has passed, as upkeep does."""
    while writer.submit(Change(totals.fold_rollups)).wait(20):
        pass


def make_blocks(writer: Writer, readers: Readers) -> int:
    """Make the blocks that are due, as upkeep does; how many there are."""
    while True:
        with readers.snapshot() as connection:
            blocks = event_blocks.make_blocks(connection)
            count = connection.execute("SELECT count(*) FROM event_block").fetchone()[0]
        if not blocks:
            return int(count)
        writer.submit(Change(lambda commit, blocks=blocks: event_blocks.store_blocks(commit, blocks))).wait(20)


@contextmanager
def a_ledger(folder: Path) -> Iterator[tuple[Writer, Readers]]:
    """A ledger with a month of traffic: some folded, some late, some since; blocks over most of it."""
    clock = ManualClock(NOW_MS)
    chance = random.Random(3)
    with writing(folder, clock) as writer:
        readers = Readers(writer.path, Clock())
        start_ms = NOW_MS - DAYS * DAY_MS
        record(writer, *traffic(chance, 1200, start_ms, NOW_MS))
        fold(writer)
        make_blocks(writer, readers)
        record(writer, *traffic(chance, 400, start_ms, NOW_MS + 60_000))
        make_blocks(writer, readers)
        record(writer, *traffic(chance, 100, NOW_MS - 3 * HOUR_MS, NOW_MS))
        yield writer, readers
        readers.close()
