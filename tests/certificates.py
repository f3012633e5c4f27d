"""Certificates for tests, as `make certs` makes them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "scripts" / "make_certs.py"


def make_certs(folder: Path) -> Path:
    """Fill a folder with an authority and the certificates of a server and a client; the folder."""
    spec = importlib.util.spec_from_file_location("make_certs", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.make_certs(folder)
    return folder
