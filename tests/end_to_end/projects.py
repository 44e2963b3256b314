"""Projects whose jobs can be checked: what they return follows from their arguments alone, and each start is traced."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

# Deterministic output of every awkward kind, from a data file of the project and the arguments.
MIXED = """\
import hashlib, os, pathlib, sys, time

name, seed, size, seconds, code = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])
out = pathlib.Path(os.environ["RACKSACK_RETURN_DIR"])
data = pathlib.Path("data/input.bin").read_bytes()
print("name", name, flush=True)
print("warning of", seed, file=sys.stderr, flush=True)
if "TRACE" in os.environ:
    line = f"{os.environ.get('RACKSACK_ATTEMPT')} {os.getpid()}\\n"
    trace = os.open(os.environ["TRACE"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(trace, line.encode())
time.sleep(seconds)
block = hashlib.sha256(data + str(seed).encode()).digest()
(out / "deep/er").mkdir(parents=True)
(out / "empty").mkdir()
(out / "deep/er/\\u00fcml\\u00e4ut file.bin").write_bytes((block * (size // 32 + 1))[:size])
(out / "zero").write_bytes(b"")
(out / "run.sh").write_text("#!/bin/sh\\nexit 0\\n")
(out / "run.sh").chmod(0o755)
(out / "link").symlink_to("deep/er")
pathlib.Path("left-in-the-working-directory").write_text("not asked for")
pathlib.Path("asked.csv").write_text(f"{name},{seed}\\n")
print("digest", block.hex())
sys.exit(code)
"""

# Appends a line to the file outside when it starts, then waits for a file to appear, or for its time.
TRACED = """\
import os, pathlib, sys, time

def tell(word):
    trace = os.open(os.environ["TRACE"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    line = f"{word} {os.environ['RACKSACK_ATTEMPT']} {os.getpid()} {os.environ['RACKSACK_NODE']} {time.time():.3f}\\n"
    os.write(trace, line.encode())

tell("start")
print("started", flush=True)
(pathlib.Path(os.environ["RACKSACK_RETURN_DIR"]) / "attempt").write_text(os.environ["RACKSACK_ATTEMPT"])
word = sys.argv[1]
if word.startswith("/"):
    deadline = time.monotonic() + 120
    while not os.path.exists(word) and time.monotonic() < deadline:
        time.sleep(0.02)
else:
    time.sleep(float(word))
tell("end")
print("ended", flush=True)
"""

# A rank of a gang: all meet at the rendezvous, trace that they did, and wait for a file if one is named. The rank named
# by the second argument then fails.
RENDEZVOUS = """\
import os, pathlib, socket, sys, time

rank, size = int(os.environ["RACKSACK_RANK"]), int(os.environ["RACKSACK_WORLD_SIZE"])
host, port = os.environ["RACKSACK_RENDEZVOUS"].rsplit(":", 1)
node, attempt = os.environ["RACKSACK_NODE"], os.environ["RACKSACK_ATTEMPT"]
assert os.environ["RACKSACK_HOSTS"].split(",")[0] == host == os.environ["MASTER_ADDR"]
assert len(os.environ["RACKSACK_HOSTS"].split(",")) == size
assert (os.environ["MASTER_PORT"], os.environ["NODE_RANK"]) == (port, str(rank))

def tell(word):
    if "TRACE" in os.environ:
        trace = os.open(os.environ["TRACE"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(trace, f"{word} {rank} {attempt}\\n".encode())

def meet():
    if rank == 0:
        found = {}
        with socket.create_server((host, int(port))) as server:
            server.settimeout(60)
            others = [server.accept()[0] for _ in range(size - 1)]
            for other in others:
                number, name = other.recv(200).decode().split()
                found[int(number)] = name
            for other in others:
                other.sendall(node.encode())
                other.close()
        return [found[number] for number in sorted(found)]
    deadline = time.monotonic() + 60
    while True:
        try:
            other = socket.create_connection((host, int(port)), timeout=60)
            break
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
    with other:
        other.sendall(f"{rank} {node}".encode())
        return [other.recv(200).decode()]

tell("start")
print("rank", rank, "met", *meet(), flush=True)
(pathlib.Path(os.environ["RACKSACK_RETURN_DIR"]) / "where").write_text(node)
if len(sys.argv) > 2 and int(sys.argv[2]) == rank:
    sys.exit(7)
deadline = time.monotonic() + 120
while len(sys.argv) > 1 and not os.path.exists(sys.argv[1]) and time.monotonic() < deadline:
    time.sleep(0.02)
tell("end")
"""


def make(folder: Path, script: str, **files: bytes) -> Path:
    """A project with the entrypoint main.py; names of further files have `__` for `/`."""
    folder.mkdir(parents=True)
    (folder / "main.py").write_text(script)
    for name, content in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def mixed(folder: Path) -> Path:
    """The project of MIXED."""
    project = make(folder, MIXED)
    (project / "data").mkdir()
    (project / "data/input.bin").write_bytes(bytes(range(256)) * 64)
    return project


def by_hand(project: Path, scratch: Path, *arguments: str) -> dict[str, bytes]:
    """What the project returns when a person runs it: its outputs, what is new beside them, and its logs."""
    copy, out = scratch / "copy", scratch / "out"
    subprocess.run(["cp", "-a", str(project), str(copy)], check=True)
    out.mkdir()
    env = {"PATH": os.environ["PATH"], "RACKSACK_RETURN_DIR": str(out), "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(
        [sys.executable, "main.py", *arguments], cwd=copy, env=env, capture_output=True, timeout=60, check=False
    )
    before = contents(project)
    new = {name: data for name, data in contents(copy).items() if before.get(name) != data}
    return new | contents(out) | {"stdout.log": _file(0o644, done.stdout), "stderr.log": _file(0o644, done.stderr)}


OURS = {"env.log", "result.json", "times.log", ".racksack-job"}


def results(folder: Path) -> dict[str, bytes]:
    """The contents of a folder of results, without the mark that says whose it is."""
    return {name: found for name, found in contents(folder).items() if name != ".racksack-job"}


def contents(folder: Path) -> dict[str, bytes]:
    """Everything in a folder by name, each as its kind and bytes; our own files left out."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        info = path.lstat()
        if name in OURS:
            continue
        if stat.S_ISLNK(info.st_mode):
            found[name] = b"link " + os.fsencode(path.readlink())
        elif stat.S_ISDIR(info.st_mode):
            found[name] = b"folder"
        else:
            found[name] = _file(info.st_mode, path.read_bytes())
    return found


def _file(mode: int, content: bytes) -> bytes:
    return (b"program " if mode & stat.S_IXUSR else b"file ") + content
