"""One machine with an embedded controller in a temporary folder, driven by the real commands.

Everything that a test starts (controller, agent, tmux server, supervisors, jobs) has the site's folder in its command
line, environment or working directory; `close` ends what has, and fails the test if something does not end.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

BIN = Path(sys.executable).parent
WAIT_S = 60.0
FINAL = {"done", "failed", "oom", "timeout", "cancelled", "lost", "prepare_failed", "stage_failed"}
CONFIG = """\
web: {listen: "off"}
watch: {settle: 1s, rescan: 2s}
nodes:
  here: {local: {}, cpus: 8, ram: 16G}
"""


def until(look: Callable[[], T], what: str, timeout_s: float = WAIT_S) -> T:
    """The first true value that `look` gives; AssertionError with `what` after the bound.

    Looks that take long, as those by a command, are rarer: what is waited for needs the processor too.
    """
    deadline = time.monotonic() + timeout_s
    pause_s = 0.01
    while True:
        began_s = time.monotonic()
        found = look()
        if found:
            return found
        now_s = time.monotonic()
        if now_s > deadline:
            raise AssertionError(f"not within {timeout_s:.0f} s: {what}; last seen: {found!r}")
        time.sleep(max(pause_s, min(1.0, 2 * (now_s - began_s))))
        pause_s = min(0.1, pause_s * 1.3)


class UnreachableError(Exception):
    """The controller does not answer now."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(30)
        self.sock.connect(self._path)


def ask(path: Path, call: str) -> Any:
    """GET from the API behind a unix socket. Raises UnreachableError; AssertionError for a refusal."""
    connection = _UnixConnection(path)
    try:
        connection.request("GET", f"/api/v1/{call}")
        answer = connection.getresponse()
        body = json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UnreachableError(str(error)) from error
    finally:
        connection.close()
    assert answer.status == 200, body
    return body


