"""A rack whose nodes are switched, in virtual time: nothing flaps, nothing is lost, and what it costs is added up."""

from __future__ import annotations

import random

import pytest

from racksack_controller.core.policy import DEFAULT
from racksack_controller.core.power.off import break_even_s
from racksack_controller.core.power_policy import PowerPolicy
from racksack_controller.core.power_records import Phase, PowerRecord
from racksack_controller.core.records import Node
from racksack_controller.core.state import State
from racksack_controller.simulate import invariants
from racksack_controller.simulate.engine import Faults, Outcome, Replay
from racksack_controller.simulate.fleet import Fleet
from racksack_controller.simulate.machines import PLENTY, Layout, Machines
from racksack_controller.simulate.metrics import measure
from racksack_controller.simulate.oracle import oracle_node_hours
from racksack_controller.simulate.power import PowerModel
from racksack_controller.simulate.workload import Task
from racksack_jobspecs.resources import Inventory
from tests.simulation.test_replay import starts, workload

RACK = Machines(4, 8)
PROMPT = PowerPolicy(boot_stagger_s=0.0)
WEEK_S = 7 * 86400.0


class Watch:
    """After every moment: no contradiction, no job on a node that is not on, nothing switched off with work on it."""

    def __init__(self) -> None:
        self.phases: dict[str, Phase] = {}
        self.switched_off = 0

    def __call__(self, state: State, now: float) -> None:
        invariants.check(state)
        for name, power in state.power.items():
            work = state.attempts_on(name)
            went = power.phase is Phase.STOPPING and self.phases.get(name) is Phase.ON
            assert not (went and work), f"{name} is switched off with {work} on it"
            assert power.phase is Phase.ON or not state.on_node(name), f"{name} is {power.phase} and has work"
            self.switched_off += went
            self.phases[name] = power.phase


@pytest.mark.parametrize("layout", [Layout.SINGLE, Layout.POOL])
@pytest.mark.parametrize("seed", [0])
def test_every_job_ends_whatever_boots_fail(layout: Layout, seed: int) -> None:
    tasks = workload(seed, 40, load=0.2)
    model = PowerModel(boot_failures=0.4, boot_spread=0.3, seed=seed, policy=PROMPT)
    watch = Watch()
    run = Replay(tasks, Machines(4, 8, layout), DEFAULT, power=model, watch=watch)
    outcomes = run.run()
    assert all(one.ended_s is not None for one in outcomes)
    assert watch.switched_off
    use = run.power_use()
    assert use is not None
    assert 0 < use.boots_failed < use.boots
    again = Replay(tasks, Machines(4, 8, layout), DEFAULT, power=model)
    assert starts(again.run()) == starts(outcomes)
    assert again.power_use() == use


def test_power_losses_and_switching_together() -> None:
    faults = Faults(mean_between_s=4000.0, down_s=200.0, seed=3)
    run = Replay(
        workload(3, 60, load=0.5), RACK, DEFAULT, faults=faults, power=PowerModel(policy=PROMPT), watch=Watch()
    )
    assert all(one.ended_s is not None for one in run.run())


def test_a_rack_that_never_goes_off_is_a_rack_that_is_always_on() -> None:
    tasks = workload(5)
    pool = Machines(4, 8, Layout.POOL)
    never = PowerModel(off_at_start=False, idle_off_s=float("inf"), policy=PROMPT)
    switched = Replay(tasks, pool, DEFAULT, power=never)
    assert starts(switched.run()) == starts(Replay(tasks, pool, DEFAULT).run())
    use = switched.power_use()
    assert use is not None
    assert (use.boots, use.offs) == (0, 0)


def bursts(gaps: list[float]) -> list[Task]:
    """A full rack of one-minute jobs, again and again."""
    now, tasks = 0.0, []
    for number, gap in enumerate(gaps):
        tasks += [Task(2 * number + at, now, 60.0, 60.0, 8) for at in range(2)]
        now += 60.0 + gap
    return tasks


