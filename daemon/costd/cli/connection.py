"""How a command reaches a ledger: a daemon's gRPC door, or one of its own where no daemon holds the data folder."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, TypeVar

import grpc

from costd.addresses import Listener
from costd.cli.options import Reach
from costd.config import HUB, SIDECAR, Config
from costd.domain.errors import (
    ConfigError,
    Conflict,
    CostdError,
    DaemonUnreachable,
    DataFolderHeld,
    Forbidden,
    Invalid,
    NotFound,
    Unauthenticated,
    Unavailable,
)
from costd.store import ledger_file, lock, runtime_file
from costd.v1 import admin_pb2_grpc, query_pb2_grpc, usage_pb2_grpc

#: A daemon that is starting, or another command at work, holds the folder before it can be reached: wait 10 s for it.
_ATTEMPTS = 100
_PAUSE_S = 0.1

#: Enough for any answer but that of a check, which reads the whole ledger.
ANSWER_S = 60.0

#: How many answers of a stream may wait for whoever reads it.
_AHEAD = 4

#: What starts a daemon of each mode.
_STARTED_BY = MappingProxyType({SIDECAR: "run", HUB: "hub"})

_CHANNEL_OPTIONS = (
    ("grpc.enable_http_proxy", 0),  # a proxy from the environment has no business between us and a daemon
    ("grpc.max_receive_message_length", -1),  # a report by user may be long
)

_Response = TypeVar("_Response")


class Target(NamedTuple):
    """Where to connect, in gRPC's form, and with what; `ca` is a file, and means TLS."""

    address: str
    key: str
    is_secure: bool = False
    ca: str | None = None
    is_offline: bool = False


