"""A lane for calls that are asked by the thousand: one thread takes them, reads them and answers them.

grpcio's server hands each call to a thread before its message has come, and wakes that thread again when it has. For an
answer that takes some microseconds, handing the interpreter to and fro costs more than the answer, and more with every
call that waits its turn. In the lane, the thread that hears of a message answers it. It never waits: what has to, for
the hub or until a record is on disk, goes on in a thread of a pool.

The lane is made of the bindings that grpcio's own server is made of (`grpc._cython.cygrpc`, used as in
`grpc/_server.py`): its methods are registered with the core of that server, and their calls come by a completion queue
of the lane's own. The rest of the server knows nothing of it. grpcio does not promise to keep these bindings, so the
lane is open only with the releases that its tests were run with.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from costd.domain.access import Caller
from costd.domain.errors import Overloaded, Refused
from costd.wire.rpc.calls import STALE_KEY_S, TOO_MANY, Answer, Keyed, OnRefusal, decoder, ignore, token_of
from costd.wire.rpc.pools import MAX_OPEN, CallPool
from costd.wire.rpc.refusals import ending_of

#: Releases of grpcio that the lane is known to work with; with others its methods are served by threads.
_KNOWN_RELEASES = ("1.85.",)
#: Calls of one method that the core may hand over at once. More than these wait in the core for their turn.
_ASKED_FOR = 256

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
    """A method that answers without waiting, or gives what waits for the answer, which threads of `aside` do.

    `refused` is told of refusals made before the method was asked.
    """

    method: MethodDescriptor
    answer: PromptAnswer
    aside: CallPool
    refused: OnRefusal = ignore


class Lane:
    """Serves some methods of a server. start() it after the server; it ends when the server has stopped."""

    def __init__(self, server: grpc.Server, prompts: Iterable[Prompt], keyed: Keyed) -> None:
        self.keyed = keyed
        self.server = server._cy_server  # type: ignore[attr-defined]
        self.queue = cygrpc.CompletionQueue()
        #: How often the queue has still to tell of a call: that it came, or that it ended.
        self.due = 0
        self.server.register_completion_queue(self.queue)
        self._served = [_Served(self, prompt) for prompt in prompts]

    def start(self) -> None:
        """Begin to serve."""
        for served in self._served:
            for _ in range(_ASKED_FOR):
                served.ask()
        threading.Thread(target=self._serve, name="grpc-lane", daemon=True).start()

    def _serve(self) -> None:
        while self.due:
            event = self.queue.poll()
            try:
                event.tag(event)
            except Exception:
                _log.exception("a call ended in an error of grpcio's")
            # Or the event would keep its call alive until the next one comes.
            del event


class _Served:
    """A method of the lane, and how many of its calls are open. The lane's thread's own."""

    def __init__(self, lane: Lane, prompt: Prompt) -> None:
        method = prompt.method
        self.lane = lane
        self.decode = decoder(method)
        self.answer = prompt.answer
        self.aside = prompt.aside
        self.refused = prompt.refused
        self._path = f"/{method.containing_service.full_name}/{method.name}"
        self._open = 0
        lane.server.register_method(self._path)

    @property
    def is_full(self) -> bool:
        """Whether too many calls are open."""
        return self._open > MAX_OPEN

    def ask(self) -> None:
        """Have the core hand over a call when one comes."""
        queue = self.lane.queue
        try:
            self.lane.server.request_registered_call(queue, queue, self._path, self._came)
        except ValueError:  # the server is being stopped
            return
        self.lane.due += 1

    def _came(self, event: _Event) -> None:
        if not event.success:  # the server is being stopped, and no call comes any more
            self.lane.due -= 1
            return
        self._open += 1  # due before for coming, and now for ending
        self.ask()
        _Call(self, event.call).begin(event.invocation_metadata)

    def ended(self, _event: _Event) -> None:
        """A call was answered, or its caller is gone."""
        self._open -= 1
        self.lane.due -= 1


class _Call:
    """One call. But for what finish() does, all of it happens in the lane's thread."""

    __slots__ = ("_began_s", "_call", "_caller", "_served", "_token")

    def __init__(self, served: _Served, call: Any) -> None:
        self._served = served
        self._call = call

    def begin(self, metadata: Any) -> None:
        """Look at the key, then ask for the message."""
        served = self._served
        keyed = served.lane.keyed
        try:
            self._token = token_of(metadata)
            self._caller = keyed.access.authenticate(self._token)
            if served.is_full:
                raise Overloaded(TOO_MANY)
        except Exception as error:
            self._refuse_unasked(error)
            return
        self._began_s = keyed.patience.began(self)
        self._call.start_server_batch((cygrpc.ReceiveMessageOperation(_NO_FLAGS),), self._came)

    def cancel(self) -> None:
        """End it: its message does not come."""
        self._call.cancel()

    def _came(self, event: _Event) -> None:
        """The message is there, or never will be."""
        served = self._served
        keyed = served.lane.keyed
        ended_s = keyed.patience.ended(self)
        try:
            request = served.decode(event.batch_operations[0].message())
            if ended_s - self._began_s > STALE_KEY_S:  # it may have been revoked meanwhile
                self._caller = keyed.access.authenticate(self._token)
        except Exception as error:
            self._refuse_unasked(error)
            return
        try:
            answer = served.answer(self._caller, request)
            if isinstance(answer, Message):
                self._answer(answer)
            elif served.aside.is_full:
                raise Overloaded(TOO_MANY)
            else:
                served.aside.submit(self._finish, answer)
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

    def _refuse_unasked(self, error: Exception) -> None:
        if isinstance(error, Refused):
            self._served.refused(error)
        self._refuse(error)

    def _refuse(self, error: Exception) -> None:
        ending = ending_of(error)
        code, sentence = ending.code.value[0], ending.sentence.encode()
        self._end(cygrpc.SendStatusFromServerOperation(ending.trailers, code, sentence, _NO_FLAGS))

    def _end(self, *operations: Any) -> None:
        # The last of these is over when the caller knows how the call ended, or is gone.
        begin = cygrpc.SendInitialMetadataOperation(None, _NO_FLAGS)
        end = cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS)
        self._call.start_server_batch((begin, *operations, end), self._served.ended)
