"""A slice at the source that holds it: counters that only grow, whatever is heard when."""

from __future__ import annotations

from itertools import permutations

import pytest

from costd.domain.held_slice import HeldSlice


def test_words_of_the_hub_come_in_any_order_and_the_larger_counts() -> None:
    words = [(50, 0), (80, 10), (70, 30), (80, 10)]
    for order in permutations(words):
        held = HeldSlice(b"a")
        for granted, returned in order:
            held = held.confirm(granted, returned)
        assert (held.granted_nano, held.returned_nano, held.bound_nano) == (80, 30, 50)


def test_what_goes_back_is_not_there_any_more_even_if_the_hub_has_not_heard_so() -> None:
    held = HeldSlice(b"a", 50).give_back(20)
    assert held.bound_nano == 30
    assert held.confirm(50, 0).bound_nano == 30


def test_no_more_goes_back_than_there_is() -> None:
    with pytest.raises(AssertionError):
        HeldSlice(b"a", 50, 10).give_back(41)
    assert HeldSlice(b"a", 50, 10).give_back(40).bound_nano == 0


def test_nothing_can_be_spent_of_an_epoch_that_is_over_and_all_of_it_goes_back() -> None:
    held = HeldSlice(b"a", 50, 10).close()
    assert held.bound_nano == 0
    assert held.empty().returned_nano == 50
    with pytest.raises(AssertionError):
        HeldSlice(b"a", 50).empty()