class Daemon:
    """An open connection: stubs, and `ask` and `stream`, which turn gRPC's errors into ours."""

    def __init__(self, channel: grpc.Channel, target: Target) -> None:
        self.target = target
        self.admin: Any = admin_pb2_grpc.AdminServiceStub(channel)
        self.query: Any = query_pb2_grpc.QueryServiceStub(channel)
        self.usage: Any = usage_pb2_grpc.UsageServiceStub(channel)
        self._metadata = (("authorization", f"Bearer {target.key}"),) if target.key else ()

    def ask(self, method: Callable[..., _Response], request: object, timeout_s: float | None = ANSWER_S) -> _Response:
        """The answer of `method`. Raises what `translated` makes of a failure."""
        try:
            return method(request, timeout=timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise translated(error, self.target) from None

    def stream(self, method: Callable[..., Iterable[_Response]], request: object) -> Iterator[_Response]:
        """Each answer of `method` as it comes; the call ends with the iterator. Raises as `ask` does.

        A thread of its own waits for the answers: Ctrl-C in the midst of gRPC's waiting would leave a lock taken that
        the end of the call needs too.
        """
        call: Any = method(request, metadata=self._metadata)
        arrived: queue.SimpleQueue[_Arrived[_Response]] = queue.SimpleQueue()
        room = threading.Semaphore(_AHEAD)
        threading.Thread(target=_read, args=(call, arrived, room), name="costd-stream", daemon=True).start()
        try:
            while (one := arrived.get()).failure is None:
                room.release()
                yield from one.answers
            if not isinstance(one.failure, StopIteration):
                raise translated(one.failure, self.target) from None
        finally:
            call.cancel()


class _Arrived(NamedTuple, Generic[_Response]):
    """One answer of a stream, or why there are no more: gRPC's error, or StopIteration at its end."""

    answers: tuple[_Response, ...]
    failure: grpc.RpcError | StopIteration | None = None


def _read(
    call: Iterable[_Response], arrived: queue.SimpleQueue[_Arrived[_Response]], room: threading.Semaphore
) -> None:
    try:
        for answer in call:
            room.acquire()
            arrived.put(_Arrived((answer,)))
        arrived.put(_Arrived((), StopIteration()))
    except grpc.RpcError as error:
        arrived.put(_Arrived((), error))


@contextlib.contextmanager
def connected(reach: Reach, *, create: bool = False) -> Iterator[Daemon]:
    """The daemon that `reach` means, or the ledger itself where none holds it.

    `create` allows a data folder in which there is no ledger yet. Raises DaemonUnreachable, DataFolderHeld,
    ConfigError, DamagedDatabase.
    """
    with contextlib.ExitStack() as stack:
        target = remote(reach) if reach.address is not None else _local(reach, stack, create=create)
        channel = stack.enter_context(open_channel(target))
        yield Daemon(channel, target)


def open_channel(target: Target) -> grpc.Channel:
    """A channel to `target`; nothing is sent yet."""
    if not target.is_secure:
        return grpc.insecure_channel(target.address, _CHANNEL_OPTIONS)
    return grpc.secure_channel(target.address, _trusting(target.ca), _CHANNEL_OPTIONS)


def remote(reach: Reach) -> Target:
    """The daemon at `--address`. A key goes in the clear only where nobody else can listen, or where told to."""
    address = reach.address or ""
    _check_key(reach.key)
    if address.startswith("unix:"):
        return Target(address, reach.key)
    try:
        parsed = Listener(may_be_off=False).read(address, is_text=True)
    except ValueError:
        raise ConfigError("--address", address, "must be HOST:PORT or unix:PATH") from None
    is_near = parsed is not None and parsed.is_loopback
    is_secure = not reach.plaintext and (reach.ca is not None or not is_near)
    return Target(address, reach.key, is_secure, reach.ca)


def running(data_dir: Path) -> runtime_file.Running | None:
    """The daemon that holds `data_dir` and can be reached, or None."""
    pid = lock.holder(data_dir)
    found = runtime_file.read(data_dir / runtime_file.RUNTIME_NAME) if pid is not None else None
    # A killed daemon leaves its file behind: it must be of the process that holds the lock.
    return found if found is not None and found.pid == pid else None


def of_daemon(found: runtime_file.Running, reach: Reach) -> Target:
    """How to reach a daemon on this machine: by its socket if it has one."""
    key = _admin_key(Path(found.admin_key_file)) or reach.key
    _check_key(key)
    if found.socket is not None:
        return Target(f"unix:{found.socket}", key)
    if found.grpc is None:
        raise DaemonUnreachable(
            f"the daemon of process {found.pid} runs without gRPC; give it grpc.socket or grpc.listen"
        )
    return Target(found.grpc, key, reach.ca is not None, reach.ca)


def _local(reach: Reach, stack: contextlib.ExitStack, *, create: bool) -> Target:
    config = reach.load().config
    for _ in range(_ATTEMPTS):
        if (found := running(config.data_dir)) is not None:
            return of_daemon(found, reach)
        if lock.holder(config.data_dir) is None:
            with contextlib.suppress(DataFolderHeld):  # somebody came first
                return _offline(config, stack, create=create)
        time.sleep(_PAUSE_S)
    pid = lock.holder(config.data_dir)
    raise DataFolderHeld(
        f"the data folder {config.data_dir} is held by process {pid or '?'}, which cannot be reached; "
        "wait until it has started or ended, or stop it"
    )


def _offline(config: Config, stack: contextlib.ExitStack, *, create: bool) -> Target:
    if not create and not ledger_file.is_there(config.data_dir):
        allowed = (
            f"must hold a ledger; `costd {_STARTED_BY[config.mode]}` makes one, or name another folder with "
            "--data-dir, a daemon with --address"
        )
        raise ConfigError(config.written("data_dir"), str(config.data_dir), allowed)
    from costd import app  # noqa: PLC0415 - the whole daemon, needed only where none is running

    address, key = stack.enter_context(app.offline(config))
    return Target(address, key, is_offline=True)


def _admin_key(path: Path) -> str:
    """The key in the admin key file; "" where it was taken away or is not for us to read."""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _check_key(key: str) -> None:
    if not (key.isascii() and key.isprintable()):
        raise ConfigError("--key", "…", "must be a key as `costd keys create` prints it")


def _trusting(ca: str | None) -> grpc.ChannelCredentials:
    if ca is None:
        return grpc.ssl_channel_credentials()
    try:
        return grpc.ssl_channel_credentials(Path(ca).read_bytes())
    except OSError as error:
        raise ConfigError("--ca", ca, f"must be a PEM file that can be read ({error.strerror})") from error


def translated(error: grpc.RpcError, target: Target) -> CostdError:
    """What a failed call means to whoever typed the command."""
    code, details = error.code(), error.details() or ""
    kinds = grpc.StatusCode
    if code is kinds.UNAUTHENTICATED:
        return Unauthenticated(f"{target.address} does not take this key: {details}; give one with --key or COSTD_KEY")
    if code is kinds.DEADLINE_EXCEEDED:
        return DaemonUnreachable(f"{target.address} did not answer in time")
    if code is kinds.UNAVAILABLE:
        hint = "" if target.is_secure or target.address.startswith("unix:") else ", and without TLS (else give --ca)"
        return DaemonUnreachable(f"no answer from {target.address} ({details}); does the daemon run there{hint}?")
    if code is kinds.UNIMPLEMENTED:
        return DaemonUnreachable(f"{target.address} is no costd daemon, or an older one: {details}")
    made: dict[grpc.StatusCode, CostdError] = {
        kinds.NOT_FOUND: NotFound(details),
        kinds.INVALID_ARGUMENT: Invalid("", details),
        kinds.PERMISSION_DENIED: Forbidden(details),
        kinds.RESOURCE_EXHAUSTED: Unavailable(details),
        kinds.ALREADY_EXISTS: Conflict(details),
    }
    return made.get(code, CostdError(f"{target.address} failed: {details} ({code.name})"))
