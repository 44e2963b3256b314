"""What one pass leaves to the next is never another decision than a pass from scratch would make."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from racksack_controller.core import events as ev
from racksack_controller.core.placing import place
from racksack_controller.core.placing.pass_memory import PassMemory
from racksack_controller.core.placing.place import schedule
from racksack_controller.core.policy import DEFAULT, TEXTBOOK_EASY, Backfill, Policy
from racksack_controller.core.rack.profile import Profile
from racksack_controller.core.state import State
from racksack_controller.simulate.invariants import check
from racksack_jobspecs.resources import GpuRequest
from racksack_jobspecs.spec import ArraySpec
from tests.core.builders import Bench, gpus, inventory, job, node, report, request
from tests.sizes import sized

POLICIES = {
    "default": DEFAULT,
    "textbook": TEXTBOOK_EASY,
    "fcfs": Policy(backfill=Backfill.NONE),
    "greedy": Policy(backfill=Backfill.GREEDY),
    "fair": Policy(fair_share=True),
    "limited": Policy(max_running_per_owner=5),
    "few at once": Policy(placements_max=2),
}


def place_both_ways(state: State, now: float, policy: Policy, memory: PassMemory) -> list[ev.Placed]:
    """A pass that uses what is known, held against one from scratch."""
    placed, memory = schedule(state, now, policy, memory)
    from_scratch = schedule(state, now, policy)
    assert placed == from_scratch.placed
    if memory.reservation is None:
        assert from_scratch.memory.reservation is None
    else:
        assert from_scratch.memory.reservation is not None
        assert memory.reservation.is_as(from_scratch.memory.reservation)
    return placed


@pytest.fixture(autouse=True)
def remember_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of queues so short that nothing would be kept."""
    monkeypatch.setattr(place, "FEW", 0)


