"""Slices by the word of a source that may lie, repeat itself or come late: a hub lends no more than there is."""

from __future__ import annotations

import calendar
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from members import Launch, make_key, make_source

from budget_calls import CENT_NANO, set_budget
from costd.v1 import budget_pb2, hub_pb2_grpc, lease_pb2
from harness import Daemon
from hub_peer import Peer
from rpc_calls import bearer, channel_to, details_of, refusal_of

_NOBODY = b"n" * 16


class Source(Peer):
    """A peer that asks for slices, too."""

    def __init__(self, hub: Daemon, key: str, budget: budget_pb2.Budget, *, epoch: bytes = b"") -> None:
        super().__init__(hub.grpc, key, epoch=epoch)
        self._lease: Any = hub_pb2_grpc.HubServiceStub(channel_to(hub.grpc)).Lease
        self._metadata = bearer(key)
        self.hub_epoch = b""
        self.confirmed = b""
        now = time.gmtime()
        start_ms = calendar.timegm((now.tm_year, now.tm_mon, 1, 0, 0, 0, 0, 0, 0)) * 1_000
        self.window = lease_pb2.WindowKey(budget_id=budget.id, revision=budget.revision, start_ms=start_ms)

    def ask(self, **fields: Any) -> lease_pb2.LeaseResponse:
        plain = {
            "epoch": self.epoch,
            "incarnation": self.incarnation,
            "confirmed": self.confirmed,
            "hub_epoch": self.hub_epoch,
            "last_seq": self.last,
        }
        request = lease_pb2.LeaseRequest(**(plain | fields))
        answer: lease_pb2.LeaseResponse = self._lease(request, metadata=self._metadata, timeout=20)
        if answer.confirmed:
            self.confirmed, self.hub_epoch = self.incarnation, answer.hub_epoch
        return answer

    def want(self, needed: int, wanted: int = 0, **window: Any) -> lease_pb2.LeaseSlice:
        """What the hub says of the window, in cents asked for."""
        key = lease_pb2.WindowKey()
        key.CopyFrom(self.window)
        for name, value in window.items():
            setattr(key, name, value)
        want = lease_pb2.LeaseWant(
            window=key, needed_nano_usd=needed * CENT_NANO, wanted_nano_usd=max(needed, wanted) * CENT_NANO
        )
        (told,) = self.ask(wants=[want]).slices
        return told

    def give_back(self, cents: int, last_seq: int, epoch: bytes = b"") -> lease_pb2.LeaseSlice:
        returned = lease_pb2.LeaseReturn(
            window=self.window, epoch=epoch or self.epoch, returned_nano_usd=cents * CENT_NANO, last_seq=last_seq
        )
        want = lease_pb2.LeaseWant(window=self.window)
        (told,) = self.ask(returns=[returned], wants=[want]).slices
        return told


@contextmanager
def source(hub: Daemon, budget: budget_pb2.Budget, name: str = "peer", *orgs: str) -> Iterator[Source]:
    """A source that has said hello."""
    with Source(hub, make_source(hub, name, *orgs), budget) as made:
        made.hello()
        yield made


@pytest.fixture
def hub(launch: Launch) -> Daemon:
    return launch(name="hub", command="hub")


@pytest.fixture
def budget(hub: Daemon) -> budget_pb2.Budget:
    return set_budget(hub, "cap", 100, scope={"user": "mallory"})


def cents(nano: int) -> float:
    return nano / CENT_NANO


def test_a_request_that_is_repeated_is_granted_once(hub: Daemon, budget: budget_pb2.Budget) -> None:
    with source(hub, budget) as peer:
        assert [cents(peer.want(30).granted_nano_usd) for _ in range(3)] == [30, 30, 30]
        told = peer.want(30)
        assert (cents(told.available_nano_usd), cents(told.limit_nano_usd)) == (70, 100)


