"""Promise 6 at a hub: a peer that lies, hangs or sends rubbish is told so; everyone else's records go in meanwhile.

What only one record of a batch is guilty of sets that record aside; what makes a batch unreadable sets the batch aside;
what shows that the road or the peer is wrong ends the stream, and nothing of the batch was taken.
"""

from __future__ import annotations

import random
import socket
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import harness
from costd.v1 import hub_pb2
from fleet import source_key
from harness import Daemon
from hub_peer import Peer, content, kept, packed, peer, quarantined
from rpc_calls import bearer, channel_to, send_raw

FORWARD = "/costd.v1.HubService/Forward"
_MIB = 1 << 20


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A hub that peers meet."""
    running = harness.start(tmp_path_factory.mktemp("hub") / "hub", command="hub")
    yield running
    assert running.stop() == 0, running.log
    assert harness.costd("check", "--data-dir", str(running.data_dir)).returncode == 0


@pytest.fixture
def key(hub: Daemon, request: pytest.FixtureRequest) -> str:
    """The key of a source of the test's own."""
    return source_key(hub, request.node.name)


@pytest.fixture
def good(hub: Daemon) -> Iterator[Callable[[], None]]:
    """Another source, which must be served as ever: call it at any moment."""
    with peer(hub, source_key(hub, f"good-{random.getrandbits(40)}")) as other:

        def goes_on() -> None:
            before = kept(hub)
            assert other.bring(5).watermark == other.last
            assert kept(hub) == before + 5

        yield goes_on


def test_promise_6_a_strangers_key_gets_nowhere(hub: Daemon, good: Callable[[], None]) -> None:
    before = kept(hub)
    with Peer(hub.grpc, "ct_live_" + "x" * 43) as stranger:
        error = stranger.refusal()
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    with channel_to(hub.grpc) as channel:
        assert send_raw(channel, FORWARD, b"", ()) is grpc.StatusCode.UNAUTHENTICATED
    assert kept(hub) == before
    good()


@pytest.mark.parametrize("role", ["ingest", "read", "admin"])
def test_promise_6_an_ordinary_key_is_no_sources(hub: Daemon, role: str) -> None:
    with Peer(hub.grpc, hub.key(f"ordinary-{role}", role=role)) as ordinary:
        error = ordinary.refusal()
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "source" in error.details()


def test_promise_6_a_source_that_takes_itself_for_another_is_refused(
    hub: Daemon, key: str, good: Callable[[], None]
) -> None:
    source_key(hub, "web-1")
    with Peer(hub.grpc, key) as liar:
        error = liar.refusal(name="web-1")
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED
        assert '"web-1"' in error.details()
        assert liar.hello(name="").source == "test_promise_6_a_source_that_takes_itself_for_another_is_refused"
    good()


HELLOS: dict[str, dict[str, Any]] = {
    "short epoch": {"epoch": b"x"},
    "no epoch": {"epoch": b""},
    "long incarnation": {"incarnation": b"x" * 17},
    "huge host": {"host": "x" * 100_000},
    "huge version": {"version": "x" * 257},
    "numbers beyond a ledger's": {"acknowledged": 1 << 63},
    "acknowledged beyond 64 bits of SQLite": {"acknowledged": (1 << 64) - 1},
}


@pytest.mark.parametrize("fields", HELLOS.values(), ids=HELLOS)
def test_promise_6_a_hello_that_makes_no_sense_is_refused(hub: Daemon, fields: dict[str, Any], key: str) -> None:
    with Peer(hub.grpc, key) as liar:
        error = liar.refusal(**fields)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert next(iter(fields)) in error.details()


def test_promise_6_a_stream_that_does_not_begin_with_hello_ends(hub: Daemon, key: str) -> None:
    with Peer(hub.grpc, key) as rude:
        rude.open()
        error = rude.refusal(rude.batch(content()))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        rude.hello()
        rude.say(hub_pb2.ForwardRequest(hello=rude.hello_message()))
        assert rude.refusal(rude.batch(content())).code() is grpc.StatusCode.INVALID_ARGUMENT
    with channel_to(hub.grpc) as channel:
        assert send_raw(channel, FORWARD, b"\xff" * 50, bearer(key)) is grpc.StatusCode.INVALID_ARGUMENT
    assert quarantined(hub) == quarantined(hub)


def damaged_content(batch: hub_pb2.ForwardBatch) -> None:
    batch.content = batch.content[:-1] + bytes([batch.content[-1] ^ 1])


