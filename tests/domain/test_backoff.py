"""Waits between attempts."""

from __future__ import annotations

import random

import pytest

from costd.domain.backoff import MAX_S, MIN_S, Backoff


@pytest.mark.parametrize("seed", range(20))
def test_every_wait_is_between_the_first_and_the_longest(seed):
    backoff = Backoff(random.Random(seed))
    waits = [backoff.next_s() for _ in range(200)]
    assert all(MIN_S <= wait <= MAX_S for wait in waits)
    assert waits[0] <= 2 * MIN_S
    assert max(waits) > MAX_S * 0.9


def test_the_waits_of_many_are_spread_over_the_whole_span():
    waits = []
    for seed in range(1000):
        backoff = Backoff(random.Random(seed))
        waits.append([backoff.next_s() for _ in range(12)][-1])
    tenths = [sum(int(wait * 10 / MAX_S) == tenth for wait in waits) for tenth in range(10)]
    assert all(50 < count < 150 for count in tenths)


def test_after_a_success_it_begins_anew():
    backoff = Backoff(random.Random(1))
    for _ in range(20):
        backoff.next_s()
    backoff.reset()
    assert backoff.next_s() <= 2 * MIN_S


def test_it_waits_as_long_as_it_is_asked_to_but_not_for_ever():
    backoff = Backoff(random.Random(1))
    assert backoff.next_s(retry_after_s=25.0) >= 25.0
    assert backoff.next_s(retry_after_s=1e9) == MAX_S
