"""Counters of the road between sidecar and hub, at each of its ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import Metric

from costd.metrics.counters import Counter, Histogram

#: A batch is acknowledged in milliseconds by a hub nearby, in seconds by one that is busy or far away.
_ACK_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class ForwardingMetrics:
    """What a sidecar counts of its forwarding."""

    def __init__(self) -> None:
        self._records = Counter("costd_forwarded_records", "Records that the hub has acknowledged.")
        self._batches = Counter("costd_forwarded_batches", "Sealed batches that the hub has acknowledged.")
        self._failures = Counter("costd_forward_failures", "Times the road to the hub broke.", ("reason",))
        self._ack_seconds = Histogram(
            "costd_forward_ack_seconds", "Time from sending a batch to its acknowledgement.", _ACK_SECONDS
        )

    def acknowledged(self, records: int, batches: int, seconds: float) -> None:
        """The hub has acknowledged batches; `seconds` since the last of them was sent."""
        self._records.add((), records)
        self._batches.add((), batches)
        self._ack_seconds.observe(seconds)

    def failed(self, reason: str) -> None:
        """The road broke, or could not be opened."""
        self._failures.add((reason,), 1)

    def families(self) -> Iterator[Metric]:
        """Everything, as it is now."""
        for held in vars(self).values():
            yield held.family()


class HubMetrics:
    """What a hub counts of what its sources forward."""

    def __init__(self) -> None:
        self._records = Counter("costd_hub_records", "Records that sources have forwarded, by outcome.", ("outcome",))
        self._batches = Counter("costd_hub_batches", "Batches that sources have forwarded, by outcome.", ("outcome",))

    def applied(self, outcomes: Mapping[str, int]) -> None:
        """A batch is on disk; `outcomes` counts its records: kept, duplicate, quarantined and repeated.

        No outcomes at all: the whole batch was here before.
        """
        self._batches.add(("applied" if outcomes else "repeated",), 1)
        self.counted(outcomes)

    def counted(self, outcomes: Mapping[str, int]) -> None:
        """Records have met a fate: in a batch, or when what was set aside was tried again."""
        for outcome, records in outcomes.items():
            if records:
                self._records.add((outcome,), records)

    def refused(self) -> None:
        """A batch was not taken: damaged, of another history, or not the next one."""
        self._batches.add(("refused",), 1)

    def families(self) -> Iterator[Metric]:
        """Everything, as it is now."""
        for held in vars(self).values():
            yield held.family()
