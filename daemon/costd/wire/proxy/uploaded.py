"""What batches may use whose input files were uploaded by way of costd, in memory."""

from __future__ import annotations

from costd.domain.proxied.estimate import Estimate
from costd.wire.proxy.awaited import Place

#: Files that are remembered; beyond it the oldest are not.
MAX_FILES = 1_000


class Uploaded:
    """Units by model of the requests in files, by where those are."""

    def __init__(self) -> None:
        self._files: dict[Place, dict[str, Estimate]] = {}

    def add(self, place: Place, units: dict[str, Estimate]) -> None:
        """It was uploaded."""
        if len(self._files) >= MAX_FILES:
            del self._files[next(iter(self._files))]
        self._files[place] = units

    def find(self, place: Place) -> dict[str, Estimate]:
        """What is in a file; {} where it is not known."""
        return self._files.get(place, {})
