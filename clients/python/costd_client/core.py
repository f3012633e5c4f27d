"""What both trackers are made of: one connection, one outbox, and the policy for when costd does not answer."""

from __future__ import annotations

import asyncio
import os
from typing import Literal, NamedTuple

import grpc

from costd_client import decision, forking, refusal
from costd_client.address import Target
from costd_client.complaints import Complaints
from costd_client.connection import Connection, Metadata
from costd_client.decision import Decision
from costd_client.outbox import Limits, Outbox
from costd_client.reach import Reach
from costd_client.spool import Spool
from costd_client.v1 import usage_pb2

OnUnreachable = Literal["allow", "deny"]


class Policy(NamedTuple):
    """How preflights are made, and how long the end may take."""

    preflight: bool
    preflight_timeout_s: float
    allows_unreachable: bool
    exit_timeout_s: float


class Core:
    """The parts of a tracker. Lives until it is closed, or its process ends."""

    def __init__(self, target: Target, metadata: Metadata, spool: Spool | None, limits: Limits, policy: Policy) -> None:
        self.policy = policy
        self.complaints = Complaints()
        self._connection = Connection(target, metadata)
        self._reach = Reach(self._look)
        self.outbox = Outbox(self._connection, self._reach, self.complaints, spool, limits)
        forking.watch(self)
        if spool is not None:
            self._check(spool)

    def _check(self, spool: Spool) -> None:
        """Say at once what would be found out too late; send what processes that are gone have left."""
        if not os.access(spool.folder, os.W_OK | os.X_OK):
            self.complaints.say("spool", "the spool's folder %s cannot be written to", spool.folder)
        elif spool.has_left():
            self.outbox.start()

    def _look(self) -> None:
        self.outbox.wake()

    # Preflights

    def ask(self, request: usage_pb2.PreflightRequest) -> Decision:
        """Whether a call may be made; within the timeout, whatever becomes of costd."""
        timeout_s = self.policy.preflight_timeout_s
        if self._reach.is_unknown:
            self._reach.wait_until_known(timeout_s)
        if self._reach.is_lost:
            return self._undecided()
        try:
            return decision.of_answer(self._connection.preflight(request, timeout_s))
        except grpc.RpcError as error:
            return self._not_answered(error, request)
        except ValueError:  # the tracker was closed
            return self._undecided()

    async def ask_from_loop(self, request: usage_pb2.PreflightRequest) -> Decision:
        """The same without blocking the event loop; needs nothing that belongs to one loop, so any will do."""
        timeout_s = self.policy.preflight_timeout_s
        if self._reach.is_unknown:
            await asyncio.to_thread(self._reach.wait_until_known, timeout_s)
        if self._reach.is_lost:
            return self._undecided()
        try:
            return decision.of_answer(await self._connection.preflight_from_loop(request, timeout_s))
        except grpc.RpcError as error:
            return self._not_answered(error, request)
        except (ValueError, grpc.FutureCancelledError):  # the tracker was closed
            return self._undecided()

    def release(self, request_id: str) -> None:
        """Let go of what a preflight reserved. Waits for nothing; where costd is away it is freed by time alone."""
        if not self._reach.is_unknown:  # in a forked process another thread has to try first
            self._connection.release(request_id)

    def _not_answered(self, error: grpc.RpcError, request: usage_pb2.PreflightRequest) -> Decision:
        refused = refusal.read(error)
        if refused.is_silence:
            if not self.policy.allows_unreachable:
                self.release(request.request_id)  # it may have been reserved, and only the answer be late
            self._reach.lost()
            return self._undecided()
        fields = f" ({', '.join(refused.fields)})" if refused.fields else ""
        self.complaints.say(
            f"preflight {refused.code.name}{fields}",
            "costd could not decide about a call: %s%s; it is %s",
            refused.code.name,
            fields,
            self._policy_word(),
        )
        return decision.without_answer(allow=self.policy.allows_unreachable)

    def _undecided(self) -> Decision:
        self.complaints.say("unreachable", "costd does not answer; calls are %s without it", self._policy_word())
        return decision.without_answer(allow=self.policy.allows_unreachable)

    def _policy_word(self) -> str:
        return "allowed" if self.policy.allows_unreachable else "denied"

    # The end, and forks

    def close(self, timeout_s: float) -> None:
        """Bring home what can be brought home within the time, and stop."""
        forking.forget(self)
        self.outbox.close(timeout_s)

    def at_exit(self) -> None:
        """The process ends."""
        self.close(self.policy.exit_timeout_s)

    def before_fork(self) -> None:
        """First the thread that decides what is sent, then what is under way."""
        self.outbox.before_fork()
        self._connection.before_fork()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._connection.after_fork_in_parent()
        self.outbox.after_fork_in_parent()

    def after_fork_in_child(self) -> None:
        """Begin anew."""
        self.complaints.after_fork_in_child()
        self._connection.after_fork_in_child()
        self._reach.after_fork_in_child()
        self.outbox.after_fork_in_child()
