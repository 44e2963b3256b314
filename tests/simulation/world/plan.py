"""What users do and what breaks in one simulation, drawn from its seed: a list that can be read, and shrunk."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec

FAULTS_END_S = 600.0
ENDLESS_S = 20_000.0  # of programs that are cancelled
NODES = {"n1": 4, "n2": 8, "n3": 8}  # name -> CPUs


class Deed(msgspec.Struct, frozen=True):
    """Something that is done at a time (seconds since the beginning). `facts`: what else is to be known of it."""

    at_s: float
    kind: str
    facts: dict[str, Any] = {}

    def __str__(self) -> str:
        told = " ".join(f"{key}={value}" for key, value in self.facts.items())
        return f"{self.at_s:8.2f}  {self.kind} {told}".rstrip()


def draw(seed: int, jobs: int = 14, faults: int = 10) -> list[Deed]:
    """The deeds of a seed, in order of time."""
    chance = Random(f"plan {seed}")
    deeds = [_submission(chance, number) for number in range(jobs)]
    for number in chance.sample(range(jobs), 2):  # ends only because somebody cancels it
        facts = {**deeds[number].facts, "length_s": ENDLESS_S}
        deeds[number] = Deed(deeds[number].at_s, "submit", facts)
        at_s = round(chance.uniform(deeds[number].at_s + 2.0, FAULTS_END_S), 3)
        deeds.append(Deed(at_s, "cancel", {"job": number}))
    for number in range(jobs):
        if chance.random() < 0.3:
            kind = chance.choice(("cancel", "cancel", "retry", "retry", "hold"))
            deeds.append(Deed(_moment(chance), kind, {"job": number}))
            if kind == "hold":
                deeds.append(Deed(_moment(chance), "release", {"job": number}))
    kinds = [_FAULTS[name] for name in chance.choices(list(_FAULTS), [_WEIGHTS[name] for name in _FAULTS], k=faults)]
    deeds += [Deed(_near(chance, deeds), *make(chance)) for make in kinds]
    return sorted(deeds, key=lambda deed: deed.at_s)


def _moment(chance: Random) -> float:
    return round(chance.uniform(0.5, FAULTS_END_S), 3)


def _near(chance: Random, deeds: list[Deed]) -> float:
    """Any moment, or one about which something else happens: a deed of a user's, or the end of a program."""
    if chance.random() < 0.3:
        return _moment(chance)
    deed = chance.choice(deeds)
    ends = deed.facts.get("length_s", 0.0) if chance.random() < 0.5 else 0.0
    at_s = deed.at_s + ends + chance.uniform(-0.5, 5.0)
    return round(at_s, 3) if 0.5 < at_s < FAULTS_END_S else _moment(chance)


def _submission(chance: Random, number: int) -> Deed:
    facts: dict[str, Any] = {
        "job": number,
        "length_s": round(chance.choice((0.5, 5.0, 60.0, 200.0)) * chance.uniform(0.2, 2.0), 2),
        "outcome": chance.choices(("done", "failed"), (9, 1))[0],
        "cpus": chance.choice((1, 2, 4)),
        "retries": chance.choice((0, 0, 1, 3)),
    }
    if number and chance.random() < 0.2:
        facts["after"] = chance.randrange(number)
    if chance.random() < 0.15:
        facts["gang"] = 2
    if chance.random() < 0.1:
        facts["hold"] = True  # until somebody releases it, or all faults end
    return Deed(round(chance.uniform(0.0, 0.8 * FAULTS_END_S), 3), "submit", facts)


def _node(chance: Random) -> str:
    return chance.choice(list(NODES))


def _length(chance: Random) -> float:
    return round(chance.choice((0.5, 4.0, 20.0, 40.0, 90.0)) * chance.uniform(0.3, 1.5), 2)


_FAULTS = {
    "kill": lambda chance: ("kill", {"down_s": round(chance.uniform(0.1, 30.0), 2)}),
    "restart": lambda _chance: ("restart", {}),
    "cut": lambda chance: (
        "cut",
        {
            "node": _node(chance),
            "way": chance.choice(("both", "to_node", "to_controller")),
            "length_s": _length(chance),
        },
    ),
    "power": lambda chance: ("power", {"node": _node(chance), "length_s": _length(chance)}),
    "wipe": lambda chance: ("wipe", {"node": _node(chance)}),
    "supervisor": lambda chance: ("supervisor", {"node": _node(chance)}),
    "full": lambda chance: ("full", {"node": _node(chance), "length_s": _length(chance)}),
    "store": lambda chance: ("store", {"length_s": _length(chance)}),
    "flip": lambda chance: ("flip", {"node": _node(chance), "files": chance.choice((1, 1, 2, 3))}),
    "jump": lambda chance: ("jump", {"by_s": round(chance.choice((-1, 1)) * chance.choice((2.0, 100.0, 4000.0)), 1)}),
    "slow": lambda chance: ("slow", {"times": chance.choice((10, 100)), "length_s": _length(chance)}),
    "spoil": lambda chance: ("spoil", {"node": _node(chance)}),
    "drain": lambda chance: ("drain", {"node": _node(chance), "length_s": _length(chance)}),
    "second": lambda _chance: ("second", {}),
}
_WEIGHTS = dict.fromkeys(_FAULTS, 1) | {"kill": 5, "cut": 4, "power": 3, "flip": 2}
