"""Price rules: operators set, replace, remove and list them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from costd.clock import Clock
from costd.domain.access import Caller
from costd.domain.errors import Forbidden, Invalid, NotFound
from costd.domain.price_rule import PriceRule
from costd.domain.pricebook import MatchedPrice, PriceBook
from costd.services.price_checks import (
    CheckedRule,
    NewRule,
    audited,
    check_rules,
    moment_to_show,
    shown_price,
    standing,
)
from costd.services.prices import Prices
from costd.store import price_rules, price_state
from costd.store.audit import append_audit
from costd.store.commit import Commit
from costd.store.orgs import OWN_ORG
from costd.store.price_rules import StoredRule
from costd.store.price_state import PriceState
from costd.store.reader import Readers

_EVERYBODYS = "prices for everybody are set with a key of the installation's own organization"


class RuleSet(NamedTuple):
    """What became of a rule that was set.

    `is_new` is False where the books said the same already, `from_chosen` True where the caller did not say from when.
    `before` and `after` are what the model costs without and with it, now or at the nearest moment it applies to
    (`at_ms`); None where it has no price, and for rules of many models.
    """

    stored: StoredRule
    is_new: bool
    from_chosen: bool
    before: MatchedPrice | None
    after: MatchedPrice | None
    at_ms: int


class _Changed(NamedTuple):
    """A change of the rules: the prices it makes (None: the same), and each rule's id and whether it is new."""

    state: PriceState | None
    rules: list[tuple[str, bool]]


