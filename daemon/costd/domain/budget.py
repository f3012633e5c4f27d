"""A budget: what it is for, how much, how often anew; what may be said of one, and what of it makes a new revision."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

from costd.domain.errors import Invalid
from costd.domain.money import MAX_ENTRY_NANO, NANO_PER_USD
from costd.domain.usage import MAX_TEXT, check_string
from costd.domain.window import MONTH, Windows, check_period, zone_of

TAG = "tag"
#: What a budget may be limited to, and what it may be for each of. In this order wherever they are listed.
DIMENSIONS = (
    "org", "workspace", "team", "project", "user", "key", "source_app", "provider", "model", "prompt_key", TAG,
)  # fmt: skip

DENY = "deny"
ALLOW = "allow"
POLICIES = (DENY, ALLOW)

#: Spend of ten times the amount is beyond what anybody wants to be told of by degrees.
MAX_THRESHOLD = 10
MAX_THRESHOLDS = 20
#: Parts of a ten-thousandth of the amount say nothing more.
MAX_THRESHOLD_DIGITS = 4

#: A change of one of these is another question: windows and what was spent in them begin anew.
_OF_A_REVISION = ("scope", "each", "period", "timezone", "anchor_day")


class Budget(NamedTuple):
    """A budget of an organization's.

    `scope` is (dimension, value) pairs in the order of DIMENSIONS; a record must have all of them. `each` is a
    dimension of which every value has windows of its own, or "". `thresholds` are shares of the amount. Only a `hard`
    budget denies. `on_unpriced` says what becomes of calls whose price is not known, `on_hub_down` of calls for which
    no money is at hand while the hub is out of reach: DENY or ALLOW. `since_ms` is when the revision began: windows
    that ended before are none of its.
    """

    id: str
    org_id: int
    name: str
    scope: tuple[tuple[str, str], ...]
    amount_nano: int
    period: str = MONTH
    timezone: str = "UTC"
    anchor_day: int = 1
    each: str = ""
    thresholds: tuple[Decimal, ...] = ()
    hard: bool = True
    on_unpriced: str = ALLOW
    on_hub_down: str = DENY
    revision: int = 1
    since_ms: int = 0

    def windows(self) -> Windows:
        """The windows of this revision; raises Invalid where this machine does not know its time zone."""
        return Windows(self.period, zone_of(self.timezone), self.anchor_day)

    def threshold_nano(self, threshold: Decimal) -> int:
        """From how much spend on a threshold is reached: rounded up, and never by having spent nothing."""
        numerator, denominator = threshold.as_integer_ratio()
        return max(1, -(-self.amount_nano * numerator // denominator))


def scope_of(values: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """A scope in its one order; raises Invalid naming a dimension that there is not."""
    for dimension in values:
        if dimension not in DIMENSIONS:
            raise Invalid("scope", f"has no dimension {dimension[:MAX_TEXT]!r}; there are {', '.join(DIMENSIONS)}")
    return tuple((dimension, values[dimension]) for dimension in DIMENSIONS if dimension in values)


def check_budget(budget: Budget) -> None:
    """Raise Invalid, naming the field, unless there may be such a budget."""
    _check_text(budget.name, "name")
    _check_scope(budget)
    if not 0 <= budget.amount_nano <= MAX_ENTRY_NANO:
        raise Invalid("amount", f"must be between 0 and {MAX_ENTRY_NANO // NANO_PER_USD} USD")
    check_period(budget.period, budget.anchor_day)
    zone_of(budget.timezone)
    _check_thresholds(budget.thresholds)
    for field in ("on_unpriced", "on_hub_down"):
        if getattr(budget, field) not in POLICIES:
            raise Invalid(field, f"must be one of {', '.join(POLICIES)}")


def starts_revision(old: Budget, new: Budget) -> bool:
    """Whether a change begins windows of its own: scope, each, period, time zone or anchor day differ."""
    return any(getattr(old, field) != getattr(new, field) for field in _OF_A_REVISION)


def changed(old: Budget, new: Budget) -> Budget:
    """The budget as it is after a change, under its own identity and the revision that follows from the change."""
    assert old.org_id == new.org_id
    return new._replace(id=old.id, revision=old.revision + starts_revision(old, new))


def _check_text(text: str, field: str) -> None:
    if not text:
        raise Invalid(field, "must not be empty")
    check_string(text, field)


def _check_scope(budget: Budget) -> None:
    if scope_of(dict(budget.scope)) != budget.scope:
        raise Invalid("scope", "must name a dimension once")
    for dimension, value in budget.scope:
        _check_text(value, f"scope.{dimension}")
    if budget.each and budget.each not in DIMENSIONS:
        raise Invalid("each", f"must be one of {', '.join(DIMENSIONS)}")
    if not budget.scope and not budget.each:
        raise Invalid("scope", "must name at least one dimension; a whole organization is org=NAME")
    if budget.each in dict(budget.scope) and budget.each != TAG:
        raise Invalid("each", f"must not be {budget.each}: the scope names one already")


def _check_thresholds(thresholds: tuple[Decimal, ...]) -> None:
    if len(thresholds) > MAX_THRESHOLDS:
        raise Invalid("thresholds", f"must be at most {MAX_THRESHOLDS}")
    last = Decimal(0)
    for threshold in thresholds:
        if not threshold.is_finite() or not 0 < threshold <= MAX_THRESHOLD:
            raise Invalid("thresholds", f"must each be above 0 and at most {MAX_THRESHOLD}")
        # Told before anything is done with it: a hostile exponent (1e-999999) must cost nothing.
        if -int(threshold.as_tuple().exponent) > MAX_THRESHOLD_DIGITS:
            raise Invalid("thresholds", f"must have at most {MAX_THRESHOLD_DIGITS} decimal places")
        if threshold <= last:
            raise Invalid("thresholds", "must ascend, each once")
        last = threshold
