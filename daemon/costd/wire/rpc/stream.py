"""RecordStream: records as they come, acknowledged cumulatively, a fast caller held back.

A thread reads messages and hands them to the writer without waiting; the call's own thread waits for the oldest, takes
along whatever is on disk by then, and acknowledges all of it at once. The reader stays at most a window of messages
ahead of the acknowledgements: beyond it nothing is read, and the transport's flow control holds the caller back.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Final, NamedTuple

from costd.domain.access import Caller
from costd.domain.errors import Conflict, Forbidden, Invalid, Overloaded, Refused
from costd.services.batching import BatchReceipt
from costd.services.metering import Receipt
from costd.store.batches import ACCEPTED, FORBIDDEN, INVALID
from costd.store.ticket import Ticket
from costd.v1 import batch_pb2, usage_pb2
from costd.wire.rpc import batch as batches
from costd.wire.rpc import convert
from costd.wire.rpc.usage import WRITE_TIMEOUT_S, UsageService

#: Messages that may be ahead of their acknowledgements: some commits' worth of single records.
WINDOW_MESSAGES = 1024
#: Outcomes in one acknowledgement at most, so that it stays far below any limit on a message's size.
MAX_ITEMS = 1000
#: How long a reader waits before it offers a record to a full queue again.
_FULL_QUEUE_S = 0.02

_log = logging.getLogger(__name__)


class _Message(NamedTuple):
    """One message on its way: a ticket, or why it was refused at once."""

    sequence: int
    work: Ticket[Receipt] | Ticket[BatchReceipt] | Refused

    @property
    def is_ready(self) -> bool:
        """Whether it is known what became of it."""
        return isinstance(self.work, Refused) or self.work.is_ready


class _End(NamedTuple):
    """The last of a stream: None where the caller is done or gone, else why it cannot go on."""

    error: Exception | None


_DONE: Final = _End(None)


class RecordStream:
    """One stream."""

    def __init__(
        self, service: UsageService, caller: Caller, messages: Iterator[usage_pb2.RecordStreamRequest]
    ) -> None:
        self._service = service
        self._caller = caller
        self._messages = messages
        self._queue: SimpleQueue[_Message | _End] = SimpleQueue()
        self._carried: _Message | _End | None = None
        self._window = threading.Semaphore(WINDOW_MESSAGES)
        self._closed = threading.Event()

    def answers(self) -> Iterator[usage_pb2.RecordStreamResponse]:
        """Acknowledge everything that comes until the caller is done; raises what ends the stream."""
        self._caller.require("ingest")
        threading.Thread(target=self._read, name="grpc-stream-read", daemon=True).start()
        try:
            while True:
                first = self._next()
                if isinstance(first, _End):
                    if first.error is not None:
                        raise first.error
                    return
                answer, count = self._settled(first)
                yield answer
                self._window.release(count)
        finally:
            self._closed.set()
            self._window.release()

    def _next(self) -> _Message | _End:
        carried, self._carried = self._carried, None
        return self._queue.get() if carried is None else carried

    def _settled(self, first: _Message) -> tuple[usage_pb2.RecordStreamResponse, int]:
        """Wait for the first message, take those that are ready with it; the answer and how many it settles."""
        answer = usage_pb2.RecordStreamResponse()
        self._add(answer, first)
        count = 1
        while count < MAX_ITEMS and not self._queue.empty():
            following = self._queue.get()
            if isinstance(following, _End) or not following.is_ready:
                self._carried = following
                break
            self._add(answer, following)
            count += 1
        return answer, count

    def _add(self, answer: usage_pb2.RecordStreamResponse, message: _Message) -> None:
        """Settle one message into the answer."""
        work = message.work
        try:
            if isinstance(work, Refused):
                raise work
            outcome = work.wait(WRITE_TIMEOUT_S)
        except (Invalid, Forbidden, Conflict) as refusal:
            answer.items.append(_refused(message.sequence, refusal))
        else:
            _kept(answer, message.sequence, outcome)
        answer.acknowledged = message.sequence

    def _read(self) -> None:
        """Hand every message to the writer; runs in a thread of its own."""
        end = _DONE
        try:
            self._read_all()
        except Refused as refusal:
            end = _End(refusal)
        except Exception as error:  # the call is over: grpcio's iterator says so in several ways
            _log.debug("a record stream ended: %s", type(error).__name__)
        self._queue.put(end)

    def _read_all(self) -> None:
        expected = 1
        while not self._closed.is_set():
            self._window.acquire()
            message = next(self._messages, None)
            if message is None or self._closed.is_set():
                return
            if message.sequence != expected:
                raise Invalid("sequence", f"is {message.sequence}, but this is message {expected} of the stream")
            self._queue.put(_Message(expected, self._hand_over(message)))
            expected += 1

    def _hand_over(self, message: usage_pb2.RecordStreamRequest) -> Ticket[Receipt] | Ticket[BatchReceipt] | Refused:
        while True:
            # Holding the caller back is what a stream is for. It is no refusal, and must not be counted as one.
            while not self._service.has_room and not self._closed.wait(_FULL_QUEUE_S):
                pass
            try:
                return self._submit(message)
            except Overloaded:  # somebody else was faster
                if self._closed.wait(_FULL_QUEUE_S):
                    raise
            except (Invalid, Forbidden) as refusal:
                return refusal

    def _submit(self, message: usage_pb2.RecordStreamRequest) -> Ticket[Receipt] | Ticket[BatchReceipt]:
        kind = message.WhichOneof("item")
        if kind == "record":
            return self._service.submit(self._caller, message.record)
        if kind == "batch":
            return self._service.submit_batch(self._caller, message.batch)
        raise Invalid("record", "or batch is required in every message")


def _refused(sequence: int, refusal: Refused) -> usage_pb2.StreamItem:
    if isinstance(refusal, Conflict):
        outcome = batch_pb2.RECORD_OUTCOME_CONFLICT
    else:
        outcome = batches.OUTCOMES[FORBIDDEN if isinstance(refusal, Forbidden) else INVALID]
    named = convert.named_as_here(refusal)
    return usage_pb2.StreamItem(
        sequence=sequence,
        outcome=outcome,
        field=getattr(named, "field", ""),
        reason=getattr(named, "reason", named.message),
    )


def _kept(answer: usage_pb2.RecordStreamResponse, sequence: int, outcome: Receipt | BatchReceipt) -> None:
    """Add an item only where there is more to say than that everything was accepted."""
    if isinstance(outcome, Receipt):
        if outcome.duplicate:
            duplicate = batch_pb2.RECORD_OUTCOME_DUPLICATE
            answer.items.append(usage_pb2.StreamItem(sequence=sequence, outcome=duplicate))
    elif outcome.stored.duplicate or outcome.stored.outcomes.strip(ACCEPTED):
        answer.items.append(usage_pb2.StreamItem(sequence=sequence, batch=batches.response(outcome)))
