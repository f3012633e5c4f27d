"""Identifiers: UUIDv7 for what we issue, and event ids derived from a commit's id and an ordinal.

A commit's id is a UUIDv7 (RFC 9562, section 5.7) whose last ORDINAL_BITS bits are zero; the event with ordinal n
has the id commit + n. So every event id is a valid UUID, and the commit it belongs to can be read off it without
storing anything per event. 50 random bits remain within each millisecond.
"""

from __future__ import annotations

import os
import random

ORDINAL_BITS = 24
MAX_ORDINAL = (1 << ORDINAL_BITS) - 1
_VERSION_7 = 0x7 << 76
_VARIANT_RFC = 0x2 << 62
_LOW_BITS = (1 << 62) - 1
_RANDOM_MASK = (0xFFF << 64) | _LOW_BITS


def uuid7(now_ms: int) -> int:
    """A new UUIDv7 for this moment, as a 128-bit integer."""
    random = int.from_bytes(os.urandom(10), "big") & _RANDOM_MASK
    return (now_ms & 0xFFFF_FFFF_FFFF) << 80 | _VERSION_7 | _VARIANT_RFC | random


def quick_uuid7(now_ms: int) -> int:
    """The same for ids that are made for every request: unique, but guessable, and without a system call each.

    os.urandom lets other threads run; in a busy daemon a request waits for its turn again.
    """
    bits = random.getrandbits(74)  # no secret
    return (now_ms & 0xFFFF_FFFF_FFFF) << 80 | _VERSION_7 | (bits >> 62) << 64 | _VARIANT_RFC | bits & _LOW_BITS


def new_commit_id(now_ms: int) -> int:
    """A new commit id: a UUIDv7 with room for the ordinals."""
    return uuid7(now_ms) & ~MAX_ORDINAL


def uuid_text(value: int) -> str:
    """The canonical form of a 128-bit integer: 8-4-4-4-12 lower-case hex digits."""
    digits = f"{value:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def parse_uuid(text: str) -> int | None:
    """The 128-bit integer of a UUID in canonical lower-case form, else None.

    Other spellings are not taken for UUIDs, so that an id always reads back exactly as it was sent.
    """
    if len(text) != 36 or text[8] != "-" or text[13] != "-" or text[18] != "-" or text[23] != "-":
        return None
    digits = text.replace("-", "")
    if len(digits) != 32 or not digits.isalnum() or not digits.isascii() or digits != digits.lower():
        return None
    try:
        return int(digits, 16)
    except ValueError:
        return None


def split_event_id(event_id: int) -> tuple[int, int]:
    """(commit id, ordinal) of an event id."""
    return event_id & ~MAX_ORDINAL, event_id & MAX_ORDINAL


def public_id(now_ms: int) -> str:
    """A new UUIDv7 as text, for keys, requests and whatever else people see."""
    return uuid_text(uuid7(now_ms))
