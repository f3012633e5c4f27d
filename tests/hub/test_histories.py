"""Histories that two ledgers can have of one another, one by one: who begins anew, from where, and what is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from costd.clock import ManualClock
from costd.domain.forwarding import Lost, Resume, Stand, Welcome, resume
from costd.services.outbox import DamagedSeal
from costd.store.commit import Change
from hub.fleet_model import HubNode, SourceNode
from ledger import NOW_MS


class Pair:
    """A hub and one sidecar."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock(NOW_MS)
        self.hub = HubNode(folder / "hub", self.clock)
        self.node = SourceNode(folder / "a", self.clock, "a")

    def epochs(self) -> list[tuple[int, str]]:
        """The sidecar's epochs: where each begins, and why."""
        return self.node.query("SELECT first_seq, reason FROM forward_epoch ORDER BY number")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    made.node.close()
    made.hub.close()


def test_a_hub_that_was_set_back_gets_again_what_it_has_lost(pair: Pair) -> None:
    pair.node.record()
    pair.node.forward(pair.hub)
    pair.hub.copy_to(pair.folder / "copy")
    for _ in range(3):
        pair.node.record()
        pair.node.forward(pair.hub)
    hub_epoch = pair.hub.query("SELECT epoch FROM hub_state")
    pair.hub.set_back(pair.folder / "copy")
    assert len(pair.hub.events()) == 1
    pair.node.forward(pair.hub)
    assert pair.hub.events() == pair.node.events()
    assert len(pair.epochs()) == 2
    assert pair.hub.query("SELECT epoch FROM hub_state") != hub_epoch
    assert pair.hub.query("SELECT count(*) FROM lost_range") == [(0,)]


def test_what_both_ends_lack_is_lost_shown_at_both_and_the_rest_moves_on(pair: Pair) -> None:
    pair.hub.copy_to(pair.folder / "copy")
    for _ in range(3):
        pair.node.record()
        pair.node.forward(pair.hub)
    pair.hub.set_back(pair.folder / "copy")
    # The sidecar has outlived what it kept of the first two.
    pair.node.close()
    pair.node._open()
    ((gone,),) = pair.node.query("SELECT first_seq + items - 1 FROM ledger_commit ORDER BY first_seq LIMIT 1 OFFSET 1")
    for table, column in (("event", "seq"), ("ledger_commit", "first_seq")):
        _delete(pair.node, f"DELETE FROM {table} WHERE {column} <= {gone}")
    pair.node.forward(pair.hub)
    assert len(pair.epochs()) == 2
    assert pair.hub.events() == pair.node.events()
    assert len(pair.hub.events()) == 1
    expected = [(1, gone)]
    assert pair.node.query("SELECT first_seq, last_seq FROM lost_range") == expected
    assert pair.hub.query("SELECT first_seq, last_seq FROM lost_range WHERE source_id = 1") == expected


def test_a_new_hub_gets_everything_that_is_still_there(pair: Pair) -> None:
    for _ in range(3):
        pair.node.record()
        pair.node.forward(pair.hub)
    pair.hub.close()
    pair.hub = HubNode(pair.folder / "other", pair.clock)
    pair.node.forward(pair.hub)
    assert pair.hub.events() == pair.node.events()


def test_a_lost_answer_costs_nothing(pair: Pair) -> None:
    for _ in range(3):
        pair.node.record()
        pair.node.forward(pair.hub, heard=lambda: False)
    pair.node.forward(pair.hub)
    assert pair.hub.events() == pair.node.events()
    assert pair.epochs() == [(1, "joined")]


def test_a_duplicate_whose_answer_was_lost_is_still_taken_back(pair: Pair) -> None:
    other = SourceNode(pair.folder / "b", pair.clock, "b")
    pair.node.record("same", 7)
    pair.node.forward(pair.hub)
    other.record("same", 7)
    other.forward(pair.hub, heard=lambda: False)
    assert other.total() == (1, 7)
    other.close()
    other._open()
    other.forward(pair.hub)
    assert other.total() == (0, 0)
    assert pair.hub.total() == pair.node.total() == (1, 7)
    other.forward(pair.hub)  # the correction itself, which changes nothing there
    assert pair.hub.total() == (1, 7)
    other.close()


