"""TLS towards BMCs: their certificates are self-signed, and some are so old that today's defaults refuse them.

Trust comes from the SHA-256 fingerprint of the certificate (compared before a byte of ours is sent), or from a
certificate authority, or, if the owner says so, from nothing. Old protocol versions are opened only where a driver
asks for them.
"""

from __future__ import annotations

import hashlib
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Trust:
    """How a device proves who it is. `fingerprint` is `sha256:` and 64 hexadecimal digits in lower case."""

    fingerprint: str | None = None
    ca_file: Path | None = None
    verify: bool = True
    legacy: bool = False

    @property
    def by_authority(self) -> bool:
        """Whether certificate authorities decide."""
        return self.fingerprint is None and self.verify


class WrongCertificate(ssl.SSLError):
    """The device showed another certificate than the pinned one."""


class PinnedContext(ssl.SSLContext):
    """A context that compares the certificate's fingerprint right after the handshake.

    `host` is the name the certificate should bear where a library connects by address.
    """

    pinned: str | None = None
    seen: str | None = None
    host: str | None = None

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:  # noqa: ANN401 - as in the base class
        """Handshake and compare. Raises WrongCertificate, or another ssl.SSLError."""
        if self.host is not None:
            kwargs["server_hostname"] = self.host
        wrapped = super().wrap_socket(*args, **kwargs)
        certificate = wrapped.getpeercert(binary_form=True) or b""
        self.seen = fingerprint_of(certificate)
        if self.pinned is not None and self.seen != self.pinned:
            wrapped.close()
            raise WrongCertificate(f"certificate {self.seen} instead of {self.pinned}")
        return wrapped


def fingerprint_of(certificate_der: bytes) -> str:
    """`sha256:` and the digest of a certificate in DER form."""
    return "sha256:" + hashlib.sha256(certificate_der).hexdigest()


def make_context(trust: Trust) -> PinnedContext:
    """The TLS context for one device. Raises OSError when its `ca_file` cannot be read."""
    context = PinnedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.pinned = trust.fingerprint
    if trust.by_authority:
        if trust.ca_file is not None:
            context.load_verify_locations(cafile=str(trust.ca_file))
        else:
            context.load_default_certs()
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if trust.legacy:
        _open_to_old_versions(context)
    return context


def _open_to_old_versions(context: ssl.SSLContext) -> None:
    """TLS 1.0, small keys and unsafe renegotiation: what iLO 2 and 3 and early BMC firmware speak."""
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.options |= 0x4  # SSL_OP_LEGACY_SERVER_CONNECT; ssl names it only from Python 3.12 on.


def fetch_fingerprint(host: str, port: int, timeout_s: float, *, legacy: bool = False) -> str | None:
    """The fingerprint a device shows right now, to offer it to the owner; None when it shows none."""
    context = make_context(Trust(verify=False, legacy=legacy))
    try:
        with socket.create_connection((host, port), timeout_s) as plain, context.wrap_socket(plain):
            return context.seen
    except (OSError, ssl.SSLError):
        return None
