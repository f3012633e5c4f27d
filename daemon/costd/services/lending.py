"""A hub's authority over windows: its own callers have what is left, and sources are granted slices of it.

Whatever is granted is charged in memory first, under the lock that the hub's own callers reserve under, then written,
then answered. What comes back is taken in the writer's thread, where how far the source has forwarded is certain.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from costd.clock import Clock
from costd.domain.books import Books, Holder
from costd.domain.errors import Forbidden
from costd.domain.lease import LeaseAnswer, LeaseRequest, Report, Return, Slice, Want
from costd.domain.reservation import NEVER_MS
from costd.domain.window_key import WindowKey
from costd.services.funding import BUDGET_EXCEEDED, LEASE_UNAVAILABLE, Authority, Waitable
from costd.services.hub import CONTESTED, OPEN, Hub
from costd.services.live_window import LiveWindow
from costd.services.tills import Tills
from costd.store import lease_rows
from costd.store.budget_rows import AccountRow, write_accounts
from costd.store.commit import Change, Commit
from costd.store.hub_state import HubState, ensure_hub_state, read_hub_state, renew_hub_epoch
from costd.store.lease_rows import Succession
from costd.store.sources import KnownSource, is_forgotten

if TYPE_CHECKING:
    from costd.metrics import Metrics
    from costd.store.reader import Readers
    from costd.store.writer import Writer

WRITE_TIMEOUT_S = 10.0
#: How long others are asked to give back what they do not need, once a source was refused what a call of its needs.
HUNGER_S = 5.0
#: The hub's own callers, where sources are told apart.
_OWN = 0
_NOTHING = AccountRow(0, 0, 0)
_AWAITING = "this ledger was restored, and waits for its sources to tell what they hold"

_log = logging.getLogger(__name__)


class _Met(NamedTuple):
    """What a request has changed on disk."""

    hub_epoch: bytes
    is_reported: bool
    returns: Sequence[Return]
    report: Sequence[Report]


class Lending(Authority):
    """Grants slices. `lease` is for any thread, and blocks until it is on disk; the rest is as Funding says."""

    def __init__(
        self,
        writer: Writer,
        readers: Readers,
        clock: Clock,
        metrics: Metrics,
        tills: Tills,
        hub: Hub,
        *,
        use_minutes: float,
    ) -> None:
        """`use_minutes` is how long sources may use slices without a word from here."""
        self._writer = writer
        self._readers = readers
        self._clock = clock
        self._metrics = metrics
        self._tills = tills
        self._hub = hub
        self._use_ms = round(use_minutes * 60_000)
        self._epoch = b""
        #: Sources that have to report before anything is granted.
        self._awaited: frozenset[int] = frozenset()
        #: Grants that are in memory, and not yet known to be on disk.
        self._unwritten: dict[tuple[WindowKey, int, bytes], int] = {}
        #: Who was refused money that others hold, and until when these are asked for it (monotonic seconds).
        self._hungry: dict[WindowKey, tuple[int, float]] = {}

    # -- for the hub's own callers -----------------------------------------------------------------------------------

    def shortage(self, lives: Sequence[LiveWindow], amount_nano: int) -> Waitable | None:
        """What sources hold comes back within seconds, if at all: a call does not wait for it."""
        for live in lives:
            if amount_nano > live.left_nano and live.books.held_nano():
                self._note_hunger(live.key, _OWN)
        return None

    def reason(self, live: LiveWindow) -> str:
        """The money is spent, reserved or with sources; or it is not known yet what sources hold."""
        return LEASE_UNAVAILABLE if self._awaited else BUDGET_EXCEEDED

    def explained(self, live: LiveWindow) -> str:
        """Only after a restore."""
        return _AWAITING

    def may_drop(self, live: LiveWindow) -> bool:
        """The rows know everything, once what was granted is written."""
        return not any(key == live.key for key, _, _ in self._unwritten)

    # -- sources come and go -----------------------------------------------------------------------------------------

    @property
    def awaited(self) -> frozenset[int]:
        """The numbers of sources that have to report before anything is granted."""
        return self._awaited

    def look(self, hub_epoch: bytes) -> None:
        """This is the hub's epoch; where it is another than before it is looked up who has to report."""
        if hub_epoch == self._epoch:
            return
        with self._readers.snapshot() as connection:
            awaited = lease_rows.read_awaited(connection, hub_epoch)
        with self._tills.lock:
            self._epoch = hub_epoch
            self._await(awaited)
        if awaited:
            _log.warning(
                "this ledger was restored: nothing is granted, and hard budgets deny, until every source has told what "
                "it holds, or is forgotten",
                extra={"sources": len(awaited)},
            )

    def forget(self, source_id: int) -> None:
        """A source is forgotten, on disk: what it held and has not spent is free."""
        with self._tills.lock:
            for live in self._tills.lives():
                reserved_nano = live.till.reserved_nano
                self._move(live, partial(Books.forget, source=source_id, reserved_nano=reserved_nano))
            self._unwritten = {at: granted for at, granted in self._unwritten.items() if at[1] != source_id}
            self._await(self._awaited - {source_id})

    def _await(self, sources: frozenset[int]) -> None:
        """Let these be the sources that have to report."""
        was_waiting, self._awaited = bool(self._awaited), sources
        if was_waiting != bool(sources):
            self.usable_until_ms = 0 if sources else NEVER_MS
            for live in self._tills.lives():
                self._bind(live)
            if not sources:
                _log.info("every source has told what it holds; budgets are granted again")

    # -- what a source asks ------------------------------------------------------------------------------------------

    def lease(self, source: KnownSource, request: LeaseRequest) -> LeaseAnswer:
        """Grant, take back, or be told of slices. Raises Overloaded, OutOfSpace or Unavailable."""
        answer = self._lease(source, request)
        outcome = "answered" if answer.confirmed else "new_epoch" if answer.new_epoch else "refused"
        self._metrics.budgets.slices_told("awaiting" if answer.awaiting else outcome)
        return answer

    def _lease(self, source: KnownSource, request: LeaseRequest) -> LeaseAnswer:
        with self._readers.snapshot() as connection:
            state: HubState | None = read_hub_state(connection)
            held = lease_rows.read_succession(connection, source.id, request.epoch)
        assert state is not None, "a hub has its state from its first start"
        if held is not None and request.hub_epoch == state.epoch and held.proven < request.acknowledged:
            _log.warning(
                "this ledger lacks what it had acknowledged: it was restored from a backup",
                extra={"source": source.name},
            )
            renewed: HubState = self._write(renew_hub_epoch)
            state = renewed
        self.look(state.epoch)
        if held is None:  # the road that forwards comes first: on it turns out which epoch it is
            return LeaseAnswer(state.epoch)
        claim = self._hub.claim(source.id, request.epoch, request.incarnation)
        if claim == CONTESTED or not _succeeds(held, request):
            _log.warning("another process of a source may use its slices", extra={"source": source.name})
            return LeaseAnswer(state.epoch, new_epoch=True)
        if claim == OPEN:
            return LeaseAnswer(state.epoch)
        is_reported = held.reported_epoch == state.epoch
        if held.incarnation != request.incarnation or request.returns or not is_reported:
            met = self._meet(source, request)
            if met is None:
                return LeaseAnswer(state.epoch, new_epoch=True)
            is_reported = met.is_reported
        if not is_reported:
            return LeaseAnswer(state.epoch, report_wanted=True)
        windows = dict.fromkeys(want.window for want in request.wants)
        live = self._brought(source, windows)
        if not self._awaited and live:
            self._grant(source, request, live)
        live |= self._asked_back(source.id, request.epoch)
        windows |= dict.fromkeys(live)
        windows |= dict.fromkeys(each.window for each in request.returns if each.epoch == request.epoch)
        return self._answer(source, request, windows, live)

    def _meet(self, source: KnownSource, request: LeaseRequest) -> _Met | None:
        """Take down who asks, what it reports and what it gives back; None where another process came first."""

        def apply(commit: Commit) -> _Met | None:
            state = ensure_hub_state(commit)
            held = lease_rows.read_succession(commit.connection, source.id, request.epoch)
            if held is None or not _succeeds(held, request):
                return None
            if held.incarnation != request.incarnation:
                lease_rows.store_succession(commit, source.id, request.epoch, request.incarnation)
            is_reported, report = held.reported_epoch == state.epoch, request.report or ()
            if not is_reported and _tells_all(held, request):
                lease_rows.take_report(commit, source.id, report)
                lease_rows.store_reported(commit, source.id, state.epoch)
                is_reported = True
            returns = lease_rows.take_returns(commit, source.id, held.proven, request.returns) if is_reported else ()
            return _Met(state.epoch, is_reported, returns, report if is_reported else ())

        def after(met: _Met | None) -> None:
            if met is not None:
                self._take_over(source.id, met)

        met: _Met | None = self._write(apply, after)
        return met

    def _take_over(self, source_id: int, met: _Met) -> None:
        with self._tills.lock:
            for each in met.returns:
                if (live := self._tills.live(each.window)) is not None:
                    holder, reserved_nano = Holder(source_id, each.epoch), live.till.reserved_nano
                    returned_nano = each.returned_nano
                    self._move(
                        live,
                        partial(
                            Books.accept_return,
                            holder=holder,
                            returned_nano=returned_nano,
                            reserved_nano=reserved_nano,
                        ),
                    )
            for told in met.report:
                if (live := self._tills.live(told.window)) is not None:
                    pair = told.granted_nano, min(told.returned_nano, told.granted_nano)
                    said, reserved_nano = {told.epoch: pair}, live.till.reserved_nano
                    self._move(live, partial(Books.report, source=source_id, told=said, reserved_nano=reserved_nano))
            if met.is_reported and source_id in self._awaited and met.hub_epoch == self._epoch:
                self._await(self._awaited - {source_id})

    def _brought(self, source: KnownSource, windows: Collection[WindowKey]) -> dict[WindowKey, LiveWindow]:
        """The windows that the source may have money of, in memory."""
        ticket = self._tills.bring(windows)
        if ticket is not None:
            ticket.wait(WRITE_TIMEOUT_S)
        orgs = {org_id for org_id, _ in source.orgs}
        found = {key: live for key in windows if (live := self._tills.live(key)) is not None}
        return {key: live for key, live in found.items() if live.budget.org_id in orgs and live.budget.hard}

    # -- grants ------------------------------------------------------------------------------------------------------

    def _grant(self, source: KnownSource, request: LeaseRequest, found: Mapping[WindowKey, LiveWindow]) -> None:
        """Grant what is wanted as far as it fits: in memory, then on disk."""
        with self._tills.lock:
            for want in request.wants:
                live = found.get(want.window)
                if live is not None and live.is_sound and live is self._tills.live(want.window):
                    self._grant_one(live, source.id, request.epoch, want)
            places = [(key, source.id, request.epoch) for key in found]
            unwritten = {at: self._unwritten[at] for at in places if at in self._unwritten}
        if not unwritten:
            return
        grants = {at: (granted, 0) for at, granted in unwritten.items()}

        def apply(commit: Commit) -> bool:
            if is_there := not is_forgotten(commit.connection, source.id):
                write_accounts(commit, grants)
            return is_there

        if not self._write(apply):
            self.forget(source.id)
            raise Forbidden(f'the source "{source.name}" was forgotten')
        with self._tills.lock:
            for at, granted in unwritten.items():
                if self._unwritten.get(at) == granted:
                    del self._unwritten[at]

    def _grant_one(self, live: LiveWindow, source_id: int, epoch: bytes, want: Want) -> None:
        holder, before = Holder(source_id, epoch), live.books
        reserved_nano = live.till.reserved_nano
        # While another one waits for money nobody gets any ahead of need.
        wanted_nano = want.needed_nano if self._is_wanted(live.key, source_id) else want.wanted_nano
        self._move(live, lambda books: books.grant(holder, want.needed_nano, wanted_nano, reserved_nano))
        granted = live.books.account(holder).granted_nano
        if granted < want.needed_nano:
            self._note_hunger(live.key, source_id)
        elif want.needed_nano and self._hungry.get(live.key, (None, 0.0))[0] == source_id:
            del self._hungry[live.key]
        if granted > before.account(holder).granted_nano:
            self._unwritten[live.key, source_id, epoch] = granted

    def _asked_back(self, source_id: int, epoch: bytes) -> dict[WindowKey, LiveWindow]:
        """Windows that others need money of, and of which this source has some, even if it never heard that."""
        now_s = self._clock.monotonic_s()
        with self._tills.lock:
            self._hungry = {key: each for key, each in self._hungry.items() if now_s < each[1]}
            found = {key: self._tills.live(key) for key, (hungry, _) in self._hungry.items() if hungry != source_id}
            at = Holder(source_id, epoch)
            return {key: live for key, live in found.items() if live is not None and live.books.account(at).held_nano}

    def _note_hunger(self, key: WindowKey, source_id: int) -> None:
        """Ask the others for money, for one at a time: where all are short, each would wait for the others."""
        now_s = self._clock.monotonic_s()
        hungry, until_s = self._hungry.get(key, (source_id, 0.0))
        if hungry == source_id or until_s < now_s:
            self._hungry[key] = source_id, now_s + HUNGER_S

    def _is_wanted(self, key: WindowKey, source_id: int) -> bool:
        """Whether somebody else waits for money of a window."""
        hungry, until_s = self._hungry.get(key, (source_id, 0.0))
        return hungry != source_id and self._clock.monotonic_s() < until_s

    def _answer(
        self,
        source: KnownSource,
        request: LeaseRequest,
        windows: Collection[WindowKey],
        live: Mapping[WindowKey, LiveWindow],
    ) -> LeaseAnswer:
        """How it all stands now: what is on disk, and how far the source has come, as of one moment."""
        with self._readers.snapshot() as connection:
            held = lease_rows.read_succession(connection, source.id, request.epoch)
            accounts = lease_rows.read_accounts(connection, source.id, request.epoch, windows)
        with self._tills.lock:
            slices = [self._slice(key, accounts.get(key, _NOTHING), live.get(key), source.id) for key in windows]
        return LeaseAnswer(
            self._epoch,
            confirmed=True,
            awaiting=bool(self._awaited),
            use_ms=self._use_ms,
            watermark=held.watermark if held is not None else 0,
            slices=slices,
        )

    def _slice(self, key: WindowKey, account: AccountRow, live: LiveWindow | None, source_id: int) -> Slice:
        if live is None:
            return Slice(key, *account, unknown=True)
        left_nano = live.left_nano
        return Slice(
            key,
            *account,
            available_nano=max(0, left_nano),
            limit_nano=live.budget.amount_nano,
            spent_nano=max(0, live.books.settled_nano),
            recall=self._is_wanted(key, source_id) or left_nano < 0,
        )

    def _write(self, apply: Callable[[Commit], Any], after: Callable[[Any], None] | None = None) -> Any:
        """Few by themselves, and what makes room for calls: written while callers are turned away, too."""
        return self._writer.submit(Change(apply, after, bounded=False)).wait(WRITE_TIMEOUT_S)


def _succeeds(held: Succession, request: LeaseRequest) -> bool:
    """Whether the process that asks is the one that may use the slices of this epoch, or comes after that one."""
    return held.incarnation in {b"", request.incarnation, request.confirmed, *request.pending}


def _tells_all(held: Succession, request: LeaseRequest) -> bool:
    """Whether this hub knows after this request all that the source holds, and all that it has spent of it."""
    if not request.hub_epoch and request.report is None:
        return True  # no hub ever granted it anything
    return request.report is not None and held.proven >= request.last_seq
