"""Unpacks a copy of a body that travels compressed, piece by piece; what cannot be unpacked is nothing, no error."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

import brotli  # type: ignore[import-untyped]
import zstandard

#: A header of more encodings than that is nobody's.
_MAX_ENCODINGS = 4
#: How much is unpacked at a time, in bytes of what is packed: it may become a thousand times as much, by zstd thirty
#: thousand times.
_SLICE = 1024
_ZSTD_SLICE = 64
#: Of brotli a few bytes may be gigabytes: so much of them at a time.
_BROTLI_PIECE_BYTES = 1 << 20
#: Who packs more than that so well packs a bomb: no text shrinks to a part in two hundred.
_SUSPECT_BYTES = 64 << 20
_SUSPECT_RATIO = 200

Step = Callable[[bytes], Iterator[bytes]]


class Unpacker:
    """Unpacks one body. Once something does not fit, or is a bomb, it gives nothing more."""

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
        self._limit = limit_bytes
        self._packed_bytes = 0
        self._content_bytes = 0

    def feed(self, chunk: bytes) -> bytes:
        """The content of a piece."""
        return b"".join(self.pieces(chunk))

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        """The content of a piece in pieces of a few MiB at most, each unpacked when it is asked for."""
        self._packed_bytes += len(chunk)
        if not self.is_sound:
            return
        try:
            for content in self._through(chunk, 0) if self._steps else (chunk,):
                self._content_bytes += len(content)
                if self._limit is not None and self._content_bytes > self._limit:
                    self.is_sound, self.is_too_long = False, True
                elif self._steps and self._content_bytes > _SUSPECT_BYTES + _SUSPECT_RATIO * self._packed_bytes:
                    self.is_sound = False
                if not self.is_sound:
                    return
                yield content
        except (zlib.error, brotli.error, zstandard.ZstdError):
            self.is_sound = False

    def _through(self, piece: bytes, at: int) -> Iterator[bytes]:
        if at == len(self._steps):
            yield piece
            return
        for content in self._steps[at](piece):
            if content:
                yield from self._through(content, at + 1)


def _sliced(unpack: Callable[[bytes], bytes], slice_bytes: int) -> Step:
    def step(chunk: bytes) -> Iterator[bytes]:
        return (unpack(chunk[at : at + slice_bytes]) for at in range(0, len(chunk), slice_bytes))

    return step


def _gzip() -> Step:
    return _sliced(_Gzip().feed, _SLICE)


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


def _deflate() -> Step:
    """With zlib's frame, as the standard says, or without, as some send it: told by the first byte."""
    unpack: Callable[[bytes], bytes] | None = None

    def feed(chunk: bytes) -> bytes:
        nonlocal unpack
        if unpack is None:
            if not chunk:
                return b""
            unpack = zlib.decompressobj(15 if chunk[0] & 0x0F == zlib.DEFLATED else -15).decompress
        return unpack(chunk)

    return _sliced(feed, _SLICE)


def _brotli() -> Step:
    decompressor = brotli.Decompressor()

    def step(chunk: bytes) -> Iterator[bytes]:
        yield decompressor.process(chunk, output_buffer_limit=_BROTLI_PIECE_BYTES)
        while not decompressor.is_finished() and not decompressor.can_accept_more_data():
            yield decompressor.process(b"", output_buffer_limit=_BROTLI_PIECE_BYTES)

    return step


def _zstd() -> Step:
    decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj(read_across_frames=True)
    return _sliced(decompressor.decompress, _ZSTD_SLICE)


_ENCODINGS: dict[str, Callable[[], Step]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _zstd,
}

#: Of brotli a few bytes may be gigabytes, and clients pack nothing by it.
_BOUNDED = {name: make for name, make in _ENCODINGS.items() if name != "br"}
