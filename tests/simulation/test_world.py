"""The controller on a rack that breaks: no law is broken, a seed is one story, and planted bugs are found."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.world.hunt import SEEDS_MAX, hunt
from tests.simulation.world.plan import draw
from tests.simulation.world.planted import BUGS, NOT_FOUND
from tests.simulation.world.shrink import shrink
from tests.simulation.world.world import simulate

FULL_SIZE = "RACKSACK_FULL_SIZE" in os.environ
SEEDS = 1000 if FULL_SIZE else 8
FOUND_AT_ONCE = (
    "a_lost_attempt_is_not_repeated",
    "a_size_is_believed",
    "an_orphan_counts_as_ended",
    "every_end_is_a_success",
    "ids_begin_again",
    "results_are_not_put_in_place",
    "two_controllers_may_share_a_spool",
)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_no_law_is_broken(seed: int) -> None:
    outcome = simulate(seed, draw(seed))
    again = f"make sim SEED={seed}"
    assert not outcome.broken, "\n".join([again, outcome.broken, *outcome.story[-60:]])
    assert outcome.attempts
    assert outcome.faults


@pytest.mark.parametrize("name", sorted(set(BUGS) - NOT_FOUND) if FULL_SIZE else FOUND_AT_ONCE)
def test_a_planted_bug_is_found(name: str) -> None:
    assert hunt(name).seed is not None, f"{name} was not found within {SEEDS_MAX} seeds"


def test_a_story_is_the_same_each_time_and_can_be_made_short() -> None:
    with BUGS["every_end_is_a_success"]():
        deeds = draw(0)
        one, other = simulate(0, deeds), simulate(0, deeds)
        assert one.broken
        assert one.story == other.story
        few, last = shrink(0, deeds, one)
    assert last.broken
    assert len(few) < len(deeds) / 4
    assert any("BROKEN" in line for line in last.story)


def test_the_command_says_what_was_simulated() -> None:
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "tests.simulation.world", "--seeds", "2"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 seeds in ")
    assert "0 broke a law" in done.stdout
