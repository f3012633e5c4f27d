"""Callers of a fleet: they send to every sidecar by every door, remember each answer, and retry what got none."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from collections.abc import Sequence
from itertools import count
from typing import NamedTuple

from callers import ALL_DOORS, BatchDoor, Call, ColumnsDoor, Door, GrpcDoor, HttpDoor, Outcome, some_call
from costd.v1 import usage_pb2
from fleet import Sidecar

_BATCH = 12
_AGAIN_S = 0.02


class NamedBatchDoor(ColumnsDoor):
    """UsageService.RecordBatch with an id for the batch as a whole, and none for its records."""

    name = "named-batch"

    def _batch(self, calls: Sequence[Call]) -> usage_pb2.RecordBatchRequest:
        request = super()._batch(calls)
        request.batch_id = f"batch-{calls[0].number}"
        return request


class RareDoor(BatchDoor):
    """POST /v1/usage/records of calls that used units without a column, too."""

    name = "rare"

    def post(self, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """With half a second of a machine for each."""
        return super().post(path, body.replace(b'"output_tokens":', b'"gpu_seconds": 0.5, "output_tokens":'))


class EntryDoor(HttpDoor):
    """POST /api/ingest: an entry by the month, under an id of its own."""

    name = "entry"

    def send(self, calls: Sequence[Call]) -> list[Outcome]:
        """Each by itself."""
        return [self._ingest(call) for call in calls]

    def _ingest(self, call: Call) -> Outcome:
        data = {"amount": call.number, "month": 1 + call.number % 12, "year": 2026}
        body = {"type": "cost", "service": "OpenAI", "data": data, "project": f"p{call.number}"}
        self.headers = {"Idempotency-Key": f"entry-{call.number}"}
        status, _, text = self.post("/api/ingest", json.dumps(body).encode())
        return Outcome("kept" if status == 200 else "refused" if status else "lost", str(status), body=text.decode())


class Sending(NamedTuple):
    """Calls that go by one door together, and again if need be."""

    door: type
    calls: tuple[Call, ...]

    @property
    def has_id(self) -> bool:
        """Whether it may be sent again."""
        return self.door in {NamedBatchDoor, EntryDoor} or all(call.request_id for call in self.calls)


class Books:
    """What the callers of a fleet know together: what was sent, and what was acknowledged."""

    def __init__(self, rng: random.Random) -> None:
        self.lock = threading.Lock()
        self.sent: dict[int, Call] = {}
        self.told: set[int] = set()
        self.rare: set[int] = set()
        self.entries: set[int] = set()
        #: Acknowledged by one sidecar, to be sent to others as well.
        self.elsewhere: list[tuple[str, Sending]] = []
        self.doubled: set[int] = set()
        self._rng = rng
        self._numbers = count()

    def next(self, sidecar: str, door: type) -> Sending:
        """What a caller sends next: new calls, or some that another sidecar has acknowledged."""
        with self.lock:
            if self.elsewhere and self._rng.random() < 0.1:
                at = self._rng.randrange(len(self.elsewhere))
                if self.elsewhere[at][0] != sidecar:
                    return self.elsewhere.pop(at)[1]
            size = 1 if door in {GrpcDoor, HttpDoor, EntryDoor} else _BATCH
            with_id = door is not NamedBatchDoor and self._rng.random() < 0.85
            calls = tuple(some_call(self._rng, next(self._numbers), with_id=with_id) for _ in range(size))
            self.sent.update((call.number, call) for call in calls)
            return Sending(door, calls)

    def note(self, sidecar: str, sending: Sending) -> None:
        """All of it was acknowledged."""
        with self.lock:
            numbers = {call.number for call in sending.calls}
            told = self.entries if sending.door is EntryDoor else self.told
            again = numbers & told
            self.doubled |= again
            told |= numbers
            if sending.door is RareDoor:
                self.rare |= numbers
            elif sending.has_id and not again:
                self.elsewhere.append((sidecar, sending))

    def expected(self, kept: Counter[int]) -> dict[tuple[str, str, str], tuple[int, ...]]:
        """{(user, model, tags): (nano-USD, requests, input, output, unpriced)} of the calls that count."""
        sums: dict[tuple[str, str, str], list[int]] = {}
        for number in kept:
            call = self.sent[number]
            nano = call.expected_nano
            key = (call.user, call.model, ",".join(sorted(call.tags)))
            amounts = (nano or 0, 1, call.input_tokens, call.output_tokens, int(nano is None))
            held = sums.setdefault(key, [0] * len(amounts))
            held[:] = map(int.__add__, held, amounts)
        return {key: tuple(amounts) for key, amounts in sums.items()}


class Caller(threading.Thread):
    """Sends to one sidecar by one door until told to stop; a sidecar that is gone is waited for."""

    def __init__(self, sidecar: Sidecar, door: type, books: Books) -> None:
        super().__init__(daemon=True)
        self._sidecar = sidecar
        self._door = door
        self._books = books
        self._stopping = threading.Event()
        self._again: Sending | None = None
        self._error: BaseException | None = None
        self.start()

    def finish(self, timeout_s: float = 60) -> None:
        """Stop after the last answer; raises what went wrong on the way."""
        self._stopping.set()
        self.join(timeout_s)
        assert not self.is_alive(), f"a caller of {self._sidecar.name} still waits"
        if self._error is not None:
            raise self._error

    def run(self) -> None:
        try:
            while self._again is not None or not self._stopping.is_set():
                self._visit()
        except BaseException as error:
            self._error = error

    def _visit(self) -> None:
        """Send to one process for as long as it answers."""
        daemon, starts = self._sidecar.daemon, self._sidecar.starts
        if daemon is None:
            self._stopping.wait(_AGAIN_S)
            return
        doors: dict[type, Door] = {}
        try:
            while self._again is not None or not self._stopping.is_set():
                sending = self._again or self._books.next(self._sidecar.name, self._door)
                if sending.door not in doors:
                    doors[sending.door] = sending.door(daemon)
                if not self._send(doors[sending.door], sending):
                    break
        finally:
            for door in doors.values():
                door.close()
        while self._sidecar.starts == starts and daemon.process.poll() is not None:
            if self._stopping.wait(_AGAIN_S) and self._again is None:
                break

    def _send(self, door: Door, sending: Sending) -> bool:
        """Whether it was answered; what was not is sent again if it may be."""
        outcomes = door.send(sending.calls)
        self._again = None
        if all(outcome.word == "kept" for outcome in outcomes):
            self._books.note(self._sidecar.name, sending)
            return True
        for outcome in outcomes:
            assert outcome.word != "refused" or outcome.status in {"503", "UNAVAILABLE"}, (sending, outcome)
        self._again = sending if sending.has_id else None
        return False


#: By which callers of a sidecar send.
CALLER_DOORS: tuple[type, ...] = (*ALL_DOORS, NamedBatchDoor, RareDoor, EntryDoor)  # type: ignore[assignment]


def callers(sidecar: Sidecar, books: Books) -> list[Caller]:
    """One caller by each door."""
    return [Caller(sidecar, door, books) for door in CALLER_DOORS]
