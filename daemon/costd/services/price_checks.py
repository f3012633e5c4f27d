"""Checks of prices before they come into force: of rules an operator sets, and of whole tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple

from costd.domain.errors import Invalid
from costd.domain.price_rule import MIN_MS, PriceRule, check_rule
from costd.domain.price_table import PriceTable, read_header
from costd.domain.pricebook import MatchedPrice, PriceBook, Quote
from costd.domain.synced import SyncedTable
from costd.store.price_list import PriceList
from costd.store.price_sources import FILE, LIST

#: More in one go is a list: import it as a file.
MAX_RULES = 10_000


class NewRule(NamedTuple):
    """A rule to be made; `from_ms` None: from now on, or for all times where the model had no price.

    `org` is the name of the organization it is for, "" for everybody. See PriceRule for the rest.
    """

    rule: PriceRule
    org: str = ""
    from_ms: int | None = None


class CheckedRule(NamedTuple):
    """A rule as it will be kept, but for its id; whether the caller said from when."""

    rule: PriceRule
    has_from: bool


def entry_field(position: int, field: str) -> str:
    """Where a field is in a list of prices."""
    return f"prices[{position}].{field}" if field else f"prices[{position}]"


def check_rules(
    news: Sequence[NewRule], org_ids: Mapping[str, int | None], book: PriceBook, held: Sequence[PriceRule], now_ms: int
) -> list[CheckedRule]:
    """The rules in their one form; Invalid names the entry and the field that make no sense.

    `org_ids` are the organizations by name, `held` the rules in the books.
    """
    if not news:
        raise Invalid("prices", "are missing: give at least one")
    if len(news) > MAX_RULES:
        raise Invalid("prices", f"must be at most {MAX_RULES} at once; import a price file instead")
    checked = []
    for position, new in enumerate(news):
        try:
            checked.append(_checked(new, org_ids[new.org], book, now_ms))
        except Invalid as refusal:
            raise refusal.renamed(entry_field(position, refusal.field)) from None
    _check_whole([each.rule for each in checked], book, held)
    return checked


def _checked(new: NewRule, org_id: int | None, book: PriceBook, now_ms: int) -> CheckedRule:
    rule = new.rule._replace(org_id=org_id, provider=book.canonical_provider(new.rule.provider))
    if new.from_ms is not None:
        return CheckedRule(check_rule(rule._replace(from_ms=new.from_ms)), has_from=True)
    rule = check_rule(rule._replace(from_ms=MIN_MS))
    if rule.model.endswith("*") or _is_priced(book, rule, now_ms):
        rule = check_rule(rule._replace(from_ms=now_ms))
    return CheckedRule(rule, has_from=False)


def _is_priced(book: PriceBook, rule: PriceRule, at_ms: int) -> bool:
    priced = book.match(rule.org_id or 0, rule.provider, rule.model, at_ms, rule.context)
    return isinstance(priced, MatchedPrice) and not priced.card.defect


def _check_whole(rules: Sequence[PriceRule], book: PriceBook, held: Sequence[PriceRule]) -> None:
    """Refuse rules whose rates make no sense together with what is below and beside them."""
    trial = PriceBook(book.table, [*held, *rules], book.file)
    for position, rule in enumerate(rules):
        if not rule.rates or rule.model.endswith("*"):
            continue
        found = trial.match(rule.org_id or 0, rule.provider, rule.model, rule.from_ms, rule.context)
        if isinstance(found, MatchedPrice) and found.card.defect:
            raise Invalid(entry_field(position, "rates"), f"do not fit together: {found.card.defect}")


def moment_to_show(rule: PriceRule, now_ms: int) -> int:
    """The moment nearest to now at which a rule applies."""
    if rule.until_ms is not None and rule.until_ms <= now_ms:
        return rule.until_ms - 1
    return max(now_ms, rule.from_ms)


def shown_price(book: PriceBook, rule: PriceRule, at_ms: int) -> MatchedPrice | None:
    """What the model that a rule speaks of costs; None where it has no price, or is any of many."""
    if rule.model.endswith("*"):
        return None
    found = book.match(rule.org_id or 0, rule.provider, rule.model, at_ms, rule.context)
    return None if isinstance(found, Quote) or found.card.defect else found


def standing(rule: CheckedRule, beside: Sequence[PriceRule], now_ms: int) -> PriceRule | None:
    """The rule in the books, of those `beside` a new one, that already does all that the new one would do."""
    for held in beside:
        applies = held.from_ms == rule.rule.from_ms if rule.has_from else held.is_active(now_ms)
        if (
            applies
            and held.says_the_same(rule.rule)
            and not any(_is_between(other, held, None if rule.has_from else now_ms) for other in beside)
        ):
            return held
    return None


def _is_between(other: PriceRule, held: PriceRule, now_ms: int | None) -> bool:
    """Whether a rule is stronger than another in the books, but not than the same set anew (from `now_ms`, if any)."""
    if not other.contends(held):
        return False
    if now_ms is None:
        return other.from_ms == held.from_ms and other.id > held.id
    return (other.from_ms, other.id) > (held.from_ms, held.id) and other.is_active(now_ms)


def check_table(table: PriceList, kind: str, book: PriceBook, file: bytes | None) -> None:
    """Refuse a table that is not whole, that holds what cannot be used, or that counts otherwise than the rest.

    `file` is the imported table in force, before which a new list would come to stand.
    """
    header = read_header(table.body)
    if not header.complete or header.version != table.version:
        raise Invalid("table", "is not a whole price table; compile it with this release of costd")
    try:
        new = PriceTable(table.body)
        PriceTable(table.body, new.units if kind == LIST else book.units).check()
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        raise Invalid("table", "holds prices that cannot be used; compile it with this release of costd") from None
    if kind == FILE and not new.counts_like(book.units):
        raise Invalid("table", "counts units otherwise than the list in force does; compile it anew")
    if kind == LIST and file is not None and not PriceTable(file).counts_like(new.units):
        raise Invalid("table", "counts units otherwise than the imported price file does; remove that first")


def check_synced(table: SyncedTable) -> str:
    """Why a table that came from the hub cannot be used here; "" where it can."""
    if not table.body:
        return ""
    if sha256(table.body).digest()[: len(table.digest)] != table.digest:
        return "it was damaged on the way"
    header = read_header(table.body)
    if not header.complete or header.version != table.version:
        return "this release cannot read it; upgrade this sidecar"
    try:
        PriceTable(table.body).check()
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        return f"this release cannot read it ({error}); upgrade this sidecar"
    return ""


def audited(rule: PriceRule) -> dict[str, object]:
    """What the audit trail says of a rule."""
    told: dict[str, object] = {"model": rule.model, "provider": rule.provider, "rates": dict(rule.rates)}
    if rule.multiplier is not None:
        told["multiplier"] = list(rule.multiplier)
    if rule.context:
        told["context"] = dict(rule.context)
    return told | {"from_ms": rule.from_ms, "until_ms": rule.until_ms, "everybody": rule.org_id is None}
