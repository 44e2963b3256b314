"""(d) Submitting a 200 MB project over ssh: first, again unchanged, and with one changed file. Bytes and seconds.

Bytes are those that went over loopback in a namespace where nothing else runs: from the laptop's side to the controller
and from there to the node, SSH's own included. The limit is one rsync by hand, which goes one of these two ways.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.bench import isolation, ours, project, sshd
from tests.bench.harness import Report, say, wait_for
from tests.bench.setting import Setting

FILES = 400


def run(setting: Setting) -> list[Report]:
    """Each step once a round, on content that the controller has not seen before."""
    size_bytes = (20 if setting.is_quick else 200) * 1_000_000
    rounds = 1 if setting.is_quick else 3
    title = f"A project of {size_bytes // 1_000_000} MB in {FILES} files, submitted over ssh"
    seconds, moved = Report(f"{title}: seconds"), Report(f"{title}: MB moved")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(sshd.running(setting.folder / "ssh"))
        rack = stack.enter_context(ours.running(setting.folder / "racksack", {"remote": ours.ssh_node(server, 64)}))
        # What a node gets once, whatever the project, is not this project's: the agent's uv.
        submit_and_end(rack, project.large(setting.folder / "warm-up", 1000, 1))
        figures: dict[str, tuple[list[float], list[float]]] = {}
        for number in range(rounds):
            source = project.large(setting.folder / f"large-{number}", size_bytes, FILES)
            for step in steps(rack, source, setting.folder / f"copy-{number}"):
                say(f"resubmit: {step.name}, round {number + 1} of {rounds}")
                step.prepare()
                took_s, sent_bytes = measured(step.action)
                of_step = figures.setdefault(step.name, ([], []))
                of_step[0].append(took_s)
                of_step[1].append(sent_bytes / 1e6)
        for name, (times, sizes) in figures.items():
            seconds.add(name, "s", times)
            moved.add(name, "MB", sizes)
    return [seconds, moved]


def measured(action: Callable[[], None]) -> tuple[float, float]:
    """Seconds and bytes of one action."""
    before_bytes, started_s = isolation.loopback_bytes(), time.monotonic()
    action()
    return time.monotonic() - started_s, isolation.loopback_bytes() - before_bytes


@dataclass(frozen=True)
class Step:
    """One thing to measure; `prepare` comes before its time is taken."""

    name: str
    action: Callable[[], None]
    prepare: Callable[[], None] = lambda: None


def steps(rack: ours.Racksack, source: Path, copy: Path) -> list[Step]:
    """In this order: each finds what the ones before it left behind."""

    def change() -> None:
        path = source / "part000" / "00003.bin"
        path.write_bytes(os.urandom(path.stat().st_size))

    def by_hand() -> None:
        subprocess.run(["rsync", "-a", f"{source}/", f"bench-open:{copy}/"], check=True)

    def by_us() -> None:
        submit_and_end(rack, source)

    return [
        Step("racksack: first, until the job has ended", by_us),
        Step("racksack: again, unchanged", by_us),
        Step("rsync by hand, one of the two ways: first", by_hand),
        Step("rsync by hand, one of the two ways: again, unchanged", by_hand),
        Step("racksack: one file changed", by_us, change),
        Step("rsync by hand, one of the two ways: one file changed", by_hand),
    ]


def submit_and_end(rack: ours.Racksack, source: Path) -> None:
    """`submit` as a laptop would, over ssh, then wait until the result is back in returns/."""
    before = len(rack.returned())
    environment = {**os.environ, "RACKSACK_CONTROLLER": f"bench:{rack.spool}"}
    command = [ours.COMMANDS / "submit", source, "main.py", "--ram", "100M", "--parsable", "--quiet"]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    wait_for(lambda: len(rack.returned()) > before, "the return of the results", 120, every_s=0.01)
