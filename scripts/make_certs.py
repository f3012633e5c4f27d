"""A certificate authority, a server's certificate and a client's for development: `make_certs.py DIR [NAME …]`.

DIR gets ca.pem, ca-key.pem, server.pem (the chain), server-key.pem, client.pem and client-key.pem. An authority that is
already there is kept, so that others go on trusting it; the two certificates are made anew each time.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NAMES = ("localhost", "127.0.0.1", "::1")
CA_DAYS = 3650
SERVER_DAYS = 397  # the longest that browsers and Apple's libraries take


def make_certs(folder: Path, names: tuple[str, ...] = NAMES) -> None:
    """Write the files to `folder`, keys readable for their owner alone."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority, authority_key = _authority(folder / "ca.pem", folder / "ca-key.pem")
    for who, names_of, usage in [
        ("server", names, ExtendedKeyUsageOID.SERVER_AUTH),
        ("client", ("client",), ExtendedKeyUsageOID.CLIENT_AUTH),
    ]:
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
        certificate = (
            _builder(f"costd development {who}", authority.subject, key.public_key(), SERVER_DAYS)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names_of]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(issuer, critical=False)
            .sign(authority_key, hashes.SHA256())
        )
        _write(folder / f"{who}-key.pem", _key_pem(key), 0o600)
        _write(folder / f"{who}.pem", _pem(certificate) + _pem(authority), 0o644)


def _authority(path: Path, key_path: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    if path.exists() and key_path.exists():
        key = serialization.load_pem_private_key(key_path.read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise SystemExit(f"{key_path} was not made by this script; move it away or choose another folder")
        return x509.load_pem_x509_certificate(path.read_bytes()), key
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("costd development CA")
    certificate = (
        _builder("costd development CA", name, key.public_key(), CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_ca_usage(), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(key_path, _key_pem(key), 0o600)
    _write(path, _pem(certificate), 0o644)
    return certificate, key


def _builder(subject: str, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # clocks of other machines may be a little behind
        .not_valid_after(now + timedelta(days=days))
    )


def _ca_usage() -> x509.KeyUsage:
    allowed = {"key_cert_sign", "crl_sign"}
    others = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**dict.fromkeys(allowed, True), **dict.fromkeys(others, False))


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _write(path: Path, content: bytes, mode: int) -> None:
    """Replace `path` as a whole, never readable for more than `mode` says."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
    temporary.replace(path)


def main() -> None:
    """Read the arguments, make the files, and say how to use them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", help="further host names or addresses of the server")
    arguments = parser.parse_args()
    make_certs(arguments.folder, (*NAMES, *arguments.names))
    folder = arguments.folder
    print(f"costd run --tls-cert {folder}/server.pem --tls-key {folder}/server-key.pem")
    print(f"costd status --address localhost:7430 --ca {folder}/ca.pem --key …")
    print(f"for certificates of clients, too: --tls-client-ca {folder}/ca.pem at a hub, and at its sidecars")
    print(f"  --hub-ca {folder}/ca.pem --hub-cert {folder}/client.pem --hub-cert-key {folder}/client-key.pem")


if __name__ == "__main__":
    main()
