"""Fixtures: costd as it is installed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from installation import Installation


@pytest.fixture(scope="session")
def installed() -> Iterator[Installation]:
    """costd, installed once for all tests of packages."""
    with tempfile.TemporaryDirectory(prefix="costd-installed-") as folder:
        Path(folder).chmod(0o755)
        yield Installation(Path(folder))
