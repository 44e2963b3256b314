"""The small project that the benchmarks run: one program, one requirement that is in the cache.

Inside the namespaces no index can be asked, so the requirement is a wheel made here, found by `--find-links`. That is
what a warm cache means for any package: nothing is downloaded, everything else is done.
"""

from __future__ import annotations

import base64
import hashlib
import zipfile
from pathlib import Path

PROGRAM = '''\
"""Write the time of the first line to the file named by the first argument."""
import sys
import time

stamp = time.time()
import benchmarked  # the requirement

print("first line", flush=True)
with open(sys.argv[1] + ".new", "w") as file:
    file.write(f"{stamp}\\n")
import os

os.rename(sys.argv[1] + ".new", sys.argv[1])
'''

ONE_SHOT = "#!/bin/sh\n:\n"


def wheel(folder: Path) -> Path:
    """A wheel of one empty module, as PEP 427 wants it."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "benchmarked.py": b'"""Installed."""\n',
        "benchmarked-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: benchmarked\nVersion: 1.0\n",
        "benchmarked-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(content)}\n"
    record_name = "benchmarked-1.0.dist-info/RECORD"
    files[record_name] = f"{record}{record_name},,\n".encode()
    path = folder / "benchmarked-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def with_requirement(folder: Path, wheels: Path) -> Path:
    """The project of the first-line benchmark."""
    folder.mkdir(parents=True)
    (folder / "main.py").write_text(PROGRAM)
    (folder / "requirements.txt").write_text(f"--no-index\n--find-links {wheels}\nbenchmarked==1.0\n")
    return folder


def one_shot(folder: Path) -> Path:
    """The project of the throughput benchmark: a program that does nothing."""
    folder.mkdir(parents=True)
    (folder / "nothing").write_text(ONE_SHOT)
    (folder / "nothing").chmod(0o755)
    return folder


def large(folder: Path, size_bytes: int, files: int) -> Path:
    """A project of incompressible files of equal size, different every time, in subfolders of 50."""
    import os

    for index in range(files):
        path = folder / f"part{index // 50:03d}" / f"{index:05d}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size_bytes // files))
    (folder / "main.py").write_text("print('here')\n")
    return folder
