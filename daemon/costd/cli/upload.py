"""The way of batches to a daemon: in order, a few ahead of their answers, again after a break, until all is settled."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator

from costd.cli.batches import Prepared
from costd.cli.connection import Daemon
from costd.domain.errors import CostdError, Forbidden
from costd.v1 import batch_pb2, usage_pb2

#: Batches that may be ahead of their answers: one is prepared and one written while another is being synced.
WINDOW = 4

Settled = Callable[[Prepared, usage_pb2.RecordBatchResponse | None], None]


class Upload:
    """Sends batches over record streams, one stream after another where one breaks.

    Batches are made in the thread that sends; all of it but that happens in the thread that asks for the answers.
    """

    def __init__(self, source: Iterator[Prepared], settled: Settled) -> None:
        """`settled` is told what became of each batch, in order: None where every record of it is new."""
        self._source = source
        self._settled = settled
        self.lock = threading.Condition()
        self._unsettled: deque[Prepared] = deque()
        self._failure: BaseException | None = None
        self._ended = False

    def over(self, daemon: Daemon) -> Iterator[usage_pb2.RecordStreamResponse]:
        """Send everything that is not settled yet to `daemon`; an item for each answer.

        Raises what the source raised, and what `daemon.stream` does; after a break, call it again.
        """
        sending = _Sending(self)
        try:
            for answer in daemon.stream(daemon.usage.RecordStream, sending.messages()):
                self._settle(sending, answer)
                yield answer
        finally:
            sending.stop()
        if self._failure is not None:
            raise self._failure

    def _settle(self, sending: _Sending, answer: usage_pb2.RecordStreamResponse) -> None:
        items = {item.sequence: item for item in answer.items}
        while sending.settled < answer.acknowledged:
            with self.lock:
                prepared = self._unsettled[0]
            item = items.get(sending.settled + 1)
            self._settled(prepared, None if item is None else _response(item))
            with self.lock:
                self._unsettled.popleft()
                sending.settled += 1
                self.lock.notify_all()

    def take(self, sending: _Sending) -> Prepared | None:
        """The next batch to send, once there is room for it; None after the last."""
        with self.lock:
            while not sending.stopped:
                ahead = sending.sent - sending.settled
                if ahead < len(self._unsettled):
                    return self._unsettled[ahead]
                if self._ended:
                    return None
                if len(self._unsettled) < WINDOW:
                    self._prepare()
                else:
                    self.lock.wait()
            return None

    def _prepare(self) -> None:
        try:
            made = next(self._source, None)
        except BaseException as error:  # it is raised in the thread that waits for the answers
            self._failure, made = error, None
        if made is None:
            self._ended = True
        else:
            self._unsettled.append(made)


class _Sending:
    """One stream: how many of its messages were sent and how many are settled."""

    def __init__(self, upload: Upload) -> None:
        self._next = upload.take
        self._lock = upload.lock
        self.sent = 0
        self.settled = 0
        self.stopped = False

    def messages(self) -> Iterator[usage_pb2.RecordStreamRequest]:
        """What to send; asked for by gRPC in a thread of its own."""
        while (prepared := self._next(self)) is not None:
            self.sent += 1
            yield usage_pb2.RecordStreamRequest(sequence=self.sent, batch=prepared.request)

    def stop(self) -> None:
        """Send nothing more."""
        with self._lock:
            self.stopped = True
            self._lock.notify_all()


def _response(item: usage_pb2.StreamItem) -> usage_pb2.RecordBatchResponse:
    """What became of a batch; raises Forbidden or CostdError where it was refused as a whole."""
    if item.HasField("batch"):
        return item.batch
    if item.outcome == batch_pb2.RECORD_OUTCOME_FORBIDDEN:
        raise Forbidden(item.reason)
    word = batch_pb2.RecordOutcome.Name(item.outcome).removeprefix("RECORD_OUTCOME_").lower()
    raise CostdError(f"a batch was refused ({word}): {item.reason}")
