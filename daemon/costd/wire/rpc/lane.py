"""A lane for calls that are answered from memory: one thread takes them, reads them and answers them.

grpcio's server hands each call to a thread before its message has come, and wakes that thread again when it has. For an
answer that takes some microseconds, handing the interpreter to and fro costs more than the answer, and more with every
call that waits its turn. In the lane, the thread that hears of a message answers it. A call that has to wait for
something after all goes on in a thread of a pool.

The lane is made of the bindings that grpcio's own server is made of (`grpc._cython.cygrpc`, used as in
`grpc/_server.py`): its methods are registered with the core of that server, and their calls come by a completion queue
of the lane's own. The rest of the server knows nothing of it. grpcio does not promise to keep these bindings, so the
lane is open only with the releases that its tests were run with.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import grpc
from google.protobuf.message import Message
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from costd.domain.access import Caller
from costd.domain.errors import Overloaded
from costd.wire.rpc.calls import STALE_KEY_S, Answer, Decode, Keyed, token_of
from costd.wire.rpc.pools import CallPool
from costd.wire.rpc.refusals import ending_of

#: Releases of grpcio that the lane is known to work with; with others its methods are served by threads.
_KNOWN_RELEASES = ("1.85.",)
#: Calls of one method that the core may hand over at once. More than these wait in the core for their turn.
_ASKED_FOR = 256
#: Calls that are in the lane at once, most of them waiting for their message or for its answer.
MAX_OPEN = 1000000

_NO_FLAGS = 0

_log = logging.getLogger(__name__)

Later = Callable[[], Message]
#: The answer to a request, or what waits for something and then gives it.
PromptAnswer = Callable[[Caller, Any], "Message | Later"]
_Event: TypeAlias = Any


def is_known(release: str) -> bool:
    """Whether the lane may be used with this release of grpcio."""
    return release.startswith(_KNOWN_RELEASES)


def waited_for(answer: PromptAnswer) -> Answer:
    """The same for a thread that may wait."""

    def wait(caller: Caller, request: Any) -> Message:
        given = answer(caller, request)
        return given if isinstance(given, Message) else given()

    return wait


class Prompt(NamedTuple):
    """A method that is answered from memory in the usual case."""

    decode: Decode
    answer: PromptAnswer


class Lane:
    """Serves some methods of a server. start() it after the server; it ends when the server has stopped."""

    def __init__(self, server: grpc.Server, methods: Mapping[str, Prompt], keyed: Keyed, aside: CallPool) -> None:
        """`methods` by path; calls that have to wait do so in threads of `aside`."""
        self.keyed = keyed
        self.aside = aside
        self._methods = methods
        self._server = server._cy_server  # type: ignore[attr-defined]
        self._queue = cygrpc.CompletionQueue()
        self._server.register_completion_queue(self._queue)
        for path in methods:
            self._server.register_method(path)
        #: What the queue has still to tell of: calls that were asked for, and calls that are open.
        self._asked_for = 0
        self._open = 0

    def start(self) -> None:
        """Begin to serve."""
        for path, method in self._methods.items():
            for _ in range(_ASKED_FOR):
                self._ask_for(path, method)
        threading.Thread(target=self._serve, name="grpc-lane", daemon=True).start()

    @property
    def is_full(self) -> bool:
        """Whether as many calls are open as may be."""
        return self._open > MAX_OPEN

    def ended(self, _event: _Event) -> None:
        """A call was answered, or its caller is gone."""
        self._open -= 1

    def _ask_for(self, path: str, method: Prompt) -> None:
        def came(event: _Event) -> None:
            self._asked_for -= 1
            if event.success:  # else the server is being stopped
                self._open += 1
                self._ask_for(path, method)
                _Call(self, method, event.call).begin(event.invocation_metadata)

        try:
            self._server.request_registered_call(self._queue, self._queue, path, came)
        except ValueError:  # the server is being stopped
            return
        self._asked_for += 1

    def _serve(self) -> None:
        while self._asked_for or self._open:
            event = self._queue.poll()
            try:
                event.tag(event)
            except Exception:
                _log.exception("a call ended in an error of grpcio's")
            # Or the event would keep its call alive until the next one comes.
            del event


class _Call:
    """One call. But for what finish() does, all of it happens in the lane's thread."""

    __slots__ = ("_began_s", "_call", "_caller", "_lane", "_method", "_token")

    def __init__(self, lane: Lane, method: Prompt, call: Any) -> None:
        self._lane = lane
        self._method = method
        self._call = call

    def begin(self, metadata: Any) -> None:
        """Look at the key, then ask for the message."""
        keyed = self._lane.keyed
        try:
            self._token = token_of(metadata)
            self._caller = keyed.access.authenticate(self._token)
            if self._lane.is_full:
                raise Overloaded("too many calls of this kind are waiting for an answer; try again")
        except Exception as error:
            self._refuse(error)
            return
        self._began_s = keyed.patience.began(self)
        self._call.start_server_batch((cygrpc.ReceiveMessageOperation(_NO_FLAGS),), self._came)

    def cancel(self) -> None:
        """End it: its message does not come."""
        self._call.cancel()

    def _came(self, event: _Event) -> None:
        """The message is there, or never will be."""
        ended_s = self._lane.keyed.patience.ended(self)
        try:
            request = self._method.decode(event.batch_operations[0].message())
            if ended_s - self._began_s > STALE_KEY_S:  # it may have been revoked meanwhile
                self._caller = self._lane.keyed.access.authenticate(self._token)
            answer = self._method.answer(self._caller, request)
            if isinstance(answer, Message):
                self._answer(answer)
            elif self._lane.aside.is_full:
                raise Overloaded("too many calls are waiting for budgets; try again")
            else:
                self._lane.aside.submit(self._finish, answer)
        except Exception as error:
            self._refuse(error)

    def _finish(self, later: Later) -> None:
        try:
            self._answer(later())
        except Exception as error:
            self._refuse(error)

    def _answer(self, message: Message) -> None:
        self._end(
            cygrpc.SendMessageOperation(message.SerializeToString(), _NO_FLAGS),
            cygrpc.SendStatusFromServerOperation(None, cygrpc.StatusCode.ok, b"", _NO_FLAGS),
        )

    def _refuse(self, error: Exception) -> None:
        ending = ending_of(error)
        code, sentence = ending.code.value[0], ending.sentence.encode()
        self._end(cygrpc.SendStatusFromServerOperation(ending.trailers, code, sentence, _NO_FLAGS))

    def _end(self, *operations: Any) -> None:
        # The last of these is over when the caller knows how the call ended, or is gone.
        begin, end = (
            cygrpc.SendInitialMetadataOperation(None, _NO_FLAGS),
            cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS),
        )
        self._call.start_server_batch((begin, *operations, end), self._lane.ended)
