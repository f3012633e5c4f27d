"""docs/grpc.md names every method of every service, and none that is not there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from costd.wire.rpc.server import ADMIN, HUB, QUERY, USAGE

TEXT = (Path(__file__).parents[2] / "docs" / "grpc.md").read_text()
#: Service and methods of each row of the table of services.
ROWS = re.findall(r"^\| `(costd\.v1\.\w+)`[^|]* \| ([^|]+) \|", TEXT, re.MULTILINE)


@pytest.mark.parametrize("service", [USAGE, QUERY, ADMIN, HUB], ids=lambda service: service.name)
def test_every_method_is_documented_and_no_other(service: Any) -> None:
    rows = [methods for name, methods in ROWS if name == service.full_name]
    documented = [method for methods in rows for method in re.findall(r"`(\w+)`", methods)]
    assert sorted(documented) == sorted(method.name for method in service.methods)
