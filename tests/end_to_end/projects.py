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
    """What the project returns when a person runs it: its outputs, stdout.log and stderr.log."""
    copy, out = scratch / "copy", scratch / "out"
    subprocess.run(["cp", "-a", str(project), str(copy)], check=True)
    out.mkdir()
    env = {"PATH": os.environ["PATH"], "RACKSACK_RETURN_DIR": str(out), "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(
        [sys.executable, "main.py", *arguments], cwd=copy, env=env, capture_output=True, timeout=60, check=False
    )
    return contents(out) | {"stdout.log": _file(0o644, done.stdout), "stderr.log": _file(0o644, done.stderr)}


OURS = {"env.log", "result.json"}


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