def test_a_duplicate_is_told_again_to_a_sidecar_that_was_set_back(pair: Pair) -> None:
    other = SourceNode(pair.folder / "b", pair.clock, "b")
    pair.node.record("same", 7)
    pair.node.forward(pair.hub)
    other.record("same", 7)
    other.copy_to(pair.folder / "copy")
    other.forward(pair.hub)
    assert other.total() == (0, 0)
    other.set_back(pair.folder / "copy")
    other.record()
    other.forward(pair.hub)
    assert other.total() == (1, 1)
    assert pair.hub.total() == (2, 8)
    other.close()


def test_seals_are_the_same_bytes_after_a_crash_between_sealing_and_sending(pair: Pair) -> None:
    pair.node.record()
    sealed = pair.node.outbox.next_after(0, 1)
    pair.node.close()
    pair.node._open()
    pair.node.record()
    assert pair.node.outbox.next_after(0, 1) == sealed
    assert sealed is not None
    assert pair.node.outbox.next_after(sealed.last, 1) != sealed


def test_a_seal_whose_content_the_disk_has_changed_is_never_sent(pair: Pair) -> None:
    pair.node.record()
    pair.node.outbox.next_after(0, 1)
    _delete(pair.node, "UPDATE forward_seal SET content = x'00'")
    with pytest.raises(DamagedSeal):
        pair.node.outbox.next_after(0, 1)


def _delete(node: SourceNode, sql: str) -> None:
    node.writer.submit(Change(lambda commit: commit.connection.execute(sql) and None)).wait(20)


HERE, THERE = b"h" * 16, b"t" * 16
SEAL, OTHER = b"s" * 16, b"o" * 16


def welcome(
    watermark: int, seal: bytes = SEAL, *, known: bool = True, hub: bytes = HERE, new_epoch: str = ""
) -> Welcome:
    """A hub's word."""
    return Welcome("v", 1, 0, hub, "a", "default", known, watermark, seal, new_epoch, ())


WENT_BACK = "the hub has less than was acknowledged: it was restored, or is another one"
AGAIN = True
ANOTHER = "the hub holds another history of this epoch: this ledger was restored from a backup or cloned"


@pytest.mark.parametrize(
    ("stand", "said", "own", "oldest", "expected"),
    [
        (Stand(b"e", 1, 0, b""), welcome(0, b"", known=False), None, 1, Resume(0)),
        (Stand(b"e", 1, 5, HERE), welcome(5), SEAL, 1, Resume(5)),
        (Stand(b"e", 1, 5, HERE), welcome(9), SEAL, 1, Resume(9)),
        (Stand(b"e", 1, 5, HERE), welcome(9), None, 1, Resume(5, ANOTHER)),
        (Stand(b"e", 1, 5, HERE), welcome(5), OTHER, 1, Resume(5, ANOTHER)),
        (Stand(b"e", 1, 5, HERE), welcome(3), SEAL, 1, Resume(3, WENT_BACK, None, AGAIN)),
        (Stand(b"e", 1, 5, HERE), welcome(3), None, 1, Resume(0, WENT_BACK, None, AGAIN)),
        (Stand(b"e", 1, 5, HERE), welcome(3), SEAL, 5, Resume(4, WENT_BACK, Lost(4, 4), AGAIN)),
        (Stand(b"e", 1, 5, HERE), welcome(0, b"", known=False), None, 3, Resume(2, WENT_BACK, Lost(1, 2), AGAIN)),
        (Stand(b"e", 6, 5, HERE), welcome(0, b"", known=False), None, 1, Resume(5)),
        (Stand(b"e", 6, 5, HERE), welcome(0, b"", known=False, hub=THERE), None, 1, Resume(0, WENT_BACK, None, AGAIN)),
        (Stand(b"e", 1, 5, HERE), welcome(5, new_epoch="cloned"), SEAL, 1, Resume(5, "cloned")),
        (Stand(b"e", 1, 5, HERE), welcome(9, new_epoch="cloned"), SEAL, 1, Resume(5, "cloned")),
    ],
)  # fmt: skip
def test_where_a_source_goes_on(stand: Stand, said: Welcome, own: bytes | None, oldest: int, expected: Resume) -> None:
    assert resume(stand, said, own, oldest) == expected
