"""Budgets: what may be said of one, which changes begin anew, and which records fall under which."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costd.domain.budget import DIMENSIONS, Budget, changed, check_budget, scope_of, starts_revision
from costd.domain.budget_index import BudgetIndex, Dimensions, Match
from costd.domain.errors import Invalid

USD = 10**9
VIDEO = Budget("b1", 1, "Video", (("team", "video"),), 100 * USD, thresholds=(Decimal("0.5"), Decimal(1)))


def test_a_sound_budget_is_taken() -> None:
    check_budget(VIDEO)
    check_budget(VIDEO._replace(scope=(), each="user", amount_nano=0))
    check_budget(VIDEO._replace(scope=(("tag", "batch"),), each="tag"))
    check_budget(VIDEO._replace(amount_nano=10**9 * USD, thresholds=(Decimal("0.0001"), Decimal(10))))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 257}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"scope": ()}, "scope"),
        ({"scope": (("colour", "red"),)}, "scope"),
        ({"scope": (("model", "m"), ("team", "video"))}, "scope"),
        ({"scope": (("team", "a"), ("team", "b"))}, "scope"),
        ({"scope": (("team", ""),)}, "scope.team"),
        ({"each": "colour"}, "each"),
        ({"each": "team"}, "each"),
        ({"amount_nano": -1}, "amount"),
        ({"amount_nano": 10**18 + 1}, "amount"),
        ({"period": "fortnight"}, "period"),
        ({"anchor_day": 32}, "anchor_day"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"thresholds": (Decimal(0),)}, "thresholds"),
        ({"thresholds": (Decimal("10.1"),)}, "thresholds"),
        ({"thresholds": (Decimal(1), Decimal("0.5"))}, "thresholds"),
        ({"thresholds": (Decimal("0.5"), Decimal("0.50"))}, "thresholds"),
        ({"thresholds": (Decimal("NaN"),)}, "thresholds"),
        ({"thresholds": (Decimal("sNaN"),)}, "thresholds"),
        ({"thresholds": (Decimal("1e-999999"),)}, "thresholds"),
        ({"thresholds": tuple(Decimal(n) / 10 for n in range(1, 22))}, "thresholds"),
        ({"on_unpriced": "ask"}, "on_unpriced"),
        ({"on_hub_down": ""}, "on_hub_down"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, object], field: str) -> None:
    with pytest.raises(Invalid) as refusal:
        check_budget(VIDEO._replace(**change))  # type: ignore[arg-type]
    assert refusal.value.field == field


@pytest.mark.parametrize(
    ("change", "is_new"),
    [
        ({"scope": (("team", "audio"),)}, True),
        ({"each": "user"}, True),
        ({"period": "week"}, True),
        ({"timezone": "Europe/London"}, True),
        ({"anchor_day": 15}, True),
        ({"amount_nano": 1}, False),
        ({"name": "Film"}, False),
        ({"thresholds": ()}, False),
        ({"hard": False}, False),
        ({"on_unpriced": "deny", "on_hub_down": "allow"}, False),
        ({"id": "other", "revision": 9}, False),
    ],
)
def test_only_another_question_begins_a_new_revision(change: dict[str, object], is_new: bool) -> None:
    new = VIDEO._replace(**change)  # type: ignore[arg-type]
    assert starts_revision(VIDEO, new) == is_new
    assert changed(VIDEO, new) == new._replace(id="b1", revision=2 if is_new else 1)


@pytest.mark.parametrize(
    ("amount", "threshold", "reached"),
    [(100, "0.5", 50), (101, "0.5", 51), (3, "0.3333", 1), (0, "1", 1), (7, "10", 70)],
)
def test_a_threshold_is_reached_at_the_first_nano_dollar_that_is_its_share(
    amount: int, threshold: str, reached: int
) -> None:
    assert VIDEO._replace(amount_nano=amount).threshold_nano(Decimal(threshold)) == reached


def names(budgets: list[Budget], record: Dimensions, org_id: int = 1) -> list[tuple[str, str]]:
    return [(match.budget.id, match.value) for match in BudgetIndex(budgets).matching(org_id, record)]


def test_a_record_falls_under_what_it_has_all_dimensions_of() -> None:
    budgets = [
        VIDEO,
        VIDEO._replace(id="b2", scope=(("team", "video"), ("model", "m"))),
        VIDEO._replace(id="b3", scope=(("team", "audio"),)),
        VIDEO._replace(id="b4", org_id=2),
        VIDEO._replace(id="b5", scope=(("model", "m"), ("tag", "batch"))),
        VIDEO._replace(id="b6", scope=(), each="user"),
        VIDEO._replace(id="b7", scope=(("team", "video"),), each="tag"),
    ]
    record = Dimensions(team="video", model="m", tags=("batch", "night"), user="u")
    assert names(budgets, record) == [
        ("b1", ""), ("b2", ""), ("b5", ""), ("b6", "u"), ("b7", "batch"), ("b7", "night")
    ]  # fmt: skip
    assert names(budgets, Dimensions(team="audio")) == [("b3", ""), ("b6", "")]
    assert names(budgets, Dimensions(team="video"), org_id=2) == [("b4", "")]
    assert names(budgets, Dimensions(team="video"), org_id=3) == []


VALUES = st.sampled_from(["", "a", "b"])


@given(
    scopes=st.lists(st.dictionaries(st.sampled_from(DIMENSIONS), st.sampled_from(["a", "b"]), max_size=3), max_size=8),
    each=st.sampled_from(["", "user", "tag"]),
    values=st.tuples(*[VALUES] * 10),
    tags=st.sets(st.sampled_from(["a", "b"])),
)
def test_the_index_finds_what_looking_at_every_budget_finds(
    scopes: list[dict[str, str]], each: str, values: tuple[str, ...], tags: set[str]
) -> None:
    budgets = [VIDEO._replace(id=f"b{n}", scope=scope_of(scope), each=each) for n, scope in enumerate(scopes)]
    record = Dimensions(*values, tags=tuple(tags))  # type: ignore[arg-type]
    has = {name: {value} for name, value in zip(DIMENSIONS, values, strict=False)} | {"tag": tags}
    expected = [
        Match(budget, value)
        for budget in budgets
        if all(value in has[dimension] for dimension, value in budget.scope)
        for value in (sorted(has[each]) or [""] if each else [""])
    ]
    found = BudgetIndex(budgets).matching(1, record)
    assert list(found) == expected
    assert len({match.key for match in found}) == len(found)
