"""`racksack sweep run --try`: the first points, then a question with what was measured, on a real terminal."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess

from tests.end_to_end import projects
from tests.end_to_end.site import Site

PROGRAM = """
import time
def evaluate(a, b):
    time.sleep(0.4)
    if a < 0:
        raise ValueError("a is negative")
    return {"score": a * b}
"""
POINTS = 12
ONE = ("--metric", "score", "--no-venv", "--max-runners", "1")


class Asked:
    """A `sweep run --try` that waits for an answer."""

    def __init__(self, site: Site, *params: str) -> None:
        self.site = site
        self._terminal, inside = os.openpty()
        project = projects.make(site.work / "p", PROGRAM)
        words = [word for param in params for word in ("-p", param)]
        self._run = site.popen(
            "racksack", "sweep", "run", project, "main.py:evaluate", *words, *ONE, "--try", stdin=inside
        )
        os.close(inside)
        self.said = ""
        assert self._run.stderr is not None
        while not self.said.endswith("[y/N]: "):
            letter = self._run.stderr.read(1)
            assert letter, self.said
            self.said += letter

    def answer(self, text: bytes) -> int:
        """The exit code after this answer."""
        os.write(self._terminal, text)
        return self._ended()

    def interrupt(self) -> int:
        """The exit code after Ctrl-C, which Python loses in the moment between the question and the reading."""
        for _ in range(3):
            self._run.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._run.wait(15)
                break
        return self._ended()

    def _ended(self) -> int:
        self.said += self._run.communicate(timeout=60)[1]
        os.close(self._terminal)
        return self._run.returncode

    @property
    def sweep(self) -> dict[str, object]:
        found = self.site.ask("sweeps")[0]
        assert isinstance(found, dict)
        return found


def test_yes_goes_on_and_computes_nothing_twice(site: Site) -> None:
    site.start()
    asked = Asked(site, "a=1:4", "b=1:3")
    assert "4 x 3 = 12 points, " in asked.said
    assert "; how long it takes is known when the first points are done" in asked.said
    question = asked.said.rpartition("4 x 3 = 12 points, ")[2]
    assert "chunk" in question
    assert " s on 1 worker; " in question
    assert asked.sweep["state"] == "stopped"
    assert 0 < int(str(asked.sweep["done"])) < POINTS
    assert asked.answer(b"y\n") == 0
    site.cli("racksack", "sweep", "wait", "last", "-q")
    assert asked.sweep["done"] == POINTS
    found = site.ask(f"sweeps/{asked.sweep['id']}/results?n={POINTS}")["rows"]
    assert sorted(row["point"] for row in found) == list(range(POINTS))


def test_no_ends_it(site: Site) -> None:
    site.start()
    asked = Asked(site, "a=1:4", "b=1:3")
    assert asked.answer(b"n\n") == 130
    assert asked.sweep["state"] == "cancelled"
    assert "what it computed is kept for the next one" in asked.said


def test_an_interrupt_ends_it(site: Site) -> None:
    site.start()
    asked = Asked(site, "a=1:4", "b=1:3")
    assert asked.interrupt() == 130
    assert asked.sweep["state"] == "cancelled"


def test_points_that_fail_are_named_in_the_question(site: Site) -> None:
    site.start()
    asked = Asked(site, "a=-4:-1", "b=1:3")
    assert " failed (racksack sweep points " in asked.said
    assert "about" not in asked.said
    asked.answer(b"n\n")


def test_nobody_to_be_asked_is_told_before_anything_is_sent(site: Site) -> None:
    site.start()
    project = projects.make(site.work / "p", PROGRAM)
    done = site.cli("racksack", "sweep", "run", project, "main.py:evaluate", "-p", "a=1:4", "--try", code=2)
    assert "pass --yes" in done.stderr
    assert site.ask("sweeps") == []
