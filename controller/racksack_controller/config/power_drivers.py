"""The block of one driver: from parsed YAML to its frozen settings, every mistake collected."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from racksack_controller.config.plain_fields import Fields
from racksack_controller.power.secret import Secret
from racksack_controller.power.settings import (
    CommandSettings,
    DriverSettings,
    IloSettings,
    IpmiSettings,
    RedfishSettings,
    SshSettings,
    WolSettings,
)
from racksack_controller.power.tls import Trust

_MAC = re.compile(r"[0-9a-f]{2}(?P<between>[:-]?)(?:[0-9a-f]{2}(?P=between)){4}[0-9a-f]{2}")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_HOST = re.compile(r"[A-Za-z0-9._:-]+")
_INTERFACE = re.compile(r"[A-Za-z0-9._@-]{1,15}")


def parse_driver(kind: str, block: object, path: str, around: Fields) -> DriverSettings | None:
    """The settings of one driver; None when a mistake was recorded."""
    if block is None:
        block = {}
    if not isinstance(block, Mapping):
        around.at(path, {}).wrong("", f"must be a mapping with the settings of {kind}, see docs/power-drivers.md")
        return None
    before = around.count()
    fields = around.at(path, block)
    settings = KINDS[kind](fields)
    fields.finish()
    return settings if around.count() == before else None


def _redfish(fields: Fields) -> RedfishSettings:
    return RedfishSettings(
        url=_url(fields),
        user=fields.text("user", "admin", required=True) or "",
        secret=_secret(fields),
        trust=_trust(fields, legacy=fields.yes("legacy_tls", default=False)),
        system=fields.text("system", '"1"'),
        timeout_s=fields.duration("timeout", 60.0),
    )


def _ipmi(fields: Fields) -> IpmiSettings:
    return IpmiSettings(
        host=_host(fields),
        user=fields.text("user", "admin", required=True) or "",
        secret=_secret(fields),
        port=fields.whole("port", 623, 1, 65535),
        privilege=fields.choice("privilege", ("admin", "operator")),
        timeout_s=fields.duration("timeout", 30.0),
    )


def _ilo(fields: Fields) -> IloSettings:
    return IloSettings(
        host=_host(fields),
        user=fields.text("user", "Administrator", required=True) or "",
        secret=_secret(fields),
        port=fields.whole("port", 443, 1, 65535),
        trust=_trust(fields, legacy=True),
        timeout_s=fields.duration("timeout", 60.0),
    )


def _wol(fields: Fields) -> WolSettings:
    mac = (fields.text("mac", '"52:54:00:77:00:01"', required=True) or "").lower()
    if mac and not _MAC.fullmatch(mac):
        fields.wrong("mac", f'{mac!r} is not a MAC address; write six pairs in quotes, such as "52:54:00:77:00:01"')
    broadcast = fields.text("broadcast", "10.10.254.255") or "255.255.255.255"
    if not _is_ipv4(broadcast):
        fields.wrong("broadcast", f"{broadcast!r} is not an IPv4 address; write the subnet's, such as 10.10.254.255")
    interface = fields.text("interface", "eth1")
    if interface is not None and not _INTERFACE.fullmatch(interface):
        fields.wrong("interface", f"{interface!r} is neither an interface nor an IPv4 address; write eth1")
    return WolSettings(
        mac=mac,
        broadcast=broadcast,
        port=fields.whole("port", 9, 1, 65535),
        interface=interface,
        repeats=fields.whole("repeats", 5, 1, 100),
        spacing_s=fields.duration("spacing", 5.0),
        jump=fields.text("jump", "gateway"),
        timeout_s=fields.duration("timeout", 30.0),
    )


def _command(fields: Fields) -> CommandSettings:
    settings = CommandSettings(
        on=fields.argv("on"),
        off=fields.argv("off"),
        soft_off=fields.argv("soft_off"),
        status=fields.argv("status"),
        watts=fields.argv("watts"),
        status_by=fields.choice("status_by", ("word", "exit")),
        timeout_s=fields.duration("timeout", 30.0),
    )
    if not (settings.on or settings.off or settings.soft_off):
        fields.wrong("", "has no command to switch with; write on: [...] and off: [...]")
    return settings


def _ssh(fields: Fields) -> SshSettings:
    return SshSettings(timeout_s=fields.duration("timeout", 30.0))


KINDS: dict[str, Callable[[Fields], DriverSettings]] = {
    "redfish": _redfish,
    "ipmi": _ipmi,
    "ilo": _ilo,
    "wol": _wol,
    "command": _command,
    "ssh": _ssh,
}


def _url(fields: Fields) -> str:
    url = fields.text("url", "https://10.10.254.206", required=True) or ""
    if not url:
        return url
    try:
        parts = urlsplit(url)
        valid = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if valid and (parts.username is not None or parts.password is not None):
        fields.wrong("url", "must not hold a user or password; set user, and password_file or credential")
    elif not valid:
        fields.wrong("url", "must begin with https:// and name the BMC, such as https://10.10.254.206")
    elif parts.path.strip("/") or parts.query:
        fields.wrong("url", "must end after the host, since Redfish always begins at /redfish/v1/")
    return url.rstrip("/")


def _host(fields: Fields) -> str:
    host = fields.text("host", "10.10.254.206", required=True) or ""
    if host and not _HOST.fullmatch(host):
        fields.wrong("host", "must be a name or an address without https://, such as 10.10.254.206")
    return host


def _secret(fields: Fields) -> Secret:
    """Where the password is. A password that stands here is refused without repeating it."""
    if fields.raw("password") is not None:
        fields.wrong("password", "must not be in this file; put it into a file with mode 600 and set password_file")
    file = fields.absolute_path("password_file", "/etc/racksack/r1.pw")
    credential = fields.text("credential", "r1-bmc")
    if credential is not None and ("/" in credential or credential.startswith(".")):
        fields.wrong("credential", "must be the name of a systemd credential, without a path")
    if file is not None and credential is not None:
        fields.wrong("credential", "is set together with password_file; keep one of them")
    if file is None and credential is None and fields.raw("password") is None:
        fields.wrong("password_file", "is missing; set password_file: /etc/racksack/r1.pw, or credential")
    return Secret(file=file, credential=credential)


def _trust(fields: Fields, legacy: bool) -> Trust:
    fingerprint = fields.text("fingerprint", '"sha256:3f9a..."')
    if fingerprint is not None:
        digits = fingerprint.lower().removeprefix("sha256:").replace(":", "")
        if not _FINGERPRINT.fullmatch(digits):
            fields.wrong("fingerprint", "must be sha256: and 64 hexadecimal digits; `racksack node check` shows it")
        fingerprint = f"sha256:{digits}"
    ca_file = fields.absolute_path("ca_file", "/etc/racksack/bmc-ca.pem")
    verify = fields.yes("verify", default=True)
    if fingerprint is not None and ca_file is not None:
        fields.wrong("ca_file", "is set together with fingerprint; keep one of them")
    return Trust(fingerprint=fingerprint, ca_file=ca_file, verify=verify, legacy=legacy)


def _is_ipv4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True
