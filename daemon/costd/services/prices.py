"""Prices: the book that everything is priced by, and what operators change about it.

The book is replaced whole after a change is on disk; whoever is in the middle of pricing goes on with the one it has.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from costd.clock import Clock
from costd.domain.access import Caller
from costd.domain.errors import Forbidden, Invalid, NotFound
from costd.domain.price_table import PriceTable
from costd.domain.pricebook import MatchedPrice, PriceBook, Quote
from costd.domain.rates import Context
from costd.services.membership import Membership
from costd.services.price_checks import check_table
from costd.store import price_state
from costd.store.audit import append_audit
from costd.store.commit import Change, Commit
from costd.store.orgs import OWN_ORG, find_org
from costd.store.price_list import PriceList
from costd.store.price_sources import FILE
from costd.store.price_state import HeldTable, PriceState
from costd.store.reader import Readers

if TYPE_CHECKING:
    from costd.store.ticket import Ticket
    from costd.store.writer import Writer

#: How long a change of prices may take to get to the disk.
WRITE_TIMEOUT_S = 30.0

_log = logging.getLogger(__name__)


class Made(Protocol):
    """What comes of a change: the prices it makes, None where they are the same."""

    @property
    def state(self) -> PriceState | None:
        """The prices."""


class Tables(NamedTuple):
    """The tables in force."""

    list: HeldTable
    file: HeldTable | None
    installed_version: str


_Made = TypeVar("_Made", bound=Made)


class Prices:
    """Holds the book in force; changes it."""

    def __init__(
        self, writer: Writer, readers: Readers, clock: Clock, installed: PriceList, membership: Membership
    ) -> None:
        """Load the prices in force; `installed` is the list that came with costd or its library."""
        self._writer = writer
        self._readers = readers
        self._clock = clock
        self._membership = membership
        self.installed = installed
        self._tables: dict[tuple[bytes, int], PriceTable] = {}
        self.use(writer.submit(Change(lambda commit: price_state.read_price_state(commit, installed))).wait())

    def use(self, state: PriceState) -> None:
        """Price by `state` from now on."""
        listed = self._table(state.list, None)
        file = self._table(state.file, listed) if state.file is not None else None
        if file is not None and not file.counts_like(listed.units):
            # After an upgrade of the library only; a wrong price is worse than the list's.
            _log.warning("the imported price file counts units otherwise than the list: import it anew; it is not used")
            file = None
        kept = {(held.digest, held.source_id) for held in (state.list, state.file) if held is not None}
        self._tables = {key: table for key, table in self._tables.items() if key in kept}
        self.state = state
        self.caller_id = state.caller_id
        self.book = PriceBook(listed, state.rules, file, state.rules_id)

    def _table(self, held: HeldTable, listed: PriceTable | None) -> PriceTable:
        key = (held.digest, held.source_id)
        units = listed.units if listed is not None else None
        table = self._tables.get(key)
        if table is None or (units is not None and table.units is not units):
            table = self._tables[key] = PriceTable(held.body, units, held.source_id)
        return table

    @property
    def version(self) -> str:
        """The version of the list in force."""
        return self.book.version

    def canonical_provider(self, name: str) -> str:
        """The one lower-case id of a provider named by a caller; its own words where the list has none."""
        return self.book.canonical_provider(name)

    # -- tables -----------------------------------------------------------------------------------------------------

    def tables(self, caller: Caller) -> Tables:
        """The tables in force."""
        caller.require("read")
        return Tables(self.state.list, self.state.file, self.installed.version)

    def import_table(self, caller: Caller, kind: str, name: str, table: PriceList) -> Ticket[Tables]:
        """Put a compiled table in force: a price "file" before the list, or another "list".

        Raises Invalid where it is not whole, or something in it cannot be used.
        """
        self._require_own(caller)
        self.require_no_hub("prices are set")
        held = self.state.file
        check_table(table, kind, self.book, held.body if held is not None else None)

        def apply(commit: Commit) -> None:
            price_state.import_table(commit, kind, name, table, self.installed, caller.key_id)
            told: dict[str, object] = {"kind": kind, "name": name, "version": table.version}
            append_audit(commit, caller.org_id, caller.key_id, "price_table.imported", table.digest, told)

        return self._change_tables(caller, apply)

    def drop_table(self, caller: Caller, kind: str) -> Ticket[Tables]:
        """Take an imported table out of force: no "file", or the "list" that is installed. NotFound from the ticket."""
        self._require_own(caller)
        self.require_no_hub("prices are set")

        def apply(commit: Commit) -> None:
            if not price_state.drop_table(commit, kind):
                absent = "no price file is imported" if kind == FILE else "the list in force is the installed one"
                raise NotFound(absent)
            append_audit(commit, caller.org_id, caller.key_id, "price_table.removed", kind, {})

        return self._change_tables(caller, apply)

    def _change_tables(self, caller: Caller, apply: Callable[[Commit], None]) -> Ticket[Tables]:
        def changed(commit: Commit) -> PriceState:
            apply(commit)
            return self.read_state(commit)

        return self._writer.submit(Change(changed, self.use), lambda _: self.tables(caller))

    def org_id(self, caller: Caller, name: str) -> int:
        """The number of an organization that the caller may see. Raises Invalid."""
        with self._readers.snapshot() as connection:
            found = find_org(connection, name)
        if found is None or caller.org_id not in {found, OWN_ORG}:
            raise Invalid("org", f'there is no organization "{name[:64]}" that this key may see')
        return found

    def write(self, apply: Callable[[Commit], _Made]) -> _Made:
        """Carry out a change; everything is priced by the prices it makes, if any, when this returns. Blocks."""

        def use(made: _Made) -> None:
            if made.state is not None:
                self.use(made.state)

        made: _Made = self._writer.submit(Change(apply, use)).wait(WRITE_TIMEOUT_S)
        return made

    def read_state(self, commit: Commit) -> PriceState:
        """The prices in force as of a commit."""
        return price_state.read_price_state(commit, self.installed)

    def require_no_hub(self, what: str, command: str = "costd prices") -> None:
        """Raise Forbidden, saying where to go, where `what` ("prices are set") is the business of a hub."""
        self._membership.require_no_hub(what, command)

    def _require_own(self, caller: Caller) -> None:
        caller.require("admin")
        if caller.org_id != OWN_ORG:
            raise Forbidden("price tables are everybody's: use a key of the installation's own organization")

    # -- questions --------------------------------------------------------------------------------------------------

    def now_ms(self) -> int:
        """The moment whose prices are in force."""
        return self._clock.now_ms()

    def match(
        self,
        caller: Caller,
        provider: str,
        model: str,
        at_ms: int | None = None,
        context: Context = (),
        org: str = "",
    ) -> MatchedPrice:
        """What a model costs an organization (the caller's own, unless named) at a moment, now by default, and why.

        Raises NotFound, and Invalid where there is no such organization.
        """
        caller.require("read")
        if not model.strip():
            raise Invalid("model", "is required: the model as the provider names it")
        moment = self._clock.now_ms() if at_ms is None else at_ms
        org_id = self.org_id(caller, org) if org else caller.org_id
        found = self.book.match(org_id, provider, model, moment, context)
        if isinstance(found, Quote):
            raise NotFound(f"{found.warnings[0].removeprefix('not priced: ')}; `costd prices set` gives it one")
        return found
