"""How many short attempts a second one agent takes through a node: launch, run, report, fetch, remove, and where the
time goes.

`python -m tests.bench.agent_throughput [--attempts 500] [--slots 64] [--kind sh|py]`. A controller's place is taken
by this process: it launches as slots become free and fetches and removes in batches, as the real one does.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from racksack_agent import sessions
from racksack_agent.home import Home
from tests.agent.serving import Serve, order

_PROGRAMS = {"sh": ("job.sh", "#!/bin/sh\n:\n"), "py": ("main.py", "print('done')\n")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attempts", type=int, default=500)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--kind", choices=sorted(_PROGRAMS), default="sh")
    parser.add_argument("--keep", action="store_true", help="neither fetch nor remove")
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="racksack-bench-"))
    try:
        bench(root, options)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def bench(root: Path, options: argparse.Namespace) -> None:
    project = root / "project"
    project.mkdir()
    name, text = _PROGRAMS[options.kind]
    (project / name).write_text(text)
    (project / name).chmod(0o755)
    serve = Serve(root / "home")
    digest = serve.project(project)
    serve.run(order("1.1", digest, name))
    sessions_pid = tmux_pid(serve)
    began_cpu_s, began_s = tree_cpu_s(sessions_pid), time.monotonic()
    collected_s = through(serve, digest, name, options)
    spent_s = time.monotonic() - began_s
    rate = options.attempts / spent_s
    print(f"{options.attempts} attempts of {name}, {options.slots} slots: {rate:.1f}/s, {spent_s:.2f} s")
    print(f"  fetching and removing: {collected_s:.2f} s of that")
    sessions_ms = (tree_cpu_s(sessions_pid) - began_cpu_s) / options.attempts * 1000
    serve_ms = tree_cpu_s(serve.pid) / options.attempts * 1000
    print(f"  CPU an attempt: sessions, supervisors and jobs {sessions_ms:.1f} ms, serve {serve_ms:.1f} ms")
    ended = [serve.reports[f"{number}.1"] for number in range(2, options.attempts + 2)]
    assert all(report["outcome"] == "done" for report in ended)
    for field in ("prepare_s", "cpu_s"):
        print(f"  median {field}: {statistics.median(report[field] for report in ended) * 1000:.1f} ms")
    serve.close()


def through(serve: Serve, digest: str, name: str, options: argparse.Namespace) -> float:
    """Keep the slots full until all are done; returns the seconds that fetching and removing took."""
    waiting = [f"{number}.1" for number in range(2, options.attempts + 2)]
    out: set[str] = set()
    finished: list[str] = []
    collected_s = 0.0
    while waiting or out:
        free = options.slots - len(out)
        batch, waiting = waiting[:free], waiting[free:]
        if batch:
            serve.launch(*(order(attempt, digest, name) for attempt in batch))
            out.update(batch)
        serve.wait(lambda under_way=out: any(is_ended(serve, attempt) for attempt in under_way))
        ended = {attempt for attempt in out if is_ended(serve, attempt)}
        out -= ended
        finished += ended
        if not options.keep and (len(finished) >= 50 or not out):
            began_s = time.monotonic()
            serve.call("fetch", attempts=finished, limit_bytes=1 << 20)
            serve.call("remove", attempts=finished)
            finished = []
            collected_s += time.monotonic() - began_s
    return collected_s


def is_ended(serve: Serve, attempt: str) -> bool:
    return serve.reports.get(attempt, {}).get("state") == "ended"


def tmux_pid(serve: Serve) -> int:
    """The process of which all sessions are children."""
    socket = f"{sessions.socket_folder()}/{sessions.home_key(Home(str(serve.home)))}.tmux"
    asked = ["tmux", "-S", socket, "display-message", "-p", "#{pid}"]
    return int(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)


def tree_cpu_s(pid: int) -> float:
    """CPU seconds of a process and of all its children that have ended."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, words[11:15])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
