"""Answers the controller: JSON lines on file descriptors 0 and 1, until 0 ends.

It launches, lists and reads; everything about an attempt happens in its supervisor. So any number of these may serve
one home (an old one may linger after a connection was cut), and the end of one changes nothing for a job.

One thread reads requests, listens to the supervisors' pipe and reports changes; requests are answered by a few
workers in *lanes*, so that a slow one (a probe, a checksum of 200 MB) holds up neither a stop nor a report.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Collection, Dict

from racksack_agent import boot, process_title
from racksack_agent.home import Home
from racksack_agent.problems import RefusedError
from racksack_agent.serve import kept, operations, relaunching, sweeping, unfinished, upkeep
from racksack_agent.serve.agent import Agent
from racksack_agent.serve.slurm.side import SlurmSide
from racksack_agent.supervisor import ram_shared, short_tmp, venv_reuse

_RESCAN_S = 1.0
_RESCAN_SHARED_S = 0.3  # of a home where no pipe brings news: supervisors are on other machines
_PRUNE_S = 60.0
_LINE_BYTES_MAX = 64 * 1024 * 1024
_READ_BYTES = 1024 * 1024


class Output:
    """The way to the controller; whole lines, from several threads."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._lock = threading.Lock()
        self.broken = False

    def send(self, message: Dict[str, Any]) -> None:
        """Write one line. Once nobody reads any more, nothing is sent."""
        self.send_lines(json.dumps(message).encode() + b"\n")

    def send_lines(self, data: bytes) -> None:
        """Write whole lines at once."""
        with self._lock:
            while data and not self.broken:
                try:
                    data = data[os.write(self._file, data) :]
                except OSError:
                    self.broken = True


class Input:
    """Requests, line by line, without ever waiting."""

    def __init__(self, file: int) -> None:
        self.file = file
        self.ended = False
        self._rest = bytearray()

    def lines(self) -> list[bytes]:
        """What has arrived in whole lines. A line above 64 MiB ends the conversation: there is no way to find its
        end.
        """
        data = os.read(self.file, _READ_BYTES)
        if not data or len(self._rest) > _LINE_BYTES_MAX:
            self.ended = True
            return []
        searched = len(self._rest)
        self._rest += data
        last = self._rest.rfind(b"\n", searched)
        if last < 0:
            return []
        whole = bytes(self._rest[:last])
        del self._rest[: last + 1]
        return [line for line in whole.split(b"\n") if line.strip()]


