"""Reservations: all windows or none, settled for what it cost, and gone after their time to live."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from costd.domain.reservation import EXPIRED, MARK, NEVER_MS, SPENT, Reservations, Till


def settle(book: Reservations, name: object, tills: tuple[Till, ...], cost: int) -> bool:
    """A record, as what charges and what releases come together."""
    for each in tills:
        each.charge(cost)
    return book.release(name)


def till(bound: int, used: int = 0, mark: int = NEVER_MS, until_ms: int = NEVER_MS) -> Till:
    made = Till(used_nano=used)
    made.bind(bound, mark, until_ms)
    return made


def test_all_windows_reserve_or_none_does() -> None:
    wide, narrow = till(100), till(10)
    book = Reservations(100)
    shortage = book.reserve("a", (wide, narrow), 11, 0)
    assert shortage is not None
    assert (shortage.till, shortage.reason) == (narrow, SPENT)
    assert (wide.reserved_nano, narrow.reserved_nano, len(book)) == (0, 0, 0)
    assert book.reserve("a", (wide, narrow), 10, 0) is None
    assert (wide.reserved_nano, narrow.reserved_nano) == (10, 10)


def test_it_is_admitted_up_to_the_last_nano_dollar() -> None:
    book, window = Reservations(100), till(100, used=60)
    assert book.reserve("a", (window,), 30, 0) is None
    assert book.reserve("b", (window,), 11, 0) is not None
    assert book.reserve("b", (window,), 10, 0) is None
    assert book.reserve("c", (window,), 0, 0) is None


def test_nothing_is_admitted_once_the_use_has_expired() -> None:
    window = till(100, until_ms=50)
    book = Reservations(100)
    assert book.reserve("a", (window,), 1, 49) is None
    shortage = book.reserve("b", (window,), 1, 50)
    assert shortage is not None
    assert shortage.reason == EXPIRED


def test_no_more_is_reserved_than_is_on_disk() -> None:
    window = till(100, mark=5)
    book = Reservations(100)
    shortage = book.reserve("a", (window,), 6, 0)
    assert shortage is not None
    assert shortage.reason == MARK
    window.raise_mark(6)
    assert book.reserve("a", (window,), 6, 0) is None


def test_more_than_was_reserved_counts_in_full() -> None:
    window = till(100)
    book = Reservations(100)
    book.reserve("a", (window,), 10, 0)
    assert settle(book, "a", (window,), 130)
    assert (window.used_nano, window.reserved_nano) == (130, 0)
    assert book.reserve("b", (window,), 1, 0) is not None


def test_a_record_is_charged_to_its_own_windows_and_frees_those_that_were_reserved() -> None:
    asked, used = till(100), till(100)
    book = Reservations(100)
    book.reserve("a", (asked,), 10, 0)
    assert settle(book, "a", (used,), 7)
    assert (asked.reserved_nano, asked.used_nano, used.used_nano) == (0, 0, 7)


def test_an_abort_storm_leaves_nothing_and_a_late_record_still_counts() -> None:
    window = till(10_000)
    book = Reservations(100)
    for name in range(10_000):
        assert book.reserve(name, (window,), 1, name // 1000) is None
    assert book.reserve("more", (window,), 1, 50) is not None
    assert book.expire(99) == 0
    assert book.expire(104, 4000) == 4000
    assert book.expire(104) == 1000
    assert book.expire(200) == 5000
    assert (window.reserved_nano, len(book)) == (0, 0)
    assert not settle(book, 3, (window,), 7)
    assert window.used_nano == 7


def test_what_is_released_is_free_again_and_only_once() -> None:
    window = till(10)
    book = Reservations(100)
    book.reserve("a", (window,), 10, 0)
    assert book.get("a") is not None
    assert book.release("a")
    assert not book.release("a")
    assert book.reserve("b", (window,), 10, 0) is None


def test_what_a_former_process_may_have_reserved_counts_until_its_time_has_passed() -> None:
    window = Till(used_nano=20, mark_nano=50, ghost_nano=50)
    window.bind(100, 200, NEVER_MS)
    book = Reservations(100)
    assert book.reserve("a", (window,), 31, 0) is not None
    assert book.reserve("a", (window,), 30, 0) is None
    window.let_ghost_go()
    assert window.reserved_nano == 30
    assert book.reserve("b", (window,), 50, 0) is None


def test_a_former_process_cannot_have_reserved_more_than_is_left() -> None:
    window = Till(used_nano=80, mark_nano=50, ghost_nano=50)
    window.bind(100, 200, NEVER_MS)
    window.cap_ghost(20)
    assert (window.ghost_nano, window.reserved_nano) == (20, 20)
    window.cap_ghost(-30)
    assert (window.ghost_nano, window.reserved_nano) == (0, 0)


def test_what_the_hub_knows_takes_the_place_of_what_was_thought() -> None:
    window = till(100, used=90)
    window.reconcile(30, 20)
    assert window.used_nano == 50
    assert Reservations(100).reserve("a", (window,), 50, 0) is None
    window.reconcile(60, 20)
    assert window.withdraw() == 0


def test_only_what_is_neither_used_nor_reserved_is_let_go() -> None:
    window = till(100, used=20)
    Reservations(100).reserve("a", (window,), 30, 0)
    assert window.withdraw(10) == 10
    assert window.withdraw() == 40
    assert window.withdraw() == 0
    window.charge(60)
    assert window.withdraw() == 0


@given(
    bounds=st.lists(st.integers(0, 50), min_size=1, max_size=3),
    steps=st.lists(st.tuples(st.sampled_from("rsxe"), st.integers(0, 9), st.integers(0, 20)), max_size=40),
)
def test_used_and_reserved_are_what_they_are_made_of(bounds: list[int], steps: list[tuple[str, int, int]]) -> None:
    tills = tuple(till(bound) for bound in bounds)
    book = Reservations(5)
    used, kept = 0, {}
    for now_ms, (what, name, amount) in enumerate(steps):
        if what == "r" and name not in kept:
            fits = used + sum(held for held, _ in kept.values()) + amount <= min(bounds)
            assert (book.reserve(name, tills, amount, now_ms) is None) == fits
            kept |= {name: (amount, now_ms + 5)} if fits else {}
        elif what == "s":
            assert settle(book, name, tills, amount) == (kept.pop(name, None) is not None)
            used += amount
        elif what == "x":
            assert book.release(name) == (kept.pop(name, None) is not None)
        elif what == "e":
            book.expire(now_ms)
            kept = {key: (held, until) for key, (held, until) in kept.items() if until > now_ms}
        for each in tills:
            assert (each.used_nano, each.reserved_nano) == (used, sum(held for held, _ in kept.values()))
