"""A place for daemons of other schedulers: a network namespace with loopback alone, and a process namespace.

Several of them listen on all addresses. In here there is only 127.0.0.1, and when the benchmark ends, so does all
that it started. What has to come from a package registry is installed before.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

MARK = "RACKSACK_BENCH_INSIDE"


def inside() -> bool:
    """Whether this process runs in the namespaces."""
    return os.environ.get(MARK) == "1"


def enter(arguments: list[str]) -> int:
    """Run this program again inside new namespaces; returns its exit code."""
    if os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("ip") is None:
        print(
            "The benchmarks need root, unshare (util-linux) and ip (iproute2): they make a network namespace.",
            file=sys.stderr,
        )
        return 1
    command = [
        "unshare",
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        sys.executable,
        *arguments,
    ]
    return subprocess.run(command, env={**os.environ, MARK: "1"}, check=False).returncode


def prepare() -> None:
    """Inside: loopback up, and an empty ~/.ssh of our own, since ssh takes the home from the passwd file."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    # getaddrinfo with AI_ADDRCONFIG, as Slurm calls it, finds nothing where 127.0.0.1 is the only address.
    subprocess.run(["ip", "address", "add", "192.0.2.1/32", "dev", "lo"], check=True)
    folder = Path("~root").expanduser() / ".ssh"
    folder.mkdir(mode=0o700, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0700", "tmpfs", folder], check=True)


def loopback_bytes() -> int:
    """Bytes that went over loopback so far. Whatever is sent between two parties in here is counted once."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name.strip() == "lo":
            return int(rest.split()[8])
    raise OSError("there is no loopback in /proc/net/dev")
