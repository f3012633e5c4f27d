"""Reads the Dockerfile: its stages, and what their instructions say."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class Instruction(NamedTuple):
    """One instruction, its lines joined: `COPY`, and `daemon ./daemon`."""

    word: str
    rest: str

    def arguments(self) -> list[str]:
        """The words of a COPY without its options."""
        return [word for word in shlex.split(self.rest) if not word.startswith("--")]

    def command(self) -> list[str]:
        """The command of an instruction in the exec form; AssertionError for one that needs a shell."""
        start = self.rest.find("[")
        assert start >= 0, f"{self.word} {self.rest} is not in the exec form"
        return list(json.loads(self.rest[start:]))


def stages() -> list[list[Instruction]]:
    """The instructions of each stage, FROM first."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    found: list[list[Instruction]] = []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            found.append([])
        if word:
            found[-1].append(Instruction(word, " ".join(rest.split())))
    return found


def only(stage: list[Instruction], word: str) -> Instruction:
    """The one instruction of that kind."""
    (found,) = (instruction for instruction in stage if instruction.word == word)
    return found


def environment(stage: list[Instruction]) -> dict[str, str]:
    """What its ENV sets."""
    pairs = [shlex.split(instruction.rest) for instruction in stage if instruction.word == "ENV"]
    return dict(pair.split("=", 1) for words in pairs for pair in words)
