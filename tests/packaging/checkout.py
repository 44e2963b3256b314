"""The files of this checkout, as git knows them."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@functools.cache
def tracked(*patterns: str) -> list[Path]:
    """Committed or about to be: files that git tracks, and new ones that it does not ignore."""
    command = ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard", *patterns]
    listed = subprocess.run(command, check=True, capture_output=True).stdout.decode()
    paths = {ROOT / name for name in listed.split("\0") if name}
    return sorted(path for path in paths if path.is_file() and not path.is_symlink())


def relative(path: Path) -> str:
    """For messages."""
    return str(path.relative_to(ROOT))
