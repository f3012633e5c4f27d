"""Sources of a hub: making, listing and forgetting them, and which one a key belongs to, from memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from costd.clock import Clock
from costd.domain.access import Caller
from costd.domain.errors import Conflict, Forbidden, Invalid, NotFound
from costd.domain.ids import public_id
from costd.domain.link import AWAY, CONNECTED, FORGOTTEN, NEVER
from costd.domain.usage import check_string
from costd.metrics.road import SourceReading
from costd.services.access import Access, NewKey
from costd.store.audit import append_audit
from costd.store.budget_rows import return_all
from costd.store.commit import Change, Commit
from costd.store.keys import StoredKey, insert_key, revoke_key
from costd.store.orgs import OWN_ORG, ensure_org, org_name
from costd.store.reader import Readers
from costd.store.sources import (
    KnownSource,
    SourceState,
    find_source,
    insert_source,
    load_sources,
    load_states,
    store_forgotten,
    store_key,
)

if TYPE_CHECKING:
    from costd.store.writer import Writer

#: Each organization is looked up for every batch of a source.
MAX_ORGS = 100
#: A clock that is further off than this moves records into other hours than they belong to, and is warned about.
MAX_SKEW_MS = 5_000
_DAY_MS = 86_400_000
_WRITE_TIMEOUT_S = 30.0


class LiveSource(NamedTuple):
    """What is known of a source in memory alone.

    `connected_ms` is since when it is connected, None while it is not; `oldest_unforwarded_ms` is by its own clock,
    None where nothing waits. Both in UTC milliseconds. `problem` is "" where there is none.
    """

    connected_ms: int | None
    lag_records: int = 0
    oldest_unforwarded_ms: int | None = None
    problem: str = ""


class CreatedSource(NamedTuple):
    """A new source with the secret of its key, which is shown this once."""

    source: KnownSource
    secret: str


class SourceReport(NamedTuple):
    """A source as the hub's operator sees it; `lag_ms` is how old the oldest record is that it still holds."""

    source: KnownSource
    state: str
    stored: SourceState
    lag_records: int
    lag_ms: int
    problem: str


class _Changed(NamedTuple):
    """A source as it is on disk now, and the keys that changed with it."""

    source: KnownSource
    keys: tuple[StoredKey, ...]


