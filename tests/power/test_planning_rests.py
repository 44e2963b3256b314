"""A plan that takes long does not take the loop: planning rests, and goes on by itself."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from racksack_controller import loop as looping
from racksack_controller.core import events as ev
from racksack_controller.core.actions import AttemptAction, SwitchOff, SwitchOn
from racksack_controller.core.power.plan import PowerPlan
from racksack_controller.core.records import Node
from racksack_controller.core.state import State
from racksack_controller.loop import Loop
from racksack_controller.store import Store

PLAN_S = 0.05


class NoJobs:
    """Nothing runs here."""

    def start(self, actions: Sequence[AttemptAction]) -> None:
        assert not actions


class NoDevices:
    """Nothing is switched here."""

    def start(self, actions: Sequence[SwitchOn | SwitchOff]) -> None:
        assert not actions


async def test_a_long_plan_is_followed_by_a_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[tuple[float, float]] = []

    def plan(*_given: object) -> PowerPlan:
        began_s = time.perf_counter()
        time.sleep(PLAN_S)  # it computes; nothing else runs meanwhile
        plans.append((began_s, time.perf_counter()))
        return PowerPlan((), None)

    monkeypatch.setattr(looping, "plan_power", plan)
    store = Store(tmp_path / "racksack.db")
    loop = Loop(State(), store, lost_after_s=300.0)
    loop.attach(NoJobs(), NoDevices())
    running = asyncio.create_task(loop.run())
    number = 0
    async with asyncio.timeout(20):
        while len(plans) < 2:
            number += 1
            await loop.submit(ev.NodeConfigured(Node(name=f"r{number}")))
        await loop.submit(ev.NodeConfigured(Node(name="the last")))
        while len(plans) < 3:  # nothing happens any more
            await asyncio.sleep(0.01)
    assert number > len(plans)
    loop.stop()
    await running
    store.close()
    rests = [after[0] - before[1] for before, after in itertools.pairwise(plans)]
    assert min(rests) >= 0.9 * looping.RESTS * PLAN_S
