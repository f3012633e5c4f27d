"""What a provider said, in the parsed JSON of an answer: every look at it holds against values of any type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from costd.domain.usage import MAX_TEXT

Said = dict[str, Any]
#: Parses JSON: `json.loads`, or a faster one of the same kind. What it raises, of any type, means "not JSON".
Loads = Callable[[bytes], Any]

#: Where the words of an answer are, in every dialect: texts, thoughts, arguments of tools.
_SPOKEN = frozenset(
    {
        "arguments",
        "code",
        "content",
        "delta",
        "input",
        "partial_json",
        "reasoning",
        "reasoning_content",
        "refusal",
        "text",
        "thinking",
        "transcript",
    }
)
#: More values than an answer has; one that has more is counted up to here.
_MAX_VALUES = 100_000


def parsed(loads: Loads, data: bytes) -> Said:
    """The JSON object in `data`; an empty one where there is none."""
    try:
        value = loads(data)
    except Exception:
        # Whatever the parser makes of what is not JSON, or nested too deeply: it says nothing that could be counted.
        return {}
    return value if isinstance(value, dict) else {}


def inner(said: Said, name: str) -> Said:
    """The object under a name; an empty one where it is none."""
    value = said.get(name)
    return value if isinstance(value, dict) else {}


def listed(said: Said, name: str) -> list[Said]:
    """The objects in the list under a name."""
    value = said.get(name)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def word(said: Said, name: str) -> str:
    """A short text under a name, as a record may hold it; "" where it is none."""
    value = said.get(name)
    return value if isinstance(value, str) and len(value) <= MAX_TEXT and value.isprintable() else ""


def spoken_chars(*values: object) -> int:
    """How many characters of an answer there are in parts of it: its texts, thoughts and arguments of tools."""
    chars, left = 0, _MAX_VALUES
    waiting = list(values)
    while waiting and left:
        left -= 1
        value = waiting.pop()
        if isinstance(value, dict):
            for name, part in value.items():
                if isinstance(part, dict | list):
                    waiting.append(part)
                elif isinstance(part, str) and name in _SPOKEN:
                    chars += len(part)
        elif isinstance(value, list):
            waiting.extend(item for item in value if isinstance(item, dict | list))
    return chars
