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
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from tests.agent.serving import Serve, order

GROUP = Path("/sys/fs/cgroup/cpuacct/racksack-bench")
_PROGRAMS = {"sh": ("job.sh", "#!/bin/sh\n:\n"), "py": ("main.py", "print('done')\n")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attempts", type=int, default=500)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--kind", choices=sorted(_PROGRAMS), default="sh")
    parser.add_argument("--keep", action="store_true", help="neither fetch nor remove")
    options = parser.parse_args()
    enter_group()
    root = Path(tempfile.mkdtemp(prefix="racksack-bench-"))
    try:
        bench(root, options)
    finally:
        shutil.rmtree(root, ignore_errors=True)
        leave_group()


def bench(root: Path, options: argparse.Namespace) -> None:
    project = root / "project"
    project.mkdir()
    name, text = _PROGRAMS[options.kind]
    (project / name).write_text(text)
    (project / name).chmod(0o755)
    serve = Serve(root / "home")
    digest = serve.project(project)
    serve.run(order("1.1", digest, name))
    began_cpu_s, began_s = own_cpu_s(), time.monotonic()
    collected_s = through(serve, digest, name, options)
    spent_s = time.monotonic() - began_s
    rate = options.attempts / spent_s
    print(f"{options.attempts} attempts of {name}, {options.slots} slots: {rate:.1f}/s, {spent_s:.2f} s")
    print(f"  fetching and removing: {collected_s:.2f} s of that")
    cpu_ms = (own_cpu_s() - began_cpu_s) / options.attempts * 1000
    serve_ms = serve_cpu_s(serve) / options.attempts * 1000
    print(f"  CPU an attempt: {cpu_ms:.1f} ms in all (0: unknown), serve {serve_ms:.1f} ms of it")
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


def enter_group() -> None:
    """Enter a group of our own, which counts the CPU seconds of all that we start (root, cgroups of version 1)."""
    if GROUP.parent.is_dir() and os.access(GROUP.parent, os.W_OK):
        GROUP.mkdir(exist_ok=True)
        (GROUP / "cgroup.procs").write_text("0")


def leave_group() -> None:
    if GROUP.is_dir():
        (GROUP.parent / "cgroup.procs").write_text("0")
        with suppress(OSError):  # something that we started is still ending
            GROUP.rmdir()


def own_cpu_s() -> float:
    """CPU seconds of everything in the group; 0 where there is none."""
    usage = GROUP / "cpuacct.usage"
    return int(usage.read_text()) / 1e9 if usage.exists() else 0.0


def serve_cpu_s(serve: Serve) -> float:
    words = Path(f"/proc/{serve.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
