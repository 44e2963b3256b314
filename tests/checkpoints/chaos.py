"""Many runs at once on two nodes of a site, ended at random moments in every way that there is."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy

from tests.checkpoints import programs
from tests.end_to_end.site import FINAL, Site, UnreachableError, until

CONFIG = """\
web: {{listen: "off"}}
watch: {{settle: 1s, rescan: 2s}}
scheduling: {{preempt: yes}}
nodes:
  a: {{local: {{}}, cpus: 8, ram: 16G}}
  b: {{local: {{home: {other}}}, cpus: 8, ram: 16G}}
"""
STEPS, PAUSE_S, SAVE_EVERY = 150, 0.02, 5
EVERY_S = 1.0
LIMIT_S = 3
RUN_WAIT_S = 120.0
PACKAGES = Path(numpy.__file__).parent.parent  # jobs run with the plain Python of this machine


@dataclass
class Loss:
    """One time that a run went on after an end: what it had to do again."""

    run: str
    steps: int
    seconds: float  # from when the work that it went on from was done to when the last one was done


@dataclass
class Chaos:
    """`ends`: how often what was done to runs."""

    site: Site
    random: random.Random
    ends: dict[str, int] = field(default_factory=dict)
    jobs: dict[int, str] = field(default_factory=dict)  # the program of each run

    def start(self, kind: str) -> None:
        """Begin a run; every second one has a time limit that it does not hold, and is run again after that."""
        project = self.site.work / kind
        if not project.exists():
            project.mkdir()
            (project / "main.py").write_text(programs.ALL[kind])
        limit = ("--time", f"{LIMIT_S}s") if len(self.jobs) % 2 else ()
        job = self.site.submit(
            project, "--checkpoint", "ckpt", "--checkpoint-every", f"{EVERY_S}s", "--retries", 500, "--preemptible",
            "--grace", "1s", "--env", f"PYTHONPATH={PACKAGES}", *limit, "--", STEPS, PAUSE_S, SAVE_EVERY,
        )  # fmt: skip
        self.jobs[job] = kind

    def strike(self) -> None:
        """Do something bad to somebody."""
        running = [one for one in self.site.ask("jobs?state=running") if one["id"] in self.jobs]
        if running:
            ways = [self._kill_all, self._kill_all, self._kill_program, self._cancel, self._drain, self._preempt]
            way = self.random.choice([*ways, self._kill_controller])
            way(self.random.choice(running))
            name = way.__name__.strip("_")
            self.ends[name] = self.ends.get(name, 0) + 1

    def _processes(self, job: int) -> list[int]:
        """All processes of a run's program."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                env = (entry / "environ").read_bytes().split(b"\0") if entry.name.isdigit() else []
                if {f"TRACE={self.site.trace}".encode(), f"RACKSACK_JOB_ID={job}".encode()} <= set(env):
                    found.append(int(entry.name))
        return found

    def _kill_all(self, run: dict[str, Any]) -> None:
        processes = self._processes(run["id"])
        self.random.shuffle(processes)
        self._kill(processes)

    def _kill_program(self, run: dict[str, Any]) -> None:
        self._kill(self._processes(run["id"])[:1])

    def _kill(self, processes: list[int]) -> None:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def _cancel(self, run: dict[str, Any]) -> None:
        force = ["--force"] if self.random.random() < 0.5 else []
        self.site.cli("racksack", "cancel", run["id"], *force, code=None)

    def _drain(self, run: dict[str, Any]) -> None:
        self.site.cli("racksack", "drain", run["node"], "--now", "--reason", "test")
        self.site.cli("racksack", "resume", run["node"])

    def _preempt(self, run: dict[str, Any]) -> None:
        project = self.site.work / "short"
        if not project.exists():
            project.mkdir()
            (project / "main.py").write_text("")
        self.site.submit(project, "--cpus", 6, "--node", run["node"], "--priority", 10, "--name", "short")

    def _kill_controller(self, run: dict[str, Any]) -> None:
        del run
        self.site.kill()
        self.site.start()

    def go_on(self) -> None:
        """Runs that were cancelled go on from their checkpoints, those that had none begin anew."""
        for job in self.site.ask("jobs?all=1&limit=10000&state=cancelled"):
            if job["id"] in self.jobs:
                done = self.site.cli("racksack", "retry", job["id"], "--from-checkpoint", code=None)
                if done.returncode:
                    self.site.cli("racksack", "retry", job["id"], code=None)

    def run(self, runs: int, at_once: int, strike_every_s: float) -> None:
        """All runs to their ends."""
        kinds = [list(programs.ALL)[number % len(programs.ALL)] for number in range(runs)]
        deadline = time.monotonic() + RUN_WAIT_S * max(1, runs / at_once)
        while True:
            with contextlib.suppress(UnreachableError):
                ended = [job for job in self.site.ask("jobs?all=1&limit=10000") if job["id"] in self.jobs]
                live = len(self.jobs) - sum(job["state"] in FINAL - {"cancelled"} for job in ended)
                while kinds and live < at_once:
                    self.start(kinds.pop())
                    live += 1
                if not kinds and not live:
                    return
                self.strike()
                self.go_on()
            folders = [self.site.returned(job) for job in self.jobs if not (self.site.returned(job) / "total").exists()]
            logs = [path.read_text()[-500:] for folder in folders for path in folder.rglob("stderr.log")]
            assert time.monotonic() < deadline, (self.ends, logs, self.site.ask("jobs?limit=100"), self.site.log())
            time.sleep(self.random.uniform(0.2, 2 * strike_every_s))

    def check(self) -> list[Loss]:
        """Each run gave what an undisturbed one gives and met no broken checkpoint; what had to be done again."""
        wanted = str(programs.total_of(STEPS))
        losses = []
        for job, kind in self.jobs.items():
            found = until(lambda job=job: self.site.job(job), f"job {job}")  # type: ignore[misc]
            folder = self.site.returned(job)
            assert found["state"] == "done", (kind, found["state"], found["events"])
            for log in folder.rglob("stderr.log"):
                assert "BROKEN" not in log.read_text(), (job, kind, log.read_text())
            assert (folder / "total").read_text() == wanted, (job, kind)
            losses += self._losses(job, kind)
        return losses

    def _losses(self, job: int, kind: str) -> list[Loss]:
        done: dict[int, float] = {0: 0.0}  # when each step was done last
        last, losses = 0, []
        for line in Path(f"{self.site.trace}.{job}").read_text().splitlines():
            _attempt, at_s, word, step, *_ = line.split()
            if word == "step":
                last = int(step)
                done[last] = float(at_s)
            elif last:
                resumed = int(step)
                losses.append(Loss(f"{job} {kind}", last - resumed, done[last] - done.get(resumed + 1, done[last])))
        return losses
