"""Reading /metrics as Prometheus does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

import httpx
from prometheus_client.parser import text_string_to_metric_families

from harness import Daemon

#: What continues from the ledger after a restart.
USAGE = (
    "costd_cost_usd_total",
    "costd_tokens_total",
    "costd_requests_total",
    "costd_unpriced_requests_total",
    "costd_unrated_requests_total",
    "costd_request_latency_seconds",
    "costd_metric_overflow_total",
)


@dataclass(frozen=True)
class Page:
    """One scrape."""

    text: str

    @classmethod
    def of(cls, daemon: Daemon) -> Page:
        """What a daemon shows now."""
        answer = httpx.get(f"{daemon.http_url}/metrics", trust_env=False, timeout=30, verify=False)
        assert answer.status_code == 200
        return cls(answer.text)

    def usage(self) -> list[str]:
        """The lines of usage, as they are."""
        return [line for line in self.text.split("\n") if line.startswith(USAGE)]

    def names(self) -> set[str]:
        """Every metric, as it is typed (a histogram without its suffixes)."""
        return {line.split()[2] for line in self.text.split("\n") if line.startswith("# TYPE ")}

    def series(self, name: str) -> dict[str, Decimal]:
        """{labels as text: value} of the samples called `name`, exactly as written."""
        return dict(self._samples(name))

    def total(self, name: str) -> Decimal:
        """The sum over all samples called `name`."""
        return sum(self.series(name).values(), Decimal(0))

    def value(self, name: str, **labels: str) -> float:
        """One sample; 0 where there is none."""
        for family in text_string_to_metric_families(self.text):
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return float(sample.value)
        return 0.0

    def _samples(self, name: str) -> Iterator[tuple[str, Decimal]]:
        for line in self.text.split("\n"):
            if line.startswith((f"{name} ", f"{name}{{")):
                labels, _, value = line.removeprefix(name).rpartition(" ")
                yield labels, Decimal(value)
