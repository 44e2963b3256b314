"""Nobody waits for ever: whole nodes, all devices of a node and gangs, behind an endless stream of small jobs."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from racksack_controller.core import events as ev
from racksack_controller.core.policy import Policy
from racksack_jobspecs.states import JobState
from tests.core.builders import Bench, gpus, inventory, job, node, report, request
from tests.sizes import sized

LIMIT_S = 400.0
LARGE = {
    "a whole node": {"resources": request(8)},
    "all devices of a node": {"resources": request(1, gpu=2)},
    "a gang": {"resources": request(8), "gang": 2},
    "a gang with devices": {"resources": request(1, gpu=2), "gang": 2},
}


@pytest.mark.parametrize("kind", LARGE)
@given(seed=st.integers(0, 2**32))
@settings(max_examples=sized(6, 60), deadline=None, suppress_health_check=list(HealthCheck))
def test_a_large_job_starts_by_its_reservation(kind: str, seed: int) -> None:
    """At the latest when what ran as it came has ended: nothing that comes later may hold what it needs by then."""
    rng = random.Random(seed)
    bench = Bench(*(node(name, inventory=inventory(8, 32, devices=gpus(2, prefix=name))) for name in ("n1", "n2")))
    ends: dict[str, float] = {}

    def small(number: int) -> None:
        wants = request(rng.randint(1, 4), gpu=rng.choice([None, 0.5, 1]))
        bench.submit(job(number, wants, time_limit_s=float(rng.randint(10, int(LIMIT_S)))))

    def go_on() -> None:
        for key in [key for key, end_s in ends.items() if end_s <= bench.now]:
            bench.happen(ev.Reported(bench.state.attempts[key].node, report(key, "ended")), after_s=0.0)
            del ends[key]
        for placed in bench.place():
            for rank in bench.state.ranks(bench.state.attempts[f"{placed.job}.1"]):
                started = report(rank.key, started_at_s=bench.now)
                bench.happen(ev.Reported(rank.node, started), after_s=0.0)
                ends[rank.key] = bench.now + (bench.state.jobs[placed.job].spec.time_limit_s or 0.0)

    for number in range(1, 13):
        small(number)
    go_on()
    while any(bench.state.jobs[number].state is JobState.QUEUED for number in range(1, 13)):
        bench.now += 5.0
        go_on()
    bench.submit(job(13, time_limit_s=100.0, **LARGE[kind]))  # nobody is ahead of it any more
    promised_s, number = bench.now + LIMIT_S, 13
    while bench.state.jobs[13].state is JobState.QUEUED:
        assert bench.now <= promised_s + 10.0, f"{kind} still waits"
        number += 1
        small(number)
        go_on()
        bench.now += 4.0


@pytest.mark.parametrize(
    ("wants", "others"),
    [(request(1, gpu=1), request(1, gpu=1)), (request(1, gpu=1), request(2))],
    ids=["GPU", "GPU against CPU"],  # CPU against CPU: test_rules.py
)
def test_equal_shares_and_unequal_load_come_to_equal_use(wants: object, others: object) -> None:
    """Ann has hundreds of jobs waiting from the start, bob submits three every other minute; both run out of room."""
    bench = Bench(node(inventory=inventory(8, 32, devices=gpus(4))))
    bench.state.usage.half_life_s = 3600.0
    policy = Policy(fair_share=True)
    bench.submit(*(job(number, wants, owner="ann") for number in range(1, 401)))
    number, ends = 400, dict[str, float]()
    for step in range(260):
        if step % 2:
            bench.submit(*(job(number + n, others, owner="bob", submitted_at_s=bench.now) for n in (1, 2, 3)))
            number += 3
        for key in [key for key, end_s in ends.items() if end_s <= bench.now]:
            del ends[key]
            bench.happen(ev.Reported("n1", report(key, "ended")), after_s=0.0)
        for placed in bench.place(policy):
            ends[f"{placed.job}.1"] = bench.now + 120.0
        bench.now += 60.0
    usage, total = bench.state.usage, bench.state.rack.total
    ann, bob = (usage.relative(owner, bench.now, total, {}) for owner in ("ann", "bob"))
    assert ann > 0.2
    if wants == others:
        assert abs(ann - bob) <= 0.05 * (ann + bob)
    else:  # each can have all that he asks for most of, and neither less than a fair half of it
        assert min(ann, bob) >= 0.45
