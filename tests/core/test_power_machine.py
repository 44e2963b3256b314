"""Random histories of a rack that is switched: whatever happens in whatever order, nothing with work on it is switched
off, nothing that is not on gets work, deciding twice decides the same, and in the end every job runs and all goes off.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from racksack_controller.core import events as ev
from racksack_controller.core.actions import SwitchOff, SwitchOn
from racksack_controller.core.decide import decide
from racksack_controller.core.power import events as pev
from racksack_controller.core.power.apply import has_work
from racksack_controller.core.power_records import OperatorRequest, Phase
from racksack_controller.core.records import Attempt
from racksack_controller.core.state import State
from racksack_controller.simulate import invariants
from racksack_jobspecs.states import JobState
from tests.core.builders import job, report, request
from tests.core.power_bench import PowerBench, traits
from tests.sizes import sized

NAMES = ("node1", "node10", "node2")  # one name begins with another
SIZES = dict(zip(NAMES, (4, 8, 4), strict=True))


class Switching(RuleBasedStateMachine):
    """Three servers; the test plays their BMCs, agents and operators."""

    @initialize()
    def configure(self) -> None:
        """All are off, and somebody submits."""
        self.bench = PowerBench(dict(SIZES), idle_off_s=60.0)
        self.submitted = 0
        self.submit(3, False)

    @rule(cpus=st.integers(1, 8), no_wake=st.booleans())
    def submit(self, cpus: int, no_wake: bool) -> None:
        """A job of up to a whole node."""
        self.submitted += 1
        self.bench.submit(job(self.submitted, request(cpus, 1), no_wake=no_wake, time_limit_s=30.0 * cpus))

    @rule()
    def step(self) -> None:
        """One step of the loop, decisions checked before they are applied."""
        for placed in self.bench.place():
            assert self.bench.phase(placed.node) in (Phase.ON, Phase.UNKNOWN)
            assert self.bench.state.nodes[placed.node].connected
        plan = self.bench.plan()
        assert self.bench.plan() == plan, "asking changes nothing"
        for decided in plan.events:
            self.check_the_way(decided)
            if isinstance(decided, pev.SwitchOffDecided):
                assert not has_work(self.bench.state, decided.node)
                power = self.bench.power(decided.node)
                assert power.request or not power.held(self.bench.now), "a hold outlasts all but a later wish"
        self.bench.happen(*plan.events, after_s=0.0)

    def check_the_way(self, decided: ev.Event) -> None:
        """Nothing is asked of a decision where no node lies behind another."""

    @rule(data=st.data(), how=st.sampled_from(["well", "well", "badly", "asked"]))
    def switch(self, data: st.DataObject, how: str) -> None:
        """A ladder that is asked for goes a step further, or ends."""
        actions = [one for one in decide(self.bench.state, self.bench.now) if isinstance(one, SwitchOn | SwitchOff)]
        if not actions:
            return
        action = data.draw(st.sampled_from(actions), label="ladder")
        if how == "asked":
            self.bench.asked(action.node, "on" if isinstance(action, SwitchOn) else "soft_off")
        else:
            self._end(action, well=how == "well")

    def _end(self, action: SwitchOn | SwitchOff, *, well: bool) -> None:
        name = action.node
        if isinstance(action, SwitchOn):
            if well:
                self.bench.connect(name, after_s=100.0)
            else:
                self.bench.happen(pev.PowerSwitched(name, True, False, "it did not come up"))
        elif well:
            self.bench.went_off(name)
        else:
            self.bench.happen(pev.PowerSwitched(name, False, False, "it still answers"))

    @rule(name=st.sampled_from(NAMES), what=st.sampled_from(["lost", "off", "on", "answers", "login", "logout"]))
    def world(self, name: str, what: str) -> None:
        """Something happens behind our back."""
        lost = ev.NodeDisconnected(name, "no answer")
        events: dict[str, list[ev.Event]] = {
            "lost": [lost],
            "off": [lost, pev.PowerSeen(name, False, "the BMC says Off")],
            "on": [pev.PowerSeen(name, True, "the BMC says On")],
            "login": [pev.LoginsSeen(name, 1)],
            "logout": [pev.LoginsSeen(name, 0)],
        }
        if what == "answers":
            self.bench.connect(name)
        else:
            self.bench.happen(*events[what])

    @rule(name=st.sampled_from(NAMES), what=st.sampled_from([*OperatorRequest, "hold", "release"]))
    def operate(self, name: str, what: str) -> None:
        """An operator asks for something."""
        hold = pev.PowerHeld(name, self.bench.now + 500.0, "ann")
        events = {"hold": hold, "release": pev.PowerReleased(name, "ann")}
        self.bench.happen(events.get(what) or pev.PowerRequested(name, OperatorRequest(what), "ann"))

    @rule(seconds=st.sampled_from([1.0, 30.0, 100.0, 1000.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.bench.now += seconds

    @rule()
    def work(self) -> None:
        """Every attempt goes on."""
        for key, attempt in list(self.bench.state.attempts.items()):
            if self.bench.state.nodes[attempt.node].connected:
                self._advance(key)

    def _advance(self, key: str) -> None:
        attempt = self.bench.state.attempts[key]
        state = {"staging": "running", "running": "ended", "preparing": "running"}.get(str(attempt.state))
        if state is not None:
            self.bench.happen(ev.Reported(attempt.node, report(key, state)), after_s=0.0)
        elif str(attempt.state) == "collecting":
            self.bench.happen(ev.Collected(key), after_s=0.0)
        else:
            self.bench.happen(ev.Removed(attempt.node, key), after_s=0.0)

    @rule()
    def restart(self) -> None:
        """The controller is killed after a save and comes back with what the store has."""
        old = self.bench.state
        old.take_changes()
        fresh = State()
        fresh.load(old.jobs.values(), old.attempts.values(), old.nodes.values(), power=old.power.values())
        fresh.power_traits = dict(old.power_traits)
        connected = [node for node in old.nodes.values() if node.connected]
        self.bench.state = fresh
        for node in connected:
            there = [report(one.key, "running") for one in fresh.on_node(node.name) if one.launched]
            assert node.inventory is not None
            self.bench.happen(ev.NodeConnected(node.name, node.boot_id, node.inventory, tuple(there)), after_s=0.0)

    @invariant()
    def nothing_contradicts_itself(self) -> None:
        """The core's own invariants, and one action a node."""
        invariants.check(self.bench.state)
        keys = self.bench.switches()
        assert len(keys) == len(set(keys))

    def teardown(self) -> None:
        """All faults cease, operators let go: every job runs, and every node goes off by itself."""
        for name in NAMES if hasattr(self, "bench") else ():
            events: list[ev.Event] = [pev.PowerReleased(name, "ann"), pev.LoginsSeen(name, 0)]
            self.bench.happen(*events, pev.PowerRequested(name, OperatorRequest.NONE, "ann"))
        if not hasattr(self, "bench"):
            return
        self.submit(8, False)
        self.submit(1, False)
        for _ in range(400):
            self.step()
            for action in decide(self.bench.state, self.bench.now):
                if isinstance(action, SwitchOn | SwitchOff):
                    self._end(action, well=True)
            self._everybody_answers()
            self.work()
            self.bench.state.take_changes()
            off = all(self._is_off(name) for name in NAMES)
            if off and not self._unfinished() and not self._waiting_to_wake():
                return
            self.bench.now += 20.0
        raise AssertionError(f"never quiet: {self.bench.state.power}, {self.bench.state.attempts}")

    def _unfinished(self) -> list[Attempt]:
        """What still runs; an attempt that was lost with its node is cleared away when that comes on again."""
        return [one for one in self.bench.state.attempts.values() if one.state is not JobState.LOST]

    def _is_off(self, name: str) -> bool:
        power = self.bench.power(name)
        return power.phase is Phase.OFF or (power.phase is Phase.SET_ASIDE and power.seen_on is not True)

    def _everybody_answers(self) -> None:
        for name in NAMES:
            if self.bench.phase(name) in (Phase.ON, Phase.UNKNOWN) and not self.bench.state.nodes[name].connected:
                self.bench.connect(name)

    def _waiting_to_wake(self) -> bool:
        return any(not one.spec.no_wake for one in self.bench.state.jobs.values())


class SwitchingBehindAJumpHost(Switching):
    """The same where node2 is reached through node1."""

    @initialize()
    def configure(self) -> None:
        """As before, with a jump host."""
        super().configure()
        roles = {"node1": {"behind": ("node2",)}, "node2": {"through": ("node1",)}}
        for name, role in roles.items():
            self.bench.happen(pev.PowerConfigured(name, traits(idle_off_s=60.0, **role)), after_s=0.0)

    def check_the_way(self, decided: ev.Event) -> None:
        """The way is on before the node, and as long as the node is."""
        gate = self.bench.power("node1")
        if isinstance(decided, pev.SwitchOnDecided) and decided.node == "node2":
            assert gate.phase is Phase.ON
            assert self.bench.state.nodes["node1"].connected
        if isinstance(decided, pev.SwitchOffDecided) and decided.node == "node1" and gate.phase is Phase.ON:
            assert self._is_off("node2") or self.bench.phase("node2") is Phase.UNKNOWN


TestSwitching = Switching.TestCase
TestSwitching.settings = settings(
    max_examples=sized(20, 200), stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestSwitchingBehindAJumpHost = SwitchingBehindAJumpHost.TestCase
TestSwitchingBehindAJumpHost.settings = TestSwitching.settings