class Site:
    """A home, its controller, and a user's folder to work in."""

    def __init__(self, config: str | None = CONFIG) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="rs-e2e-", dir="/tmp"))  # short: it holds sockets
        self.home = self.root / "home"
        self.work = self.root / "work"
        self.home.mkdir(mode=0o700)
        self.work.mkdir()
        if config is not None:
            (self.home / "racksack.yaml").write_text(config)
        self.spool = self.home / "spool"
        self.trace = self.root / "trace"
        self._started: list[subprocess.Popen[bytes]] = []

    @property
    def tracing(self) -> tuple[str, str]:
        """Options of submit that tell a job where to trace its start."""
        return ("--env", f"TRACE={self.trace}")

    # The commands.

    def env(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """A user's environment with nothing of the real one's settings."""
        kept = {key: os.environ[key] for key in ("PATH", "PYTHONPATH", "LANG") if key in os.environ}
        own = {"HOME": str(self.root / "user"), "RACKSACK_HOME": str(self.home), "TRACE": str(self.trace)}
        return {"LANG": "C.UTF-8", **kept, **own, **(extra or {})}

    def cli(
        self,
        program: str,
        *argv: object,
        code: int | None = 0,
        env: Mapping[str, str] | None = None,
        timeout_s: float = 90.0,
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end and hold it to an exit code; no command ever shows a traceback."""
        command = [str(BIN / program), *map(str, argv)]
        settings: dict[str, Any] = {"cwd": self.work, "stdin": subprocess.DEVNULL, "errors": "replace", **options}
        done = subprocess.run(
            command, env=self.env(env), capture_output=True, text=True, timeout=timeout_s, check=False, **settings
        )
        assert "Traceback" not in done.stderr, f"{command}\n{done.stderr}\n{self.log()}"
        if code is not None:
            assert done.returncode == code, (
                f"{command} ended with {done.returncode}, not {code}\n{done.stdout}\n{done.stderr}\n{self.log()}"
            )
        return done

    def popen(self, program: str, *argv: object, **options: Any) -> subprocess.Popen[str]:
        """Start a command and leave it running."""
        settings: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": -1, "stderr": -1, **options}
        return subprocess.Popen(
            [str(BIN / program), *map(str, argv)], cwd=self.work, env=self.env(), text=True, **settings
        )

    def submit(self, project: Path, *argv: object) -> int:
        """Submit `main.py` of a project; gives the job's id (the first of an array)."""
        done = self.cli("submit", project, "main.py", "--parsable", "--no-venv", *self.tracing, *argv)
        return int(done.stdout.split()[0])

    # The controller.

    def start(self) -> int:
        """Start the controller as a command would, and wait until it answers; its process id."""
        self.launch()
        return self.answering()

    def launch(self) -> None:
        """Start the controller and return at once."""
        argv = [sys.executable, "-P", "-m", "racksack_controller", "--embedded", "--home", str(self.home)]
        with (self.home / "controller.log").open("ab") as log:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env(), start_new_session=True
            )
        self._started.append(process)

    def answering(self) -> int:
        """Wait until a controller answers; its process id."""
        try:
            until(self._answers, "the controller answers", 30)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log()}") from None
        return self.pid()

    def _answers(self) -> bool:
        try:
            self.ask("status")
        except UnreachableError:
            return False
        return True

    def pid(self) -> int:
        """The process id of the controller that holds the spool."""
        return int((self.spool / "controller.lock").read_text())

    def kill(self) -> None:
        """`kill -9` of the controller; its agents end because their input does."""
        pid = self.pid()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        until(lambda: not is_alive(pid), f"the controller {pid} is gone")
        self._reap()

    def stop(self) -> None:
        """The polite end."""
        pid = self.pid()
        os.kill(pid, signal.SIGTERM)
        until(lambda: not is_alive(pid), f"the controller {pid} ends after SIGTERM")
        self._reap()

    def _reap(self) -> None:
        self._started = [process for process in self._started if process.poll() is None]

    def log(self) -> str:
        """The end of what the controller wrote."""
        path = self.home / "controller.log"
        return path.read_text(errors="replace")[-2500:] if path.exists() else "(no log)"

    # What there is to see.

    def ask(self, call: str) -> Any:
        """GET from the API. Raises UnreachableError."""
        return ask(self.spool / "controller.sock", call)

    def page(self, path: str) -> str:
        """A page of the web interface."""
        connection = _UnixConnection(self.spool / "controller.sock")
        try:
            connection.request("GET", f"/{path}")
            answer = connection.getresponse()
            assert answer.status == 200, answer.status
            return answer.read().decode()
        finally:
            connection.close()

    def job(self, job_id: int) -> Any:
        """One job with attempts, spec and story."""
        return self.ask(f"jobs/{job_id}")

    def wait_for(self, job_id: int, *states: str, timeout_s: float = WAIT_S) -> Any:
        """The job once it is in one of these states, any final one if none are named."""
        wanted = set(states) or FINAL

        def look() -> Any:
            try:
                job = self.job(job_id)
            except UnreachableError:
                return None
            assert job["state"] in wanted or job["state"] not in FINAL, (
                f"job {job_id} ended as {job['state']}: {job['outcome_reason']}\n{self.stderr(job_id)}"
            )
            return job if job["state"] in wanted else None

        try:
            return until(look, f"job {job_id} is {' or '.join(sorted(wanted))}", timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log()}") from None

    def all_ended(self, count: int, timeout_s: float = WAIT_S) -> list[Any]:
        """All jobs of the store, once there are `count` and all have ended."""

        def look() -> list[Any]:
            try:
                jobs = self.ask("jobs?all=1&limit=10000")
            except UnreachableError:
                return []
            return jobs if len(jobs) == count and all(job["state"] in FINAL for job in jobs) else []

        try:
            return until(look, f"{count} jobs have ended", timeout_s)
        except AssertionError as error:
            jobs = [(job["id"], job["state"], job["why"]) for job in self.ask("jobs?all=1&limit=10000")]
            raise AssertionError(f"{error}\n{jobs}\n{self.log()}") from None

    def returned(self, job_id: int) -> Path:
        """The return folder of a job on the controller."""
        return self.spool / "returns" / str(job_id)

    def stderr(self, job_id: int) -> str:
        """What a job wrote there, for the message of a failed test."""
        path = self.returned(job_id) / "stderr.log"
        return path.read_text(errors="replace")[-1500:] if path.exists() else "(no stderr.log)"

    def traced(self) -> list[str]:
        """What jobs appended to the file outside, a line each."""
        return self.trace.read_text().splitlines() if self.trace.exists() else []

    # The end.

    def processes(self) -> list[int]:
        """Every process that belongs to this site, this one excluded."""
        mark = os.fsencode(self.root)
        return [pid for pid in _pids() if pid != os.getpid() and _mentions(pid, mark)]

    def close(self) -> None:
        """End everything and remove the folder. AssertionError if a process survives."""
        deadline = time.monotonic() + 20
        while left := self.processes():
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            assert time.monotonic() < deadline, f"these processes do not end: {left}"
            self._reap()
            time.sleep(0.05)
        subprocess.run(["chmod", "-R", "u+rwX", str(self.root)], check=False, capture_output=True)
        shutil.rmtree(self.root)


def fill(folder: Path) -> Path:
    """Use up a disk to the last byte."""
    filler = folder / ".filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return filler


def is_alive(pid: int) -> bool:
    """Whether a process runs (one that was ended and not yet waited for does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def command_line(pid: int) -> bytes:
    """The words of a process, each ended by a zero byte; nothing of one that has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def started_at(pid: int) -> str:
    """When a process started, in ticks: with the pid it names one process for ever."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").glob("[0-9]*"))


def _mentions(pid: int, mark: bytes) -> bool:
    if not is_alive(pid):
        return False
    entry = Path(f"/proc/{pid}")
    with contextlib.suppress(OSError):
        if mark in (entry / "cmdline").read_bytes() or mark in (entry / "environ").read_bytes():
            return True
        return os.fsencode((entry / "cwd").readlink()).startswith(mark)
    return False
