"""Batches of records as they travel: a RecordBatchRequest put together from records that are serialised already."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from costd_client.ids import new_id
from costd_client.spool import Left

MAX_RECORDS = 1000
#: costd takes messages of 4 MiB; some of that is for the batch itself.
MAX_BYTES = 3 << 20
#: A record is a few hundred bytes; a usage object of a provider adds a few hundred more.
MAX_RECORD_BYTES = 1 << 20

_BATCH_ID_TAG = b"\x0a"  # RecordBatchRequest.batch_id, field 1, length-delimited
_ROW_TAG = b"\x22"  # RecordBatchRequest.rows, field 4, length-delimited


class Batch:
    """Records to be sent in one message, again and again under one id until it is answered.

    `left` is the spool's file they are from, None where they are from memory; the first `spooled` of those from memory
    have been put to disk meanwhile and will be sent from there.
    """

    def __init__(self, records: Sequence[bytes], left: Left | None = None) -> None:
        self.id = new_id()
        self.records = records
        self.left = left
        self.spooled = 0
        self.began_s = 0.0

    def message(self) -> bytes:
        """The serialised RecordBatchRequest."""
        batch_id = self.id.encode()
        parts = [_BATCH_ID_TAG, _varint(len(batch_id)), batch_id]
        for record in self.records:
            parts += (_ROW_TAG, _varint(len(record)), record)
        return b"".join(parts)

    def rest(self) -> Sequence[bytes]:
        """Its records that are not in the spool as well."""
        return self.records[self.spooled :]

    @property
    def in_memory(self) -> int:
        """How many of its records are nowhere but in memory."""
        return 0 if self.left is not None else len(self.records) - self.spooled


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)


def first(records: deque[bytes]) -> list[bytes]:
    """Take as many records off the front as fit into one batch."""
    taken: list[bytes] = []
    total = 0
    while records and len(taken) < MAX_RECORDS and total + len(records[0]) <= MAX_BYTES:
        record = records.popleft()
        total += len(record)
        taken.append(record)
    return taken
