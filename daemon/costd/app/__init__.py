"""The composition root: builds store, services and doors, runs them, and takes them down in order."""

from costd.app.core import Core
from costd.app.serve import offline, run

__all__ = ["Core", "offline", "run"]