class Server:
    """One conversation."""

    def __init__(self, agent: Agent, requests: Input, output: Output) -> None:
        self.agent = agent
        self.requests = requests
        self.output = output
        self._lanes = {
            lane: ThreadPoolExecutor(workers, thread_name_prefix=lane)
            for lane, workers in (("quick", 1), ("launch", 1), ("sweep", 1), ("slow", 4))
        }
        self._told: Dict[str, Any] = {}
        self._told_bytes: Dict[str, int] = {}
        self._halves: set[str] = set()
        self._home_complaint = upkeep.Complaint()
        self._scan_complaint = upkeep.Complaint()
        self._next_prune_s = 0.0

    def run(self) -> None:
        """Serve until the input ends; workers that are at it are not waited for. Raises AgentRemovedError."""
        news = upkeep.NewsPipe(self.agent.home)
        self._repair(news)
        if self.agent.slurm is not None:
            self.agent.slurm.queue.start()
        self._clear_memory()
        self._clear_halves()
        try:
            every_s = _RESCAN_S if self.agent.slurm is None else _RESCAN_SHARED_S
            next_scan_s = time.monotonic() + every_s
            while not self.requests.ended and not self.output.broken:
                timeout_s = max(0.0, next_scan_s - time.monotonic())
                ready, _, _ = select.select([self.requests.file, *news.files()], [], [], timeout_s)
                if self.requests.file in ready:
                    for line in self.requests.lines():
                        self.dispatch(line)
                if any(file in ready for file in news.files()):
                    self.report(news.names())
                if time.monotonic() >= next_scan_s:
                    self._repair(news)
                    self._look()
                    next_scan_s = time.monotonic() + every_s
        finally:
            news.close()

    def _repair(self, news: upkeep.NewsPipe) -> None:
        """Make again what was taken away. Raises AgentRemovedError when that is ourselves."""
        upkeep.check_package()
        try:
            self.agent.home.make()
            news.ensure()
        except OSError as problem:
            self._home_complaint.say(f"the agent's home cannot be written: {problem}; reports may be a second late")
        else:
            self._home_complaint.say("")

    def _look(self) -> None:
        """Settle attempts that died and tell what changed. What fails because the disk is full or a limit was reached
        is tried again at the next look.
        """
        try:
            self.report(self.agent.attempts.rescan())
            self.start_left_behind()
            self._clear_halves()
            self._prune_kept()
            self.report([name for name in self._told if not self.agent.home.attempt(name).exists()])
        except OSError as problem:
            self._scan_complaint.say(f"the attempts cannot be read: {problem}")
        else:
            self._scan_complaint.say("")

    def start_left_behind(self) -> None:
        """Have attempts started whose `serve` died before it came to that, and supervisors replaced that were
        killed.
        """
        attempts = self.agent.attempts
        names, attempts.left_behind = attempts.left_behind, set()
        unwatched, attempts.unwatched = attempts.unwatched, set()
        if names:
            self._lanes["launch"].submit(relaunching.relaunch, self.agent, sorted(names))
        if unwatched:
            self._lanes["launch"].submit(relaunching.take_over, self.agent, sorted(unwatched))
        self.agent.forkserver.keep_awake()

    def report(self, names: list[str]) -> None:
        """Tell the controller about attempts whose report, or whose sweep's results, are not those told last."""
        lines = []
        for name in names:
            try:
                report = self.agent.attempts.report(name)
            except OSError:
                continue  # a limit was reached; the next scan comes in a second
            size = sweeping.results_bytes(self.agent, name)
            if size != self._told_bytes.get(name, 0):  # before the report: an end is told after the last results
                self._told_bytes[name] = size
                lines.append(json.dumps({"results": {"attempt": name, "size": size}}).encode() + b"\n")
            if report is None:
                self._told.pop(name, None)
                self._told_bytes.pop(name, None)
            elif self._told.get(name) != (news := (report["state"], waiting_reason(report), report.get("checkpoint"))):
                self._told[name] = news
                lines.append(json.dumps({"report": report}).encode() + b"\n")
        if lines:
            self.output.send_lines(b"".join(lines))

    def _clear_memory(self) -> None:
        """Take away what a crash left in memory and /tmp; where that fails, the node is no worse off than before."""
        try:
            ram_shared.remove_stale(self.agent.home)
            short_tmp.remove_stale()
        except OSError as problem:
            print(f"leftovers of a crash in memory or /tmp could not be removed: {problem}", file=sys.stderr)

    def _prune_kept(self) -> None:
        """Now and then have removed what was kept long enough."""
        if time.monotonic() >= self._next_prune_s:
            self._next_prune_s = time.monotonic() + _PRUNE_S
            self._lanes["slow"].submit(prune_kept, self.agent.home)

    def _clear_halves(self) -> None:
        """Have taken away what a `serve` that has ended left half done; each is tried once."""
        left = set(unfinished.left_behind(self.agent.home))
        if left - self._halves:
            self._lanes["slow"].submit(clear_halves, self.agent.home, left - self._halves)
        self._halves = left

    def dispatch(self, line: bytes) -> None:
        """Put a request into its lane; a line that is no request is answered at once."""
        try:
            request = json.loads(line)
            if not isinstance(request, dict) or "op" not in request:
                raise ValueError("it is not an object with an op")
        except (ValueError, RecursionError) as problem:
            sentence = f"this line is not a request: {problem}"
            self.output.send({"id": None, "ok": False, "kind": "bad_request", "error": sentence})
            return
        lane = operations.lane_of(request["op"])
        self._lanes[lane].submit(self.answer, request)

    def answer(self, request: Dict[str, Any]) -> None:
        """Do what a request asks and reply."""
        reply: Dict[str, Any] = {"id": request.get("id")}
        try:
            reply.update(ok=True, result=operations.perform(self.agent, request))
        except RefusedError as problem:
            reply.update(ok=False, kind=problem.kind, error=str(problem))
        except OSError as problem:
            reply.update(ok=False, kind="os", error=f"{request['op']}: {problem}")
        except Exception as problem:  # noqa: BLE001 - a fault of ours is told, it does not end the conversation
            sentence = f"the agent failed at {request['op']}: {type(problem).__name__}: {problem}"
            reply.update(ok=False, kind="internal", error=sentence)
        self.output.send(reply)


def waiting_reason(report: Dict[str, Any]) -> str:
    """What an attempt that has not begun waits for: news, as a change of state is."""
    return str(report.get("reason", "")) if report["state"] == "preparing" else ""


def prune_kept(home: Home) -> None:
    """Remove outputs and venvs that were kept long enough. What cannot go takes space, and the log is told."""
    for prune in (kept.prune, venv_reuse.prune):
        try:
            prune(home)
        except OSError as problem:
            print(f"expired files could not be removed: {problem}", file=sys.stderr)


def clear_halves(home: Home, names: Collection[str]) -> None:
    """Remove these; one that cannot go takes space and harms nothing, so the log is told."""
    for name in names:
        try:
            unfinished.remove_tree(home.attempt(name).path)
        except OSError as problem:
            print(f"an incomplete attempt could not be removed: {problem}", file=sys.stderr)


def main(arguments: list[str]) -> None:
    """`--home DIR [--session tmux|screen | --slurm JSON]`."""
    parser = argparse.ArgumentParser("racksack_agent serve")
    parser.add_argument("--home", default="~/.racksack")
    parser.add_argument("--session", choices=("tmux", "screen"), help="instead of tmux if there is one, else screen")
    parser.add_argument("--limit", choices=("cgroup1", "scope", "watch"), help="how memory is limited; else found out")
    parser.add_argument("--slurm", help="attempts are batch jobs of the cluster whose login node this is; JSON")
    options = parser.parse_args(arguments)
    home = Home(options.home)
    process_title.set_title(f"racksack-agent serve --home {home.root}")
    try:
        home.make()
        slurm = None
        if options.slurm is not None:
            boot.share_home()
            slurm = SlurmSide(home, options.slurm)
        agent = Agent(home, options.session, options.limit, slurm)
    except OSError as problem:
        sys.exit(f"the agent's home {home.root} cannot be used: {problem}")
    try:
        Server(agent, Input(0), Output(1)).run()
        agent.close()
    except (OSError, upkeep.AgentRemovedError) as problem:
        print(f"the agent on {home.root} stopped: {problem}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)  # a worker may be busy for long; nothing it does is lost by ending here
