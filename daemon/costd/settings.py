"""The kinds of values a setting may have: how each is read, what it allows, and how it is shown."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

#: What every `unix:` address must fit into: sun_path holds 104 bytes on macOS and 108 on Linux, with the closing zero.
SOCKET_PATH_MAX_BYTES = 103

_SIZE = re.compile(r"(\d+)\s*(B|KiB|MiB|GiB)?", re.IGNORECASE)
_SIZE_FACTORS = {"": 1, "b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}
_DURATION = re.compile(r"(\d{1,12})\s*([smhd]?)", re.IGNORECASE | re.ASCII)
_DURATION_FACTORS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_TRUTHS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


class Unfit(ValueError):
    """A value of many parts that is wrong in one: `shown` is that part as it may be shown, `allowed` what it may be."""

    def __init__(self, shown: str, allowed: str) -> None:
        super().__init__(allowed)
        self.shown = shown
        self.allowed = allowed


class Kind(Protocol):
    """One kind of value."""

    @property
    def metavar(self) -> str:
        """What stands for the value in a command's help."""

    @property
    def allowed(self) -> str:
        """What is allowed, to be read after the value."""

    def read(self, raw: object, *, is_text: bool) -> object:
        """The value of `raw`, which is text from a flag or variable, or whatever TOML made of it; else ValueError."""

    def show(self, value: object) -> object:
        """The value in JSON's types, as a user would write it."""


def text_of(raw: object) -> str:
    """Text without space at its ends; TypeError where it is none."""
    if not isinstance(raw, str):
        raise TypeError("not text")
    return raw.strip()


@dataclass(frozen=True)
class Whole:
    """A whole number within bounds."""

    low: int
    high: int

    @property
    def metavar(self) -> str:
        """For help."""
        return "NUMBER"

    @property
    def allowed(self) -> str:
        """Its bounds."""
        return f"must be a whole number from {self.low} to {self.high}"

    def read(self, raw: object, *, is_text: bool) -> int:
        """The number."""
        value = int(text_of(raw)) if is_text else raw
        if not isinstance(value, int) or isinstance(value, bool) or not self.low <= value <= self.high:
            raise ValueError(raw)
        return value

    def show(self, value: object) -> object:
        """Itself."""
        return value


@dataclass(frozen=True)
class Size:
    """A number of bytes, also as text with a binary unit ("64 MiB")."""

    low: int
    high: int

    @property
    def metavar(self) -> str:
        """For help."""
        return "BYTES"

    @property
    def allowed(self) -> str:
        """Its bounds."""
        return f'must be a number of bytes from {self.low} to {self.high}, or text like "64 MiB"'

    def read(self, raw: object, *, is_text: bool) -> int:
        """The number of bytes."""
        if isinstance(raw, str):
            match = _SIZE.fullmatch(text_of(raw))
            if match is None:
                raise ValueError(raw)
            raw = int(match[1]) * _SIZE_FACTORS[(match[2] or "").lower()]
        return Whole(self.low, self.high).read(raw, is_text=False)

    def show(self, value: object) -> object:
        """Itself."""
        return value


@dataclass(frozen=True)
class Seconds:
    """A duration in seconds, with a fraction or without."""

    high: float

    @property
    def metavar(self) -> str:
        """For help."""
        return "SECONDS"

    @property
    def allowed(self) -> str:
        """Its bound."""
        return f"must be a number of seconds from 0 to {self.high:g}"

    def read(self, raw: object, *, is_text: bool) -> float:
        """The duration."""
        value = float(text_of(raw)) if is_text else raw
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise TypeError(raw)
        if not math.isfinite(value) or not 0 <= value <= self.high:
            raise ValueError(raw)
        return float(value)

    def show(self, value: object) -> object:
        """Without a fraction where there is none."""
        return int(value) if isinstance(value, float) and value.is_integer() else value