def other_numbers(batch: hub_pb2.ForwardBatch) -> None:
    batch.last += 1


def other_seal(batch: hub_pb2.ForwardBatch) -> None:
    batch.seal = b"s" * 16


def short_seal(batch: hub_pb2.ForwardBatch) -> None:
    batch.seal = b"s"


@pytest.mark.parametrize("damage", [damaged_content, other_numbers, other_seal, short_seal])
def test_promise_6_a_batch_with_a_wrong_checksum_is_refused_and_comes_again(
    hub: Daemon, key: str, good: Callable[[], None], damage: Callable[[hub_pb2.ForwardBatch], None]
) -> None:
    with peer(hub, key) as made:
        made.bring(3)
        before, aside = kept(hub), quarantined(hub)
        batch = made.batch(content(made.last + 1))
        whole = hub_pb2.ForwardBatch.FromString(batch.SerializeToString())
        damage(batch)
        error = made.refusal(batch)
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "seal" in error.details()
        assert (kept(hub), quarantined(hub)) == (before, aside)
        good()
        welcome = made.hello()
        assert (welcome.known, welcome.watermark, welcome.seal) == (True, made.last, made.seal)
        assert made.send(whole).watermark == whole.last


def test_promise_6_a_gap_is_refused_and_says_what_is_missing(hub: Daemon, key: str) -> None:
    with peer(hub, key) as made:
        made.bring(3)
        before = kept(hub)
        error = made.refusal(made.batch(content(6), first=6, last=6))
        assert "4" in error.details()
        assert kept(hub) == before
        made.hello()
        assert made.bring(2).watermark == 5


def test_promise_6_another_history_of_the_same_epoch_is_refused(hub: Daemon, key: str) -> None:
    with peer(hub, key) as made:
        made.bring(3)
        before = kept(hub)
        error = made.refusal(made.batch(content(4), previous_seal=b"o" * 16))
        assert "epoch" in error.details()
        made.hello()
        error = made.refusal(made.batch(content(2, 2), first=2, last=3))
        assert "epoch" in error.details()
        assert kept(hub) == before


def test_promise_6_a_batch_that_comes_again_is_acknowledged_and_counts_once(hub: Daemon, key: str) -> None:
    with peer(hub, key) as made:
        batches = [made.batch(content(n * 5 + 1, 5), first=n * 5 + 1, last=n * 5 + 5) for n in range(1)]
        made.send(batches[0])
        before = kept(hub)
        for _ in range(3):
            assert made.send(batches[0]).watermark == 5
        made.hello()
        assert made.send(batches[0]).watermark == 5
        assert kept(hub) == before


#: Made when they are wanted: to pack a bomb takes a second.
UNREADABLE: dict[str, Callable[[], bytes]] = {
    "no deflated bytes": lambda: b"rubbish",
    "empty": lambda: b"",
    "cut short": lambda: packed(content())[:-8],
    "not the message": lambda: zlib.compress(b"\xff\xff\xff\xff rubbish"),
    "no commits": lambda: zlib.compress(b""),
    "a bomb": lambda: zlib.compress(b"\0" * (300 * _MIB), 9),
    "a bomb of lists": lambda: zlib.compress(
        hub_pb2.ForwardEvents.DESCRIPTOR.full_name.encode() + b"\x0a\x00" * (20 * _MIB)
    ),
}


@pytest.mark.parametrize("pack", UNREADABLE.values(), ids=UNREADABLE)
def test_promise_6_content_that_cannot_be_read_is_set_aside_and_the_rest_moves_on(
    hub: Daemon, key: str, good: Callable[[], None], pack: Callable[[], bytes]
) -> None:
    before = memory_mib(hub)
    with peer(hub, key) as made:
        aside = len(quarantined(hub))
        ack = made.send(made.batch(pack()))
        assert [each.kind for each in ack.set_aside] == [hub_pb2.SetAside.KIND_QUARANTINED]
        assert ack.set_aside[0].reason
        assert len(quarantined(hub)) == aside + 1
        held = kept(hub)
        made.bring(4)
        assert kept(hub) == held + 4
        good()
    assert memory_mib(hub) - before < 100, "a peer must not make the hub grow"


def columns(**fields: Any) -> Callable[[hub_pb2.ForwardContent], object]:
    """Content whose columns of records have these values at the second record."""

    def change(held: hub_pb2.ForwardContent) -> None:
        for name, value in fields.items():
            getattr(held.events, name)[1] = value

    return change


