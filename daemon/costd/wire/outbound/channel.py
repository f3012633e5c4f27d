"""The door to the hub as a sidecar knocks at it: address, TLS and key, each read anew at every connection."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import grpc

from costd import __version__
from costd.config import Config
from costd.domain.errors import ConfigError
from costd.settings import Token
from costd.wire.pem import Stamp, Unusable, load_pair, read, read_authorities, stamp_or_none

MAX_MESSAGE_BYTES = 64 << 20

OPTIONS = (
    # A hub whose host vanished is noticed within 30 s; it allows pings every 10 s.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.enable_http_proxy", 0),  # a proxy from the environment has no business between us and the hub
    # Channels must not share a connection: another one is opened to get rid of it, or to begin with new files.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.primary_user_agent", f"costd/{__version__}"),
)

_Read = TypeVar("_Read")


class HubDoor:
    """The hub of one configuration, which must have `hub.address`."""

    def __init__(self, config: Config) -> None:
        self._hub = config.hub
        self._written = config.written
        hub = self._hub
        self._files = [path for path in (hub.key_file, hub.ca, hub.cert, hub.cert_key) if path is not None]
        self._stamps = self._look()

    @property
    def address(self) -> str:
        """The hub's address, "host:port"."""
        return str(self._hub.address)

    def open(self) -> grpc.Channel:
        """A new channel, which the caller closes; nothing is sent yet. ConfigError where a file cannot be used."""
        self._stamps = self._look()
        if not self._hub.is_secure:
            return grpc.insecure_channel(self.address, OPTIONS)
        return grpc.secure_channel(self.address, self._credentials(), OPTIONS)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What every call carries: the key, as its file has it now. ConfigError where that cannot be used."""
        return (("authorization", f"Bearer {self._key()}"),)

    def changed(self) -> bool:
        """Whether a file is another than at the last `open`; the caller then opens anew. False while one is away."""
        return any(now not in (None, before) for now, before in zip(self._look(), self._stamps, strict=True))

    def _look(self) -> list[Stamp | None]:
        return [stamp_or_none(path) for path in self._files]

    def _key(self) -> str:
        if self._hub.key_file is None:
            return self._hub.key or ""
        text = self._named("hub.key_file", read, self._hub.key_file)
        try:
            return Token().read(text.decode("ascii"), is_text=True)
        except ValueError:  # what is in it is not repeated
            written = self._written("hub.key_file")
            raise ConfigError(written, str(self._hub.key_file), "must be a file that holds a key, alone") from None

    def _credentials(self) -> grpc.ChannelCredentials:
        hub = self._hub
        authorities = None if hub.ca is None else self._named("hub.ca", read_authorities, hub.ca)
        if hub.cert is None or hub.cert_key is None:
            return grpc.ssl_channel_credentials(authorities)
        certificate = self._named("hub.cert", read, hub.cert)
        key = self._named("hub.cert_key", read, hub.cert_key)
        self._prove_pair(hub.cert, hub.cert_key)
        return grpc.ssl_channel_credentials(authorities, key, certificate)

    def _prove_pair(self, certificate: Path, key: Path) -> None:
        """GRPC would say nothing of a pair that is none, and never connect."""
        try:
            load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), certificate, key)
        except Unusable as error:
            raise self._unusable("hub.cert_key" if error.path == key else "hub.cert", error) from None

    def _named(self, name: str, reading: Callable[[Path], _Read], path: Path) -> _Read:
        """What `reading` makes of a file; ConfigError with the setting's name where it cannot be used."""
        try:
            return reading(path)
        except Unusable as error:
            raise self._unusable(name, error) from None

    def _unusable(self, name: str, error: Unusable) -> ConfigError:
        kind = "file" if name == "hub.key_file" else "PEM file"
        return ConfigError(self._written(name), str(error.path), f"must be a {kind} that can be used ({error.reason})")
