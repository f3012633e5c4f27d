"""A hub and sidecars that share budgets, in one process: the real services on real ledgers, with clocks set by hand.

There are no threads but the writers': what a daemon's threads do is done when a test says so, and the network between
them is the test's: it loses, repeats and delays what it likes.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from costd.domain.access import Caller
from costd.domain.budget_change import BudgetChange
from costd.domain.forwarding import FORMAT, Hello, Lost, Stand, Waiting
from costd.domain.lease import LeaseAnswer, LeaseRequest
from costd.domain.link import LinkBroken
from costd.domain.usage import Usage
from costd.domain.window_key import WindowKey
from costd.services.budgets import Budgets
from costd.services.hub import Connection
from costd.services.leasing import Leasing
from costd.services.lending import Lending
from costd.services.membership import Membership
from costd.services.slices import Slices
from costd.services.till_keeper import TillKeeper
from costd.services.tills import Ask, Pause, Tills
from costd.store.budget_rows import return_all
from costd.store.budgets import StoredBudget, store_copies
from costd.store.commit import Change, Commit
from costd.store.integrity import check_ledger
from costd.store.requests import stored_request_id
from costd.store.sources import store_forgotten
from hub import fleet_model
from ledger import draft, record, series

ADMIN = Caller(1, "admin", "admin", frozenset({"admin"}))
TTL_S = 60
USE_S = 120
PATIENCE_S = 20
#: How often the hub is asked for one call before it is denied.
MOST_ASKED = 3
#: Of whom calls are; one has budgets of their own for each.
USERS = ("ada", "bob")
#: What is reserved of both: everything, and what each user has.
LIMITS = {"all": 400, "users": 300}


class Held(NamedTuple):
    """What a caller knows that it reserved: how much, in which windows, and until when by its sidecar's clock."""

    user: str
    amount: int
    windows: frozenset[WindowKey]
    until_ms: int


class _Desk(fleet_model.Node):
    """What a ledger with budgets has at either end."""

    address = ""

    def build(self) -> None:
        """Budgets and tills, as a daemon builds them."""
        membership = Membership(self.address, has_joined=bool(self.address))
        self.budgets = Budgets(self.writer, self.readers, self.clock, membership, str)
        self.tills = Tills(
            self.writer,
            self.readers,
            self.budgets,
            self.clock,
            reservation_minutes=TTL_S / 60,
            max_reservations=1_000,
            is_joined=bool(self.address),
        )

    def serve(self) -> None:
        """Charge from now on, and do what the thread that keeps tills begins with."""
        self.writer.budgeting = self.tills
        self.keeper = TillKeeper(self.tills)
        self.tills.open_present()

    def pass_time(self, seconds: float) -> None:
        """Let a clock go on, and do what is due then."""
        self.clock.advance(seconds)
        self.keeper.beat()
        self.writer.submit(Change(lambda _: None)).wait(PATIENCE_S)

    def reserve(self, name: str, user: str, amount: int, more: Callable[[], bool] = lambda: False) -> Held | None:
        """Ask before a call; `more` asks the hub, and says whether that was of any use. None where it is denied."""
        usage = Usage("tests", "gpt-4o", (), user=user, request_id=name)
        ask = Ask((1, stored_request_id(name)), series(user=user), usage, amount, amount, self.clock.now_ms())
        asked = 0
        while isinstance(verdict := self.tills.reserve(ask, is_last=asked == MOST_ASKED), Pause):
            if verdict.is_hubs:
                asked = asked + 1 if more() else MOST_ASKED
            else:
                verdict.waitable.wait(PATIENCE_S)
        if verdict.deny_reason:
            return None
        with self.tills.lock:
            keys = {live.key for live in self.tills.lives() if live.key.value in ("", user)}
        windows = frozenset(key for key in keys if self.tills.reserved_in(key))
        return Held(user, amount, windows, self.clock.elapsed_ms() + TTL_S * 1_000)

    def settle(self, name: str, user: str, cost: int) -> None:
        """Record a call."""
        charged_ms = self.tills.reserved_at((1, stored_request_id(name))) if name else None
        one = draft(at_ms=self.clock.now_ms(), charged_ms=charged_ms, cost_nano=cost, series=series(user=user))
        record(self.writer, one._replace(request_id=name, fingerprint=name.encode().rjust(16) if name else b""))

    def findings(self) -> list[str]:
        """What `costd check` finds."""
        with closing(sqlite3.connect(self.writer.path)) as connection:
            return check_ledger(connection).findings


class HubDesk(_Desk, fleet_model.HubNode):
    """A hub with the budgets of LIMITS."""

    def opened(self) -> None:
        """Begin as a new process does."""
        super().opened()
        self.build()
        self.lending = Lending(
            self.writer, self.readers, self.clock, self.metrics, self.tills, self.hub, use_minutes=USE_S / 60
        )
        self.tills.funding = self.lending
        ((epoch,),) = self.query("SELECT epoch FROM hub_state")
        self.lending.look(epoch)
        self.serve()
        for name, amount in LIMITS.items():
            if all(held.budget.name != name for held in self.budgets.all_in_force()):
                each = "user" if name == "users" else ""
                self.budgets.set(ADMIN, BudgetChange(name, scope={"org": "default"}, each=each, amount_nano=amount))

    def change_limit(self, name: str, amount: int) -> None:
        """Another amount."""
        self.budgets.set(ADMIN, BudgetChange(name, amount_nano=amount))

    def restored(self, folder: Path) -> None:
        """Put an earlier copy in the ledger's place, as `costd restore` does."""
        self.close()
        shutil.rmtree(self.folder)
        shutil.copytree(folder, self.folder)
        with closing(sqlite3.connect(self.writer.path)) as connection, connection:
            connection.execute("UPDATE hub_state SET epoch = randomblob(16)")
        self._open()

    def forget(self, name: str) -> None:
        """A source is lost for ever, by the operator's word."""
        source = self.sources[name]

        def apply(commit: Commit) -> None:
            store_forgotten(commit, source)
            return_all(commit, source.id)

        self.writer.submit(Change(apply)).wait(PATIENCE_S)
        self.lending.forget(source.id)