def extra(text: str) -> Callable[[hub_pb2.ForwardContent], object]:
    def change(held: hub_pb2.ForwardContent) -> None:
        held.events.extra_at.append(1)
        held.events.extra.append(text)

    return change


def foreign(held: hub_pb2.ForwardContent) -> None:
    held.organizations.append("somebody-else")
    held.series.add(organization=1, source_app="peer", user="mallory", model="gpt-4o", status="success")
    held.events.series[1] = 1


def endless(held: hub_pb2.ForwardContent) -> None:
    held.series.add(source_app="peer", user="mallory", model="x" * _MIB, status="success")
    held.events.series[1] = 1


#: Lies of the second of three records; the others are as good as any.
LIES: dict[str, tuple[Callable[[hub_pb2.ForwardContent], object], str]] = {
    "tokens beyond the limit": (columns(input_tokens=10**12 + 1), "input_tokens"),
    "tokens beyond 64 bits of SQLite": (columns(output_tokens=(1 << 64) - 1), "output_tokens"),
    "a negative cost": (columns(cost_nano_usd=-2), "cost"),
    "a cost beyond the limit": (columns(cost_nano_usd=10**15 + 1), "cost"),
    "a negative latency": (columns(latency_ms=-5), "latency"),
    "a time before 1970": (columns(at_ms=-1), "time"),
    "a time in a thousand years": (columns(at_ms=33_000_000_000_000), "time"),
    "somebody else's organization": (foreign, "somebody-else"),
    "a text without end": (endless, "series"),
    "no JSON": (extra("{not json"), "extra"),
    "two JSONs": (extra("{},{}"), "extra"),
    "units that are no numbers": (extra('{"units":{"gpu":"many"}}'), "extra"),
    "units that are no object": (extra('{"units":[1]}'), "extra"),
    "units that are not finite": (extra('{"units":{"gpu":"NaN"}}'), "extra"),
    "units below zero": (extra('{"units":{"gpu":"-1"}}'), "extra"),
    "half a character": (extra('{"job":"\\ud800"}'), "extra"),
    "a deep hole": (extra('{"new":' + "[" * 9_000 + "]" * 9_000 + "}"), "extra"),
}


@pytest.mark.parametrize(("lie", "reason"), LIES.values(), ids=LIES)
def test_promise_6_a_record_that_lies_is_set_aside_alone(
    hub: Daemon, key: str, lie: Callable[[hub_pb2.ForwardContent], object], reason: str
) -> None:
    with peer(hub, key) as made:
        before = kept(hub)
        ack = made.bring(3, lie)
        assert [(each.first, each.last, each.records) for each in ack.set_aside] == [(2, 2, 1)]
        assert reason in ack.set_aside[0].reason
        assert kept(hub) == before + 2
        made.bring(1)
        assert kept(hub) == before + 3
    assert hub.client.get("/api/usage?limit=50").status_code == 200, "what was taken over can be read"


def cut_column(name: str) -> Callable[[hub_pb2.ForwardContent], object]:
    return lambda held: getattr(held.events, name).pop()


def clear_commits(held: hub_pb2.ForwardContent) -> None:
    held.commits.ids = held.commits.ids[:-1]


def repeat_numbers(held: hub_pb2.ForwardContent) -> None:
    held.events.seq[1] = held.events.seq[0]


def number_outside(held: hub_pb2.ForwardContent) -> None:
    held.events.seq[2] = held.events.seq[2] + 1_000


def commit_beyond(held: hub_pb2.ForwardContent) -> None:
    held.commits.items[0] = 1_000


def series_beyond(held: hub_pb2.ForwardContent) -> None:
    held.events.series[0] = 17


def taken_back_beyond(held: hub_pb2.ForwardContent) -> None:
    held.events.taken_back.append(99)


def strange_source(held: hub_pb2.ForwardContent) -> None:
    held.price_sources.add(kind="invented", version="1")
    held.events.price_source[0] = 1


def strange_entry(held: hub_pb2.ForwardContent) -> None:
    held.month_entries.add(seq=held.events.seq[0], id=b"i" * 16, kind="invented", year=2026, month=5)


def entry(**fields: Any) -> Callable[[hub_pb2.ForwardContent], object]:
    """Content with a month entry that is as good as any but for these fields."""
    plain = {
        "id": b"i" * 16,
        "kind": "cost",
        "service": "x",
        "provider": "x",
        "year": 2026,
        "month": 5,
        "details": "{}",
    }

    def change(held: hub_pb2.ForwardContent) -> None:
        held.month_entries.add(**({"seq": held.events.seq[0]} | plain | fields))

    return change


