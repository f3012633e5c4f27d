"""The messages of a Forward stream, from and to what the services speak of."""

from __future__ import annotations

from collections.abc import Iterable

from costd.domain.errors import Invalid
from costd.domain.forwarding import (
    EPOCH_BYTES,
    SEAL_BYTES,
    Hello,
    Lost,
    Sealed,
    SetAside,
    Stand,
    Waiting,
    Welcome,
)
from costd.v1 import hub_pb2

_MAX_INT = (1 << 63) - 1
#: Longer texts about themselves are nothing that sources say.
_MAX_TEXT = 256


def hello_message(hello: Hello) -> hub_pb2.ForwardRequest:
    """The first message of a source."""
    stand = hello.stand
    return hub_pb2.ForwardRequest(
        hello=hub_pb2.ForwardHello(
            version=hello.version,
            format=hello.form,
            host=hello.host,
            name=hello.name,
            time_ms=hello.time_ms,
            epoch=stand.epoch,
            epoch_first=stand.epoch_first,
            acknowledged=stand.acknowledged,
            incarnation=hello.incarnation,
            reconnects=hello.reconnects,
            backlog=_backlog(hello.waiting),
            hub_epoch=stand.hub_epoch,
        )
    )


def read_hello(said: hub_pb2.ForwardHello) -> Hello:
    """What a source says first; Invalid names what is wrong with it."""
    for name, size in (("epoch", len(said.epoch)), ("incarnation", len(said.incarnation))):
        if size != EPOCH_BYTES:
            raise Invalid(f"hello.{name}", f"must be {EPOCH_BYTES} bytes, not {size}")
    for name in ("version", "host", "name"):
        if len(getattr(said, name)) > _MAX_TEXT:
            raise Invalid(f"hello.{name}", f"must be at most {_MAX_TEXT} characters")
    if max(said.epoch_first, said.acknowledged) > _MAX_INT:
        raise Invalid("hello.acknowledged", "must be a number of a ledger's sequence")
    stand = Stand(said.epoch, said.epoch_first, said.acknowledged, said.hub_epoch)
    return Hello(
        said.version,
        said.format,
        said.host,
        said.name,
        said.time_ms,
        stand,
        said.incarnation,
        said.reconnects,
        read_backlog(said.backlog),
    )


def backlog_message(waiting: Waiting) -> hub_pb2.ForwardRequest:
    """What waits."""
    return hub_pb2.ForwardRequest(backlog=_backlog(waiting))


def _backlog(waiting: Waiting) -> hub_pb2.ForwardBacklog:
    return hub_pb2.ForwardBacklog(
        records=waiting.records, oldest_ms=waiting.oldest_ms or 0, forwarded_ms=waiting.forwarded_ms or 0
    )


def read_backlog(said: hub_pb2.ForwardBacklog) -> Waiting:
    """What waits at a source."""
    return Waiting(min(said.records, _MAX_INT), said.oldest_ms or None, said.forwarded_ms or None)


def batch_message(sealed: Sealed, lost: Lost | None) -> hub_pb2.ForwardRequest:
    """A batch."""
    return hub_pb2.ForwardRequest(
        batch=hub_pb2.ForwardBatch(
            first=sealed.first,
            last=sealed.last,
            previous_seal=sealed.previous,
            seal=sealed.seal,
            format=sealed.form,
            content=sealed.content,
            lost=hub_pb2.LostRange(first=lost.first, last=lost.last) if lost is not None else None,
        )
    )


def read_batch(said: hub_pb2.ForwardBatch) -> tuple[Sealed, Lost | None]:
    """A batch as it came, and what was lost before it; its content is not looked at."""
    for name, size in (("seal", len(said.seal)), ("previous_seal", len(said.previous_seal) or SEAL_BYTES)):
        if size != SEAL_BYTES:
            raise Invalid(f"batch.{name}", f"must be {SEAL_BYTES} bytes, not {size}")
    sealed = Sealed(said.first, said.last, said.previous_seal, said.seal, said.format, said.content, 0)
    lost = Lost(said.lost.first, said.lost.last) if said.HasField("lost") else None
    if lost is not None and not 0 < lost.first <= lost.last < said.first:
        raise Invalid("batch.lost", "must be a range of numbers before the batch")
    return sealed, lost


def welcome_message(welcome: Welcome) -> hub_pb2.ForwardResponse:
    """The first message of a hub."""
    return hub_pb2.ForwardResponse(
        welcome=hub_pb2.ForwardWelcome(
            version=welcome.version,
            format=welcome.form,
            time_ms=welcome.time_ms,
            hub_epoch=welcome.hub_epoch,
            source=welcome.source,
            organization=welcome.organization,
            known=welcome.is_known,
            watermark=welcome.watermark,
            seal=welcome.seal,
            new_epoch=welcome.new_epoch,
            set_aside=_set_aside(welcome.set_aside),
        )
    )


def read_welcome(said: hub_pb2.ForwardWelcome) -> Welcome:
    """What a hub says first."""
    return Welcome(
        said.version,
        said.format,
        said.time_ms,
        said.hub_epoch,
        said.source,
        said.organization,
        said.known,
        said.watermark,
        said.seal,
        said.new_epoch,
        read_set_aside(said.set_aside),
    )


def ack_message(watermark: int, seal: bytes, set_aside: Iterable[SetAside]) -> hub_pb2.ForwardResponse:
    """An acknowledgement."""
    return hub_pb2.ForwardResponse(
        ack=hub_pb2.ForwardAck(watermark=watermark, seal=seal, set_aside=_set_aside(set_aside))
    )


def _set_aside(told: Iterable[SetAside]) -> list[hub_pb2.SetAside]:
    return [
        hub_pb2.SetAside(
            kind=hub_pb2.SetAside.KIND_DUPLICATE if each.is_duplicate else hub_pb2.SetAside.KIND_QUARANTINED,
            first=each.first,
            last=each.last,
            reason=each.reason,
            quarantine_id=each.quarantine_id,
            records=each.records,
            cost_nano_usd=min(each.cost_nano, _MAX_INT),
        )
        for each in told
    ]


def read_set_aside(said: Iterable[hub_pb2.SetAside]) -> list[SetAside]:
    """What a hub did not count; kinds that this release does not know are left alone."""
    return [
        SetAside(each.first, each.last, each.quarantine_id, each.reason, each.records, each.cost_nano_usd)
        for each in said
        if each.kind in {hub_pb2.SetAside.KIND_DUPLICATE, hub_pb2.SetAside.KIND_QUARANTINED}
    ]
