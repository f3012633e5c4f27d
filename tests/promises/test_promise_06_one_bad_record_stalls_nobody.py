"""Promise 6: a record, batch or peer that is bad is its own problem; everyone else's records go in.

What validation refuses is refused alone; what only the database refuses is set aside while its neighbours in the same
transaction are committed; and callers that hang, trickle or vanish hold up nobody.
"""

from __future__ import annotations

import json
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from callers import BatchDoor, Call, GrpcDoor, HttpDoor, Outcome, record_json, reported, rows, send, summed
from costd.store.commit import Change, Commit
from harness import Daemon
from ledger import Observed, draft, record, series, submit, writing

GOOD = record_json(Call(1))
BAD = [
    ({**GOOD, "model": ""}, 400, "model"),
    ({**GOOD, "units": {"input_tokens": -1}}, 400, "units.input_tokens"),
    ({**GOOD, "units": {"input_tokens": 10**13}}, 400, "units.input_tokens"),
    ({**GOOD, "units": {"input_tokens": "many"}}, 400, "units.input_tokens"),
    ({**GOOD, "units": {"input_tokens": 1, "cache_read_tokens": 2}}, 400, "units.cache_read_tokens"),
    ({**GOOD, "units": [1]}, 400, "units"),
    ({**GOOD, "source_app": "x" * 257}, 400, "source_app"),
    ({**GOOD, "timestamp": "1999-01-01T00:00:00Z"}, 400, "timestamp"),
    ({**GOOD, "cost_usd": 1_000_000.01}, 400, "cost_usd"),
    ({**GOOD, "currency": "EUR"}, 400, "currency"),
    ({**GOOD, "feature_tags": ["a,b"]}, 400, "feature_tags"),
    ({"model": "gpt-4o"}, 400, "user_external_id"),
    (7, 400, ""),
    (None, 400, ""),
    ([], 400, ""),
]  # fmt: skip


@pytest.mark.parametrize("lines", [False, True], ids=["array", "lines"])
def test_promise_6_bad_records_in_a_batch_are_refused_alone_with_their_field(daemon: Daemon, *, lines: bool) -> None:
    before = summed(daemon)[0]
    sent: list[Any] = []
    for bad, _, _ in BAD:
        sent += [GOOD, bad]
    sent.append(GOOD)
    body = "\n".join(map(json.dumps, sent)) if lines else json.dumps(sent)
    kind = "application/x-ndjson" if lines else "application/json"
    answer = daemon.client.post("/v1/usage/records", content=body, headers={"Content-Type": kind})
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    assert [result["success"] for result in results] == [index % 2 == 0 for index in range(len(sent))]
    for (bad, status, field), result in zip(BAD, results[1::2], strict=True):
        assert result["status"] == status, (bad, result)
        assert ((result["error"].get("details") or {}).get("field", "")) == field, (bad, result)
    assert summed(daemon)[0] - before == len(BAD) + 1


def test_promise_6_a_line_that_is_not_json_is_refused_alone(daemon: Daemon) -> None:
    before = summed(daemon)[0]
    body = "\n".join([json.dumps(GOOD), "{not json", '{"units": NaN}', "", json.dumps(GOOD)])
    answer = daemon.client.post("/v1/usage/records", content=body, headers={"Content-Type": "application/x-ndjson"})
    assert [result["success"] for result in answer.json()["results"]] == [True, False, False, True]
    assert summed(daemon)[0] - before == 2


@pytest.mark.parametrize(
    "poison",
    [
        {"input_tokens": None},
        {"input_tokens": 2**63},
        {"input_tokens": "many"},
        {"at_ms": None},
        {"extra": b"bytes"},
        {"cost_nano": 0.5},
        {"series": series(user=None)},
        {"series": series(project="\ud800")},
        {"rare": (("pages", "many"),)},
        {"request_id": "twice", "fingerprint": None},
    ],
    ids=str,
)
def test_promise_6_what_only_the_database_refuses_is_set_aside_and_its_neighbours_are_kept(
    tmp_path: Path, poison: dict[str, Any]
) -> None:
    with writing(tmp_path, started=False) as writer:
        # All of it waits before the writer starts, so that it is one group.
        before = submit(writer, *(draft(request_id=f"b{n}", fingerprint=b"f") for n in range(5)))
        bad = submit(writer, draft(**poison))[0]
        after = submit(writer, *(draft(series=series(user=f"u{n}")) for n in range(5)))
        writer.start()
        kept = [ticket.wait(20) for ticket in before + after]
        with pytest.raises(Exception, match=r".*") as caught:
            bad.wait(20)
        assert not isinstance(caught.value, AssertionError)
        assert len({stored.event_id for stored in kept}) == 10
        assert record(writer, draft())[0].duplicate is False
        assert isinstance(writer._observer, Observed)
        assert writer._observer.tally == {("test", "accepted"): 11}
        assert writer.records_refused is None
    with sqlite3.connect(tmp_path / "costd.db") as connection:
        assert connection.execute("SELECT count(*), sum(cost_nano) FROM event").fetchone() == (11, 11)
        assert connection.execute("SELECT sum(requests), sum(cost_nano) FROM rollup").fetchone() == (11, 11)
    connection.close()


def test_promise_6_a_change_that_fails_is_set_aside_and_the_records_beside_it_are_kept(tmp_path: Path) -> None:
    def explode(commit: Commit) -> None:
        commit.connection.execute("INSERT INTO audit (id) VALUES (1)")

    with writing(tmp_path, started=False) as writer:
        records = submit(writer, draft(), draft())
        bad = writer.submit(Change(explode))
        good = writer.submit(Change(lambda commit: commit.take_seq()))
        writer.start()
        assert [ticket.wait(20).duplicate for ticket in records] == [False, False]
        with pytest.raises(sqlite3.IntegrityError):
            bad.wait(20)
        assert good.wait(20) == 3


def never(done: threading.Event) -> Iterator[bytes]:
    """A request whose message does not come."""
    done.wait(60)
    yield from ()


def bearer(daemon: Daemon) -> tuple[tuple[str, str], ...]:
    """The metadata with the key."""
    return (("authorization", f"Bearer {daemon.admin_key}"),)


def test_promise_6_peers_that_hang_hold_up_nobody(daemon: Daemon) -> None:
    host, port = daemon.ready["http"].rsplit(":", 1)
    head = f"POST /v1/usage/record HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {daemon.admin_key}\r\n"
    with ExitStack() as held:
        for start in (b"", b"POST /v1/us", f"{head}Content-Length: 500\r\n\r\n{{".encode()):
            for _ in range(40):
                hanging = held.enter_context(socket.create_connection((host, int(port))))
                hanging.sendall(start)
        grpc_host, grpc_port = daemon.grpc.rsplit(":", 1)
        for _ in range(40):
            held.enter_context(socket.create_connection((grpc_host, int(grpc_port)))).sendall(b"PRI * HTTP/2.0")
        done = threading.Event()
        channel = held.enter_context(grpc.insecure_channel(daemon.grpc))
        held.callback(done.set)
        stalled = channel.stream_unary("/costd.v1.UsageService/Record")
        waiting = [stalled.future(never(done), metadata=bearer(daemon)) for _ in range(40)]
        outcomes: list[Outcome] = []
        for make in (GrpcDoor, HttpDoor, BatchDoor):
            outcomes += send(make, daemon, Call(1), Call(2))
        assert {outcome.word for outcome in outcomes} == {"kept"}
        assert not any(call.done() for call in waiting)
    assert summed(daemon) == reported(daemon)
    assert rows(daemon)