class PriceRules:
    """Changes the rules that stand in front of file and list."""

    def __init__(self, prices: Prices, readers: Readers, clock: Clock) -> None:
        self._prices = prices
        self._readers = readers
        self._clock = clock

    def set_rules(self, caller: Caller, news: Sequence[NewRule]) -> list[RuleSet]:
        """Put rules in the books, all or none; everything is priced by them when this returns.

        What the books say already is left as it is. Blocks. Raises Invalid (naming entry and field), Forbidden.
        """
        before = self._prices.book
        rules = self._checked(caller, news)

        def apply(commit: Commit) -> _Changed:
            done = self._insert(commit, caller, rules)
            return _Changed(self._prices.read_state(commit) if any(is_new for _, is_new in done) else None, done)

        done = self._prices.write(apply).rules
        found = self.named(caller, [rule_id for rule_id, _ in done])
        now_ms = self._clock.now_ms()
        return [
            _rule_set(found[rule_id], is_new, each, (before, self._prices.book), now_ms)
            for (rule_id, is_new), each in zip(done, rules, strict=True)
        ]

    def replace_rule(self, caller: Caller, rule_id: str, new: NewRule) -> StoredRule:
        """Put a rule in the place of another, which stays in the history; from when that one was, unless it is said.

        Blocks. Raises Invalid, Forbidden, NotFound.
        """
        held = self._living(caller, rule_id)
        from_ms = held.rule.from_ms if new.from_ms is None else new.from_ms
        rules = self._checked(caller, [new._replace(from_ms=from_ms)])

        def apply(commit: Commit) -> _Changed:
            self._remove(commit, caller, held.rule.id)
            done = self._insert(commit, caller, rules)
            return _Changed(self._prices.read_state(commit), done)

        return self.rule(caller, self._prices.write(apply).rules[0][0])

    def remove_rule(self, caller: Caller, rule_id: str) -> StoredRule:
        """Take a rule out of the books, by its id or the beginning of it; it stays in the history.

        Blocks. Raises Forbidden, NotFound, and Invalid where several ids begin so.
        """
        held = self._living(caller, rule_id)

        def apply(commit: Commit) -> _Changed:
            self._remove(commit, caller, held.rule.id)
            return _Changed(self._prices.read_state(commit), [])

        self._prices.write(apply)
        return self.rule(caller, held.rule.id)

    def rules(self, caller: Caller, *, model: str = "", removed: bool = False) -> list[StoredRule]:
        """The rules that concern the caller's organization, newest first; with `model`, those that speak of it."""
        caller.require("read")
        with self._readers.snapshot() as connection:
            found = price_rules.list_rules(connection, _visible(caller), removed=removed)
        name = model.strip().lower()
        if not name:
            return found
        listed = self._prices.book.table.find("", name)
        known_as = listed.model.id.lower() if listed else ""
        return [held for held in found if held.rule.model == name or held.rule.closeness(name, known_as)]

    def named(self, caller: Caller, ids: Iterable[str]) -> dict[str, StoredRule]:
        """The rules with these ids, which the caller has been told of."""
        caller.require("read")
        with self._readers.snapshot() as connection:
            return price_rules.rules_by_id(connection, ids)

    def rule(self, caller: Caller, rule_id: str) -> StoredRule:
        """One rule, by its id or the beginning of it, of the past too. Raises NotFound, Invalid where several fit."""
        caller.require("read")
        if not rule_id:
            raise Invalid("id", "is required: the id of a price, or the beginning of it")
        with self._readers.snapshot() as connection:
            found = price_rules.find_rules(connection, _visible(caller), rule_id.lower())
        if not found:
            raise NotFound(f'there is no price with the id "{rule_id[:64]}"; `costd prices list` shows them')
        if (
            len(found) > 1
            and found[0].rule.id != rule_id.lower()
            and (found[1].removed_ms is None) == (found[0].removed_ms is None)
        ):
            raise Invalid("id", f'the ids of several prices begin with "{rule_id[:64]}"; give more of it')
        return found[0]

    def _living(self, caller: Caller, rule_id: str) -> StoredRule:
        """A rule in the books that the caller may change."""
        caller.require("admin")
        self._prices.require_no_hub("prices are set")
        held = self.rule(caller, rule_id)
        if held.removed_ms is not None:
            raise NotFound(f"the price {held.rule.id} was removed before")
        if held.rule.org_id is None and caller.org_id != OWN_ORG:
            raise Forbidden(_EVERYBODYS)
        return held

    def _checked(self, caller: Caller, news: Sequence[NewRule]) -> list[CheckedRule]:
        """The rules as they will be kept, after everything about them was checked."""
        caller.require("admin")
        self._prices.require_no_hub("prices are set")
        org_ids = {name: self._org(caller, name) for name in {new.org for new in news}}
        return check_rules(news, org_ids, self._prices.book, self._prices.state.rules, self._clock.now_ms())

    def _insert(self, commit: Commit, caller: Caller, rules: Sequence[CheckedRule]) -> list[tuple[str, bool]]:
        """Add rules in their order; each one's id, and whether it is new. What nothing is left of goes."""
        beside: dict[tuple[object, ...], list[PriceRule]] = {}
        for held in price_rules.load_rules(commit.connection):
            beside.setdefault(held.scope, []).append(held)
        ids = price_rules.new_rule_ids(commit, len(rules))
        revision = 0
        done = []
        for each, rule_id in zip(rules, ids, strict=True):
            neighbours = beside.setdefault(each.rule.scope, [])
            if (same := standing(each, neighbours, commit.now_ms)) is not None:
                done.append((same.id, False))
                continue
            rule = each.rule._replace(id=rule_id)
            revision = revision or price_state.next_revision(commit)
            for held in [held for held in neighbours if rule.replaces(held)]:
                neighbours.remove(held)
                price_rules.remove_rule(commit, held.id, caller.key_id, revision)
                append_audit(commit, caller.org_id, caller.key_id, "price.removed", held.id, audited(held))
            price_rules.insert_rule(commit, rule, caller.key_id, revision)
            append_audit(commit, caller.org_id, caller.key_id, "price.set", rule.id, audited(rule))
            neighbours.append(rule)
            done.append((rule.id, True))
        return done

    def _remove(self, commit: Commit, caller: Caller, rule_id: str) -> None:
        gone = next((held for held in price_rules.load_rules(commit.connection) if held.id == rule_id), None)
        if gone is None:  # since it was looked for
            raise NotFound(f"the price {rule_id} was removed before")
        price_rules.remove_rule(commit, rule_id, caller.key_id, price_state.next_revision(commit))
        append_audit(commit, caller.org_id, caller.key_id, "price.removed", rule_id, audited(gone))

    def _org(self, caller: Caller, name: str) -> int | None:
        """The number of an organization that the caller may set prices for; None is everybody."""
        if name:
            return self._prices.org_id(caller, name)
        if caller.org_id != OWN_ORG:
            raise Forbidden(_EVERYBODYS)
        return None


def _visible(caller: Caller) -> int | None:
    """Whose rules a caller sees beside everybody's; None: all."""
    return None if caller.org_id == OWN_ORG and caller.may("admin") else caller.org_id


def _rule_set(
    stored: StoredRule, is_new: bool, checked: CheckedRule, books: tuple[PriceBook, PriceBook], now_ms: int
) -> RuleSet:
    at_ms = moment_to_show(stored.rule, now_ms)
    before, after = (shown_price(book, stored.rule, at_ms) for book in books)
    return RuleSet(stored, is_new, not checked.has_from, before, after, at_ms)
