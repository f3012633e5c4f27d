"""The content of forwarded batches: what is read is what was written, and the worst that bytes do is be refused."""

from __future__ import annotations

import contextlib
import random
import zlib
from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costd.domain.errors import Invalid
from costd.domain.forwarding import (
    Adjustment,
    CatalogSaid,
    CommitSpan,
    Entry,
    Events,
    PriceSource,
    Range,
    RecordBatch,
    Request,
    Sealed,
)
from costd.v1 import hub_pb2
from costd.wire.forwarded.decode import MAX_CONTENT_BYTES, decode
from costd.wire.forwarded.encode import encode
from ledger import series

ID = (7 << 76 | 2 << 62) & ~((1 << 24) - 1)
TEXTS = st.text(max_size=8).filter(lambda text: text.isprintable())
COUNTS = st.integers(0, 10**12)
MARKS = st.binary(min_size=16, max_size=16)


@st.composite
def ranges(draw: st.DrawFn) -> Range:
    """A range like any other: some records, and a little of everything else."""
    count = draw(st.integers(0, 12))
    names = draw(st.lists(TEXTS, min_size=1, max_size=3, unique=True))
    known = [
        series(user=draw(TEXTS), team=draw(TEXTS))._replace(org_id=draw(st.integers(0, len(names) - 1)))
        for _ in range(draw(st.integers(1, 3)))
    ]
    first = draw(st.integers(1, 10**9))
    seqs = list(range(first, first + count))
    last = first + count + 20
    commits = [CommitSpan(first, ID, count + 5, 5), CommitSpan(first + count + 5, ID + (1 << 24), 16, 6)]

    def column(values: st.SearchStrategy[int]) -> list[int]:
        return draw(st.lists(values, min_size=count, max_size=count))

    ids = draw(st.sampled_from((TEXTS.filter(bool), MARKS)))
    asked = sorted(draw(st.sets(st.sampled_from(seqs)))) if seqs else []
    return Range(
        first,
        last,
        names,
        known,
        [PriceSource("list", "1", b"d" * 32), PriceSource("caller", "", b"")],
        commits,
        Events(
            seqs,
            column(st.integers(0, 10**13)),
            draw(st.sampled_from(([], [5] * count))),
            column(st.integers(0, len(known) - 1)),
            tuple(column(COUNTS) for _ in range(5)),
            column(st.integers(-1, 10**15)),
            column(st.integers(0, 2)),
            column(st.integers(-1, 10**6)),
            {at: '{"job":"j"}' for at in range(count) if at % 3 == 0},
            frozenset(at for at in range(count) if at % 5 == 0),
        ),
        [Request(seq, draw(st.integers(0, len(names) - 1)), draw(ids), draw(MARKS)) for seq in asked],
        [RecordBatch(first, 0, "batch", b"f" * 16, 9, draw(st.sampled_from(("", "[]"))), 2)],
        [Entry(first + 1, b"i" * 16, 0, ("k", "cost", "S", "s", "p", "d", 2026, 11, 5, 1, 2, 3, 4, "{}"))],
        [Adjustment(first + 2, b"e" * 16, 9, 0, "void", [-1] * 12, [("pages", Decimal("-1.5"))], 1, "why", "who")],
        [CatalogSaid(first + 3, 0, "project", "app", draw(TEXTS), {"name": draw(TEXTS), "team": None}, True, 3)],
    )  # fmt: skip


def sealed(content: bytes, held: Range) -> Sealed:
    """A batch with this content."""
    return Sealed(held.first, held.last, b"", b"", 1, content, 0)


@given(ranges())
@settings(max_examples=200, deadline=None)
def test_what_is_read_is_what_was_written(held: Range) -> None:
    """Every field comes back, whatever is in it."""
    back = decode(sealed(encode(held), held))
    ids = [request.request_id for request in held.requests]
    assert [request.request_id for request in back.requests] == ids
    assert back._replace(organizations=list(held.organizations)) == held