@dataclass(frozen=True)
class Minutes:
    """A duration in minutes, with a fraction or without."""

    low: float
    high: float

    @property
    def metavar(self) -> str:
        """For help."""
        return "MINUTES"

    @property
    def allowed(self) -> str:
        """Its bounds."""
        return f"must be a number of minutes from {self.low:g} to {self.high:g}"

    def read(self, raw: object, *, is_text: bool) -> float:
        """The duration."""
        minutes = Seconds(self.high).read(raw, is_text=is_text)
        if minutes < self.low:
            raise ValueError(raw)
        return minutes

    def show(self, value: object) -> object:
        """Without a fraction where there is none."""
        return Seconds(self.high).show(value)


@dataclass(frozen=True)
class Duration:
    """A duration in whole seconds, also as text with a unit ("90m", "24h", "3d")."""

    low_s: int
    high_s: int

    @property
    def metavar(self) -> str:
        """For help."""
        return "DURATION"

    @property
    def allowed(self) -> str:
        """Its bounds and forms."""
        return f'must be a duration from {self.low_s} to {self.high_s} seconds, like "90m", "24h", "3d" or a number'

    def read(self, raw: object, *, is_text: bool) -> int:
        """The seconds."""
        if isinstance(raw, str):
            match = _DURATION.fullmatch(text_of(raw))
            if match is None:
                raise ValueError(raw)
            raw = int(match[1]) * _DURATION_FACTORS_S[match[2].lower()]
        return Whole(self.low_s, self.high_s).read(raw, is_text=False)

    def show(self, value: object) -> object:
        """With the largest unit up to hours that divides it."""
        if not isinstance(value, int):
            return value
        unit = next(unit for unit in ("h", "m", "s") if value % _DURATION_FACTORS_S[unit] == 0)
        return f"{value // _DURATION_FACTORS_S[unit]}{unit}"


@dataclass(frozen=True)
class Truth:
    """True or false."""

    @property
    def metavar(self) -> str:
        """For help."""
        return "BOOL"

    @property
    def allowed(self) -> str:
        """The words."""
        return "must be true or false"

    def read(self, raw: object, *, is_text: bool) -> bool:
        """The truth; text may also be yes, no, on, off, 1, 0."""
        if is_text and isinstance(raw, str):
            raw = _TRUTHS.get(text_of(raw).lower())
        if not isinstance(raw, bool):
            raise TypeError(raw)
        return raw

    def show(self, value: object) -> object:
        """Itself."""
        return value


@dataclass(frozen=True)
class Switch:
    """The word on or off, kept as a bool."""

    @property
    def metavar(self) -> str:
        """For help."""
        return "on|off"

    @property
    def allowed(self) -> str:
        """The words."""
        return 'must be "on" or "off"'

    def read(self, raw: object, *, is_text: bool) -> bool:
        """True for on."""
        return {"on": True, "off": False}[text_of(raw).lower()]

    def show(self, value: object) -> object:
        """The word."""
        return "on" if value else "off"


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]

    @property
    def metavar(self) -> str:
        """For help."""
        return "|".join(self.words)

    @property
    def allowed(self) -> str:
        """The words."""
        return "must be one of " + ", ".join(f'"{word}"' for word in self.words)

    def read(self, raw: object, *, is_text: bool) -> str:
        """The word, in lower case."""
        word = text_of(raw).lower()
        if word not in self.words:
            raise ValueError(raw)
        return word

    def show(self, value: object) -> object:
        """Itself."""
        return value


@dataclass(frozen=True)
class Words:
    """A list of words out of a few, each at most once; as text, separated by commas."""

    words: tuple[str, ...]

    @property
    def metavar(self) -> str:
        """For help."""
        return "WORD,…"

    @property
    def allowed(self) -> str:
        """The words."""
        return "must be a list, without repeats, out of " + ", ".join(f'"{word}"' for word in self.words)

    def read(self, raw: object, *, is_text: bool) -> tuple[str, ...]:
        """The words in lower case."""
        if is_text:
            raw = [part for part in text_of(raw).split(",") if part.strip()]
        if not isinstance(raw, Sequence) or isinstance(raw, str):
            raise TypeError(raw)
        read = tuple(text_of(word).lower() for word in raw)
        if len(set(read)) < len(read) or not set(read) <= set(self.words):
            raise ValueError(raw)
        return read

    def show(self, value: object) -> object:
        """A list."""
        return list(value) if isinstance(value, tuple) else value


