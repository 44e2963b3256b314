"""Jobs of an embedded controller do not depend on the shell that started it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from racksack_controller.surroundings import USUAL_PATH, fresh_path

LOOK = """
import json, os, resource
from racksack_controller.surroundings import make_fresh
told = make_fresh()
limits = [resource.getrlimit(one)[0] for one in (resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE)]
print(json.dumps([os.umask(0), limits, os.getpriority(os.PRIO_PROCESS, 0), os.environ["PATH"], told]))
"""


def seen(shell: str, **options: int) -> list[object]:
    """What is left of a shell's settings."""
    argv = ["bash", "-c", f'{shell}; exec "$0" -c "$1"', sys.executable, LOOK]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, **options)  # type: ignore[call-overload]
    found: list[object] = json.loads(done.stdout)
    return found


def test_two_shells_make_one_controller() -> None:
    """Case: umask 077, ulimit -f 2048, ulimit -n 256, PATH=/opt/first/bin:$PATH nice -n 15."""
    plain = seen("true")
    odd = seen("umask 077; ulimit -S -f 2048; ulimit -S -n 256; PATH=/opt/first/bin:$PATH")
    assert odd == plain
    assert plain[0] == 0o022
    assert "/opt/first/bin" not in str(plain[3])


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: others may not undo it")
def test_root_undoes_hard_limits_and_niceness() -> None:
    """Some containers take from root what this needs; then it is told."""
    found, plain = seen("ulimit -f 2048; ulimit -n 256; renice -n 15 $$ >/dev/null"), seen("true")
    assert found == plain or "is limited to" in str(found[4])


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_what_cannot_be_undone_is_told() -> None:
    told = seen("ulimit -f 2048; renice -n 15 $$ >/dev/null", user=65534)[4]
    assert "max file size is limited to 2097152" in str(told)
    assert "niceness of 15" in str(told)


def test_programs_that_a_login_lacks_are_still_found(tmp_path: Path) -> None:
    (tmp_path / "amd-smi").write_text("#!/bin/sh\n")
    (tmp_path / "amd-smi").chmod(0o755)
    assert fresh_path(f"/opt/first/bin:{tmp_path}:/usr/bin", USUAL_PATH) == f"{USUAL_PATH}:{tmp_path}"
