"""`racksack map` as GNU parallel, and `racksack shell` in a real terminal."""

from __future__ import annotations

import os
import pty
import select
import sys
import time
from pathlib import Path

import pytest

from tests.end_to_end.site import Site, until


def test_one_command_for_many_files(site: Site, tmp_path: Path) -> None:
    work = tmp_path / "in"
    (work / "sub").mkdir(parents=True)
    for name in ("a b.txt", "sub/c.txt"):
        (work / name).write_text(f"xx {name}")
    command = "tr x y < {} > {.}.out; echo {#} {/} {//} {/.}"
    options = ("--out", "**/*.out", "--fetch", tmp_path / "out", "-q")
    site.cli("racksack", "map", command, *options, ":::", "a b.txt", "sub/c.txt", cwd=work)
    found = {path.name: path.read_text() for path in (tmp_path / "out").rglob("*.out")}
    assert found == {"a b.out": "yy a b.tyt", "c.out": "yy sub/c.tyt"}
    logs = sorted(path.read_text().splitlines()[-1] for path in (tmp_path / "out").rglob("stdout.log"))
    assert logs == ["1 a b.txt . a b", "2 c.txt sub c"]


def test_inputs_that_are_no_files_and_look_like_options(site: Site, tmp_path: Path) -> None:
    words = tmp_path / "words"
    words.write_text("--help\n$(id)\n")
    done = site.cli("racksack", "map", "printf %s", "-a", words, "--fetch", tmp_path / "out", "-q")
    assert done.returncode == 0
    logs = sorted(path.read_text().splitlines()[-1] for path in (tmp_path / "out").rglob("stdout.log"))
    assert logs == ["$(id)", "--help"]


@pytest.mark.parametrize(("argv", "says"), [((), "no inputs"), ((":::",), "no inputs")])
def test_without_inputs_it_says_so(site: Site, argv: tuple[str, ...], says: str) -> None:
    assert says in site.cli("racksack", "map", "echo", *argv, code=2).stderr


def test_a_session_in_a_terminal(site: Site) -> None:
    """Typed into like any shell; the job ends with it."""
    pid, terminal = pty.fork()
    if not pid:
        os.environ.update(site.env(), TERM="xterm")
        run = "from racksack.main import racksack; raise SystemExit(racksack())"
        words = ("shell", "--cpus", "1", "-J", "by-hand", "--", "/bin/sh")
        os.execv(sys.executable, [sys.executable, "-c", run, *words])
    seen = b""

    def read(until_text: bytes, timeout_s: float = 60.0) -> None:
        nonlocal seen
        deadline = time.monotonic() + timeout_s
        while until_text not in seen:
            assert time.monotonic() < deadline, seen
            if select.select([terminal], [], [], 0.2)[0]:
                seen += os.read(terminal, 65536)

    read(b"the job goes on")
    os.write(terminal, b"echo I am $((40 + 2)) in $RACKSACK_JOB_NAME\r")
    read(b"I am 42 in by-hand")
    os.write(terminal, b"exit 0\r")
    try:
        while os.read(terminal, 65536):
            continue
    except OSError:  # the other side is gone
        seen += b""
    os.waitpid(pid, 0)
    [job] = site.ask("jobs?all=1&name=by-hand")
    until(lambda: site.ask(f"jobs/{job['id']}")["state"] == "done", "the job ends with its shell")
