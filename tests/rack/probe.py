"""Says why this machine cannot hold a test rack, if it cannot."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache

PROGRAMS = {
    "ip": "iproute2",
    "tc": "iproute2",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "rsync": "rsync",
    "tmux": "tmux",
    "sudo": "sudo",
    "ps": "procps",
}
"""What a rack runs, and the Debian package that has it."""

_TRIAL = "ip link add name trial type bridge && ip link add one type veth peer name two"


@cache
def missing() -> str | None:
    """One sentence that says what a rack lacks on this machine; None if it can be built."""
    if sys.platform != "linux":
        return "a test rack needs Linux"
    if os.geteuid() != 0:
        return "a test rack needs root: run the tests as root or with sudo"
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    absent = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if absent:
        packages = " ".join(sorted({PROGRAMS[name] for name in absent}))
        return f"a test rack needs {', '.join(absent)}: apt-get install {packages}"
    trial = ["unshare", "--net", "--pid", "--mount", "--uts", "--ipc", "--time", "--fork", "--", "sh", "-c", _TRIAL]
    done = subprocess.run(trial, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return f"this machine does not allow the namespaces and interfaces of a test rack: {done.stderr.strip()}"
    return None