class Sources:
    """Knows every source by its key."""

    def __init__(self, writer: Writer, readers: Readers, access: Access, clock: Clock) -> None:
        self._writer = writer
        self._readers = readers
        self._access = access
        self._clock = clock
        self._live: Callable[[], Mapping[int, LiveSource]] = dict
        self._forgotten: Callable[[int], object] = bool
        self._awaited: Callable[[], Collection[int]] = tuple
        with readers.snapshot() as connection:
            self._by_key = {source.key_id: source for source in load_sources(connection)}

    def read_live_from(self, live: Callable[[], Mapping[int, LiveSource]]) -> None:
        """Take what is known of sources in memory, by their numbers, from `live`."""
        self._live = live

    def read_awaited_from(self, awaited: Callable[[], Collection[int]]) -> None:
        """Take the numbers of sources that have to tell a restored hub what they hold from `awaited`."""
        self._awaited = awaited

    def tell_forgotten(self, callback: Callable[[int], object]) -> None:
        """Call `callback` with the number of a source that is forgotten; in the writer's thread, quick."""
        self._forgotten = callback

    def of(self, caller: Caller) -> KnownSource:
        """The source that the caller is. Raises Forbidden where it is none, or one that was forgotten."""
        caller.require("source")
        source = self._by_key.get(caller.key_id)
        if source is None:
            raise Forbidden(
                f'the key "{caller.name}" belongs to no source; `costd sources create` makes one with a key'
            )
        if source.forgotten_ms is not None:
            raise Forbidden(f'the source "{source.name}" was forgotten; `costd sources create` makes another')
        return source

    def create(self, caller: Caller, name: str, organizations: tuple[str, ...]) -> CreatedSource:
        """Make a source, its key, and the organizations that do not exist, in one transaction. Blocks.

        The first of `organizations` is that of the source's own records; none means the caller's own. Needs an admin
        of the installation's own organization. Raises Forbidden, Invalid, and Conflict where the name is taken.
        """
        _require_own(caller)
        _check_new(name, organizations)
        drafted, secret = self._access.draft_key(NewKey(name, ("source",), description="of a source"))
        source_id = public_id(self._clock.now_ms())

        def apply(commit: Commit) -> _Changed:
            if (held := find_source(commit.connection, name)) is not None:
                raise _taken(held)
            named = organizations or (org_name(commit.connection, caller.org_id),)
            orgs = [ensure_org(commit, each, caller.key_id) for each in named]
            key = replace(drafted, org_id=orgs[0])
            insert_key(commit, key, caller.key_id)
            source = insert_source(commit, source_id, name, key.id, orgs)
            told: dict[str, object] = {"name": name, "organizations": list(named)}
            append_audit(commit, caller.org_id, caller.key_id, "source.created", source_id, told)
            return _Changed(source, (key,))

        return CreatedSource(self._change(apply), secret)

    def renew_key(self, caller: Caller, wanted: str) -> CreatedSource:
        """Give the source with this name or id another key; the one before is revoked. Blocks.

        Needs an admin of the installation's own organization. Raises Forbidden, Invalid, NotFound, and Conflict where
        the source was forgotten.
        """
        _require_own(caller)
        drafted, secret = self._access.draft_key(NewKey(wanted, ("source",), description="of a source"))

        def apply(commit: Commit) -> _Changed:
            source = _found(commit, wanted)
            if source.forgotten_ms is not None:
                raise _taken(source)
            org_id = source.orgs[0][0]
            old = revoke_key(commit, org_id, source.key_id, caller.key_id)
            new = replace(drafted, org_id=org_id, name=source.name)
            insert_key(commit, new, caller.key_id)
            return _Changed(store_key(commit, source, new.id), (old, new))

        return CreatedSource(self._change(apply), secret)

    def list(self, caller: Caller) -> Sequence[SourceReport]:
        """Every source by name. Needs an admin of the installation's own organization; reads the ledger."""
        _require_own(caller)
        return self._reports()

    def readings(self) -> Sequence[SourceReading]:
        """Every source as metrics show it; reads the ledger."""
        return [
            SourceReading(
                report.source.id,
                report.source.name,
                report.state,
                report.lag_records,
                report.stored.seen_ms,
                report.stored.clock_skew_ms,
                report.stored.quarantined,
                report.stored.lost,
            )
            for report in self._reports()
        ]

    def forget(self, caller: Caller, wanted: str) -> SourceReport:
        """Revoke the key of the source with this name or id, and wait for it no more; again is the same answer.

        What it has brought stays; what it held of budgets and has not spent is free again. Needs an admin of the
        installation's own organization, and blocks. Raises Forbidden, Invalid, NotFound.
        """
        _require_own(caller)
        if not wanted:
            raise Invalid("id", "must name the source to forget by its id or name")

        def apply(commit: Commit) -> _Changed:
            source = _found(commit, wanted)
            key = revoke_key(commit, source.orgs[0][0], source.key_id, caller.key_id)
            if source.forgotten_ms is None:
                source = store_forgotten(commit, source)
                return_all(commit, source.id)
                told: dict[str, object] = {"name": source.name}
                append_audit(commit, caller.org_id, caller.key_id, "source.forgotten", source.public_id, told)
            return _Changed(source, (key,))

        forgotten = self._change(apply)
        return next(report for report in self._reports() if report.source.id == forgotten.id)

    def _change(self, apply: Callable[[Commit], _Changed]) -> KnownSource:
        changed: _Changed = self._writer.submit(Change(apply, after=self._take_over)).wait(_WRITE_TIMEOUT_S)
        return changed.source

    def _take_over(self, changed: _Changed) -> None:
        source = changed.source
        others = {key_id: other for key_id, other in self._by_key.items() if other.id != source.id}
        self._by_key = others | {source.key_id: source}
        for key in changed.keys:
            self._access.take_over(key)
        if source.forgotten_ms is not None:
            self._forgotten(source.id)

    def _reports(self) -> Sequence[SourceReport]:
        now_ms = self._clock.now_ms()
        with self._readers.snapshot() as connection:
            known = {source.id: source for source in load_sources(connection)}
            states = load_states(connection, now_ms - _DAY_MS)
        live, awaited = self._live(), self._awaited()
        return [
            _report(known[stored.id], stored, live.get(stored.id), now_ms, is_awaited=stored.id in awaited)
            for stored in states
        ]