def test_more_than_there_is_is_not_granted_nor_a_part_of_it(hub: Daemon, budget: budget_pb2.Budget) -> None:
    with source(hub, budget) as peer, source(hub, budget, "other") as other:
        assert cents(peer.want(60).granted_nano_usd) == 60
        assert cents(other.want(41).granted_nano_usd) == 0
        assert cents(peer.want(0, 60).granted_nano_usd) == 60
        assert peer.want(0, 60).recall, "the other one needs money"
        assert cents(other.want(40).granted_nano_usd) == 40
        assert not peer.want(0, 60).recall
        assert cents(other.want(40, 2**31).granted_nano_usd) == 40


def test_what_goes_back_counts_once_all_that_was_recorded_before_is_here(
    hub: Daemon, budget: budget_pb2.Budget
) -> None:
    with source(hub, budget) as peer:
        peer.want(50)
        assert cents(peer.give_back(30, last_seq=1).returned_nano_usd) == 0
        peer.bring(1, cost_nano_usd=[20 * CENT_NANO])
        told = peer.give_back(30, last_seq=1)
        assert (cents(told.returned_nano_usd), cents(told.settled_nano_usd)) == (30, 20)
        assert cents(told.available_nano_usd) == 80
        assert cents(peer.give_back(10, last_seq=1).returned_nano_usd) == 30, "an older message changes nothing"
        assert cents(peer.give_back(51, last_seq=1).returned_nano_usd) == 30, "more than was granted is not taken"
        assert peer.ask().watermark == 1


def test_what_was_never_reserved_counts_against_what_is_left(hub: Daemon, budget: budget_pb2.Budget) -> None:
    with source(hub, budget) as peer, source(hub, budget, "other") as other:
        peer.want(10)
        peer.bring(1, cost_nano_usd=[70 * CENT_NANO])
        assert cents(other.want(31).granted_nano_usd) == 0
        assert cents(other.want(30).granted_nano_usd) == 30
        assert cents(other.want(30).spent_nano_usd) == 70


def test_slices_are_for_the_process_that_comes_after_the_one_that_was_confirmed(
    hub: Daemon, budget: budget_pb2.Budget
) -> None:
    with source(hub, budget) as peer:
        peer.want(10)
        first, peer.incarnation = peer.incarnation, os.urandom(16)
        peer.close()
        with Source(hub, peer._key, budget, epoch=peer.epoch) as again:
            again.hello()
            again.confirmed, again.hub_epoch = first, peer.hub_epoch
            assert again.ask().confirmed
            # A copy of the folder, from before that: it names the one that was confirmed before.
            with Source(hub, peer._key, budget, epoch=peer.epoch) as copy:
                assert copy.ask(confirmed=first, hub_epoch=again.hub_epoch).new_epoch
                assert copy.ask(confirmed=_NOBODY, pending=[_NOBODY], hub_epoch=again.hub_epoch).new_epoch


def test_an_epoch_that_the_hub_has_not_heard_of_is_granted_nothing(hub: Daemon, budget: budget_pb2.Budget) -> None:
    with Source(hub, make_source(hub, "early"), budget) as peer:
        answer = peer.ask(wants=[lease_pb2.LeaseWant(window=peer.window, needed_nano_usd=1)])
        assert not answer.confirmed
        assert not answer.new_epoch
        assert not answer.slices


@pytest.mark.parametrize(
    "window",
    [
        {"budget_id": "none such"},
        {"revision": 7},
        {"value": "for nobody"},
        {"start_ms": 5},
    ],
    ids=lambda window: next(iter(window)),
)
def test_windows_that_are_none_are_unknown(hub: Daemon, budget: budget_pb2.Budget, window: dict[str, Any]) -> None:
    with source(hub, budget) as peer:
        told = peer.want(10, **window)
        assert (told.unknown, told.granted_nano_usd) == (True, 0)
        assert not hub.query("SELECT 1 FROM budget_account")


def test_other_organizations_budgets_are_unknown(hub: Daemon, budget: budget_pb2.Budget) -> None:
    with source(hub, budget, "stranger", "acme") as peer:
        assert peer.want(10).unknown