def correction(amount: int) -> Callable[[hub_pb2.ForwardContent], object]:
    def change(held: hub_pb2.ForwardContent) -> None:
        held.adjustments.add(seq=held.events.seq[0], event_id=b"e" * 16, kind="reprice", amounts=[amount] * 12)

    return change


def huge_batch_of_records(held: hub_pb2.ForwardContent) -> None:
    held.record_batches.add(seq=held.events.seq[0], batch_id="b", fingerprint=b"f", added=(1 << 32) - 1)


#: What makes a whole batch unfit.
WHOLE_LIES: dict[str, Callable[[hub_pb2.ForwardContent], object]] = {
    **{
        f"a short column: {name}": cut_column(name) for name in ("at_ms", "series", "cost_nano_usd", "reasoning_tokens")
    },
    "commit ids cut short": clear_commits,
    "a number twice": repeat_numbers,
    "a number outside": number_outside,
    "a commit beyond the range": commit_beyond,
    "a series that is not there": series_beyond,
    "a position that is not there": taken_back_beyond,
    "a strange price source": strange_source,
    "a strange month entry": strange_entry,
    "a batch of four billion": huge_batch_of_records,
    "a thirteenth month": entry(month=13),
    "an entry beyond the limit": entry(cost_nano_usd=(1 << 63) - 1),
    "an entry below zero": entry(cost_nano_usd=-1),
    "an entry of tokens without end": entry(tokens=(1 << 64) - 1),
    "a correction that sums cannot hold": correction(1 << 62),
    "a correction far below zero": correction(-(1 << 62)),
}


@pytest.mark.parametrize("lie", WHOLE_LIES.values(), ids=WHOLE_LIES)
def test_promise_6_a_batch_that_lies_is_set_aside_and_the_rest_moves_on(
    hub: Daemon, key: str, good: Callable[[], None], lie: Callable[[hub_pb2.ForwardContent], object]
) -> None:
    with peer(hub, key) as made:
        before, aside = kept(hub), len(quarantined(hub))
        ack = made.bring(3, lie)
        assert ack.watermark == 3
        assert [each.kind for each in ack.set_aside] == [hub_pb2.SetAside.KIND_QUARANTINED]
        assert len(quarantined(hub)) == aside + 1
        assert kept(hub) < before + 3
        made.bring(2)
        good()
    events = hub.client.get("/api/usage?limit=50")
    assert events.status_code == 200, "what was taken over can be read"


@pytest.mark.parametrize("mib", [65, 1024])
def test_promise_6_a_message_beyond_all_bounds_is_refused_and_the_hub_does_not_grow(
    hub: Daemon, key: str, good: Callable[[], None], mib: int
) -> None:
    before = memory_mib(hub)
    with peer(hub, key) as made:
        made.bring(1)
        held = kept(hub)
        code = send_huge(hub, key, mib * _MIB)
        assert code in {
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.INVALID_ARGUMENT,
        }
        assert kept(hub) == held
        good()
        made.hello()
        made.bring(1)
    assert memory_mib(hub) - before < 200


def send_huge(hub: Daemon, key: str, size: int) -> grpc.StatusCode:
    """Send one message of so many bytes; how it ended."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(hub.grpc, options=options) as channel:
        return send_raw(channel, FORWARD, b"\x12" + b"\0" * size, bearer(key))


def test_promise_6_peers_that_hang_after_hello_hold_up_nobody(hub: Daemon, key: str, good: Callable[[], None]) -> None:
    keys = [source_key(hub, f"hangs-{n}") for n in range(3)]
    hanging = [Peer(hub.grpc, keys[n % 3]) for n in range(30)]
    host, port = hub.grpc.rsplit(":", 1)
    sockets = [socket.create_connection((host, int(port))) for _ in range(40)]
    try:
        for each in hanging:
            each.hello()
        for each in sockets:
            each.sendall(b"PRI * HTTP/2.0")
        good()
        with peer(hub, key) as made:
            assert made.bring(3).watermark == 3
        assert hub.client.get("/v1/health").status_code == 200
    finally:
        for each in hanging:
            each.close()
        for each in sockets:
            each.close()


def memory_mib(daemon: Daemon) -> float:
    """The resident memory of a daemon."""
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024
