"""The protos: generated code is current, and they are their own reference documentation."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROTOS = sorted([*(ROOT / "proto").rglob("*.proto"), *(ROOT / "clients").rglob("proto/*.proto")])

#: A message, a service, a method or a field; what closes a block or wraps alternatives needs no comment.
DECLARATION = re.compile(r"\s*(message \w+|service \w+|rpc \w+|(?:repeated |optional )?[\w.<>, ]+ \w+ = \d+;)")


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_protos", ROOT / "scripts" / "generate_protos.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def uncommented(lines: list[str]) -> Iterator[str]:
    before = ""
    for line in lines:
        if DECLARATION.match(line) and not before.strip().startswith("//"):
            yield line.strip()
        before = line


def test_generated_code_is_current(generator: ModuleType) -> None:
    """Somebody who edits a proto must run make proto."""
    assert generator.stale(generator.TARGET) == []
    assert generator.stale(generator.CLIENT_TARGET, generator.generate_client) == []


@pytest.mark.parametrize("path", PROTOS, ids=[path.name for path in PROTOS])
def test_everything_in_a_proto_is_described(path: Path) -> None:
    """Each service, method, message and field has its comment, right above it."""
    assert list(uncommented(path.read_text().splitlines())) == []


def test_what_has_no_comment_is_found() -> None:
    """The search itself works."""
    lines = ["// A thing.", "message Thing {", "  string id = 1;", "  // Its name.", "  optional int64 a = 2;", "}"]
    assert list(uncommented(lines)) == ["string id = 1;"]
