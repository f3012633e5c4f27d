"""The plan of a run: where it works and how long it measures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Plan:
    """`rounds` measurements of `seconds` for each server; footprints are taken after `records` records."""

    folder: Path
    rounds: int = 5
    seconds: float = 3.0
    records: int = 200_000
    starts: int = 5

    @classmethod
    def quick(cls, folder: Path) -> Plan:
        """Enough to see that everything works and roughly where it stands."""
        return cls(folder, rounds=2, seconds=1.0, records=20_000, starts=2)
