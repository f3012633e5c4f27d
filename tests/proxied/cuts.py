"""Cuts bytes into pieces, as a network does."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

#: A machine that does other things meanwhile is no failure.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def cuts(data: bytes) -> st.SearchStrategy[list[int]]:
    """Places to cut at, in order."""
    return st.lists(st.integers(0, len(data)), max_size=12).map(sorted)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The pieces between the places; some are empty."""
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]
