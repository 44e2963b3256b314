"""A node whose power is cut while it works, and what was not on its disk is lost: each job's one result is whole."""

from __future__ import annotations

import pytest

from tests.chaos import disk, power_cuts
from tests.rack.probe import missing
from tests.sizes import FULL

pytestmark = [pytest.mark.rack, pytest.mark.timeout(3600 if FULL else 300)]


def needs(kind: str) -> None:
    """Skip with the reason where this cannot be done."""
    if reason := missing() or disk.why_not(kind):
        pytest.skip(reason)


def test_cuts_at_a_few_instants() -> None:
    needs("ext4")
    with power_cuts.running("ext4") as rig:
        assert power_cuts.one_round(rig, seed=1, jobs=6, cuts=2)["attempts"] >= 6


@pytest.mark.skipif(not FULL, reason="one round is run always; RACKSACK_FULL_SIZE=1 runs 40 on ext4 and on XFS")
@pytest.mark.parametrize("kind", sorted(disk.MAKERS))
def test_cuts_at_many_instants(kind: str) -> None:
    needs(kind)
    with power_cuts.running(kind) as rig:
        for seed in range(100, 140):
            power_cuts.one_round(rig, seed, jobs=12, cuts=5)
