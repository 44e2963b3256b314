"""The `power` block: what it becomes, and every mistake at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from racksack_controller.config.power import parse_power
from racksack_controller.power.build import Means, build_power
from racksack_controller.power.ipmi_helper import IpmiHelper
from racksack_controller.power.secret import Secret, SecretError
from racksack_controller.power.settings import (
    CommandSettings,
    IloSettings,
    IpmiSettings,
    PowerSettings,
    RedfishSettings,
    SshSettings,
    Watts,
    WolSettings,
)
from racksack_controller.power.tls import Trust

DIGITS = "3f" * 32
EXAMPLE = f"""
on:
  - redfish: {{url: "https://10.10.254.206", user: admin, password_file: /etc/racksack/r1.pw,
               fingerprint: "sha256:{DIGITS}"}}
  - wol: {{mac: "52:54:00:77:00:01", broadcast: 10.10.254.255, repeats: 3}}
off: [ssh, redfish]
boot_timeout: 10m
idle_off: auto
hard_off: true
watts: {{idle: 95, max: 190}}
"""


def parsed(text: str) -> PowerSettings:
    mistakes: list[tuple[str, str]] = []
    settings = parse_power(yaml.safe_load(text), "nodes.r1.power", mistakes)
    assert mistakes == []
    assert settings is not None
    return settings


def mistakes_in(text: str) -> dict[str, str]:
    mistakes: list[tuple[str, str]] = []
    assert parse_power(yaml.safe_load(text), "p", mistakes) is None
    for _, sentence in mistakes:
        assert "\n" not in sentence
        assert len(sentence) > 15
    return dict(mistakes)


def test_the_example() -> None:
    settings = parsed(EXAMPLE)
    assert settings.on == ("redfish", "wol")
    assert settings.off == ("ssh", "redfish")
    assert settings.boot_timeout_s == 600
    assert settings.idle_off_s is None
    assert settings.hard_off
    assert settings.watts == Watts(95, 190)
    assert settings.drivers["redfish"] == RedfishSettings(
        url="https://10.10.254.206",
        user="admin",
        secret=Secret(file=Path("/etc/racksack/r1.pw")),
        trust=Trust(fingerprint=f"sha256:{DIGITS}"),
    )
    assert settings.drivers["wol"] == WolSettings(mac="52:54:00:77:00:01", broadcast="10.10.254.255", repeats=3)
    assert settings.drivers["ssh"] == SshSettings()


def test_every_kind() -> None:
    settings = parsed("""
on: [ipmi1, {ilo: {host: ilo-r1, user: Administrator, credential: r1-ilo}}, pdu]
off: [{ssh: {timeout: 10s}}, ipmi1, pdu]
drivers:
  ipmi1: {ipmi: {host: 10.0.0.9, port: 6230, user: ADMIN, password_file: /etc/r1, privilege: operator, timeout: 15s}}
  pdu: {command: {on: [pdu, "on", 4], off: [pdu, "off", 4], status: [pdu, status, 4], status_by: exit}}
idle_off: 15m
min_on: 2m
off_grace: 5m
""")
    assert settings.on == ("ipmi1", "ilo", "pdu")
    assert settings.off == ("ssh", "ipmi1", "pdu")
    assert settings.drivers["ipmi1"] == IpmiSettings(
        "10.0.0.9", "ADMIN", Secret(file=Path("/etc/r1")), port=6230, privilege="operator", timeout_s=15
    )
    assert settings.drivers["ilo"] == IloSettings(
        "ilo-r1", "Administrator", Secret(credential="r1-ilo"), trust=Trust(legacy=True)
    )
    assert settings.drivers["pdu"] == CommandSettings(
        on=("pdu", "on", "4"), off=("pdu", "off", "4"), status=("pdu", "status", "4"), status_by="exit"
    )
    assert settings.drivers["ssh"] == SshSettings(timeout_s=10)
    assert (settings.idle_off_s, settings.min_on_s, settings.off_grace_s) == (900, 120, 300)


def test_defaults_cut_no_power() -> None:
    settings = parsed('on: {wol: {mac: "52:54:00:77:00:01"}}')
    assert not settings.hard_off
    assert settings.off == ()
    assert settings.boot_timeout_s == 600


def test_fingerprints_however_written() -> None:
    colons = ":".join(["3F"] * 32)
    for text in (f"sha256:{DIGITS}", DIGITS, colons, f"SHA256:{colons}"):
        settings = parsed(f'on: [{{redfish: {{url: "https://b", user: u, credential: c, fingerprint: "{text}"}}}}]')
        assert settings.drivers["redfish"].trust.fingerprint == f"sha256:{DIGITS}"


def test_every_mistake_at_once() -> None:
    found = mistakes_in("""
on:
  - redfish: {url: "http://10.0.0.1/redfish", usr: admin, fingerprint: abc, timeout: 30}
  - wol: {mac: 52:54:00, broadcast: rack, repeats: 0, interface: "eth 0"}
  - {ssh: {}}
