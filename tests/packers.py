"""Packs a stream piece by piece, each to be read at once, in every way that HTTP knows, and in some that are rare."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from functools import partial

import brotli
import zstandard

#: The name of a way, its `Content-Encoding`, and what packs the pieces.
Packer = Callable[[list[bytes]], Iterator[bytes]]


def _zlib(bits: int, pieces: list[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(wbits=bits)
    for piece in pieces:
        yield packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH)
    yield packer.flush()


def _brotli(pieces: list[bytes]) -> Iterator[bytes]:
    packer = brotli.Compressor()
    for piece in pieces:
        yield packer.process(piece) + packer.flush()
    yield packer.finish()


def _zstd(pieces: list[bytes]) -> Iterator[bytes]:
    packer = zstandard.ZstdCompressor().compressobj()
    for piece in pieces:
        yield packer.compress(piece) + packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    yield packer.flush()


PACKERS: dict[str, tuple[str, Packer]] = {
    "": ("", iter),
    "gzip": ("gzip", partial(_zlib, 31)),
    "gzip in members": ("gzip", partial(map, gzip.compress)),
    "deflate": ("deflate", partial(_zlib, 15)),
    "deflate without a frame": ("deflate", partial(_zlib, -15)),
    "br": ("br", _brotli),
    "zstd": ("zstd", _zstd),
    "zstd in frames": ("zstd", partial(map, zstandard.ZstdCompressor().compress)),
}
