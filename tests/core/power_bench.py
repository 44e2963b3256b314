"""A rack whose nodes are switched, with a clock: a story of events and of what is decided."""

from __future__ import annotations

from typing import Any

from racksack_controller.core import events as ev
from racksack_controller.core.decide import decide
from racksack_controller.core.policy import DEFAULT
from racksack_controller.core.power import events as pev
from racksack_controller.core.power.apply import note_idle
from racksack_controller.core.power.plan import PowerPlan, plan_power
from racksack_controller.core.power_policy import PowerPolicy
from racksack_controller.core.power_records import Phase, PowerRecord, PowerTraits
from tests.core.builders import Bench, inventory, node, report

BOOT_S = 100.0
PROMPT = PowerPolicy(boot_stagger_s=0.0)


def traits(**changes: Any) -> PowerTraits:
    """A node that boots in 100 s and goes off in 10."""
    fields: dict[str, Any] = {"boot_s": BOOT_S, "off_s": 10.0, "min_on_s": 0.0, "watts_idle": 100.0, "watts_max": 200.0}
    return PowerTraits(**{**fields, **changes})


class PowerBench(Bench):
    """`nodes`: name -> CPUs; all are off unless told otherwise."""

    def __init__(self, nodes: dict[str, int], *, policy: PowerPolicy = PROMPT, on: bool = False, **given: Any) -> None:
        super().__init__(power_policy=policy)
        self.sizes = nodes
        self.boots = 0
        for name, cpus in nodes.items():
            self.add(name, cpus, on=on, **given)

    def add(self, name: str, cpus: int, *, on: bool = False, labels: tuple[str, ...] = (), **given: Any) -> None:
        """One more node."""
        self.sizes[name] = cpus
        record = node(name, inventory=inventory(cpus, 8 * cpus), connected=False, boot_id="", labels=labels)
        self.happen(ev.NodeConfigured(record), pev.PowerConfigured(name, traits(**given)), after_s=0.0)
        if on:
            self.connect(name)
        else:
            self.happen(pev.PowerSeen(name, False, "the BMC says Off"), after_s=0.0)

    def power(self, name: str) -> PowerRecord:
        """The record of a node."""
        return self.state.power[name]

    def phase(self, name: str) -> Phase:
        """Where a node is between off and on."""
        return self.state.power[name].phase

    def connect(self, name: str, **changes: Any) -> None:
        """A node's agent answers after a boot."""
        self.boots += 1
        self.happen(
            ev.NodeConnected(name, f"boot{self.boots}", inventory(self.sizes[name], 8 * self.sizes[name]), ()),
            after_s=changes.get("after_s", 0.0),
        )

    def plan(self) -> PowerPlan:
        """What is to be decided now; nothing is changed."""
        note_idle(self.state, self.now)
        return plan_power(self.state, self.now, self.power_policy, DEFAULT)

    def step(self) -> list[str]:
        """One step as the loop takes it: place, decide about power; the decisions as words."""
        self.place()
        plan = self.plan()
        self.happen(*plan.events, after_s=0.0)
        return [f"{type(one).__name__.removesuffix('Decided')} {one.node}" for one in plan.events]

    def switches(self) -> list[str]:
        """The actions about power that are asked for."""
        return [action.key for action in decide(self.state, self.now) if action.key.startswith("Switch")]

    def asked(self, name: str, act: str, way: str = "bmc") -> None:
        """A way was asked and has accepted."""
        self.happen(pev.PowerStepped(name, way, act, "accepted", f"{way} accepted"), after_s=0.0)

    def went_off(self, name: str) -> None:
        """A shutdown has succeeded."""
        self.happen(
            ev.NodeDisconnected(name, "connection closed"), pev.PowerSwitched(name, False, True, "the BMC says Off")
        )

    def finish(self, number: int) -> None:
        """A running job ends, is collected and removed."""
        key = self.state.jobs[number].attempt_key
        where = self.state.attempts[key].node
        self.happen(ev.Reported(where, report(key, "ended")), ev.Collected(key), ev.Removed(where, key), after_s=0.0)
