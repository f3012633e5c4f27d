"""What Prometheus sees: usage as the ledger sums it, the process's own counters, gauges read when it asks."""

from costd.metrics.gauges import Readings
from costd.metrics.metrics import Metrics

__all__ = ["Metrics", "Readings"]
