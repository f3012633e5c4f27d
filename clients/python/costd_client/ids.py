"""Request ids: UUIDv7 (RFC 9562, section 5.7), which sort by time and are cheap to keep unique in costd's ledger."""

from __future__ import annotations

import os
import time

_VERSION_7 = 0x7 << 76
_VARIANT_RFC = 0x2 << 62
_RANDOM_MASK = (0xFFF << 64) | ((1 << 62) - 1)


def new_id() -> str:
    """A new id. From the system's randomness: neither a fork nor somebody's random.seed() makes it come twice."""
    bits = int.from_bytes(os.urandom(10), "big") & _RANDOM_MASK
    digits = f"{(time.time_ns() // 1_000_000) << 80 | _VERSION_7 | _VARIANT_RFC | bits:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
