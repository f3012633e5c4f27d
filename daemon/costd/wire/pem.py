"""PEM files of certificates and keys: which version of one is there, and what is wrong with it."""

from __future__ import annotations

import ssl
from pathlib import Path

#: What tells one version of a file from the next: inode, modification time in ns, size.
Stamp = tuple[int, int, int]


class Unusable(Exception):
    """A file that cannot be used: which, and why."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(reason)
        self.path = path
        self.reason = reason


class _Encrypted(Exception):
    """The key asks for a password, and a daemon has nobody to ask."""


def stamp(path: Path) -> Stamp:
    """The version of a file; Unusable where it is not there."""
    try:
        found = path.stat()
    except OSError as error:
        raise Unusable(path, error.strerror or str(error)) from error
    return found.st_ino, found.st_mtime_ns, found.st_size


def stamp_or_none(path: Path) -> Stamp | None:
    """None while a file is away: renewals may remove before they write."""
    try:
        return stamp(path)
    except Unusable:
        return None


def read(path: Path) -> bytes:
    """What the file holds; Unusable where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise Unusable(path, error.strerror or str(error)) from error


def read_authorities(path: Path) -> bytes:
    """Certificates of authorities; Unusable where there are none in the file."""
    pem = read(path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise Unusable(path, _reason(error) if isinstance(error, ssl.SSLError) else "not PEM") from error
    return pem


def load_pair(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Make `context` use a certificate chain and its key; Unusable, with the file at fault, where they are no pair."""
    try:
        context.load_cert_chain(certificate, key, _no_password)
    except (ssl.SSLError, OSError, _Encrypted) as error:
        is_key = isinstance(error, _Encrypted) or b"PRIVATE KEY-----" not in read(key)
        raise Unusable(key if is_key else certificate, _reason(error)) from error


def _no_password() -> str:
    raise _Encrypted


def _reason(error: Exception) -> str:
    if isinstance(error, _Encrypted):
        return "the key is encrypted; costd needs one without a password"
    if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
        return "certificate and key do not belong together"
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not PEM").replace("_", " ").lower()
    return str(error)
