"""The books of a window: grants, returns, what is settled and credited, and the identity that binds them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costd.domain.books import Account, Books, Holder, Unbalanced, open_books

USD = 1_000_000_000
ONE, TWO = Holder(1, b"a"), Holder(2, b"b")


def settled(books: Books, holder: Holder, cost: int, reserved: int = 0) -> Books:
    """After records that a source forwarded, as they are charged to it."""
    account = books.account(holder)
    return books.take_over(holder, account._replace(settled_nano=account.settled_nano + cost), reserved)


def test_a_grant_fits_into_what_is_available() -> None:
    books = open_books(10 * USD)
    books = books.grant(ONE, 2 * USD, 8 * USD)
    assert books.account(ONE).granted_nano == 5 * USD, "at most half of what is left, where that is enough"
    assert books.grant(TWO, 6 * USD, 6 * USD) is books, "what does not fit is not granted in part"
    books = books.grant(TWO, 5 * USD, 9 * USD)
    assert books.account(TWO).granted_nano == 5 * USD
    assert (books.available_nano(), books.held_nano(), books.settled_nano) == (0, 10 * USD, 0)


def test_a_request_that_is_repeated_grants_nothing_twice() -> None:
    books = open_books(10 * USD).grant(ONE, 2 * USD, 2 * USD)
    assert books.grant(ONE, 2 * USD, 2 * USD) is books


def test_what_our_own_callers_reserved_is_not_granted() -> None:
    books = open_books(10 * USD)
    assert books.grant(ONE, 4 * USD, 4 * USD, reserved_nano=7 * USD) is books
    books = books.grant(ONE, 3 * USD, 3 * USD, reserved_nano=7 * USD)
    assert books.account(ONE).granted_nano == 3 * USD
    assert books.own_bound_nano == 7 * USD
    assert books.available_nano(7 * USD) == 0


def test_what_is_spent_beyond_a_slice_is_overshoot_and_granting_that_much_costs_nothing() -> None:
    books = settled(open_books(10 * USD).grant(ONE, 4 * USD, 4 * USD), ONE, 12 * USD)
    assert (books.overshoot_nano(), books.available_nano(), books.held_nano()) == (2 * USD, 0, 0)
    books = settled(open_books(20 * USD).grant(ONE, 4 * USD, 4 * USD), ONE, 12 * USD)
    granted = books.grant(ONE, 13 * USD, 13 * USD)
    assert granted.account(ONE).granted_nano == 13 * USD
    assert granted.available_nano() == 7 * USD


def test_what_comes_back_is_available_once() -> None:
    books = settled(open_books(10 * USD).grant(ONE, 4 * USD, 4 * USD), ONE, 1 * USD)
    back = books.accept_return(ONE, 3 * USD)
    assert (back.available_nano(), back.held_nano(), back.settled_nano) == (9 * USD, 0, 1 * USD)
    assert back.accept_return(ONE, 3 * USD) is back
    assert books.accept_return(ONE, 5 * USD) is books, "more than was granted is not taken"


def test_a_credit_can_be_granted_again_to_whomever() -> None:
    books = settled(open_books(10 * USD).grant(ONE, 10 * USD, 10 * USD), ONE, 10 * USD)
    assert books.grant(TWO, 1 * USD, 1 * USD) is books
    books = books.take_over_own(0, 3 * USD)
    assert (books.settled_nano, books.available_nano()) == (7 * USD, 3 * USD)
    books = books.grant(TWO, 3 * USD, 3 * USD)
    assert (books.bound_nano, books.held_nano()) == (13 * USD, 3 * USD)


def test_after_a_restore_what_a_source_knows_counts() -> None:
    books = open_books(10 * USD).grant(ONE, 2 * USD, 2 * USD)
    books = books.report(1, {b"a": (5 * USD, 1 * USD)})
    assert books.account(ONE) == Account(5 * USD, 1 * USD)
    assert books.grant(ONE, 6 * USD, 6 * USD).account(ONE).granted_nano == 6 * USD


def test_books_that_cannot_be_are_refused() -> None:
    with pytest.raises(Unbalanced, match="more came back"):
        open_books(10 * USD).take_over(ONE, Account(1 * USD, 2 * USD))
    with pytest.raises(Unbalanced, match="more is granted"):
        open_books(10 * USD).take_over(ONE, Account(11 * USD))


def test_a_source_that_is_forgotten_frees_what_it_did_not_settle() -> None:
    books = settled(open_books(10 * USD).grant(ONE, 5 * USD, 5 * USD), ONE, 1 * USD).forget(1)
    assert (books.available_nano(), books.held_nano(), books.settled_nano) == (9 * USD, 0, 1 * USD)
    late = settled(books, ONE, 2 * USD)
    assert (late.available_nano(), late.settled_nano) == (7 * USD, 3 * USD)


_HOLDERS = st.sampled_from([ONE, TWO, Holder(1, b"c")])
_AMOUNTS = st.integers(0, 12)
_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["grant", "return", "settle", "own", "credit", "limit", "reserve", "report", "forget"]),
        _HOLDERS,
        _AMOUNTS,
        _AMOUNTS,
    ),
    max_size=40,
)


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 30), _STEPS)
def test_every_history_balances(limit: int, steps: list[tuple[str, Holder, int, int]]) -> None:
    """The sums that are kept are those of the accounts, and no grant or reservation passes the limit."""
    books, reserved = open_books(limit), 0
    for kind, holder, first, second in steps:
        left = books.available_nano(reserved)
        before = books
        if kind == "reserve":
            reserved = min(first, max(0, books.own_bound_nano - books.own_settled_nano))
        else:
            books = _stepped(books, kind, holder, first, second, reserved)
        if kind == "grant":
            taken = books.settled_nano + books.held_nano() - before.settled_nano - before.held_nano()
            assert 0 <= taken <= left
        _check(books, reserved)


def _stepped(books: Books, kind: str, holder: Holder, first: int, second: int, reserved: int) -> Books:
    account = books.account(holder)
    steps: dict[str, Any] = {
        "grant": lambda: books.grant(
            holder, account.granted_nano + first, account.granted_nano + first + second, reserved
        ),
        "return": lambda: books.accept_return(holder, account.returned_nano + first, reserved),
        "settle": lambda: settled(books, holder, first, reserved),
        "own": lambda: books.take_over_own(books.own_settled_nano + first, 0, reserved),
        "credit": lambda: books.take_over_own(0, min(books.credited_nano + first, _spent(books)), reserved),
        "limit": lambda: books.change_limit(first + second, reserved),
        "report": lambda: books.report(
            holder.source, {holder.epoch: (account.granted_nano + first, account.returned_nano)}, reserved
        ),
        "forget": lambda: books.forget(holder.source, reserved),
    }
    made: Books = steps[kind]()
    return made


def _spent(books: Books) -> int:
    return books.spent_nano + books.own_settled_nano


def _check(books: Books, reserved: int) -> None:
    accounts = books.accounts.values()
    assert books.charge_nano == sum(max(a.granted_nano - a.returned_nano, a.settled_nano) for a in accounts)
    assert books.bound_nano == sum(a.granted_nano - a.returned_nano for a in accounts)
    assert books.spent_nano == sum(a.settled_nano for a in accounts)
    held = sum(a.held_nano for a in accounts) + reserved
    settled = _spent(books) - books.credited_nano
    assert (books.held_nano(reserved), books.settled_nano) == (held, settled)
    left = books.limit_nano - held - settled
    assert (books.available_nano(reserved), books.overshoot_nano(reserved)) == (max(0, left), max(0, -left))