def test_only_hard_budgets_are_lent(hub: Daemon) -> None:
    soft = set_budget(hub, "soft", 100, scope={"user": "mallory"}, hard=False)
    with source(hub, soft) as peer:
        assert peer.want(10).unknown


def test_what_cannot_be_is_refused_by_the_field(hub: Daemon, budget: budget_pb2.Budget) -> None:
    with source(hub, budget) as peer:
        window = peer.window
        for field, fields in {
            "epoch": {"epoch": b"short"},
            "incarnation": {"incarnation": b""},
            "wants": {"wants": [lease_pb2.LeaseWant(window=window, needed_nano_usd=-1)]},
            "returns": {"returns": [lease_pb2.LeaseReturn(window=window, returned_nano_usd=2**63 - 1)]},
            "report": {
                "is_report": True,
                "report": [lease_pb2.LeaseReport(window=lease_pb2.WindowKey(start_ms=-1), granted_nano_usd=1)],
            },
        }.items():
            refused = refusal_of(lambda fields=fields: peer.ask(**fields))  # type: ignore[misc]
            assert refused.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert set(details_of(refused)[0]) == {field}
        many = [lease_pb2.LeaseWant(window=window)] * 1_001
        assert set(details_of(refusal_of(lambda: peer.ask(wants=many)))[0]) == {"wants"}


def test_nobody_else_is_lent_anything(hub: Daemon) -> None:
    request = lease_pb2.LeaseRequest(epoch=_NOBODY, incarnation=_NOBODY)
    with channel_to(hub.grpc) as channel:
        lease: Any = hub_pb2_grpc.HubServiceStub(channel).Lease
        for key in (make_key(hub).secret, hub.admin_key):
            refused = refusal_of(lambda key=key: lease(request, metadata=bearer(key), timeout=20))  # type: ignore[misc]
            assert refused.code() is grpc.StatusCode.PERMISSION_DENIED


def test_a_hub_that_is_told_of_slices_it_does_not_know_counts_them(hub: Daemon, budget: budget_pb2.Budget) -> None:
    with source(hub, budget) as peer, source(hub, budget, "other") as other:
        assert other.want(0).granted_nano_usd == 0
        report = [lease_pb2.LeaseReport(window=peer.window, epoch=_NOBODY, granted_nano_usd=80 * CENT_NANO)]
        # Of another hub, or of this one before it went back in time.
        assert peer.ask(hub_epoch=b"another hub 1234", is_report=False).report_wanted
        assert peer.ask(hub_epoch=b"another hub 1234", is_report=True, report=report).confirmed
        assert cents(other.want(21).granted_nano_usd) == 0
        assert cents(other.want(20).granted_nano_usd) == 20


def test_a_hub_that_lacks_what_it_had_acknowledged_lends_nothing_before_all_have_reported(
    hub: Daemon, budget: budget_pb2.Budget
) -> None:
    with source(hub, budget) as peer, source(hub, budget, "other") as other:
        peer.want(10)
        other.want(10)
        # A file was put in its place, without `costd restore`.
        assert peer.ask(acknowledged=5).report_wanted
        want = lease_pb2.LeaseWant(window=other.window, needed_nano_usd=20 * CENT_NANO)
        assert other.ask(wants=[want]).report_wanted
        report = [lease_pb2.LeaseReport(window=other.window, epoch=other.epoch, granted_nano_usd=50 * CENT_NANO)]
        told = other.ask(wants=[want], is_report=True, report=report)
        assert (told.confirmed, told.awaiting) == (True, True)
        assert cents(told.slices[0].granted_nano_usd) == 50
        report = [lease_pb2.LeaseReport(window=peer.window, epoch=peer.epoch, granted_nano_usd=30 * CENT_NANO)]
        assert peer.ask(is_report=True, report=report).confirmed
        assert cents(peer.want(51).granted_nano_usd) == 30
        assert cents(peer.want(50).granted_nano_usd) == 50