off: [wol, bmc2]
boot_timeout: soon
idle_off: never
hard_off: maybe
watts: {idle: 200, max: 100, peak: 3}
idel_off: 10m
""")
    assert set(found) == {
        "p.on[0].redfish.url",
        "p.on[0].redfish.user",
        "p.on[0].redfish.usr",
        "p.on[0].redfish.password_file",
        "p.on[0].redfish.fingerprint",
        "p.on[0].redfish.timeout",
        "p.on[1].wol.mac",
        "p.on[1].wol.broadcast",
        "p.on[1].wol.repeats",
        "p.on[1].wol.interface",
        "p.on",
        "p.off[1]",
        "p.boot_timeout",
        "p.idle_off",
        "p.hard_off",
        "p.watts.max",
        "p.watts.peak",
        "p.idel_off",
    }
    assert "did you mean user?" in found["p.on[0].redfish.usr"]
    assert "did you mean idle_off?" in found["p.idel_off"]
    assert "ssh cannot switch a server on" in found["p.on"]


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("just-text", "p", "mapping"),
        ("off: [ssh]", "p.on", "never be switched on"),
        ('on: [{wol: {mac: "52:54:00:77:00:01"}}]\noff: [wol]', "p.off", "cannot switch a server off"),
        ("on: [{command: {off: [a]}}]", "p.on", "no command `on`"),
        ("on: [{command: {}}]", "p.on[0].command", "no command to switch with"),
        ("on: [{command: {on: virsh start r1}}]", "p.on[0].command.on", "list of words"),
        ("on: [{command: {on: [pdu, on, 4]}}]", "p.on[0].command.on", "in quotes"),
        ("on: [{flux: {}}]", "p.on[0]", "redfish, ipmi, ilo, wol, command, ssh"),
        ("on: [{command: {on: [a]}}, {command: {on: [b]}}]", "p.on[1]", "second command driver"),
        ("on: [pdu, pdu]\ndrivers: {pdu: {command: {on: [a]}}}", "p.on[1]", "second time"),
        ("on: [pdu]\ndrivers: {pdu: {}}", "p.drivers.pdu", "one driver"),
        ("on: [ilo]\ndrivers: {ilo: {command: {on: [a]}}}", "p.drivers.ilo", "another kind"),
        ("on: [x]\ndrivers: [x]", "p.drivers", "map names"),
        ("on: [{ilo: text}]", "p.on[0].ilo", "mapping"),
        ('on: [{ilo: {host: "https://x", user: u, credential: c}}]', "p.on[0].ilo.host", "without https"),
        ("on: [{ilo: {host: x, user: u, credential: ../c}}]", "p.on[0].ilo.credential", "without a path"),
        ("on: [{ilo: {host: x, user: u, password_file: pw}}]", "p.on[0].ilo.password_file", "absolute"),
        (
            "on: [{ilo: {host: x, user: u, password_file: /p, credential: c}}]",
            "p.on[0].ilo.credential",
            "one of them",
        ),
        ("on: [{ipmi: {host: x, user: u, credential: c, port: 70000}}]", "p.on[0].ipmi.port", "65535"),
        ("on: [{ipmi: {host: x, user: true, credential: c}}]", "p.on[0].ipmi.user", "text"),
    ],
)
def test_one_mistake(text: str, path: str, words: str) -> None:
    found = mistakes_in(text)
    assert words in found[path]


@pytest.mark.parametrize(
    "text",
    [
        'on: [{redfish: {url: "https://b", user: u, password: hunter2}}]',
        'on: [{redfish: {url: "https://u:hunter2@b", user: u, credential: c}}]',
    ],
)
def test_a_password_in_the_config_is_refused_and_not_repeated(text: str) -> None:
    found = mistakes_in(text)
    assert any("must not" in sentence for sentence in found.values())
    assert "hunter2" not in str(found)


def test_a_reference_to_a_driver_with_mistakes_is_not_a_second_mistake() -> None:
    found = mistakes_in("on: [{redfish: {user: u, credential: c}}]\noff: [redfish]")
    assert list(found) == ["p.on[0].redfish.url"]


def test_secrets_from_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "r1-bmc").write_text("opensesame\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert Secret(credential="r1-bmc").read() == "opensesame"
    with pytest.raises(SecretError, match="cannot be read"):
        Secret(credential="r2-bmc").read()
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    with pytest.raises(SecretError, match="CREDENTIALS_DIRECTORY"):
        Secret(credential="r1-bmc").read()


@pytest.mark.parametrize(("content", "words"), [(b"\n", "empty"), (b"\xff\xfe", "UTF-8")])
def test_secrets_that_are_none(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "pw"
    file.write_bytes(content)
    with pytest.raises(SecretError, match=words):
        Secret(file=file).read()


async def test_settings_become_drivers() -> None:
    async def unused(*_: Any) -> tuple[int, str, str]:
        raise AssertionError

    helper = IpmiHelper()
    text = (
        EXAMPLE + "drivers: {b: {ipmi: {host: h, user: u, credential: c}}, i: {ilo: {host: h, user: u, credential: c}}}"
    )
    power = build_power(parsed(text), Means("r1", unused, unused, helper))
    assert [driver.name for driver in power.on] == ["redfish", "wol"]
    assert [driver.name for driver in power.off] == ["ssh", "redfish"]
    assert {driver.name for driver in power.devices} == {"redfish", "b", "i"}
    assert power.on[0] is power.off[1]
    await power.close()
    await helper.close()
