"""The certificate of both doors, whom gRPC's asks for one, and the renewal of it all without a restart."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import grpc

from costd.domain.errors import ConfigError
from costd.wire.pem import Stamp, Unusable, load_pair, read, read_authorities, stamp

_log = logging.getLogger(__name__)


class _Material(NamedTuple):
    """One version of the files, the pair proved to belong together."""

    stamps: tuple[Stamp, ...]
    certificate: bytes
    key: bytes
    client_ca: bytes | None
    context: ssl.SSLContext


class TlsFiles:
    """A certificate chain and its key (PEM files), and what each door makes of them.

    Where there are authorities of clients, too, gRPC's door takes only those who show a certificate that one of them
    signed. Connections keep what they began with; those that begin after `reload_if_changed` get the new files.
    """

    def __init__(
        self, certificate: Path, key: Path, written: Callable[[str], str] = str, client_ca: Path | None = None
    ) -> None:
        """Read them; where one cannot be used, ConfigError with what `written` makes of its setting ("tls.cert")."""
        self._certificate = certificate
        self._key = key
        self._client_ca = client_ca
        self._failed: tuple[Stamp, ...] | None = None
        try:
            self._material = self._load()
        except Unusable as error:
            name = written({key: "tls.key", client_ca: "tls.client_ca"}.get(error.path, "tls.cert"))
            raise ConfigError(name, str(error.path), f"must be a PEM file that can be used ({error.reason})") from None
        self._front = self._material.context
        self._front.sni_callback = self._choose

    @property
    def http_context(self) -> ssl.SSLContext:
        """The context of the HTTP door; it always hands out the newest certificate."""
        return self._front

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """Credentials of a gRPC door; each handshake asks for the newest files."""
        served = self._material

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            nonlocal served
            newest = self._material
            if newest is served:
                return None  # unchanged
            served = newest
            return _grpc_configuration(newest)

        # types-grpcio does not know of None, which grpcio documents.
        return grpc.dynamic_ssl_server_credentials(
            _grpc_configuration(served),
            fetch,  # type: ignore[arg-type]
            require_client_authentication=self._client_ca is not None,
        )

    def reload_if_changed(self) -> bool:
        """Read the files again if they have changed; call it every few seconds.

        True where a new certificate is now in use. Files that cannot be used are logged, once per version, and the
        certificate before stays in use.
        """
        stamps = self._stamps_or_none()
        if stamps in (None, self._material.stamps, self._failed):
            return False
        try:
            material = self._load()
        except Unusable as error:
            self._failed = stamps
            _log.error(
                "the new TLS files cannot be used; the certificate before stays in use",
                extra={"file": str(error.path), "reason": error.reason},
            )
            return False
        self._material = material
        self._failed = None
        _log.info("TLS certificate reloaded", extra={"file": str(self._certificate)})
        return True

    def _choose(self, connection: ssl.SSLSocket | ssl.SSLObject, _name: str | None, _front: ssl.SSLContext) -> None:
        connection.context = self._material.context

    def _load(self) -> _Material:
        before = self._stamps()
        certificate, key = read(self._certificate), read(self._key)
        context = _server_context()
        load_pair(context, self._certificate, self._key)
        client_ca = None if self._client_ca is None else read_authorities(self._client_ca)
        if before != self._stamps():
            raise Unusable(self._certificate, "it changed while it was read")
        return _Material(before, certificate, key, client_ca, context)

    def _stamps(self) -> tuple[Stamp, ...]:
        files = (self._certificate, self._key, self._client_ca)
        return tuple(stamp(path) for path in files if path is not None)

    def _stamps_or_none(self) -> tuple[Stamp, ...] | None:
        """None while a file is away: renewals may remove before they write."""
        try:
            return self._stamps()
        except Unusable:
            return None


def _server_context() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _grpc_configuration(material: _Material) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(material.key, material.certificate)], material.client_ca)
