"""Fuzzes everything that reads bytes from outside: `make fuzz MINUTES=30`, for some `... TARGETS="words marks"`.

The targets have their turns one after another, each an equal part of the time. Coverage guidance comes with atheris,
which is installed beside (requirements-fuzz.lock) where it has a wheel. What is found stays in build/fuzz/.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "fuzz"
FINDINGS_SHOWN = 40  # lines of a traceback
_EXECUTED = re.compile(r"stat::number_of_executed_units:\s*([0-9]+)")


def main() -> int:
    """The number of findings, at most 100."""
    from tests.fuzz.targets import TARGETS

    minutes, names = float(sys.argv[1]), sys.argv[2:] or sorted(TARGETS)
    unknown = [name for name in names if name not in TARGETS]
    if unknown:
        print(f"there is no target {unknown[0]}; there are {', '.join(sorted(TARGETS))}")
        return 2
    tools = _tools()
    total, findings = 0, 0
    for name in names:
        executed, found, took_s = _fuzz(name, 60 * minutes / len(names), tools)
        total, findings = total + executed, findings + found
        print(f"{name}: {executed:,} inputs in {took_s:.0f} s, {found} findings", flush=True)
    print(f"all: {total:,} inputs, {findings} findings" + (f" in {FOLDER / 'findings'}" if findings else ""))
    return min(findings, 100)


def _tools() -> str:
    """The folder in which atheris is; it is installed once, and where that fails there is no coverage guidance."""
    folder = FOLDER / "tools"
    lock = ROOT / "requirements-fuzz.lock"
    if not (folder / "atheris").is_dir():
        uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--require-hashes", "--only-binary", ":all:"]
        done = subprocess.run([*uv, "--target", folder, "-r", lock], check=False, capture_output=True, text=True)
        if done.returncode:
            print(f"without coverage guidance, since atheris could not be installed: {done.stderr.strip()[:300]}")
    return str(folder)


def _fuzz(name: str, seconds: float, tools: str) -> tuple[int, int, float]:
    """Inputs, findings and the seconds that it took. After a finding it goes on until its time is over."""
    began_s, executed, found = time.monotonic(), 0, 0
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), tools]), "PYTHONDONTWRITEBYTECODE": "1"}
    while (left_s := seconds - (time.monotonic() - began_s)) > 1:
        argv = [sys.executable, "-m", "tests.fuzz.one", name, f"{left_s:.0f}", str(FOLDER)]
        with tempfile.TemporaryDirectory(prefix="rs-fz-", ignore_cleanup_errors=True) as place:
            environment["TMPDIR"] = place
            done = subprocess.run(
                argv, cwd=ROOT, env=environment, check=False, capture_output=True, text=True, errors="replace"
            )
        executed += sum(map(int, _EXECUTED.findall(done.stderr)))
        if done.returncode == 0:
            break
        found += 1
        said = [line for line in done.stderr.splitlines() if not line.startswith("#")]
        print("\n".join(said[-FINDINGS_SHOWN:]), flush=True)
        if found == 20:
            break  # one cause again and again
    return executed, found, time.monotonic() - began_s


if __name__ == "__main__":
    sys.exit(main())