@dataclass(frozen=True)
class Word:
    """A text of one line; may be empty."""

    max_chars: int

    @property
    def metavar(self) -> str:
        """For help."""
        return "TEXT"

    @property
    def allowed(self) -> str:
        """Its bounds."""
        return f"must be a text of at most {self.max_chars} characters, without control characters"

    def read(self, raw: object, *, is_text: bool) -> str:
        """The text, without space at its ends."""
        text = text_of(raw)
        if len(text) > self.max_chars or not text.isprintable():
            raise ValueError(text)
        return text

    def show(self, value: object) -> object:
        """Itself."""
        return value


@dataclass(frozen=True)
class Token:
    """A key as costd makes them."""

    @property
    def metavar(self) -> str:
        """For help."""
        return "KEY"

    @property
    def allowed(self) -> str:
        """Where it is from."""
        return "must be a key as costd prints it"

    def read(self, raw: object, *, is_text: bool) -> str:
        """The key."""
        text = text_of(raw)
        if not text or not text.isascii() or not text.isprintable() or " " in text:
            raise ValueError
        return text

    def show(self, value: object) -> object:
        """Itself; whoever shows it hides it."""
        return value


@dataclass(frozen=True)
class Secret:
    """A secret of one line, long enough not to be guessed where it is ours to choose."""

    least_chars: int = 16

    @property
    def metavar(self) -> str:
        """For help."""
        return "SECRET"

    @property
    def allowed(self) -> str:
        """Its bounds."""
        return f"must be a text of {self.least_chars} to 1000 characters, without control characters"

    def read(self, raw: object, *, is_text: bool) -> str:
        """The secret, without space at its ends."""
        text = text_of(raw)
        if not self.least_chars <= len(text) <= 1_000 or not text.isprintable():
            raise ValueError
        return text

    def show(self, value: object) -> object:
        """Itself; whoever shows it hides it."""
        return value


def read_path(raw: object) -> Path:
    """A path with a leading ~ resolved; ValueError or TypeError where it is none."""
    text = text_of(raw) if not isinstance(raw, Path) else str(raw)
    if not text or "\0" in text:
        raise ValueError(text)
    expanded = os.path.expanduser(text)  # Path.expanduser raises where there is no home
    if expanded.startswith("~"):
        raise ValueError(text)
    return Path(expanded)


@dataclass(frozen=True)
class FilePath:
    """A path."""

    @property
    def metavar(self) -> str:
        """For help."""
        return "PATH"

    @property
    def allowed(self) -> str:
        """The form."""
        return "must be a path"

    def read(self, raw: object, *, is_text: bool) -> Path:
        """The path as given, ~ resolved."""
        return read_path(raw)

    def show(self, value: object) -> object:
        """As text; null where there is none."""
        return None if value is None else str(value)


#: The unresolved choice of a unix socket's path, known by identity: config.py finds the place.
AUTO = Path("auto")


@dataclass(frozen=True)
class SocketPath:
    """The path of a unix socket, "auto" or "off"."""

    @property
    def metavar(self) -> str:
        """For help."""
        return "PATH"

    @property
    def allowed(self) -> str:
        """The forms."""
        return f'must be "auto", "off", or a path of at most {SOCKET_PATH_MAX_BYTES} bytes'

    def read(self, raw: object, *, is_text: bool) -> Path | None:
        """The path; AUTO for auto, None for off."""
        if isinstance(raw, str) and raw.strip().lower() in {"auto", "off"}:
            return AUTO if raw.strip().lower() == "auto" else None
        return read_path(raw)

    def show(self, value: object) -> object:
        """As it is written."""
        return "off" if value is None else str(value)