@given(ranges(), st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None)
def test_whatever_the_bytes_are_nothing_but_a_refusal_comes_of_them(held: Range, rng: random.Random) -> None:
    """Bits turned over, pieces cut out: the batch is read, or refused with what is wrong with it."""
    plain = bytearray(zlib.decompress(encode(held)))
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(plain))
        if rng.random() < 0.5:
            plain[at] ^= 1 << rng.randrange(8)
        else:
            del plain[at : at + rng.randint(1, 9)]
    with contextlib.suppress(Invalid):
        decode(sealed(zlib.compress(bytes(plain)), held))


def lying(change: Callable[[hub_pb2.ForwardContent], None]) -> Sealed:
    """A batch of two records whose content says something that cannot be."""
    content = hub_pb2.ForwardContent(
        organizations=["default"],
        series=[hub_pb2.ForwardSeries()],
        commits=hub_pb2.ForwardCommits(first=[1], ids=ID.to_bytes(16, "big"), items=[2], at_ms=[1]),
        events=hub_pb2.ForwardEvents(
            seq=[1, 2], at_ms=[1, 1], series=[0, 0], input_tokens=[1, 1], output_tokens=[1, 1],
            cache_read_tokens=[0, 0], cache_write_tokens=[0, 0], reasoning_tokens=[0, 0], cost_nano_usd=[1, 1],
            price_source=[0, 0], latency_ms=[1, 1],
        ),
    )  # fmt: skip
    change(content)
    return Sealed(1, 2, b"", b"", 1, zlib.compress(content.SerializeToString()), 0)


LIES: dict[str, Callable[[hub_pb2.ForwardContent], None]] = {
    "events.at_ms": lambda content: content.events.at_ms.append(1),
    "events.series": lambda content: content.events.series.__setitem__(0, 1),
    "events.price_source": lambda content: content.events.price_source.__setitem__(0, 1),
    "events.seq": lambda content: content.events.seq.__setitem__(0, 2),
    "events.extra": lambda content: content.events.extra.append("{}"),
    "events.extra_at": lambda content: content.events.MergeFrom(hub_pb2.ForwardEvents(extra=["{}"], extra_at=[2])),
    "events.fingerprints": lambda content: content.events.request_seq.append(1),
    "series.organization": lambda content: setattr(content.series[0], "organization", 1),
    "commits": lambda content: content.commits.items.__setitem__(0, 3),
    "adjustments.amounts": lambda content: content.adjustments.add(seq=1) and None,
    "month_entries.id": lambda content: content.month_entries.add(seq=1) and None,
    "catalog_changes.values": lambda content: content.catalog_changes.add(seq=1, values="[]") and None,
}


@pytest.mark.parametrize("field", LIES)
def test_content_that_lies_is_refused_with_the_field(field: str) -> None:
    """Each lie is named."""
    with pytest.raises(Invalid) as caught:
        decode(lying(LIES[field]))
    assert caught.value.field == f"batch.content.{field}"


def test_honest_content_is_read() -> None:
    """Or the lies above would prove nothing."""
    assert decode(lying(lambda _: None)).records == 2


def test_a_bomb_is_noticed_before_it_is_filled_in() -> None:
    """A hundred kilobytes that unfold to more than a hundred megabytes."""
    bomb = zlib.compress(bytes(MAX_CONTENT_BYTES + 1), 9)
    assert len(bomb) < 200_000
    with pytest.raises(Invalid, match="unfolds to more than"):
        decode(Sealed(1, 2, b"", b"", 1, bomb, 0))


@pytest.mark.parametrize("form", [0, 2])
def test_forms_that_this_release_does_not_know_are_refused(form: int) -> None:
    """With what to do about it."""
    with pytest.raises(Invalid, match="upgrade the hub first"):
        decode(Sealed(1, 2, b"", b"", form, b"", 0))
