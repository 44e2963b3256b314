"""To ask changes nothing: every decision and every answer leaves the state as it was, to the last index and cache."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from racksack_controller.core import events as ev
from racksack_controller.core.advice import advise
from racksack_controller.core.decide import decide, next_wake_s
from racksack_controller.core.placing.expect import expect
from racksack_controller.core.placing.place import schedule
from racksack_controller.core.placing.preempt import preemptions
from racksack_controller.core.policy import Backfill, Policy
from racksack_controller.core.power import events as pev
from racksack_controller.core.power.plan import plan_power
from racksack_controller.core.power_policy import PowerPolicy, Window
from racksack_controller.core.queue.job_queue import class_of
from racksack_controller.core.state import State
from racksack_controller.core.why import never, why_job, why_node
from tests.core.builders import Bench, gpus, inventory, job, node, report, request
from tests.core.power_bench import traits

FAIR = Policy(fair_share=True, preempt=True, max_running_per_owner=9)
QUIET = PowerPolicy(quiet=(Window(0, 3600),), keep_on=1)


def picture(thing: Any, seen: dict[int, int] | None = None) -> Any:
    """All that an object holds, however deep, as plain values that can be compared."""
    seen = {} if seen is None else seen
    if isinstance(thing, np.ndarray):
        return ("array", thing.dtype.str, thing.shape, thing.tobytes())
    if thing is None or isinstance(thing, (bool, int, float, str, bytes)):
        return thing
    if callable(thing):
        return getattr(thing, "__qualname__", type(thing).__name__)  # how a change is undone
    if id(thing) in seen:
        return ("again", seen[id(thing)])
    seen[id(thing)] = len(seen)
    if isinstance(thing, dict):
        return [(picture(key, seen), picture(value, seen)) for key, value in thing.items()]
    if isinstance(thing, (set, frozenset)):
        return sorted(map(repr, thing))
    if isinstance(thing, (list, tuple)):
        return [picture(one, seen) for one in thing]
    if isinstance(thing, msgspec.Struct):
        return repr(thing)
    assert hasattr(thing, "__dict__"), f"{type(thing)} cannot be looked into"
    return [type(thing).__name__, *((name, picture(value, seen)) for name, value in vars(thing).items())]


def rack() -> Bench:
    """A bit of everything: devices, switched nodes, limits, gangs, jobs of every kind and state, some of them late."""
    bench = Bench(power_policy=QUIET)
    bench.now = 100_000.0
    for name, devices in (("a", gpus(2, prefix="a")), ("b", gpus(4, model="A100", prefix="b")), ("c", ()), ("d", ())):
        what = inventory(8, 32, devices=devices)
        record = node(name, inventory=None, connected=False, boot_id="", labels=("fast",) if name in "bd" else ())
        bench.happen(ev.NodeConfigured(record))
        if name in "cd":
            bench.happen(pev.PowerConfigured(name, traits()))
        if name == "d":
            bench.happen(pev.PowerSeen(name, False, "the BMC says Off"), ev.NodeConfigured(node("d", labels=("fast",))))
        else:
            bench.happen(ev.NodeConnected(name, "b1", what, ()))
    rng = random.Random(7)
    for number in range(1, 60):
        wants = request(rng.choice([1, 2, 4, 8]), rng.choice([1, 4, 16]), rng.choice([None, None, 0.5, 1, 2]))
        extra = rng.choice(
            [{}, {"labels": ("fast",)}, {"gang": 2}, {"priority": 5}, {"no_wake": True}, {"begin_at_s": bench.now + 50}]
        )
        one = job(number, wants, owner=rng.choice("abc"), submitted_at_s=bench.now, time_limit_s=600.0, **extra)
        bench.submit(one)
        if number == 20:
            bench.place(FAIR)
            for key in list(bench.state.attempts)[:4]:
                bench.happen(ev.Reported(bench.state.attempts[key].node, report(key, started_at_s=bench.now)))
    bench.happen(ev.HoldRequested(50, "later"), ev.DrainRequested("c", "a new fan"), ev.CancelRequested(51, "enough"))
    for key in list(bench.state.attempts)[:3]:
        where = bench.state.attempts[key].node
        bench.happen(ev.Reported(where, report(key, "ended")), ev.Collected(key), ev.Removed(where, key))
    bench.now += 100.0  # the time of the jobs that are to begin has come, and nobody has taken note of it
    return bench


Question = Callable[[State, Bench], object]
QUESTIONS: dict[str, Question] = {
    "decide": lambda state, bench: decide(state, bench.now),
    "next wake": lambda state, bench: next_wake_s(state, bench.now, 300.0),
    "schedule": lambda state, bench: schedule(state, bench.now, FAIR).placed,
    "schedule again": lambda state, bench: [
        schedule(state, bench.now, FAIR, schedule(state, bench.now, FAIR).memory).placed for _ in range(2)
    ],
    "conservative": lambda state, bench: schedule(state, bench.now, Policy(backfill=Backfill.CONSERVATIVE)).placed,
    "preemptions": lambda state, bench: preemptions(state, bench.now, FAIR, bench.memory.reservation),
    "plan of power": lambda state, bench: plan_power(state, bench.now, QUIET, FAIR),
    "why a job": lambda state, bench: [why_job(bench.reading(FAIR), one) for one in state.jobs.values()],
    "why a node": lambda state, bench: [why_node(state, one, bench.now) for one in state.nodes.values()],
    "expected start": lambda state, bench: [
        expect(bench.reading(FAIR), one, class_of(one)) for one in state.jobs.values()
    ],
    "a plan": lambda state, bench: [
        why_job(bench.reading(FAIR), job(0, request(3, 3, GPU), owner="new", labels=("fast", "never seen")))
        for GPU in (None, 1)
    ],
    "never": lambda state, bench: never(job(0, request(64)), state.nodes.values()),
    "advice": lambda state, bench: advise(state.history, "a", job(0).spec),
    "states": lambda state, bench: [state.node_state(one) for one in state.nodes.values()],
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_asking_changes_nothing(name: str) -> None:
    bench = rack()
    before = picture(bench.state)
    first = QUESTIONS[name](bench.state, bench)
    assert picture(bench.state) == before
    assert first or name in ("next wake", "preemptions", "advice")
    assert repr(QUESTIONS[name](bench.state, bench)) == repr(first), "asked twice, it answers the same"


def test_the_picture_sees_what_changes() -> None:
    bench = rack()
    before = picture(bench.state)
    bench.state.queue.advance(bench.now)
    assert picture(bench.state) != before
