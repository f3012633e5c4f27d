"""`storage.max_bytes`: the ledger stops growing there, control writes go on, and records are taken again by itself."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from costd.clock import ManualClock
from costd.domain.errors import OutOfSpace
from costd.store.audit import append_audit
from costd.store.commit import Change
from costd.store.connection import connect
from costd.store.retention import RetentionLimits, retain
from costd.store.writer import Writer
from harness import until
from ledger import DAY_MS, NOW_MS, draft, record, writing

LIMIT_BYTES = 2 << 20
LIMITS = RetentionLimits(45 * DAY_MS, 400 * DAY_MS, 300_000)


def test_records_are_refused_at_the_limit_and_taken_again_once_retention_made_room(tmp_path: Path) -> None:
    clock = ManualClock(NOW_MS)
    with writing(tmp_path, clock, max_ledger_bytes=LIMIT_BYTES) as writer:
        with pytest.raises(OutOfSpace, match=r"storage\.max_bytes allows \(2,097,152 bytes\)") as caught:
            fill(writer)
        assert caught.value.retry_after_s > 0
        assert writer.is_size_limited
        # One group of records over, at most.
        assert (tmp_path / "costd.db").stat().st_size + writer.wal_bytes() >= LIMIT_BYTES
        assert used_bytes(writer.path) < LIMIT_BYTES + 200 * 1024
        # What is no record goes on, the reserve untouched, and makes no room.
        for number in range(20):
            writer.submit(Change(lambda commit, n=number: append_audit(commit, 1, "", "test.said", str(n), {}))).wait(
                20
            )
        with pytest.raises(OutOfSpace):
            record(writer, draft())
        clock.advance(46 * 86_400)
        while not writer.submit(Change(lambda commit: retain(commit, LIMITS))).wait(20).done:
            pass
        until(lambda: writer.records_refused is None, "records to be taken again")
        record(writer, draft(at_ms=clock.now_ms()))
    assert used_bytes(tmp_path / "costd.db") < LIMIT_BYTES


def test_a_ledger_that_is_too_large_at_the_start_opens_and_takes_no_records(tmp_path: Path) -> None:
    with writing(tmp_path) as writer:
        record(writer, *(draft(request_id=f"request-{n}-{'x' * 200}") for n in range(2_000)))
    with writing(tmp_path, max_ledger_bytes=100_000) as writer:
        with pytest.raises(OutOfSpace):
            record(writer, draft())
        writer.submit(Change(lambda commit: append_audit(commit, 1, "", "test.said", "", {}))).wait(20)
    with writing(tmp_path) as writer:
        record(writer, draft())


def fill(writer: Writer) -> None:
    """Records without end."""
    for number in itertools.count():
        record(writer, *(draft(request_id=f"request-{number}-{n}-{'x' * 200}") for n in range(200)))


def used_bytes(path: Path) -> int:
    """The pages in use."""
    connection = connect(path)
    try:
        pages, free, size = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)
    finally:
        connection.close()
