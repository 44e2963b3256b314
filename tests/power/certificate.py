"""Self-signed certificates, as BMCs make them for themselves."""

from __future__ import annotations

import datetime
import hashlib
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Certificate:
    """Where certificate and key are, and the fingerprint a driver pins."""

    chain: Path
    key: Path
    fingerprint: str


def self_signed(directory: Path, bits: int = 2048) -> Certificate:
    """Make a certificate in `directory`, or find the one made before."""
    directory.mkdir(parents=True, exist_ok=True)
    chain, key = directory / "certificate.pem", directory / "key.pem"
    if not chain.exists():
        _make(chain, key, bits)
    der = x509.load_pem_x509_certificate(chain.read_bytes()).public_bytes(serialization.Encoding.DER)
    return Certificate(chain, key, "sha256:" + hashlib.sha256(der).hexdigest())


def _make(chain: Path, key: Path, bits: int) -> None:
    private = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bmc")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=3650))
        .sign(private, hashes.SHA256())
    )
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
