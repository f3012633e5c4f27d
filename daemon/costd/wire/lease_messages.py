"""What a source and its hub tell each other of slices, as its messages: both directions, at both ends."""

from __future__ import annotations

from costd.domain.errors import Invalid
from costd.domain.lease import MAX_ITEMS, MAX_PENDING, LeaseAnswer, LeaseRequest, Report, Return, Slice, Want
from costd.domain.usage import MAX_TEXT
from costd.domain.window_key import WindowKey
from costd.v1 import lease_pb2 as pb

#: Beyond every amount of money; what is summed up here stays within 64 bits.
_MOST_NANO = 2**62
_EPOCH_BYTES = 16
_MAX_MS = 2**53


def request_message(request: LeaseRequest) -> pb.LeaseRequest:
    """What a source tells."""
    return pb.LeaseRequest(
        epoch=request.epoch,
        incarnation=request.incarnation,
        confirmed=request.confirmed,
        pending=request.pending,
        hub_epoch=request.hub_epoch,
        wants=[
            pb.LeaseWant(
                window=_key_message(want.window), needed_nano_usd=want.needed_nano, wanted_nano_usd=want.wanted_nano
            )
            for want in request.wants
        ],
        returns=[
            pb.LeaseReturn(
                window=_key_message(each.window),
                epoch=each.epoch,
                returned_nano_usd=each.returned_nano,
                last_seq=each.last_seq,
            )
            for each in request.returns
        ],
        is_report=request.report is not None,
        report=[
            pb.LeaseReport(
                window=_key_message(each.window),
                epoch=each.epoch,
                granted_nano_usd=each.granted_nano,
                returned_nano_usd=each.returned_nano,
            )
            for each in request.report or ()
        ],
        last_seq=request.last_seq,
        acknowledged=request.acknowledged,
    )


def read_request(message: pb.LeaseRequest) -> LeaseRequest:
    """What a source tells; raises Invalid, naming the field, where that cannot be."""
    for field in ("epoch", "incarnation"):
        if len(getattr(message, field)) != _EPOCH_BYTES:
            raise Invalid(field, f"must be {_EPOCH_BYTES} bytes")
    for field in ("wants", "returns"):
        if len(getattr(message, field)) > MAX_ITEMS:
            raise Invalid(field, f"must be at most {MAX_ITEMS}")
    if len(message.pending) > MAX_PENDING:
        raise Invalid("pending", f"must be at most {MAX_PENDING}")
    return LeaseRequest(
        epoch=message.epoch,
        incarnation=message.incarnation,
        confirmed=message.confirmed,
        pending=tuple(message.pending),
        hub_epoch=message.hub_epoch,
        last_seq=message.last_seq,
        acknowledged=message.acknowledged,
        wants=[
            Want(
                _read_key(want.window, "wants"),
                _amount(want.needed_nano_usd, "wants"),
                _amount(want.wanted_nano_usd, "wants"),
            )
            for want in message.wants
        ],
        returns=[
            Return(
                _read_key(each.window, "returns"),
                each.epoch,
                _amount(each.returned_nano_usd, "returns"),
                each.last_seq,
            )
            for each in message.returns
        ],
        report=[
            Report(
                _read_key(each.window, "report"),
                each.epoch,
                _amount(each.granted_nano_usd, "report"),
                _amount(each.returned_nano_usd, "report"),
            )
            for each in message.report
        ]
        if message.is_report
        else None,
    )


def answer_message(answer: LeaseAnswer) -> pb.LeaseResponse:
    """What a hub answers."""
    return pb.LeaseResponse(
        hub_epoch=answer.hub_epoch,
        confirmed=answer.confirmed,
        new_epoch=answer.new_epoch,
        report_wanted=answer.report_wanted,
        awaiting=answer.awaiting,
        use_ms=answer.use_ms,
        watermark=answer.watermark,
        slices=[
            pb.LeaseSlice(
                window=_key_message(each.window),
                granted_nano_usd=each.granted_nano,
                returned_nano_usd=each.returned_nano,
                settled_nano_usd=each.settled_nano,
                available_nano_usd=each.available_nano,
                limit_nano_usd=each.limit_nano,
                recall=each.recall,
                unknown=each.unknown,
                spent_nano_usd=each.spent_nano,
            )
            for each in answer.slices
        ],
    )


def read_answer(message: pb.LeaseResponse) -> LeaseAnswer:
    """What a hub answers; raises Invalid where that cannot be."""
    return LeaseAnswer(
        hub_epoch=message.hub_epoch,
        confirmed=message.confirmed,
        new_epoch=message.new_epoch,
        report_wanted=message.report_wanted,
        awaiting=message.awaiting,
        use_ms=message.use_ms,
        watermark=message.watermark,
        slices=[
            Slice(
                _read_key(each.window, "slices"),
                _amount(each.granted_nano_usd, "slices"),
                _amount(each.returned_nano_usd, "slices"),
                _amount(each.settled_nano_usd, "slices"),
                _amount(each.available_nano_usd, "slices"),
                _amount(each.limit_nano_usd, "slices"),
                _amount(each.spent_nano_usd, "slices"),
                each.recall,
                each.unknown,
            )
            for each in message.slices
        ],
    )


def _key_message(key: WindowKey) -> pb.WindowKey:
    return pb.WindowKey(budget_id=key.budget_id, revision=key.revision, value=key.value, start_ms=key.start_ms)


def _read_key(message: pb.WindowKey, field: str) -> WindowKey:
    if max(len(message.budget_id), len(message.value)) > MAX_TEXT or not 0 <= message.start_ms < _MAX_MS:
        raise Invalid(field, "has a window that cannot be")
    return WindowKey(message.budget_id, message.revision, message.value, message.start_ms)


def _amount(amount: int, field: str) -> int:
    if not 0 <= amount <= _MOST_NANO:
        raise Invalid(field, "has an amount that cannot be")
    return amount
