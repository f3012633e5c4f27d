"""The doctor's check of the TLS files: a handshake with ourselves, as a caller would have it."""

from __future__ import annotations

import os
import ssl
import stat
from pathlib import Path

from costd.domain.errors import ConfigError
from costd.domain.finding import FAIL, OK, WARN, Finding
from costd.wire.tls import TlsFiles

_SOON_DAYS = 14
_DAY_S = 86_400
#: From OpenSSL's x509_vfy.h.
_EXPIRED = 10
_NAME, _KEY_NAME = "tls.cert", "tls.key"
_RENEW = "renew it; the daemon takes the new one by itself"


def check_tls(certificate: Path | None, key: Path | None, client_ca: Path | None, now_s: float) -> list[Finding]:
    """Whether both are there, belong together, are in date, and the key is its owner's alone."""
    if certificate is None or key is None:
        return [Finding("tls", OK, "off")]
    try:
        files = TlsFiles(certificate, key, client_ca=client_ca)
    except ConfigError as error:
        return [Finding("tls", FAIL, error.message, "name files that are there, readable for the daemon's user")]
    return [_dates(files, certificate, now_s), _key(key)]


def _key(path: Path) -> Finding:
    found = path.stat()
    about = f"{path}, mode {stat.S_IMODE(found.st_mode):04o}, user {found.st_uid}"
    if found.st_mode & 0o077:
        return Finding(_KEY_NAME, WARN, f"{about}: others can read it", f"chmod 600 {path}")
    if found.st_uid not in {0, os.geteuid()}:
        return Finding(_KEY_NAME, WARN, f"{about}: it is neither ours nor root's", f"chown {os.geteuid()} {path}")
    return Finding(_KEY_NAME, OK, about)


def _dates(files: TlsFiles, path: Path, now_s: float) -> Finding:
    try:
        ends_s = _end_of_served(files, path)
    except ssl.SSLCertVerificationError as error:
        what = "has expired" if error.verify_code == _EXPIRED else f"is refused by callers ({error.verify_message})"
        return Finding(_NAME, FAIL, f"{path} {what}", _RENEW)
    except ssl.SSLError as error:
        return Finding(_NAME, FAIL, f"no handshake succeeds with {path} ({error.reason})", _RENEW)
    days = int((ends_s - now_s) // _DAY_S)
    about = f"{path}, good for {days} more days"
    return Finding(_NAME, WARN, about, _RENEW) if days < _SOON_DAYS else Finding(_NAME, OK, about)


def _end_of_served(files: TlsFiles, path: Path) -> float:
    """When the certificate that is served ends, in seconds since 1970; raises what the caller's side would."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = files.http_context.wrap_bio(to_server, to_client, server_side=True)
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False  # whether its names are those callers use is theirs to know
    trusting.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    trusting.load_verify_locations(path)
    client = trusting.wrap_bio(to_client, to_server)
    for _ in range(10):
        done = 0
        for side in (client, server):
            try:
                side.do_handshake()
                done += 1
            except ssl.SSLWantReadError:
                pass
        if done == 2:
            break
    served = client.getpeercert()
    if served is None:
        raise ssl.SSLError("the handshake did not end")
    return float(ssl.cert_time_to_seconds(str(served["notAfter"])))
