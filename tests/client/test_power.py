"""`racksack power`, `energy` and the power columns of `nodes`: what they ask for, what they print, how they end."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from tests.client.conftest import Cli
from tests.client.stand_in import StandIn


def node(name: str = "r1", phase: str = "on", **power: Any) -> dict[str, Any]:
    state = {"on": "up"}.get(phase, phase)
    connected = time.time() if phase == "on" else None
    return {"name": name, "state": state, "connected_at_s": connected, "power": {"phase": phase, **power}}


def test_the_columns_of_power(cli: Cli, controller: StandIn) -> None:
    controller.nodes = [
        node("r1", watts=95.4, watts_from="sensor", idle_for_s=75, off_in_s=225, last_boot_s=260),
        node("r2", "off", watts=0.0, watts_from="model"),
        {"name": "r3", "state": "up"},
    ]
    header, first, second, third = cli("racksack", "nodes").out.splitlines()
    assert header.split()[:3] == ["NODE", "STATE", "POWER"]
    for words, line in (
        (["r1", "UP", "on", "95", "1m15s", "3m45s", "4m20s"], first),
        (["r2", "OFF", "off", "~0"], second),
        (["r3", "UP", "always on"], third),
    ):
        assert all(word in line for word in words), line
    assert header == cli("racksack", "power", "status").out.splitlines()[0]


def test_without_power_there_are_no_such_columns(cli: Cli, controller: StandIn) -> None:
    controller.nodes = [{"name": "r3", "state": "up"}]
    assert "WATTS" not in cli("racksack", "nodes").out


@pytest.mark.parametrize(
    ("words", "body", "told"),
    [
        (["on", "r1"], {"act": "on"}, "r1 is up already"),
        (["hold", "r1", "--for", "2h"], {"act": "hold", "for_s": 7200.0}, "r1 is held as it is for 2h00m"),
        (["hold", "r1", "--reason", "disk"], {"act": "hold", "reason": "disk"}, "r1 is held as it is"),
        (["release", "r1"], {"act": "release"}, "r1 is not held"),
    ],
)
def test_what_is_asked_for(cli: Cli, controller: StandIn, words: list[str], body: dict[str, Any], told: str) -> None:
    controller.nodes = [node()]
    assert cli("racksack", "power", *words).out == f"{told}\n"
    assert controller.posted == [("nodes/r1/power", body)]


@pytest.mark.parametrize(
    ("words", "wish", "told"),
    [
        (["off"], "off", "and will be switched off"),
        (["off", "--force"], "off", "and will be switched off"),
        (["cycle"], "cycle", "and will be switched off and on again"),
    ],
)
def test_what_will_be(cli: Cli, controller: StandIn, words: list[str], wish: str, told: str) -> None:
    controller.nodes = [node(wish=wish)]
    assert cli("racksack", "power", *words, "r1").out == f"r1 is up, {told}\n"
    controller.nodes = [node(wish=wish, on_behind=["far", "further"])]
    assert (
        cli("racksack", "power", *words, "r1").out
        == f"r1 is up, {told} when far and further are off, reached through it\n"
    )


@pytest.mark.parametrize(("act", "phase"), [("on", "booting"), ("off", "stopping")])
def test_what_is_under_way(cli: Cli, controller: StandIn, act: str, phase: str) -> None:
    controller.nodes = [node("r1", phase, wish=act)]
    assert cli("racksack", "power", act, "r1").out == f"r1 is {phase}\n"


def test_a_busy_node_is_refused(cli: Cli, controller: StandIn) -> None:
    controller.nodes = [node()]
    assert cli("racksack", "nodes").code == 0

    controller.refuse_next = (409, "r1 is busy with job 3", 5)
    ended = cli("racksack", "power", "off", "r1")
    assert ended.code == 5
    assert "r1 is busy with job 3" in ended.err


def test_waiting_until_it_is_so(cli: Cli, controller: StandIn) -> None:
    controller.nodes = [node("r1", "booting")]

    def come_up() -> None:
        controller.nodes[0] = node("r1", "on")

    timer = threading.Timer(0.5, come_up)
    timer.start()
    ended = cli("racksack", "power", "on", "r1", "--wait")
    timer.join()
    assert (ended.code, ended.out) == (0, "r1 is up\n")


@pytest.mark.parametrize(
    ("act", "now", "told"),
    [
        ("off", node("r1", "set_aside"), "r1 is set aside\n"),
        ("off", node("r1", "off"), "r1 is off\n"),
        ("on", node("r1", "on"), "r1 is up\n"),
    ],
)
def test_nothing_is_waited_for_that_is_so_already(
    cli: Cli, controller: StandIn, act: str, now: dict[str, Any], told: str
) -> None:
    controller.nodes = [now]
    ended = cli("racksack", "power", act, "r1", "--wait")
    assert (ended.code, ended.out) == (0, told)


@pytest.mark.parametrize(
    ("act", "now", "told"),
    [
        ("off", node("r1", "on", why="its power is held"), "r1 is on by now: its power is held"),
        ("off", node("r1", "on", wish="on"), "r1 is to be on by now"),
        ("on", node("r1", "stopping", wish="off"), "r1 is to be off by now"),
        ("cycle", node("r1", "off", why="idle"), "r1 is off by now: idle"),
    ],
)
def test_a_wish_that_gave_way_to_another_is_not_waited_for(
    cli: Cli, controller: StandIn, act: str, now: dict[str, Any], told: str
) -> None:
    controller.nodes = [now]
    ended = cli("racksack", "power", act, "r1", "--wait")
    assert ended.code == 1
    assert told in ended.err


def test_waiting_for_what_fails(cli: Cli, controller: StandIn) -> None:
    controller.nodes = [node("r1", "booting")]

    def fail() -> None:
        controller.nodes[0] = node(
            "r1", "set_aside", failures=1, why="could not be switched on: redfish is unreachable"
        )

    timer = threading.Timer(0.5, fail)
    timer.start()
    ended = cli("racksack", "power", "on", "r1", "--wait")
    timer.join()
    assert ended.code == 1
    assert "r1 could not be switched on: redfish is unreachable" in ended.err


def test_a_time_that_is_none(cli: Cli, controller: StandIn) -> None:
    controller.nodes = [node()]
    ended = cli("racksack", "power", "hold", "r1", "--for", "5")
    assert ended.code == 2
    assert "write 5m for minutes" in ended.err


def energy(**more: Any) -> dict[str, Any]:
    one = {
        "kwh": 1.25,
        "jobs_kwh": 1.0,
        "idle_kwh": 0.25,
        "measured_kwh": 1.25,
        "always_on_kwh": 3.0,
        "saved_kwh": 1.75,
        "on_s": 36000,
        "cost": 0.375,
        "saved_cost": 0.525,
    }
    job = {"job": 4, "name": "train", "owner": "ann", "kwh": 0.0123, "is_estimate": True, "cost": 0.0037}
    report = {
        "price_per_kwh": 0.3,
        "nodes": [{"node": "r1", **one}],
        "jobs": [job],
        "total": {**one, "is_estimate": True},
    }
    return {"since_s": time.time() - 60, "until_s": time.time(), **report, **more}


def test_energy_tells_what_was_saved_and_how_it_is_known(cli: Cli, controller: StandIn) -> None:
    controller.energy = energy()
    out = cli("racksack", "energy").out
    assert "1.25 kWh" in out
    assert "measured" in out
    assert "12.30 Wh" in out  # of the job
    assert "estimate" in out
    assert "1.75 kWh were saved, 0.53 at 0.3 a kWh (an estimate)" in out


def test_energy_without_a_price_has_no_money(cli: Cli, controller: StandIn) -> None:
    controller.energy = energy(price_per_kwh=None)
    controller.energy["total"] |= {"cost": None, "saved_cost": None}
    out = cli("racksack", "energy", "--since", "30d").out
    assert "COST" not in out
    assert "1.75 kWh were saved (an estimate)" in out


def test_energy_where_nothing_is_switched(cli: Cli, controller: StandIn) -> None:
    controller.energy = {}
    assert "no node has a power block" in cli("racksack", "energy").out


def test_the_story_of_a_job_has_its_energy(cli: Cli, controller: StandIn) -> None:
    controller.add_job("x", "done", energy={"kwh": 0.5, "is_estimate": True, "cost": 0.15})
    assert "energy    0.50 kWh, costs 0.15 (estimate)" in cli("racksack", "status", "1").out
