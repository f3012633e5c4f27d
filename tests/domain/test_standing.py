"""How a window stands: the identity, whoever holds what."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from costd.domain.standing import Holding, stand
from costd.domain.window import Window
from costd.domain.window_key import WindowKey

KEY = WindowKey("b", 1, "", 0)
WINDOW = Window(0, 1)
NANOS = st.integers(0, 10**18)


def test_a_sources_money_is_held_until_it_is_spent() -> None:
    """Of two epochs each counts for itself: what one spent beyond its slice takes nothing from another's."""
    found = stand(KEY, WINDOW, 100, 10, 5, [Holding("a", 30, 20), Holding("a", 0, 15), Holding("b", 8, 8)])
    assert (found.settled_nano, found.held_nano, found.reserved_nano) == (53, 15, 5)
    assert (found.available_nano, found.overshoot_nano) == (32, 0)
    assert [tuple(holder) for holder in found.holders] == [("", 15, 10, 5), ("a", 30, 35, 10), ("b", 8, 8, 0)]


@given(
    limit=NANOS, own=NANOS, reserved=NANOS, holdings=st.lists(st.builds(Holding, st.sampled_from("abc"), NANOS, NANOS))
)
def test_the_identity_holds(limit: int, own: int, reserved: int, holdings: list[Holding]) -> None:
    found = stand(KEY, WINDOW, limit, own, reserved, holdings)
    assert limit == found.available_nano + found.held_nano + found.settled_nano - found.overshoot_nano
    assert not (found.available_nano and found.overshoot_nano)
    assert found.settled_nano == sum(holder.settled_nano for holder in found.holders)
    assert found.held_nano == sum(holder.held_nano for holder in found.holders)