class History:
    """Everything that can happen, at random."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        devices = gpus(2, prefix="a") + gpus(1, model="A100", prefix="b")
        self.bench = Bench(
            node("n1"),
            node("n2", inventory=inventory(16, 64), labels=("big",)),
            node("n3", inventory=inventory(8, 32, devices=devices)),
            node("n4", max_jobs=3),
            node("n5", connected=False),
        )
        self.number = 0
        self.done: Counter[str] = Counter()

    def step(self, policy: Policy) -> None:
        """One thing happens, time goes on, and the scheduler has its turn."""
        kinds = [self.submit] * 5 + [self.end] * 4 + [self.cancel, self.node_event, self.hold, self.nothing]
        what = self.rng.choice(kinds)
        what()
        self.done[what.__name__] += 1
        self.bench.now += self.rng.choice([0.0, 0.5, 30.0, 400.0])
        placed = place_both_ways(self.bench.state, self.bench.now, policy, self.bench.memory)
        self.done["placed"] += len(placed)
        self.done["held back"] += self.bench.memory.reservation is not None
        self.bench.happen(*placed, after_s=0.0)
        for one in placed:
            if self.rng.random() < 0.9:
                started = report(f"{one.job}.{self.bench.state.jobs[one.job].attempt}", started_at_s=self.bench.now)
                self.bench.happen(ev.Reported(one.node, started), after_s=0.0)

    def nothing(self) -> None:
        """Only time goes on."""

    def submit(self) -> None:
        rng = self.rng
        for _ in range(rng.choice([1, 1, 1, 6])):
            self.number += 1
            wants = request(rng.choice([1, 2, 4, 8, 12]), rng.choice([1, 4, 16, 40]), rng.choice(GPUS))
            spec = {
                "name": f"p{rng.randrange(3)}x",
                "priority": rng.choice([0, 0, 0, 5]),
                "time_limit_s": rng.choice([None, 50.0, 500.0, 5000.0, 20_000.0]),
                "labels": rng.choice([(), (), (), ("big",)]),
                "nodes": rng.choice([(), (), (), ("n1", "n5"), ("n5",)]),
                "gang": rng.choice([1, 1, 1, 1, 2]) if wants.gpus is None else 1,
            }
            if rng.random() < 0.15:
                spec["array"] = ArraySpec((0,), max_running=1)
                spec["array_id"] = rng.randrange(3)
            if rng.random() < 0.1:
                spec["begin_at_s"] = self.bench.now + rng.choice([10.0, 600.0])
            self.bench.submit(job(self.number, wants, owner=rng.choice("abc"), submitted_at_s=self.bench.now, **spec))

    def end(self) -> None:
        running = [one for one in self.bench.state.attempts.values() if one.state in ("running", "staging")]
        for one in self.rng.sample(running, min(len(running), self.rng.choice([1, 1, 3]))):
            times = {"started_at_s": one.placed_at_s, "ended_at_s": self.bench.now}
            outcome = self.rng.choice(["done", "failed", "lost"])
            ranks = self.bench.state.ranks(one)
            for rank in ranks:
                ended = report(rank.key, "ended", outcome=outcome, **times)
                self.bench.happen(ev.Reported(rank.node, ended), ev.Collected(rank.key))
            self.bench.happen(ev.Assembled(one.key), *(ev.Removed(rank.node, rank.key) for rank in ranks))
        self.bench.state.take_changes()

    def cancel(self) -> None:
        if self.bench.state.queued_ids:
            number = self.rng.choice(
                [next(iter(self.bench.state.queued_ids)), self.rng.choice([*self.bench.state.queued_ids])]
            )
            self.bench.happen(ev.CancelRequested(number, "enough"))

    def hold(self) -> None:
        if self.bench.state.queued_ids:
            self.bench.happen(ev.HoldRequested(self.rng.choice([*self.bench.state.queued_ids]), "wait"))
        held = [one.id for one in self.bench.state.jobs.values() if one.state == "held"]
        if held and self.rng.random() < 0.5:
            self.bench.happen(ev.ReleaseRequested(self.rng.choice(held)))

    def node_event(self) -> None:
        name = self.rng.choice([*self.bench.state.nodes])
        one = self.bench.state.nodes[name]
        assert one.inventory is not None
        staging = [a.key for a in self.bench.state.on_node(name) if a.state == "staging"]
        choices: list[ev.Event] = [
            ev.DrainRequested(name, "rest", now=self.rng.random() < 0.3),
            ev.ResumeRequested(name),
            ev.ResumeRequested(name),
            ev.NodeDisconnected(name, "no answer"),
            ev.NodeConnected(name, self.rng.choice("xy"), one.inventory, ()),
            *(ev.StartFailed(key, "node", "no disk") for key in staging),
        ]
        self.bench.happen(self.rng.choice(choices))


GPUS = [None] * 5 + [GpuRequest(1), GpuRequest(0.5), GpuRequest(2), GpuRequest(1, model="a100")]


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
@pytest.mark.parametrize("seed", range(sized(1, 10)))
def test_an_event_is_decided_as_a_pass_from_scratch_would(policy: Policy, seed: int) -> None:
    history = History(seed)
    for _ in range(420):
        history.step(policy)
    check(history.bench.state)
    assert history.done["placed"] > 50
    if policy.backfill is Backfill.EASY:
        assert history.done["held back"] > 50


def test_what_will_be_free_is_the_same_brought_up_to_date_or_worked_out_anew() -> None:
    history, need = History(7), np.array([4000, 16 * 1024**3, 0, 0, 1])
    state = history.bench.state
    kept = [Profile(default_limit_s=1000.0, predict=predict) for predict in (False, True)]
    for _ in range(200):
        history.step(DEFAULT)
        for one in kept:
            one.refresh(state.rack, history.bench.now)
            fresh = Profile(default_limit_s=1000.0, predict=one.predict)
            fresh.refresh(state.rack, history.bench.now)
            moments = [p.first_moments(state.rack, need, history.bench.now) for p in (one, fresh)]
            assert moments[0].tolist() == moments[1].tolist()
            at_s = history.bench.now + history.rng.choice([0.0, 100.0, 5000.0])
            for row in range(len(state.nodes)):
                free = [p.free_at(state.rack, row, at_s, history.bench.now).tolist() for p in (one, fresh)]
                assert free[0] == free[1]