class _Seat:
    """Where the one that asks for slices meets the road that forwards: what it knows of the epoch."""

    def __init__(self, desk: SidecarDesk) -> None:
        self._desk = desk
        self.incarnation = desk.incarnation
        self.turning: Callable[[bool], object] = bool
        self.epoch = b""
        self.renewal: tuple[str, bool] | None = None

    @property
    def stand(self) -> Stand:
        """Where the sequence stands."""
        return self._desk.outbox.stand

    def tell_turn(self, callback: Callable[[bool], object]) -> None:
        """Before an epoch begins."""
        self.turning = callback

    def watch(self, callback: Callable[[bool], None]) -> None:
        """Nobody comes and goes by himself."""

    def renew(self, reason: str, *, goes_on: bool) -> None:
        """An epoch is to begin with the next connection."""
        self.epoch = b""
        self.renewal = reason, goes_on


class SidecarDesk(_Desk, fleet_model.SourceNode):
    """A sidecar that has joined the hub."""

    address = "hub.test:4318"

    def opened(self) -> None:
        """Begin as a new process does."""
        super().opened()
        self.build()
        self.slices = Slices(self.tills, self.clock, self.budgets.known_seq, lambda: self.writer.ledger.last_seq)
        self.tills.funding = self.slices
        self.seat = _Seat(self)
        self.leasing = Leasing(
            self.writer,
            self.readers,
            self.clock,
            self.metrics,
            self.slices,
            self.seat,  # type: ignore[arg-type]  # the threads of Forwarding are the test's
            lambda: None,  # type: ignore[arg-type,return-value]
            ttl_ms=TTL_S * 1_000,
        )
        self.serve()

    def sync(self, hub: HubDesk) -> None:
        """Hear of the hub's budgets."""
        told = list(hub.budgets.of_orgs({1}))

        def apply(commit: Commit) -> Sequence[StoredBudget]:
            return store_copies(commit, told)

        self.writer.submit(Change(apply, self.budgets.use)).wait(PATIENCE_S)
        self.tills.open_present()

    def connect(self, hub: fleet_model.HubNode) -> tuple[Connection, int, Lost | None]:
        """Meet the hub, in a new epoch where that is needed."""
        if self.seat.renewal is not None:
            reason, goes_on = self.seat.renewal
            self.seat.renewal = None
            self._begin(self.outbox.acknowledged, reason, None, goes_on=goes_on)
        while True:
            stand = self.outbox.stand
            again = self.greeted == stand.epoch
            now_ms = self.clock.now_ms()
            hello = Hello("test", FORMAT, "host", "", now_ms, stand, self.incarnation, again, Waiting())
            connection, welcome = hub.hub.connect(self.source(hub), hello)
            going_on = self.outbox.meet(welcome)
            self.greeted = stand.epoch
            if not going_on.new_epoch:
                self.seat.epoch = stand.epoch
                return connection, going_on.after, self.outbox.lost()
            hub.hub.disconnect(connection)
            self._begin(going_on.after, going_on.new_epoch, going_on.lost, goes_on=going_on.hub_went_back)

    def _begin(self, after: int, reason: str, lost: Lost | None, *, goes_on: bool) -> None:
        self.seat.epoch = b""
        self.seat.turning(goes_on)
        self.outbox.begin_epoch(after, reason, lost)

    def lease(self, hub: HubDesk, road: Road) -> bool:
        """Ask the hub once, if there is an epoch to ask in; whether it answered."""
        if not self.seat.epoch:
            return False
        assert self.leasing._agreed()
        road.hub, road.name = hub, self.name
        try:
            self.leasing._round(road)
        except LinkBroken:
            self.leasing._give_up()
            return False
        return True


class Road:
    """The road on which slices are asked for: `said` is everything that ever was, to be said again."""

    def __init__(self) -> None:
        self.said: list[tuple[str, LeaseRequest]] = []
        self.arrives = True
        self.is_heard = True
        self.hub: HubDesk
        self.name = ""

    def open(self, timeout_s: float) -> None:
        """There it is."""

    def exchange(self, request: LeaseRequest, timeout_s: float) -> LeaseAnswer:
        """Ask once; neither the question nor the answer need arrive."""
        self.said.append((self.name, request))
        if not self.arrives:
            raise LinkBroken("lost on the way")
        answer = self.hub.lending.lease(self.hub.sources[self.name], request)
        if not self.is_heard:
            raise LinkBroken("lost on the way back")
        return answer

    def is_outdated(self) -> bool:
        """Never."""
        return False

    def close(self) -> None:
        """It is not ours."""
