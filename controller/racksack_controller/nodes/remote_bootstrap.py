"""Runs on the node, before anything of ours is there: finds or takes in the agent, and becomes it.

Sent as text to whatever `python3` the node has, so it must be understood by Python 3.4 (to be able to say that this is
too old) and import only the standard library. HOME, DIGEST and OPTIONS are put in front by `bootstrap.py`.
"""

# ruff: noqa: PTH103, PTH104, PTH111, PTH112, PTH118, PTH119, PTH120, S202, UP031

import json
import os
import sys

HOME = globals().get("HOME", "~/.racksack")
DIGEST = globals().get("DIGEST", "")
OPTIONS = globals().get("OPTIONS", [])
OLDEST = (3, 9)


def say(facts: dict) -> None:  # type: ignore[type-arg] # older Pythons know no dict[str, object]
    """One line to the controller."""
    os.write(1, ("\nracksack-agent " + json.dumps(facts) + "\n").encode())


def read_exactly(size: int) -> bytes:
    """Bytes from the controller, and not one more: what follows is for the agent."""
    parts = []
    while size:
        part = os.read(0, min(size, 65536))
        if not part:
            sys.exit(1)  # the controller went away
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def libc() -> str:
    """`glibc 2.36`; empty where the C library is another one."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        return ""


def is_whole(target: str) -> bool:
    """Whether the folder holds the agent and nothing else: a power cut empties files, and a job may write here."""
    import hashlib
    import stat

    whole, files = hashlib.sha256(), []
    for folder, folders, names in os.walk(target):
        if os.path.basename(folder) == "__pycache__":
            folders[:] = []
            names = [name for name in names if not name.endswith(".pyc")]
        for name in names:
            files.append(os.path.join(folder, name))
    for path in sorted(files):
        if not path.endswith(".py") or not stat.S_ISREG(os.lstat(path).st_mode):
            return False
        with open(path, "rb") as file:
            data = file.read()
        whole.update(("%s\0%d\0" % (path[len(target) + 1 :], len(data))).encode() + data)
    return bool(whole.hexdigest()[:32] == DIGEST)


def take_in(target: str) -> None:
    """Receive the agent and put it in place under its final name, also of a damaged one. Raises OSError."""
    import io
    import shutil
    import tarfile

    data = read_exactly(int(read_exactly(16)))
    beside = target + "." + str(os.getpid())
    damaged = beside + ".damaged"
    os.makedirs(beside)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        archive.extractall(beside)
    try:
        os.rename(beside, target)
        return
    except OSError:
        if not os.path.isdir(target):
            raise
    if is_whole(target):
        shutil.rmtree(beside)  # another controller was quicker
        return
    os.rename(target, damaged)
    os.rename(beside, target)
    shutil.rmtree(damaged, True)


def main() -> None:
    """Say what is here, get what is missing, become the agent."""
    facts = {"python": "%d.%d.%d" % sys.version_info[:3], "machine": os.uname().machine, "libc": libc()}
    if sys.version_info < OLDEST:
        say(dict(facts, error="python"))
        return
    home = os.path.expanduser(HOME)
    target = os.path.join(home, "agents", DIGEST)
    try:
        have = is_whole(target)
        os.makedirs(home, 0o700, exist_ok=True)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        say(dict(facts, have=have, home=home))
        if not have:
            take_in(target)
            say(dict(facts, have=True, home=home))
    except OSError as error:
        say(dict(facts, error="folder", sentence=str(error)))
        return
    sys.path.insert(0, target)
    sys.argv = ["racksack_agent", "serve", "--home", home] + OPTIONS  # noqa: RUF005 - for Python 3.4
    import racksack_agent.__main__  # noqa: F401 - importing it runs it, with the arguments above


main()
