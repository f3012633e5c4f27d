"""Summaries over any hours, by any dimensions, by hour and day, folded or not, are those of the events."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from costd.clock import ManualClock
from costd.domain.access import Caller
from costd.domain.days import DAY_MS, HOUR_MS
from costd.services.reports import Reports
from costd.store import event_blocks, retention
from costd.store.commit import Change
from costd.store.integrity import check_ledger
from costd.store.reader import Readers
from costd.store.retention import RetentionLimits, retain
from costd.store.rollups import Totals
from costd.store.writer import Writer
from ledger import record, writing
from reads import brute
from reads.ledgers import DAYS, NOW_MS, a_ledger, fold, traffic

READER = Caller(1, "", "reader", frozenset({"read"}))
BUCKETS_MS = {"": 0, "hour": HOUR_MS, "day": DAY_MS}
FILTERS = ({}, {"provider": "openai"}, {"provider": "nobody"}, {"model": "m1", "provider": "acme"}, {"team": "search"})
Row = tuple[tuple[str, ...], int]


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Writer, Readers]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_blocks, "BLOCK_EVENTS", 64)
        with a_ledger(tmp_path_factory.mktemp("summaries")) as made:
            yield made


@pytest.fixture(scope="module")
def held(ledger: tuple[Writer, Readers]) -> list[brute.Record]:
    return brute.records(ledger[0].path)


def alone(one: brute.Record) -> Totals:
    """What a record alone adds up to."""
    return Totals(
        requests=1,
        errors=int(one.status == "error"),
        input_tokens=one.input_tokens,
        output_tokens=one.output_tokens,
        cache_read_tokens=one.cached_tokens,
        cache_write_tokens=one.cache_write_tokens,
        reasoning_tokens=one.reasoning_tokens,
        cost_nano=one.cost_nano or 0,
        unpriced=int(one.cost_nano is None),
        unrated=int(one.unrated),
    )


def expected(
    held: list[brute.Record], by: tuple[str, ...], since_ms: int | None, until_ms: int | None, bucket: str
) -> dict[Row, Totals]:
    """Sums of the whole hours that contain the span, record by record."""
    from_ms = None if since_ms is None else since_ms // HOUR_MS * HOUR_MS
    to_ms = None if until_ms is None else -(-until_ms // HOUR_MS) * HOUR_MS
    sums: dict[Row, Totals] = {}
    for one in held:
        if (from_ms is None or one.at_ms >= from_ms) and (to_ms is None or one.at_ms < to_ms):
            width_ms = BUCKETS_MS[bucket]
            start_ms = one.at_ms // width_ms * width_ms if width_ms else 0
            sums.setdefault((tuple(getattr(one, name) for name in by), start_ms), Totals()).add(alone(one))
    return sums


def summarized(writer: Writer, readers: Readers, by: tuple[str, ...], *question: object) -> dict[Row, Totals]:
    """What the reports say, checked for being in order and for its total."""
    found = Reports(readers, writer, ManualClock(NOW_MS)).summarize(READER, by, *question)  # type: ignore[arg-type]
    order = [(row.bucket_ms, -row.totals.cost_nano, -row.totals.requests) for row in found.rows]
    assert order == sorted(order)
    total = Totals()
    for row in found.rows:
        assert [*row.dimensions] == [*by]
        total.add(row.totals)
    assert found.total == total
    rows = {(tuple(row.dimensions.values()), row.bucket_ms): row.totals for row in found.rows}
    assert len(rows) == len(found.rows)
    return rows


moments = st.integers(NOW_MS - (DAYS + 2) * DAY_MS, NOW_MS + DAY_MS)
ends = st.one_of(
    st.none(),
    moments,
    moments.map(lambda ms: ms // HOUR_MS * HOUR_MS),
    moments.map(lambda ms: ms // DAY_MS * DAY_MS),
    st.sampled_from([-(2**70), -1, 0, 2**70]),
)


def test_the_ledger_has_something_of_everything(ledger: tuple[Writer, Readers]) -> None:
    """Else the tests below prove less than they say."""
    with ledger[1].snapshot() as connection:
        assert connection.execute("SELECT count(DISTINCT month) FROM rollup_month").fetchone()[0] == 4
        sums = ("errors", "cache_write_tokens", "reasoning_tokens", "unpriced", "unrated")
        assert all(connection.execute(f"SELECT {', '.join(f'sum({name})' for name in sums)} FROM rollup").fetchone())
        assert check_ledger(connection).findings == []


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
@given(
    start=ends,
    end=ends,
    by=st.sampled_from([(), ("model",), ("provider", "model"), ("tags", "status"), ("team",), ("workspace", "user")]),
    filters=st.sampled_from(FILTERS),
    bucket=st.sampled_from([*BUCKETS_MS]),
)
def test_any_hours_by_any_dimension(
    ledger: tuple[Writer, Readers],
    held: list[brute.Record],
    start: int | None,
    end: int | None,
    by: tuple[str, ...],
    filters: dict[str, str],
    bucket: str,
) -> None:
    if start is not None and end is not None and end <= start:
        start, end = end, start + 1
    mine = [one for one in held if all(getattr(one, name) == value for name, value in filters.items())]
    assert summarized(*ledger, by, start, end, filters, bucket) == expected(mine, by, start, end, bucket)


def test_hours_that_retention_took_are_in_no_day_and_no_month(tmp_path: Path) -> None:
    """Whatever is left of a month in the middle of it, summaries are of the hours there are."""
    with writing(tmp_path, ManualClock(NOW_MS)) as writer, pytest.MonkeyPatch.context() as patch:
        readers = Readers(writer.path, ManualClock(NOW_MS))
        record(writer, *traffic(random.Random(10), 1500, NOW_MS - 60 * DAY_MS, NOW_MS))
        fold(writer)
        held = brute.records(writer.path)
        patch.setattr(retention, "STEP_ROWS", 100)
        limits = RetentionLimits(400 * DAY_MS, 40 * DAY_MS, 0)
        for _ in range(8):
            writer.submit(Change(lambda commit: retain(commit, limits))).wait(20)
            with readers.snapshot() as connection:
                left = {*connection.execute("SELECT hour, requests FROM rollup")}
            kept_from = min(hour for hour, _ in left)
            mine = [one for one in held if one.at_ms // HOUR_MS > kept_from]
            since_ms = (kept_from + 1) * HOUR_MS  # of the first hour only some series may be left
            for bucket in BUCKETS_MS:
                question = since_ms, None, {}, bucket
                assert summarized(writer, readers, ("model",), *question) == expected(
                    mine, ("model",), since_ms, None, bucket
                )
        readers.close()


def test_nothing_is_an_answer_too(tmp_path: Path) -> None:
    with writing(tmp_path, ManualClock(NOW_MS)) as writer:
        readers = Readers(writer.path, ManualClock(NOW_MS))
        for bucket in BUCKETS_MS:
            assert summarized(writer, readers, ("model",), None, None, {}, bucket) == {}
            assert summarized(writer, readers, (), None, None, {}, bucket) == {}
        readers.close()
