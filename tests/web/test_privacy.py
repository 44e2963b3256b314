"""What nobody in particular is told: no address, no login, no operator; and what other users are."""

from __future__ import annotations

from typing import Any

import pytest

from racksack_controller.config.config import parse_config
from racksack_controller.core.power_records import PowerLine
from racksack_controller.web.caller import NOBODY, Caller, Way
from racksack_controller.web.privacy import Hidden, job_for, lines_for, node_for, power_lines_for, sweep_for

ALICE = Caller("alice", 1000, is_operator=False, way=Way.SOCKET)
BOB = Caller("bob", 1001, is_operator=False, way=Way.SESSION)
CONFIG = """\
nodes:
  here: {local: {}}
  r1:
    ssh: {host: r1.rack.example, user: racksack, host_key: "%s", jump: {host: gate.example, user: hop, host_key: "%s"}}
    power:
      drivers:
        old: {ipmi: {host: bmc-of-r1, user: ADMIN, password_file: /etc/racksack/bmc}}
        new: {redfish: {url: "https://bmc2-of-r1:8443", user: operator, password_file: /etc/racksack/bmc}}
      on: [new, old]
      off: [new, old]
"""
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMijpjiDNbGJcgq84zfgWKfpYTyHWfW1Cin2TBTEnRzv"


@pytest.fixture(scope="module")
def hidden() -> Hidden:
    config = parse_config(CONFIG % (KEY, KEY))
    hidden = Hidden()
    hidden.hide(config.nodes)
    return hidden


@pytest.mark.parametrize(
    "sentence",
    [
        "redfish at https://10.10.254.106/redfish/v1 refused the password",
        "ssh: connect to 10.10.254.106:22: no route",
        "ssh: connect to [2001:db8::17]:22: no route",
        "ssh: connect to fe80::1ff:fe23:4567:890a: no route",
        "bmc-of-r1 does not answer",
        "bmc2-of-r1: no answer",
        "r1.rack.example, reached through gate.example, does not answer",
        "login as racksack@r1.rack.example failed",
        "login as hop@gate failed",
        "(192.168.1.1)",
    ],
)
def test_no_address_is_told(hidden: Hidden, sentence: str) -> None:
    shown = hidden.sentence(sentence)
    for secret in (
        "10.10",
        "2001",
        "fe80",
        "bmc-of",
        "bmc2",
        "rack.example",
        "gate",
        "racksack",
        "192.168",
        "redfish/v1",
    ):
        assert secret not in shown, shown
    assert "(address)" in shown


@pytest.mark.parametrize(
    "sentence",
    [
        "waits for r1 (8 of 8 CPU in use); 2 jobs are ahead, the first is 12",
        "expected to start at 12:30:45",
        "exit code 1: ModuleNotFoundError: No module named 'x'",
        "version 1.2.3 of Python",
        "std::vector and a::",
        "it needs 2:00 hours",
    ],
)
def test_everything_else_is(hidden: Hidden, sentence: str) -> None:
    assert hidden.sentence(sentence) == sentence


def test_the_timeline_of_power_names_nobody_and_no_way() -> None:
    lines = [
        PowerLine(1.0, "r1", "request", "", "carol wants it on: for the talk"),
        PowerLine(2.0, "r1", "on", "", "is being switched on: carol wants it on"),
        PowerLine(3.0, "r1", "step", "redfish", "https://10.0.0.7: the password of ADMIN was refused"),
        PowerLine(4.0, "r1", "switched", "ipmi", "could not be switched on: bmc-of-r1 refused ADMIN; again in 5m"),
        PowerLine(5.0, "r1", "hold", "", "is neither switched on nor off, by carol: exam"),
        PowerLine(6.0, "r1", "release", "", "its power is no longer held, by carol"),
    ]
    shown = power_lines_for(NOBODY, lines)
    assert [line.kind for line in shown] == ["request", "on", "switched", "hold", "release"]
    told = " ".join(f"{line.way} {line.sentence}" for line in shown)
    assert "could not be switched on" in told
    for secret in ("carol", "ADMIN", "10.0", "bmc", "ipmi", "talk", "exam"):
        assert secret not in told
    assert power_lines_for(ALICE, lines) == lines


def node(**changes: Any) -> dict[str, Any]:
    power = {
        "phase": "off", "why": "carol wants it off", "way": "ipmi", "problem": "bmc-of-r1 refused ADMIN",
        "held_by": "carol", "logins": 3, "watts": 40.0,
    }  # fmt: skip
    view = {"name": "r1", "state": "off", "why": "off for 2m: carol wants it off", "draining_reason": None}
    return {**view, "power": power, **changes}


def test_a_node_is_shown_without_those_who_run_it(hidden: Hidden) -> None:
    views = [
        node(),
        node(state="drained", why="drained: new disk (carol)", draining_reason="new disk (carol)"),
        node(state="unreachable", why="ssh: connect to 10.0.0.7 port 22: carol"[:-7], power=None),
        node(state="up", why="runs no job; to be switched off when its work is done, carol wants it off"),
    ]
    for view in views:
        told = str(node_for(NOBODY, view, hidden))
        for secret in ("carol", "ADMIN", "10.0.0.7", "bmc-of-r1", "new disk", "ipmi"):
            assert secret not in told
        assert node_for(NOBODY, view, hidden)["why"]
        assert node_for(ALICE, view, hidden) == view


def test_the_content_of_a_job_is_its_owners(hidden: Hidden) -> None:
    view = {
        "id": 1, "owner": "alice", "project": "alice-upload-1", "snapshot": "ab" * 32, "returns": "/spool/returns/1",
        "why": "waits for r1: ssh to 10.0.0.7 failed", "outcome_reason": "",
    }  # fmt: skip
    assert job_for(ALICE, view, hidden) == view
    by_bob = job_for(BOB, view, hidden)
    assert (by_bob["project"], by_bob["snapshot"], by_bob["returns"]) == ("", "", "")
    assert by_bob["why"] == view["why"], "a user of the rack may know where it stands"
    assert job_for(NOBODY, view, hidden)["why"] == "waits for r1: ssh to (address) failed"
    assert lines_for(NOBODY, [{"sentence": "on 10.0.0.7"}], hidden) == [{"sentence": "on (address)"}]


def test_the_arguments_of_a_sweep_are_its_owners(hidden: Hidden) -> None:
    rest = {"reason": "10.0.0.7 broke", "sentence": "10.0.0.7 broke; retrying"}
    view = {
        "owner": "alice", "target": "./run --password hunter2", "target_public": "./run", "where": "a < 3",
        "reason": "", "nodes": [{"node": "r1", "rest": rest}, {"node": "r2", "rest": None}],
    }  # fmt: skip
    assert sweep_for(ALICE, view, hidden) == view
    for caller in (BOB, NOBODY):
        assert "hunter2" not in str(sweep_for(caller, view, hidden))
    assert "10.0" not in str(sweep_for(NOBODY, view, hidden))
