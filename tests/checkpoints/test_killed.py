"""Programs that save are killed at random moments: their results are right, and little is done twice."""

from __future__ import annotations

import os
import random
import shutil
import statistics
from collections.abc import Callable

import pytest

from tests.checkpoints import chaos
from tests.checkpoints.chaos import Chaos
from tests.end_to_end.site import Site

pytestmark = [
    pytest.mark.skipif(shutil.which("rsync") is None, reason="needs rsync"),
    pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux"),
]
FULL = bool(os.environ.get("RACKSACK_FULL_SIZE"))
BUSY_S = 20.0  # by which a busy machine may be late with a copy, a report or a transfer


@pytest.mark.timeout(7200 if FULL else 600)
def test_whatever_ends_it_a_run_goes_on_from_what_it_saved(make_site: Callable[..., Site]) -> None:
    """RACKSACK_FULL_SIZE=1: 200 runs, and the losses are printed."""
    site = make_site(None)
    (site.home / "racksack.yaml").write_text(chaos.CONFIG.format(other=site.home / "other"))
    site.start()
    rack = Chaos(site, random.Random(7))
    rack.run(200 if FULL else 4, 10 if FULL else 4, 0.7)
    losses = rack.check()
    assert losses, "nobody was ever ended"
    assert max(loss.seconds for loss in losses) <= chaos.EVERY_S + BUSY_S, sorted(losses, key=lambda one: one.seconds)
    if FULL:
        seconds = [loss.seconds for loss in losses]
        print(f"{len(rack.jobs)} runs, ended {len(losses)} times, by {rack.ends}")
        print(f"done again: median {statistics.median(seconds):.2f} s, most {max(seconds):.2f} s of work")