@pytest.mark.parametrize("learnt", [True, False])
def test_bursts_at_the_idle_time_do_not_make_nodes_flap(learnt: bool) -> None:
    """Simulated weeks of bursts spaced at idle-off +/- 10 s, the worst there is for a fixed idle time."""
    model = PowerModel(policy=PROMPT, idle_off_s=None if learnt else 300.0)
    traits = model.traits()
    even = break_even_s(PowerRecord(node="n"), traits)
    idle = even if learnt else 300.0
    rng = random.Random(4)
    gaps = [idle + rng.uniform(-10.0, 10.0) for _ in range(round(WEEK_S / (60.0 + idle) / 2))]
    run = Replay(bursts(gaps), Machines(2, 8), DEFAULT, power=model)
    run.run()
    use = run.power_use()
    assert use is not None
    least_idle = 0.5 * even if learnt else 300.0  # a long gap is expected, and half of the break-even waited
    assert use.boots <= 2 * (WEEK_S / 2) / least_idle
    # What switching and idling cost, against one who knows the gaps: at most three times, boots included.
    wasted_s = use.node_s_on - 2 * 60.0 * len(gaps)
    knowing_s = 2 * sum(min(gap, even) for gap in gaps)
    assert wasted_s <= (3.0 if learnt else 2.0 * max(1.0, 300.0 / even)) * knowing_s


def test_energy_by_hand() -> None:
    """One job of 100 s on half a node: boot 50 s, work, idle 60 s, going off 10 s; the other node stays off."""
    model = PowerModel(
        boot_s=50.0, off_s=10.0, watts_idle=100.0, watts_max=200.0, watts_off=5.0, idle_off_s=60.0, policy=PROMPT
    )
    tasks = [Task(1, 0.0, 100.0, 100.0, 4), Task(2, 1000.0, 100.0, 100.0, 4)]
    run = Replay(tasks, Machines(2, 8), DEFAULT, power=model)
    outcomes = run.run()
    use = run.power_use()
    assert use is not None
    assert starts(outcomes) == {1: 50.0, 2: 1050.0}
    assert (use.boots, use.offs) == (2, 1)
    on_s = (50 + 100 + 60 + 10) + (50 + 100)
    dark_s = 2 * 1150 - on_s
    assert use.node_s_on == pytest.approx(on_s)
    assert use.joules == pytest.approx(on_s * 100 + 200 * 0.5 * 100 + dark_s * 5)
    assert use.kwh == pytest.approx(use.joules / 3.6e6)
    assert oracle_node_hours(outcomes, 8) == pytest.approx(200 / 3600)


def mean_wait(outcomes: list[Outcome], machines: Machines | Fleet) -> float:
    return measure(outcomes, machines).wait_mean_s


def test_on_unequal_nodes_small_jobs_do_not_fill_the_large_one_while_small_ones_sleep() -> None:
    """Small long jobs come first, when the large node happens to be on; then one that only it can hold."""
    sizes = (32, 8, 8)
    nodes = tuple(
        Node(name=f"n{cpus}-{at}", inventory=Inventory(cpus, PLENTY, PLENTY)) for at, cpus in enumerate(sizes)
    )
    early = [Task(1, 0.0, 600.0, 600.0, 32)]
    small = [Task(number, 610.0 + number, 20_000.0, 20_000.0, 4) for number in range(2, 6)]
    large = [Task(9, 2000.0, 600.0, 600.0, 32)]
    run = Replay([*early, *small, *large], Fleet(nodes), DEFAULT, power=PowerModel(policy=PROMPT), watch=Watch())
    outcomes = {one.task.number: one for one in run.run()}
    large_start, small_start = outcomes[9].started_s, outcomes[2].started_s
    assert large_start is not None
    assert small_start is not None
    assert large_start <= 2000.0 + 130.0
    assert small_start <= 612.0 + 130.0, "it costs the small ones a boot, and no more"
