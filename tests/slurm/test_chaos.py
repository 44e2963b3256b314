"""Jobs through a cluster while all that can be killed is: none is lost, none is done twice, nothing is left.

RACKSACK_FULL_SIZE=1 runs 600 jobs with 20 kills of the controller. RACKSACK_CHAOS_JOBS sets another number.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter

import pytest

from tests.end_to_end.site import FINAL, Site, UnreachableError
from tests.sizes import sized
from tests.slurm.cluster import CannotRunError, Cluster, wait_for
from tests.slurm.site import make_project, make_site

JOBS = int(os.environ.get("RACKSACK_CHAOS_JOBS", sized(40, 600)))
KILLS = sized(2, 20)
LIMIT_S = sized(180.0, 1500.0)


class Mischief:
    """What is done to the rack, one thing after the other."""

    def __init__(self, site: Site, slurm: Cluster) -> None:
        self.site = site
        self.slurm = slurm
        self.dice = random.Random(15)
        self.cancelled: set[str] = set()  # numbers in Slurm
        self.done: Counter[str] = Counter()

    def controller(self) -> None:
        """kill -9, and a new one."""
        self.site.kill()
        self.site.start()

    def agent(self) -> None:
        """kill -9 of the agent on the login node."""
        mark = os.fsencode(self.site.root / "shared")
        for process in self.site.processes():
            with contextlib.suppress(OSError):
                with open(f"/proc/{process}/cmdline", "rb") as file:
                    line = file.read()
                if b"racksack-agent serve" in line and mark in line:
                    os.kill(process, signal.SIGKILL)

    def slurmctld(self) -> None:
        """Slurm's controller is restarted."""
        self.slurm.stop("slurmctld")
        time.sleep(self.dice.random())
        self.slurm.start("slurmctld")
        wait_for(self.slurm.answers, "slurmctld")

    def by_hand(self) -> None:
        """Somebody cancels a job in Slurm, and requeues another."""
        with contextlib.suppress(CannotRunError):  # it may end meanwhile
            running = [number for number, state in self.slurm.squeue("R").items() if state == "RUNNING"]
            if len(running) < 2:
                return
            first, second = self.dice.sample(running, 2)
            self.slurm.run("scancel", first)
            self.cancelled.add(first)
            self.slurm.run("scontrol", "update", f"JobId={second}", "Requeue=1")
            self.slurm.run("scontrol", "requeue", second)

    def next(self, number: int) -> None:
        """The next mischief."""
        deeds = (self.controller, self.by_hand, self.agent, self.by_hand, self.slurmctld)
        deed = deeds[number % len(deeds)]
        deed()
        self.done[deed.__name__] += 1


@pytest.mark.timeout(LIMIT_S + 300)
def test_none_is_lost_and_none_done_twice(slurm: Cluster) -> None:
    site = make_site(slurm, cpus=1, max_jobs=sized(15, 60), cost=0.0)
    try:
        run(site, slurm)
    finally:
        site.close()


def run(site: Site, slurm: Cluster) -> None:
    """All of it."""
    project = make_project(site)
    site.start()
    began_s = time.monotonic()
    site.submit(project, "--node", "campus", "--array", f"0-{JOBS - 1}", "--ram", "50M", "--", 1)
    mischief = Mischief(site, slurm)
    for number in range(5 * KILLS):
        time.sleep(mischief.dice.uniform(0.3, sized(0.6, 2.0)))
        if all_over(site):
            break
        mischief.next(number)
    jobs = site.all_ended(JOBS, max(60.0, LIMIT_S - (time.monotonic() - began_s)))
    took_s = time.monotonic() - began_s
    judge(site, jobs, mischief)
    wait_for(lambda: not slurm.living(), "an empty queue")
    wait_for(lambda: not list((site.root / "shared").glob("*/attempts/*")), "an empty home")
    states = Counter(job["state"] for job in jobs)
    print(f"\n{JOBS} jobs in {took_s:.0f} s: {dict(states)}; {dict(mischief.done)}")


def all_over(site: Site) -> bool:
    """Whether there is nothing left to disturb."""
    with contextlib.suppress(UnreachableError):
        jobs = site.ask("jobs?all=1&limit=10000")
        return len(jobs) == JOBS and all(job["state"] in FINAL for job in jobs)
    return False


def judge(site: Site, jobs: list[dict[str, object]], mischief: Mischief) -> None:
    """Each job is done, or was cancelled by hand in Slurm; each that is done was carried through once."""
    ends = Counter(line.split()[1].partition(".")[0] for line in site.traced() if line.startswith("end "))
    by_state: dict[str, list[int]] = {}
    for job in jobs:
        by_state.setdefault(str(job["state"]), []).append(int(str(job["id"])))
    others = {state: ids for state, ids in by_state.items() if state not in ("done", "cancelled")}
    assert not others, {number: site.job(number) for ids in others.values() for number in ids[:3]}
    assert len(by_state.get("cancelled", [])) <= len(mischief.cancelled)
    for number in by_state["done"]:
        assert ends[str(number)] >= 1, f"job {number} is done and did not come to its end"
        assert (site.returned(number) / "result").read_text() == str(number)
    twice = [number for number in by_state["done"] if ends[str(number)] > 1]
    assert not twice, [line for line in site.traced() if line.split()[1].partition(".")[0] == str(twice[0])]
