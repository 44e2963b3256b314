"""Venvs that a job has left as they were are given to the next job that asks for the same packages.

Packages are copied into each venv, since no job may change what another imports, and to copy a large one takes
seconds. A venv is given on only if no file of it was changed, added or removed while the job ran, by the time of the
last change of its inode, which a job cannot set; what Python compiled meanwhile is removed. So the next job finds what
a new venv would hold.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import shutil
import time
from typing import Iterator, Optional, Tuple

from racksack_agent import records
from racksack_agent.boot import boot_id
from racksack_agent.home import AttemptFolder, Home
from racksack_agent.supervisor import installing
from racksack_agent.supervisor.builder import Builder
from racksack_agent.supervisor.venv_scripts import set_script_python

_MARK = "racksack.json"
PATHS = "racksack_project.pth"  # where the project's own modules are; another one for each attempt
_KEPT_S = 3600.0  # an index may have something newer by then
_KEPT_BYTES_MAX = 20 << 30
_FREE_SHARE_MIN = 0.1  # of the disk
_LOCAL = re.compile(r"(?m)^\s*(?:-[ercf]|--(?:editable|requirement|constraint|find-links)|\.|/)|file:|^[^#@]*@\s*[./]")


def key_of(builder: Builder, python: str) -> str:
    """Names all that decides what such a venv holds; empty where that cannot be told."""
    plan = builder.plan
    if plan["kind"] not in ("requirements", "project", "lock") or plan["installs"] != "no":
        return ""
    said = installing.content(builder)
    if plan["kind"] != "requirements" or _LOCAL.search(said.decode("utf-8", "replace")):
        said = builder.digest.encode()  # it may name other files of the project
    settings = sorted((name, value) for name, value in builder.env.items() if name.startswith(("UV_", "PIP_")))
    facts = {**plan, "chosen": "", "notes": [], "paths": []}
    told = [said.decode("latin-1"), python, facts, settings, builder.uv]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]


def mark(folder: AttemptFolder, key: str) -> None:
    """Note in a new venv what it is, if it may be given on: nothing in it leads to this attempt's own folder."""
    if not key or _leads_into(folder):
        return
    files, size_bytes = _count(folder.venv)
    record = {
        "key": key, "venv": folder.venv, "files": files, "bytes": size_bytes, "made_at_s": time.time(),
        "boot_id": boot_id(),
    }  # fmt: skip
    records.replace(f"{folder.venv}/{_MARK}", records.encode(record))


def _leads_into(folder: AttemptFolder) -> bool:
    packages = glob.escape(folder.venv) + "/lib/python*/site-packages"
    for path in (*glob.iglob(packages + "/*.pth"), *glob.iglob(packages + "/*.dist-info/direct_url.json")):
        with open(path, "rb") as file:
            if os.fsencode(folder.work) in file.read(1 << 16):
                return True
    return False


def take(folder: AttemptFolder, key: str) -> bool:
    """Move a venv that was kept to where the attempt has its own; False when there is none."""
    pool = f"{folder.home.venvs}/{key}"
    for name in sorted(_listed(pool), reverse=True):
        kept = f"{pool}/{name}"
        record = records.read(f"{kept}/{_MARK}")
        if record is None or not is_recent(record["made_at_s"]):
            continue
        if record.get("boot_id") != boot_id():
            continue  # files that had not reached the disk are empty now
        try:
            os.rename(kept, folder.venv)
        except OSError:  # another attempt was quicker
            continue
        set_script_python(folder.venv + "/bin", record["venv"] + "/bin/python", folder.venv + "/bin/python")
        records.replace(f"{folder.venv}/{_MARK}", records.encode({**record, "venv": folder.venv}))
        return True
    return False


def give(folder: AttemptFolder, since_ns: int) -> None:
    """Keep the venv of an attempt that has ended, if it is as it was. One that is not goes with the attempt."""
    record = records.read(f"{folder.venv}/{_MARK}")
    if record is None or not since_ns or not is_recent(record["made_at_s"]):
        return
    for path in glob.iglob(f"{glob.escape(folder.venv)}/lib/python*/site-packages/{PATHS}"):
        records.remove_file(path)
    if not _is_unchanged(folder.venv, record["files"], since_ns):
        return
    pool = f"{folder.home.venvs}/{record['key']}"
    try:
        os.makedirs(pool, exist_ok=True)
        os.rename(folder.venv, f"{pool}/{time.time_ns()}")
    except OSError:
        return  # then it is built again


def is_recent(made_at_s: float) -> bool:
    """Whether a venv may still be given on. One from the future was made before somebody set the clock back."""
    return 0 <= time.time() - made_at_s <= _KEPT_S


def _is_unchanged(venv: str, files: int, since_ns: int) -> bool:
    found = 0
    compiled = set()
    for entry in _files(venv):
        is_new = entry.stat(follow_symlinks=False).st_ctime_ns >= since_ns
        if entry.name.endswith(".pyc"):
            if is_new:
                compiled.add(os.path.dirname(entry.path))
            continue
        if is_new or (entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_nlink > 1):
            return False
        found += 1
    if found != files:
        return False
    for folder in compiled:
        shutil.rmtree(folder)
    return True


def _count(venv: str) -> Tuple[int, int]:
    """Files (compiled ones aside) with the record that is to come, and bytes."""
    infos = [(entry.name, entry.stat(follow_symlinks=False).st_size) for entry in _files(venv)]
    return 1 + sum(not name.endswith(".pyc") for name, _ in infos), sum(size for _, size in infos)


def _files(venv: str) -> Iterator[os.DirEntry[str]]:
    pending = [venv]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                else:
                    yield entry


def prune(home: Home) -> None:
    """Remove venvs that nobody will take any more, and the oldest of too many. Raises OSError."""
    found = []
    for key in _listed(home.venvs):
        for name in _listed(f"{home.venvs}/{key}"):
            path = f"{home.venvs}/{key}/{name}"
            record = records.read(f"{path}/{_MARK}")
            found.append((record["made_at_s"] if record else 0.0, record["bytes"] if record else 0, path))
    total = sum(size for _, size, _ in found)
    for made_at_s, size, path in sorted(found):
        if not is_recent(made_at_s) or total > _KEPT_BYTES_MAX or _is_short_of_space(home.root):
            trash = _trash(home, path)
            if trash:
                shutil.rmtree(trash)
            total -= size
    for key in _listed(home.venvs):
        if not _listed(f"{home.venvs}/{key}"):
            os.rmdir(f"{home.venvs}/{key}")


def _trash(home: Home, path: str) -> Optional[str]:
    """Move a venv out of reach before it is removed; None if it has just been taken."""
    trash = f"{home.root}/venvs.{os.getpid()}.{time.monotonic_ns()}"
    try:
        os.rename(path, trash)
    except FileNotFoundError:
        return None
    return trash


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _is_short_of_space(path: str) -> bool:
    disk = os.statvfs(path)
    return disk.f_bavail < disk.f_blocks * _FREE_SHARE_MIN
