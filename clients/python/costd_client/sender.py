"""The thread that sends: one batch, or a look whether costd answers, at a time; tells what came of it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import NamedTuple

import grpc

from costd_client import refusal
from costd_client.batch import Batch
from costd_client.connection import Connection
from costd_client.refusal import Refusal
from costd_client.v1 import batch_pb2

PROBE_S = 1.0

_log = logging.getLogger("costd_client")


class Sent(NamedTuple):
    """What came of a batch, or (`batch` None) of a look: an answer, or a refusal."""

    batch: Batch | None
    answer: batch_pb2.RecordBatchResponse | None
    refusal: Refusal | None


class Sender:
    """Sends what it is given, in a thread of its own: a call that hangs holds up nothing else."""

    def __init__(self, connection: Connection, timeout_s: float, tell: Callable[[Sent], None]) -> None:
        self._connection = connection
        self._timeout_s = timeout_s
        self._tell = tell
        self._jobs: SimpleQueue[Batch | bool] = SimpleQueue()

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="costd-client-send", daemon=True).start()

    def send(self, batch: Batch) -> None:
        """Send a batch."""
        self._jobs.put(batch)

    def look(self) -> None:
        """See whether costd answers."""
        self._jobs.put(True)

    def end(self) -> None:
        """Let the thread end, once what it does has."""
        self._jobs.put(False)

    def _run(self) -> None:
        while job := self._jobs.get():
            batch = job if isinstance(job, Batch) else None
            answer = None
            refused = None
            try:
                if batch is None:
                    self._connection.probe(PROBE_S)
                else:
                    answer = self._connection.record_batch(batch.message(), self._timeout_s)
            except grpc.RpcError as error:
                refused = refusal.read(error)
            except ValueError:  # the channel was closed a moment ago
                refused = Refusal(grpc.StatusCode.CANCELLED, (), None)
            except Exception:
                _log.exception("costd's client failed to send")
                refused = Refusal(grpc.StatusCode.UNKNOWN, (), None)
            self._tell(Sent(batch, answer, refused))
