"""Prices: the book that everything is priced by, and what operators change about it.

The book is replaced whole after a change is on disk; whoever is in the middle of pricing goes on with the one it has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from costd.clock import Clock
from costd.domain.access import Caller
from costd.domain.errors import Forbidden, Invalid, NotFound
from costd.domain.ids import public_id
from costd.domain.price_rule import MIN_MS, PriceRule, check_rule
from costd.domain.price_table import PriceTable, read_header
from costd.domain.pricebook import MatchedPrice, PriceBook, Quote
from costd.domain.rates import Context
from costd.store import price_rules, price_state
from costd.store.commit import Change, Commit
from costd.store.keys import append_audit
from costd.store.price_list import PriceList
from costd.store.price_rules import StoredRule
from costd.store.price_sources import FILE
from costd.store.price_state import HeldTable, PriceState
from costd.store.reader import Readers

if TYPE_CHECKING:
    from costd.store.ticket import Ticket
    from costd.store.writer import Writer

#: The organization of whoever runs the installation: its admins set prices for everybody.
OWN_ORG = 1


class NewRule(NamedTuple):
    """A rule to be made; `from_ms` None: from now on, or for all times where the model had no price.

    `org` is the name of the organization it is for, "" for everybody. See PriceRule for the rest.
    """

    rule: PriceRule
    org: str = ""
    from_ms: int | None = None


class Tables(NamedTuple):
    """The tables in force."""

    list: HeldTable
    file: HeldTable | None
    installed_version: str


class Prices:
    """Holds the book in force; changes it."""

    def __init__(self, writer: Writer, readers: Readers, clock: Clock, installed: PriceList) -> None:
        """Load the prices in force; `installed` is the list that came with costd or its library."""
        self._writer = writer
        self._readers = readers
        self._clock = clock
        self._installed = installed
        self._tables: dict[tuple[bytes, int], PriceTable] = {}
        self._use(writer.submit(Change(lambda commit: price_state.read_price_state(commit, installed))).wait())

    def _use(self, state: PriceState) -> None:
        """Price by `state` from now on."""
        listed = self._table(state.list, None)
        file = self._table(state.file, listed) if state.file is not None else None
        kept = {(held.digest, held.source_id) for held in (state.list, state.file) if held is not None}
        self._tables = {key: table for key, table in self._tables.items() if key in kept}
        self.state = state
        self.caller_id = state.caller_id
        self.book = PriceBook(listed, state.rules, file, state.rules_id)

    def _table(self, held: HeldTable, listed: PriceTable | None) -> PriceTable:
        key = (held.digest, held.source_id)
        if key not in self._tables:
            units = listed.units if listed is not None else None
            self._tables[key] = PriceTable(held.body, units, held.source_id)
        return self._tables[key]

    @property
    def version(self) -> str:
        """The version of the list in force."""
        return self.book.version

    def canonical_provider(self, name: str) -> str:
        """The one lower-case id of a provider named by a caller; its own words where the list has none."""
        return self.book.canonical_provider(name)

    # -- rules ------------------------------------------------------------------------------------------------------

    def set_rule(self, caller: Caller, new: NewRule) -> Ticket[StoredRule]:
        """Put a rule in the books; the ticket resolves when everything is priced by it.

        Raises Invalid, Forbidden.
        """
        caller.require("admin")
        rule = self._checked(caller, new)
        return self._change(caller, lambda commit: self._insert(commit, caller, rule), rule.id)

    def replace_rule(self, caller: Caller, rule_id: str, new: NewRule) -> Ticket[StoredRule]:
        """Put a rule in the place of another, which stays in the history. Raises Invalid, Forbidden, NotFound."""
        caller.require("admin")
        rule = self._checked(caller, new)

        def apply(commit: Commit) -> None:
            self._remove(commit, caller, rule_id)
            self._insert(commit, caller, rule)

        return self._change(caller, apply, rule.id)

    def remove_rule(self, caller: Caller, rule_id: str) -> Ticket[StoredRule]:
        """Take a rule out of the books; it stays in the history. NotFound comes from the ticket."""
        caller.require("admin")
        return self._change(caller, lambda commit: self._remove(commit, caller, rule_id), rule_id)

    def rules(self, caller: Caller, *, removed: bool = False) -> list[StoredRule]:
        """The rules that concern the caller's organization, newest first."""
        caller.require("read")
        with self._readers.snapshot() as connection:
            return price_rules.list_rules(connection, caller.org_id, removed=removed)

    def rule(self, caller: Caller, rule_id: str) -> StoredRule:
        """One rule, of the past too. Raises NotFound."""
        found = next((held for held in self.rules(caller, removed=True) if held.rule.id == rule_id), None)
        if found is None:
            raise NotFound(f'there is no price with the id "{rule_id[:64]}"')
        return found

    def _change(self, caller: Caller, apply: Callable[[Commit], None], rule_id: str) -> Ticket[StoredRule]:
        def changed(commit: Commit) -> PriceState:
            apply(commit)
            return price_state.read_price_state(commit, self._installed)

        return self._writer.submit(Change(changed, self._use), lambda _: self.rule(caller, rule_id))

    def _insert(self, commit: Commit, caller: Caller, rule: PriceRule) -> None:
        revision = price_state.next_revision(commit)
        price_rules.insert_rule(commit, rule, caller.key_id, revision)
        append_audit(commit, caller.org_id, caller.key_id, "price.set", rule.id, _audited(rule))

    def _remove(self, commit: Commit, caller: Caller, rule_id: str) -> None:
        revision = price_state.next_revision(commit)
        allowed = (None, caller.org_id) if caller.org_id == OWN_ORG else (caller.org_id,)
        gone = price_rules.remove_rule(commit, allowed, rule_id, caller.key_id, revision)
        append_audit(commit, caller.org_id, caller.key_id, "price.removed", rule_id, _audited(gone))

    def _checked(self, caller: Caller, new: NewRule) -> PriceRule:
        """The rule as it will be kept, after everything about it was checked."""
        org_id = self._org(caller, new.org)
        now_ms = self._clock.now_ms()
        book = self.book
        rule = new.rule._replace(
            id=public_id(now_ms), org_id=org_id, provider=book.canonical_provider(new.rule.provider)
        )
        if new.from_ms is None:
            priced = book.match(org_id or 0, rule.provider, rule.model.rstrip("*"), now_ms, rule.context)
            unknown = isinstance(priced, Quote) or bool(priced.card.defect)
            from_ms = MIN_MS if unknown and not rule.model.endswith("*") else now_ms
        else:
            from_ms = new.from_ms
        rule = check_rule(rule._replace(from_ms=from_ms))
        self._check_whole(rule)
        return rule

    def _check_whole(self, rule: PriceRule) -> None:
        """Refuse a rule whose rates make no sense together with what is below them."""
        if not rule.rates or rule.model.endswith("*"):
            return
        trial = PriceBook(self.book.table, [*self.state.rules, rule], self.book.file)
        found = trial.match(rule.org_id or 0, rule.provider, rule.model, rule.from_ms, rule.context)
        if isinstance(found, MatchedPrice) and found.card.defect:
            raise Invalid("rates", f"do not fit together: {found.card.defect}")

    def _org(self, caller: Caller, name: str) -> int | None:
        if name:
            with self._readers.snapshot() as connection:
                row = connection.execute("SELECT id FROM org WHERE name = ?", (name,)).fetchone()
            if row is None or (row[0] != caller.org_id and caller.org_id != OWN_ORG):
                raise Invalid("org", f'there is no organization "{name[:64]}" that this key may set prices for')
            return int(row[0])
        if caller.org_id != OWN_ORG:
            raise Forbidden("prices for everybody are set with a key of the installation's own organization")
        return None

    # -- tables -----------------------------------------------------------------------------------------------------

    def tables(self, caller: Caller) -> Tables:
        """The tables in force, whole."""
        caller.require("admin")
        return Tables(self.state.list, self.state.file, self._installed.version)

    def import_table(self, caller: Caller, kind: str, name: str, table: PriceList) -> Ticket[Tables]:
        """Put a compiled table in force: a price "file" before the list, or another "list".

        Raises Invalid where it is not whole, or something in it cannot be used.
        """
        self._require_own(caller)
        _check_table(table, self.book)

        def apply(commit: Commit) -> None:
            price_state.import_table(commit, kind, name, table, self._installed, caller.key_id)
            told: dict[str, object] = {"kind": kind, "name": name, "version": table.version}
            append_audit(commit, caller.org_id, caller.key_id, "price_table.imported", table.digest, told)

        return self._change_tables(caller, apply)

    def drop_table(self, caller: Caller, kind: str) -> Ticket[Tables]:
        """Take an imported table out of force: no "file", or the "list" that is installed. NotFound from the ticket."""
        self._require_own(caller)

        def apply(commit: Commit) -> None:
            if not price_state.drop_table(commit, kind):
                absent = "no price file is imported" if kind == FILE else "the list in force is the installed one"
                raise NotFound(absent)
            append_audit(commit, caller.org_id, caller.key_id, "price_table.removed", kind, {})

        return self._change_tables(caller, apply)

    def _change_tables(self, caller: Caller, apply: Callable[[Commit], None]) -> Ticket[Tables]:
        def changed(commit: Commit) -> PriceState:
            apply(commit)
            return price_state.read_price_state(commit, self._installed)

        return self._writer.submit(Change(changed, self._use), lambda _: self.tables(caller))

    def _require_own(self, caller: Caller) -> None:
        caller.require("admin")
        if caller.org_id != OWN_ORG:
            raise Forbidden("price tables are everybody's: use a key of the installation's own organization")

    # -- questions --------------------------------------------------------------------------------------------------

    def match(
        self, caller: Caller, provider: str, model: str, at_ms: int | None = None, context: Context = ()
    ) -> MatchedPrice:
        """What a model costs the caller's organization at a moment, now by default, and why. Raises NotFound."""
        caller.require("read")
        moment = self._clock.now_ms() if at_ms is None else at_ms
        found = self.book.match(caller.org_id, provider, model, moment, context)
        if isinstance(found, Quote):
            raise NotFound(f"{found.warnings[0].removeprefix('not priced: ')}; `costd prices set` gives it one")
        return found


def _audited(rule: PriceRule) -> dict[str, object]:
    """What the audit trail says of a rule."""
    told: dict[str, object] = {"model": rule.model, "provider": rule.provider, "rates": dict(rule.rates)}
    if rule.multiplier is not None:
        told["multiplier"] = list(rule.multiplier)
    if rule.context:
        told["context"] = dict(rule.context)
    return told | {"from_ms": rule.from_ms, "until_ms": rule.until_ms, "everybody": rule.org_id is None}


def _check_table(table: PriceList, book: PriceBook) -> None:
    header = read_header(table.body)
    if not header.complete or header.version != table.version:
        raise Invalid("table", "is not a whole price table; compile it with this release of costd")
    try:
        trial = PriceTable(table.body, book.units)
        trial.check()
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        raise Invalid("table", "holds prices that cannot be used; compile it with this release of costd") from None
