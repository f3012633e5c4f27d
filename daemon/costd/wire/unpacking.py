"""Unpacks a copy of a body that travels compressed, piece by piece; what cannot be unpacked is nothing, no error."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import brotli  # type: ignore[import-untyped]
import zstandard

#: A header of more encodings than that is nobody's.
_MAX_ENCODINGS = 4


#: How much of a body that a stranger packed is unpacked at a time: it may become a hundred thousand times as much.
_SLICE = 256


class Unpacker:
    """Unpacks one body. Once something does not fit it gives nothing more."""

    def __init__(self, content_encoding: str, limit_bytes: int | None = None) -> None:
        """`content_encoding` is the header; past `limit_bytes` of content, where there is a limit, nothing is given."""
        names = [name.strip().lower() for name in content_encoding.split(",")]
        wanted = [name for name in names if name not in {"", "identity"}]
        known = _ENCODINGS if limit_bytes is None else _BOUNDED
        #: Whether everything could be unpacked so far.
        self.is_sound = len(wanted) <= _MAX_ENCODINGS and all(name in known for name in wanted)
        #: Whether there was more than the limit.
        self.is_too_long = False
        self._steps = [known[name]() for name in reversed(wanted)] if self.is_sound else []
        self._left = limit_bytes

    def feed(self, chunk: bytes) -> bytes:
        """The content of a piece."""
        if not self._steps:
            return self._within(chunk) if self.is_sound else b""
        slices = [chunk] if self._left is None else [chunk[at : at + _SLICE] for at in range(0, len(chunk), _SLICE)]
        return b"".join(map(self._unpacked, slices))

    def _unpacked(self, piece: bytes) -> bytes:
        if not self.is_sound:
            return b""
        try:
            for step in self._steps:
                piece = step(piece)
        except (zlib.error, brotli.error, zstandard.ZstdError):
            self.is_sound = False
            return b""
        return self._within(piece)

    def _within(self, content: bytes) -> bytes:
        if self._left is None:
            return content
        self._left -= len(content)
        if self._left >= 0:
            return content
        self.is_sound, self.is_too_long = False, True
        return b""


def _gzip() -> Callable[[bytes], bytes]:
    return _Gzip().feed


class _Gzip:
    """Gzip of any number of members."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(31)

    def feed(self, chunk: bytes) -> bytes:
        content = self._member.decompress(chunk)
        while self._member.eof and (rest := self._member.unused_data):
            self._member = zlib.decompressobj(31)
            content += self._member.decompress(rest)
        return content


def _deflate() -> Callable[[bytes], bytes]:
    """With zlib's frame, as the standard says, or without, as some send it: told by the first byte."""
    unpack: Callable[[bytes], bytes] | None = None

    def feed(chunk: bytes) -> bytes:
        nonlocal unpack
        if unpack is None:
            if not chunk:
                return b""
            unpack = zlib.decompressobj(15 if chunk[0] & 0x0F == zlib.DEFLATED else -15).decompress
        return unpack(chunk)

    return feed


def _brotli() -> Callable[[bytes], bytes]:
    process: Callable[[bytes], bytes] = brotli.Decompressor().process
    return process


def _zstd() -> Callable[[bytes], bytes]:
    return zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj(read_across_frames=True).decompress


_ENCODINGS: dict[str, Callable[[], Callable[[bytes], bytes]]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _zstd,
}

#: Of brotli a few bytes may be gigabytes, and clients pack nothing by it.
_BOUNDED = {name: make for name, make in _ENCODINGS.items() if name != "br"}
