"""Ledgers as released versions of costd left them (see scripts/write_released_ledger.py), for the tests of upgrades."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from callers import Call

FOLDER = Path(__file__).parent / "store" / "released"
VERSIONS = sorted(path.name.removesuffix(".db.gz") for path in FOLDER.glob("*.db.gz"))

#: The ledgers were written long ago, and nothing of them may be past its time.
KEEP_ALL = ("--retention-events-days", "36500", "--retention-rollups-days", "36500", "--limits-past-days", "3650")


class Released:
    """One of them, and what its version said of it."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.expected: dict[str, Any] = json.loads((FOLDER / f"{version}.json").read_text("utf-8"))

    @property
    def calls(self) -> list[Call]:
        """Some of the records that have request ids, as they were sent."""
        return [Call(*fields[:-1], tags=tuple(fields[-1])) for fields in self.expected["calls"]]

    def unpack(self, data_dir: Path) -> Path:
        """Put the ledger into a new data folder, with the administrator's key beside it."""
        data_dir.mkdir(mode=0o700, parents=True)
        database = data_dir / "costd.db"
        database.write_bytes(gzip.decompress((FOLDER / f"{self.version}.db.gz").read_bytes()))
        database.chmod(0o600)
        key_file = data_dir / "admin.key"
        key_file.write_text(self.expected["secrets"]["admin"] + "\n")
        key_file.chmod(0o600)
        return data_dir


def without(value: Any, *names: str) -> Any:
    """JSON without fields of these names, at any depth."""
    if isinstance(value, dict):
        return {name: without(held, *names) for name, held in value.items() if name not in names}
    return [without(one, *names) for one in value] if isinstance(value, list) else value


def agrees(said: Any, expected: Any) -> bool:
    """Whether JSON says what is expected; it may say more, in fields that are new."""
    if isinstance(expected, dict):
        return isinstance(said, dict) and all(name in said and agrees(said[name], expected[name]) for name in expected)
    if isinstance(expected, list):
        return isinstance(said, list) and len(said) == len(expected) and all(map(agrees, said, expected))
    return bool(said == expected)
