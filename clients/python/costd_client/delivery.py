"""What the background thread does with records: sends them in batches, tries again, keeps them in the spool meanwhile.

Nothing here is called from any other thread, and nothing here waits.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence

import grpc

from costd_client.batch import MAX_RECORDS, Batch, first
from costd_client.complaints import Complaints
from costd_client.reach import Reach
from costd_client.refusal import Refusal
from costd_client.sender import Sender, Sent
from costd_client.spool import Left, Spool
from costd_client.stats import Stats
from costd_client.v1 import batch_pb2

_Code = grpc.StatusCode
_KEPT = frozenset({batch_pb2.RECORD_OUTCOME_ACCEPTED, batch_pb2.RECORD_OUTCOME_DUPLICATE})

#: How long records are gathered before they are sent. Those of the last moment are lost with a process that is killed,
#: and each batch takes some of the caller's processor time, and costd's.
GATHER_S = 0.05
#: The first retry comes after this, each later one after twice as long, up to the longest.
_FIRST_RETRY_S = 0.1
_LONGEST_RETRY_S = 5.0
#: How often to look whether a costd that was lost answers again.
_LOOK_S = 0.5
#: A batch that is not answered within this is put to disk while it is waited for.
_HANGING_S = 0.5
#: How often to look for what processes that are gone left in the spool.
_SCAN_S = 30.0
#: What will not be mended by trying soon: a wrong key, a daemon that is none.
_SETTING = frozenset({_Code.UNAUTHENTICATED, _Code.PERMISSION_DENIED, _Code.UNIMPLEMENTED})


class Delivery:
    """The records of one process on their way."""

    def __init__(self, sender: Sender, spool: Spool | None, reach: Reach, complaints: Complaints, stats: Stats) -> None:
        self._sender = sender
        self._spool = spool
        self._reach = reach
        self._complaints = complaints
        self._stats = stats
        self._waiting: deque[bytes] = deque()
        self.waiting_bytes = 0
        self._gathered_s = 0.0
        self.taken_in = 0
        self._again: list[Batch] = []
        self._under_way: Batch | None = None
        self._is_looking = False
        self._left: Left | None = None
        self._unsent: deque[bytes] = deque()
        self._is_spools_turn = False
        self._failures = 0
        self._failed_s = 0.0
        self._pause_s = 0.0
        self._must_pause = False
        self._look_s = 0.0
        self._scan_s = 0.0

    @property
    def is_failing(self) -> bool:
        """Whether the last attempt failed."""
        return self._failures > 0

    @property
    def in_memory(self) -> int:
        """Records that would be lost with the process."""
        held = [*self._again, *([self._under_way] if self._under_way else [])]
        return len(self._waiting) + sum(batch.in_memory for batch in held)

    @property
    def has_spooled(self) -> bool:
        """Whether records of this process are in the spool."""
        return self._spool is not None and (self._spool.has_own or (self._left is not None and self._left.is_own))

    def take_in(self, record: bytes, now_s: float) -> None:
        """One more record to be sent."""
        if not self._waiting:
            self._gathered_s = now_s + GATHER_S
        self._waiting.append(record)
        self.waiting_bytes += len(record)
        self.taken_in += 1

    def step(self, now_s: float, *, is_urgent: bool) -> None:
        """Start what can be started now; put to disk what should not wait in memory."""
        if self._spool is not None and (self.is_failing or self._is_hanging(now_s)):
            self.put_to_disk()
        if self._under_way is not None or self._is_looking:
            return
        if now_s >= self._ready_s(is_urgent=is_urgent):
            batch = self._next(now_s, is_urgent=is_urgent)
            if batch is not None:
                batch.began_s = now_s
                self._under_way = batch
                self._sender.send(batch)
                return
        if self._reach.is_lost and now_s >= self._look_s:
            self._is_looking = True
            self._sender.look()

    def wait_s(self, now_s: float, *, is_urgent: bool) -> float | None:
        """How long there is nothing to do, unless something happens; None: for good."""
        if self._under_way is not None or self._is_looking:
            return _HANGING_S
        times: list[float] = []
        if self._unsent or self._again or self.has_spooled:
            times.append(self._ready_s(is_urgent=is_urgent))
        elif self._waiting:
            times.append(max(self._gathered_s, self._ready_s(is_urgent=is_urgent)))
        if self._reach.is_lost:
            times.append(self._look_s)
        if self._spool is not None:
            times.append(max(self._scan_s, self._ready_s(is_urgent=is_urgent)))
        return max(0.0, min(times) - now_s) if times else None

    def _ready_s(self, *, is_urgent: bool) -> float:
        """When the next attempt may be made. costd's own word is heeded whatever is urgent."""
        pause_s = min(self._pause_s, _FIRST_RETRY_S) if is_urgent and not self._must_pause else self._pause_s
        return self._failed_s + pause_s

    def _is_hanging(self, now_s: float) -> bool:
        return self._under_way is not None and now_s - self._under_way.began_s >= _HANGING_S

    # What is sent next

    def _next(self, now_s: float, *, is_urgent: bool) -> Batch | None:
        if self._again:
            return self._again.pop()
        self._is_spools_turn = not self._is_spools_turn
        is_due = is_urgent or now_s >= self._gathered_s or len(self._waiting) >= MAX_RECORDS
        if self._waiting and is_due and not (self._is_spools_turn and self._load(now_s)):
            records = first(self._waiting)
            self.waiting_bytes -= sum(map(len, records))
            return Batch(records)
        if self._load(now_s):
            return Batch(first(self._unsent), self._left)
        return None

    def _load(self, now_s: float) -> bool:
        """Whether there is something to send from the spool; opens the next file where one is through."""
        while self._spool is not None and not self._unsent:
            if self._left is not None:
                self._spool.remove(self._left)
                self._left = None
            others = now_s >= self._scan_s
            self._left = self._spool.take(others=others)
            if self._left is None:
                if others:
                    self._scan_s = now_s + _SCAN_S
                return False
            self._opened(self._left)
        return bool(self._unsent)

    def _opened(self, left: Left) -> None:
        self._unsent.extend(left.records)
        if not left.is_own:
            self._stats.recovered += len(left.records) + left.damaged
            self._stats.spooled += len(left.records) + left.damaged
        if left.damaged:
            self._stats.spooled -= left.damaged
            self._stats.dropped += left.damaged
            self._complaints.say("damaged", "%d damaged lines in the spool file %s", left.damaged, left.path)

    # What came of it

    def came_back(self, sent: Sent, now_s: float) -> None:
        """The sender is done with what it was given."""
        batch, refused = sent.batch, sent.refusal
        if refused is None or not refused.is_silence:
            self._reach.answered()
        elif refused.code is _Code.UNAVAILABLE:
            self._reach.lost()
        if batch is None:
            self._is_looking = False
            self._look_s = now_s + _LOOK_S
            if refused is None and not self._must_pause:
                self._pause_s = 0.0
            return
        self._under_way = None
        if refused is not None:
            self._refused(batch, refused, now_s)
        elif sent.answer is not None and len(sent.answer.outcomes) == len(batch.records):
            self._failures, self._pause_s, self._must_pause = 0, 0.0, False
            self._settle(batch, sent.answer)
        else:  # whatever that is, it is not costd
            self._refused(batch, Refusal(_Code.UNIMPLEMENTED, (), None), now_s)

    def _settle(self, batch: Batch, answer: batch_pb2.RecordBatchResponse) -> None:
        """Every record of the batch that is not in the spool too has found its end."""
        kept = sum(outcome in _KEPT for outcome in answer.outcomes[batch.spooled :])
        refused = len(batch.records) - batch.spooled - kept
        self._stats.sent += kept
        self._stats.dropped += refused
        if batch.left is not None:
            self._stats.spooled -= len(batch.records)
        if len(batch.records) > answer.accepted + answer.duplicates:
            self._tell_refusals(answer)

    def _tell_refusals(self, answer: batch_pb2.RecordBatchResponse) -> None:
        fields = {each.record: each.field for each in answer.refusals}
        for record, outcome in enumerate(answer.outcomes):
            if outcome not in _KEPT:
                word = batch_pb2.RecordOutcome.Name(outcome).removeprefix("RECORD_OUTCOME_").lower()
                self._tell_dropped(word, fields.get(record, ""))

    def _tell_dropped(self, word: str, field: str) -> None:
        """Once for each field, without what was in it."""
        self._complaints.say(
            f"dropped {word} {field}",
            "costd did not take a record: %s%s; it is dropped, as will be others like it",
            word,
            f" {field}" if field else "",
            once=True,
        )

    def _refused(self, batch: Batch, refused: Refusal, now_s: float) -> None:
        if refused.code is _Code.INVALID_ARGUMENT:
            self._split(batch, refused)
            return
        self._failures += 1
        self._failed_s = now_s
        self._must_pause = refused.retry_after_s is not None
        if refused.retry_after_s is not None:
            self._pause_s = refused.retry_after_s
        else:
            doubled_s = _FIRST_RETRY_S * 2 ** min(self._failures - 1, 10)
            longest_s = min(_LONGEST_RETRY_S, doubled_s) if refused.code not in _SETTING else _LONGEST_RETRY_S
            self._pause_s = longest_s * random.uniform(0.75, 1.25)  # noqa: S311 - so that workers come one by one
        if batch.in_memory or batch.left is not None:
            self._again.append(batch)
        if refused.code is not _Code.CANCELLED:
            self._complaints.say(
                f"not sent {refused.code.name}",
                "costd takes no records now (%s); they are kept and sent later",
                refused.code.name,
            )

    def _split(self, batch: Batch, refused: Refusal) -> None:
        """One of these records cannot even be read: find it, and let the others through."""
        rest = batch.rest()
        middle = len(rest) // 2
        if middle:
            self._again += (Batch(rest[middle:], batch.left), Batch(rest[:middle], batch.left))
        if len(rest) != 1:
            return
        self._stats.dropped += 1
        if batch.left is not None:
            self._stats.spooled -= 1
        self._tell_dropped("invalid", next(iter(refused.fields), ""))

    # What is put to disk

    def put_to_disk(self) -> None:
        """Put everything that is only in memory into the spool, as far as there is room."""
        again: list[Batch] = []
        for batch in self._again:
            taken = self._spooled(batch.rest()) if batch.left is None else 0
            batch.spooled += taken
            if batch.left is not None or batch.in_memory:
                again.append(batch)
        self._again = again
        if self._under_way is not None and self._under_way.in_memory:
            self._under_way.spooled += self._spooled(self._under_way.rest())
        if self._waiting:
            taken = self._spooled(list(self._waiting))
            for _ in range(taken):
                self.waiting_bytes -= len(self._waiting.popleft())

    def _spooled(self, records: Sequence[bytes]) -> int:
        """Append records to the spool; how many of them it took."""
        if self._spool is None or not records:
            return 0
        try:
            taken = self._spool.append(records)
        except OSError as error:
            self._complaints.say("spool", "the spool cannot be written: %s", error.strerror or type(error).__name__)
            return 0
        self._stats.spooled += taken
        if taken < len(records):
            self._complaints.say("spool full", "the spool is full; records wait in memory as long as there is room")
        return taken

    def end(self) -> None:
        """The process ends: what can be put to disk is, what cannot is counted as dropped; the spool is let go of."""
        if self._spool is not None:
            self.put_to_disk()
            if self._left is not None:
                self._spool.put_back(self._left)
            self._spool.close()
        lost = self.in_memory
        self._stats.dropped += lost
        if lost:
            self._complaints.say("lost", "%d records could not be sent before the end, and there is no spool", lost)
        self._waiting.clear()
        self._again.clear()

    def let_go(self) -> None:
        """In a forked child: close the parent's files, which are the parent's to send."""
        if self._spool is not None:
            if self._left is not None:
                self._spool.put_back(self._left)
            self._spool.close()
