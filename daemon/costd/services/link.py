"""The road to the hub as others see it: how it stands, running or not, and waiting until what is recorded is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from costd.domain.link import AWAY, OFF, REFUSED, LinkReport
from costd.store.hub_link import read_link
from costd.store.outbox import backlog, find_acknowledged, setbacks

if TYPE_CHECKING:
    from costd.clock import Clock
    from costd.services.forwarding import Forwarding
    from costd.services.health import Health
    from costd.services.joined import Joined
    from costd.store.reader import Readers

#: A flush holds a thread; longer than this nobody waits for one.
MAX_FLUSH_S = 300.0
_LOOK_S = 0.25


class Flushed(NamedTuple):
    """What came of a flush: `problem` is "" where the hub has everything, or where there is none."""

    flushed: bool
    problem: str
    report: LinkReport | None


class Link:
    """Speaks of the road, whether or not this process travels it."""

    def __init__(
        self, forwarding: Forwarding | None, joined: Joined | None, readers: Readers, clock: Clock, health: Health
    ) -> None:
        """`forwarding` and `joined` are None where no hub is configured, and in a process that serves one command."""
        self._forwarding = forwarding
        self._joined = joined
        self._readers = readers
        self._clock = clock
        self._health = health

    def report(self) -> LinkReport | None:
        """How it stands; None where this ledger has no hub. Reads the ledger."""
        if self._forwarding is not None:
            return self._with_sync(self._forwarding.report())
        with self._readers.snapshot() as connection:
            acknowledged = find_acknowledged(connection)
            if acknowledged is None:
                return None
            waiting, (quarantined, lost) = backlog(connection, acknowledged), setbacks(connection)
            link = read_link(connection)
        return LinkReport(
            address="",
            state=OFF,
            unforwarded_records=waiting.records,
            oldest_unforwarded_ms=waiting.oldest_ms,
            sealed_bytes=waiting.sealed_bytes,
            source=link.source if link else "",
            organization=link.organization if link else "",
            watermark=acknowledged,
            heard_ms=link.heard_ms if link else None,
            acknowledged_ms=link.acknowledged_ms if link else None,
            quarantined=quarantined,
            lost=lost,
        )

    def _with_sync(self, report: LinkReport) -> LinkReport:
        """The report, with what is known of the way back."""
        if self._joined is None:
            return report
        problem, at_ms = self._joined.trouble
        if problem and not report.last_error:
            report = report._replace(last_error=problem, last_error_ms=at_ms)
        return report._replace(heard_ms=self._joined.heard())

    def problem(self) -> str:
        """Why nothing is forwarded now, with the hub's own sentence; "" where it is, or where there is no hub."""
        if self._forwarding is None:
            return ""
        state = self._forwarding.state
        if state.state == REFUSED:
            return f"the hub at {state.address} refuses this sidecar: {state.last_error}"
        if state.state == AWAY:
            return f"the hub at {state.address} is out of reach: {state.last_error}"
        return ""

    def flush(self, timeout_s: float) -> Flushed:
        """Forward what is recorded at once, and wait until the hub has it; blocks, but not once the daemon stops."""
        if self._forwarding is None:
            report = self.report()
            waits = report is not None and report.unforwarded_records > 0
            return Flushed(not waits, "nothing forwards: no daemon runs here that has a hub" if waits else "", report)
        target = self._forwarding.push()
        until_s = self._clock.monotonic_s() + min(timeout_s, MAX_FLUSH_S)
        while not (arrived := self._forwarding.wait_for(target, _LOOK_S)):
            if self._clock.monotonic_s() >= until_s or self._health.stops_within(0):
                break
        report = self._with_sync(self._forwarding.report())
        return Flushed(arrived, "" if arrived else self.problem() or _not_in_time(report, timeout_s), report)

    async def flushed(self, timeout_s: float) -> bool:
        """Whether the hub has what is recorded, now or within that time; at once where it is out of reach.

        Whoever asks has an answer to give: that the hub is away for long must not make every one of them wait.
        """
        if self._forwarding is None:
            return True
        return await self._forwarding.flushed(0 if self.problem() else timeout_s)


def _not_in_time(report: LinkReport, timeout_s: float) -> str:
    waits = f"{report.unforwarded_records:,} records wait" if report.unforwarded_records else "not all is acknowledged"
    return f"the hub at {report.address} did not acknowledge everything within {timeout_s:g} s; {waits}"
