"""Cuts bytes into pieces, as a network does."""

from __future__ import annotations

from hypothesis import strategies as st


def cuts(data: bytes) -> st.SearchStrategy[list[int]]:
    """Places to cut at, in order."""
    return st.lists(st.integers(0, len(data)), max_size=12).map(sorted)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The pieces between the places; some are empty."""
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]