def sources_of(sources: Sources | None, caller: Caller) -> Sources:
    """The sources of this hub, for an admin; NotFound where it is none."""
    caller.require("admin")
    if sources is None:
        raise NotFound("this daemon is a sidecar; sources belong to a hub (`costd hub`)")
    return sources


def _report(
    source: KnownSource, stored: SourceState, live: LiveSource | None, now_ms: int, *, is_awaited: bool
) -> SourceReport:
    live = live or LiveSource(None)
    if source.forgotten_ms is not None:
        return SourceReport(source, FORGOTTEN, stored, 0, 0, "")
    state = CONNECTED if live.connected_ms is not None else NEVER if stored.seen_ms is None else AWAY
    lag_ms = 0
    if live.oldest_unforwarded_ms is not None:
        lag_ms = max(0, now_ms - stored.clock_skew_ms - live.oldest_unforwarded_ms)
    return SourceReport(
        source, state, stored, live.lag_records, lag_ms, "; ".join(_problems(stored, live, is_awaited=is_awaited))
    )


def _found(commit: Commit, wanted: str) -> KnownSource:
    source = find_source(commit.connection, wanted)
    if source is None:
        raise NotFound(f'there is no source with the id or name "{wanted}"')
    return source


def _taken(source: KnownSource) -> Conflict:
    state = "there is" if source.forgotten_ms is None else "there was, and is remembered,"
    return Conflict(f'{state} a source "{source.name}" already; give another name')


def _problems(stored: SourceState, live: LiveSource, *, is_awaited: bool) -> list[str]:
    found = [live.problem] if live.problem else []
    if is_awaited:
        found.append("this hub was restored, and has to hear from it what it holds of budgets: until then these deny")
    if stored.key_revoked_ms is not None:
        found.append("its key was revoked: `costd sources create --renew` makes another")
    if abs(skew_ms := stored.clock_skew_ms) > MAX_SKEW_MS:
        found.append(f"its clock is {abs(skew_ms) / 1000:.1f} s {'behind' if skew_ms > 0 else 'ahead of'} the hub's")
    if stored.recent_epochs > 1:
        found.append(
            f"it began anew in the last day ({stored.recent_epochs} epochs): restored from a backup, or cloned"
        )
    return found


def _require_own(caller: Caller) -> None:
    caller.require("admin")
    if caller.org_id != OWN_ORG:
        raise Forbidden("sources are the whole hub's: use a key of the installation's own organization")


def _check_new(name: str, organizations: tuple[str, ...]) -> None:
    if not name:
        raise Invalid("name", "must say what the source is called")
    check_string(name, "name")
    if len(organizations) > MAX_ORGS:
        raise Invalid("organizations", f"must be at most {MAX_ORGS}")
    for at, organization in enumerate(organizations):
        if not organization:
            raise Invalid(f"organizations[{at}]", "must be the name of an organization")
        check_string(organization, f"organizations[{at}]")
    if len(set(organizations)) < len(organizations):
        raise Invalid("organizations", "must name each organization once")
